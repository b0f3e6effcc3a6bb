"""Reads the facts about a device for its authentication: its account, registration, thing, policies and settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import orjson

from thingmint.domain.arns import Scope
from thingmint.domain.certificates import Certificate
from thingmint.domain.status import Status
from thingmint.services.accounts import AccountSettings
from thingmint.services.ca_certificates import CaState, CaStatus
from thingmint.services.compiled_policies import PolicyIdentity, PolicyKey
from thingmint.store.queries import load_queries
from thingmint.store.table import fingerprint_bytes, from_micros, to_micros

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from thingmint.domain.yandex_topics import OwnerKind
    from thingmint.services.thing_types import PropagatingAttribute
    from thingmint.store.engine import Fetcher, Row

Dependency = tuple[str, str, str, str]
"""Account, region ('' for all), kind and name, as in a published change."""

_MAX_ELSEWHERE = 5  # accounts and regions with the certificate that the log lists

_QUERIES = load_queries("device_facts")


class DeviceRegistration(NamedTuple):
    """``ca`` is the fingerprint of the CA certificate under which the certificate is registered, if any."""

    status: Status
    ca: str | None


@dataclass(frozen=True, slots=True)
class AttachedThing:
    """The thing that the certificate is attached to exclusively, else the attached thing that the client id names."""

    name: str
    type: str | None
    attributes: Mapping[str, str]
    propagating: Sequence[PropagatingAttribute] = ()  # of its type
    exclusive: bool = False


class BoundTo(NamedTuple):
    """``registry`` is the device's, or the bound registry itself; None for a broker. ``aliases`` are a device's."""

    kind: OwnerKind
    owner: str
    registry: str | None = None
    disabled: bool = False
    aliases: str = "{}"  # a JSON object


class Claim(NamedTuple):
    template: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """The facts about one certificate in one scope, for one client id, at one time.

    A claim certificate has no ``registration``, and its content may not be stored. ``ca_state`` is the state of the CA
    certificate under which the certificate is registered; None without one or after it was deleted. The caller compares
    the times with the clock.
    """

    scope: Scope
    fingerprint: str
    registration: DeviceRegistration | None
    certificate: Certificate | None
    claim: Claim | None
    bound_to: BoundTo | None
    thing: AttachedThing | None
    policies: tuple[PolicyIdentity, ...]
    settings: AccountSettings
    dependencies: Sequence[Dependency]
    ca_state: CaState | None = None

    @property
    def policy_key(self) -> PolicyKey:
        return PolicyKey(self.scope, self.policies, self.claim.template if self.claim is not None else None)

    @property
    def waits_under_ca(self) -> bool:
        """True if the certificate was registered just in time and is not activated yet."""
        registration = self.registration
        return (
            registration is not None
            and registration.ca is not None
            and registration.status is Status.PENDING_ACTIVATION
        )


@dataclass(frozen=True, slots=True)
class NoHostName:
    """The accounts in which a certificate may be registered just in time if its device sends no account's host name.

    First the account that has the CA in DEFAULT mode; else ``default_account``. ``registered`` is true if the default
    account has already registered the certificate, without a proof of ownership.
    """

    default_account: str | None
    registered: bool = False


@dataclass(frozen=True, slots=True)
class LookUp:
    """The result of looking up a certificate.

    ``jit`` lists where just-in-time registration is to be tried, in this order, before ``device`` is used. If
    ``device`` is None, ``elsewhere`` lists accounts and regions that have the certificate: the device must select one
    by a host name.
    """

    device: DeviceFacts | None
    jit: tuple[Scope | NoHostName, ...] = ()
    elsewhere: tuple[Scope, ...] = ()


class _Place(NamedTuple):
    """A row of the statement: an account and region that has the certificate, as a registration or as a claim."""

    kind: str
    account: str
    region: str
    status: str | None
    mode: str | None
    owner_kind: OwnerKind | None
    position: int  # of the region in its account: 0 is home
    registered_at: int | None
    owner: str | None
    ca: bytes | None
    ca_status: str | None
    ca_not_before: int
    ca_not_after: int
    der: bytes
    not_before: int
    not_after: int
    template: str | None
    claim_expires_at: int
    claimed_at: int
    thing: str | None
    thing_type: str | None
    attributes: str
    registry: str | None
    disabled: int | None
    topic_aliases: str | None
    others_register: int  # 1 if another account has a CA in DEFAULT mode with automatic registration
    propagating: str | None
    exclusive: int | None

    @property
    def scope(self) -> Scope:
        return Scope(self.account, self.region)

    def proven_at(self, now: int) -> int | None:
        """Return when the account proved that it owns the certificate, or None.

        The proof is its CA, our CA, or a claim that has not expired.
        """
        times = [self.registered_at] if self.mode == "DEFAULT" else []
        if self.template is not None and self.claim_expires_at > now:
            times.append(self.claimed_at)
        return min(times, default=None)  # type: ignore[type-var]  # a place with a mode has a time


async def look_up(
    store: Fetcher,
    fingerprint: str,
    scope: Scope | None,
    default_account: str | None,
    client_id: str | None,
    now: datetime,
) -> LookUp:
    """Look up a certificate. ``scope`` is that of the host name that the device sent, if it is an account's.

    ``default_account`` gets the devices that send none and whose certificates no account has proven to own.
    """
    moment, key = to_micros(now), fingerprint_bytes(fingerprint)
    host = scope or ("", "")
    rows = await store.fetch_all(_QUERIES["device_facts"], key, *host, default_account or "", client_id or "", moment)
    places = [_Place._make(row) for row in rows if row[0] == "place" and (row[3] is not None or row[16] is not None)]
    if scope is not None:
        device = _facts(places[0], rows, fingerprint, client_id) if places else None
        return LookUp(device, (scope,) if device is None or device.waits_under_ca else ())
    # For accounts other than the default one, only proven certificates count. So no account can take devices from
    # another account by registering their certificates.
    proven = [(at, place) for place in places if (at := place.proven_at(moment)) is not None]
    unproven = [place for place in places if place.account == default_account and place.status is not None]
    if not proven and not unproven:
        elsewhere = await store.fetch_all(_QUERIES["elsewhere"], key, _MAX_ELSEWHERE)
        return LookUp(None, (NoHostName(default_account),), tuple(Scope(*row) for row in elsewhere))
    place = _home_or_only(proven) if proven else min(unproven, key=lambda place: place.position)
    if place is None:
        return LookUp(None, elsewhere=tuple(sorted(place.scope for _, place in proven)))
    device = _facts(place, rows, fingerprint, client_id)
    jit: tuple[Scope | NoHostName, ...] = (place.scope,) if device.waits_under_ca else ()
    if not proven and place.others_register:
        jit = (NoHostName(default_account, registered=True), *jit)
    return LookUp(device, jit)


def _home_or_only(proven: Sequence[tuple[int, _Place]]) -> _Place | None:
    """Return the place in the account's home region, else its only place, or None if it has several.

    If several accounts have proven to own the certificate, the first proof counts, so later ones change nothing.
    """
    if len(proven) == 1:
        return proven[0][1]
    _, first = min(proven, key=lambda each: (each[0], each[1].scope))
    own = [place for _, place in proven if place.account == first.account]
    home = [place for place in own if place.position == 0]
    return home[0] if home else own[0] if len(own) == 1 else None


def _facts(place: _Place, rows: Sequence[Row], fingerprint: str, client_id: str | None) -> DeviceFacts:
    scope = place.scope
    ca = place.ca.hex() if place.ca is not None else None
    registration = DeviceRegistration(Status(place.status), ca) if place.status is not None else None
    thing = None
    if place.thing is not None:
        propagating = orjson.loads(place.propagating) if place.propagating is not None else ()
        attributes, exclusive = orjson.loads(place.attributes), bool(place.exclusive)
        thing = AttachedThing(place.thing, place.thing_type, attributes, propagating, exclusive)
    own = [row for row in rows if row[0] == "policy" and row[1:3] == scope] if registration is not None else []
    groups = {row[3] for row in own if row[3] is not None}
    policies = {row[4]: PolicyIdentity(row[4], row[5], row[6]) for row in own if row[4] is not None}
    claim = Claim(place.template, from_micros(place.claim_expires_at)) if place.template is not None else None
    bound_to = _bound_to(place)
    return DeviceFacts(
        scope=scope,
        fingerprint=fingerprint,
        registration=registration,
        certificate=_certificate(place, fingerprint) if registration is not None else None,
        claim=claim,
        bound_to=bound_to,
        thing=thing,
        policies=tuple(policies[name] for name in sorted(policies)),
        settings=AccountSettings.of({row[3]: row[4] for row in rows if row[:2] == ("setting", scope.account)}),
        dependencies=[
            (scope.account, "", "account", scope.account),
            (*scope, "certificate", fingerprint),
            *[(*scope, "policy", name) for name in policies],
            *[(*scope, "thinggroup", name) for name in groups],
            # The thing that the client id names, even if it is not attached or does not exist: a change can attach it.
            *[(*scope, "thing", name) for name in {client_id, place.thing} if name is not None],
            *[(*scope, "thingtype", name) for name in (place.thing_type,) if name is not None],
            *[(*scope, "ca", name) for name in (ca,) if name is not None],
            *(owner_dependencies(scope.account, bound_to) if bound_to is not None else ()),
            *[(*scope, "template", name) for name in (place.template,) if name is not None],
        ],
        ca_state=_ca_state(place),
    )


def _certificate(place: _Place, fingerprint: str) -> Certificate:
    return Certificate(place.der, fingerprint, from_micros(place.not_before), from_micros(place.not_after))


def _bound_to(place: _Place) -> BoundTo | None:
    if place.owner_kind is None or place.owner is None:
        return None
    return BoundTo(place.owner_kind, place.owner, place.registry, bool(place.disabled), place.topic_aliases or "{}")


def owner_dependencies(account: str, owner: BoundTo) -> list[Dependency]:
    """Disabling the registry, and changes of the owner; a registry's clients use the aliases of all its devices."""
    found: list[Dependency] = [(account, "", "owner", owner.owner)]
    if owner.registry:
        found.append((account, "", "registry", owner.registry))
    if owner.kind == "registry":
        found.append((account, "", "aliases", owner.owner))
    return found


def _ca_state(place: _Place) -> CaState | None:
    if place.ca_status is None:
        return None
    return CaState(CaStatus(place.ca_status), from_micros(place.ca_not_before), from_micros(place.ca_not_after))
