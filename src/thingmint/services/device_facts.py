"""What is read about a device when it is authenticated: whose it is, and all that decides what it may do."""

# ruff: noqa: S608 - statements are made of the code's own constants
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import orjson

from thingmint.domain.arns import Scope
from thingmint.domain.certificates import Certificate
from thingmint.domain.status import Status
from thingmint.services.accounts import AccountSettings, get_settings
from thingmint.services.ca_certificates import CaState, find_ca_state
from thingmint.services.certificates import REGISTRATIONS
from thingmint.store.queries import load_queries
from thingmint.store.times import from_micros, to_micros

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from thingmint.services.certificates import Registration
    from thingmint.store.engine import Transaction

Dependency = tuple[str, str, str, str]
"""Account, region ('' for all), kind and name, as a published change has them."""

_MAX_TOLD = 5  # accounts and regions that the log names of one certificate

_APPLYING = load_queries("device_policies")["applying"]

# A claim is good as long as its template is there, and is of no later one of its name.
_CLAIMS = (
    "provisioning_claims AS c JOIN provisioning_templates AS t ON t.account = c.account AND t.region = c.region "
    "AND t.name = c.template AND t.generation = c.template_generation"
)
# The oldest first: should two accounts ever have one certificate as proven, what came later changes nothing.
_PLACES = (
    "SELECT c.account, c.region, r.position, CASE WHEN c.mode = 'DEFAULT' THEN 1 ELSE 0 END, c.created_at "
    "FROM registrations AS c JOIN account_regions AS r ON r.account = c.account AND r.region = c.region "
    "WHERE c.fingerprint = $1 AND (c.mode = 'DEFAULT' OR c.account = $2) "
    "UNION ALL SELECT c.account, c.region, r.position, 1, c.created_at "
    f"FROM {_CLAIMS} JOIN account_regions AS r ON r.account = c.account AND r.region = c.region "
    "WHERE c.fingerprint = $1 AND c.expires_at > $3 ORDER BY 5, 1, 2"
)
_SCOPES = (
    "SELECT account, region FROM registrations WHERE fingerprint = $1 "
    f"UNION SELECT c.account, c.region FROM {_CLAIMS} WHERE c.fingerprint = $1 ORDER BY 1, 2 LIMIT $2"
)
_PROVISIONS = "SELECT 1 FROM ca_certificates WHERE mode = 'DEFAULT' AND auto_registration = 1 AND account <> $1 LIMIT 1"


@dataclass(frozen=True, slots=True)
class AttachedThing:
    """``exclusive``: the certificate is for this thing alone, whatever the client id."""

    name: str
    type: str | None
    attributes: Mapping[str, str]
    exclusive: bool


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    name: str
    version: int
    document: str


class BoundTo(NamedTuple):
    kind: str
    owner: str


class Claim(NamedTuple):
    template: str
    expires_at: datetime


class Place(NamedTuple):
    """Where a certificate is registered or a claim. ``position`` is the region's in its account: 0 is home."""

    account: str
    region: str
    position: int
    is_proven: bool

    @property
    def scope(self) -> Scope:
        return Scope(self.account, self.region)


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What was true of one certificate, in one scope and for one client id, at one moment.

    A certificate that is only the claim of a provisioning template has no ``registration``, and its content need not
    be kept either. ``ca_state`` is that of the CA certificate that it was registered under, if any; None also once that
    was deleted. Whether dates have come or gone is for the reader, who has the clock.
    """

    scope: Scope
    fingerprint: str
    registration: Registration | None
    certificate: Certificate | None
    claim: Claim | None
    bound_to: BoundTo | None
    thing: AttachedThing | None
    policies: tuple[PolicyDocument, ...]
    settings: AccountSettings
    dependencies: frozenset[Dependency]
    ca_state: CaState | None = None

    @property
    def waits_under_ca(self) -> bool:
        """Whether it was registered just in time, and was not activated yet."""
        registration = self.registration
        return (
            registration is not None
            and registration.ca is not None
            and registration.status is Status.PENDING_ACTIVATION
        )


@dataclass(frozen=True, slots=True)
class NoHostName:
    """Where a certificate may be registered just in time whose device names no account's host.

    Under a CA in DEFAULT mode, of whichever account; else under one of ``default_account``, unless ``registered`` says
    that this has registered the certificate already, without a proof that it is its own.
    """

    default_account: str | None
    registered: bool = False


@dataclass(frozen=True, slots=True)
class LookUp:
    """What is known of a certificate where its device belongs.

    ``jit`` is where it may be registered just in time, in this order, before anything else is made of it. Without a
    ``device``, ``elsewhere`` are accounts and regions that have it, which the device has to choose by a host name.
    """

    device: DeviceFacts | None
    jit: tuple[Scope | NoHostName, ...] = ()
    elsewhere: tuple[Scope, ...] = ()


async def look_up(
    tx: Transaction,
    fingerprint: str,
    scope: Scope | None,
    default_account: str | None,
    client_id: str | None,
    now: datetime,
) -> LookUp:
    """``scope`` is that of the host that the device names, if it is an account's.

    ``default_account`` has the devices that name none, and whose certificates no account has proven to be its own.
    """
    if scope is None:
        return await _without_host_name(tx, fingerprint, default_account, client_id, now)
    device = await _facts(tx, scope, fingerprint, client_id)
    return LookUp(device, (scope,) if device is None or device.waits_under_ca else ())


async def _without_host_name(
    tx: Transaction, fingerprint: str, default: str | None, client_id: str | None, now: datetime
) -> LookUp:
    """Registrations without proof (SNI_ONLY) of other accounts than the default one are never looked at.

    So no account can change, by what it registers, which devices another one has.
    """
    places = await places_of(tx, fingerprint, default, now)
    proven = [place for place in places if place.is_proven]
    if not places:
        elsewhere = await all_scopes_of(tx, fingerprint, _MAX_TOLD)
        return LookUp(None, (NoHostName(default),), tuple(elsewhere))
    scope = _home_or_only(proven) if proven else min(places, key=lambda place: place.position).scope
    if scope is None:
        return LookUp(None, elsewhere=tuple(sorted({place.scope for place in proven})))
    device = await _facts(tx, scope, fingerprint, client_id)
    assert device is not None, "it was just found there"
    jit: tuple[Scope | NoHostName, ...] = (scope,) if device.waits_under_ca else ()
    if not proven and await other_account_provisions(tx, scope.account):
        jit = (NoHostName(default, registered=True), *jit)
    return LookUp(device, jit)


def _home_or_only(proven: Sequence[Place]) -> Scope | None:
    """Of the one account that they are of: its home region, else the only one; None if there are several."""
    own = [place for place in proven if place.account == proven[0].account]
    home = [place.scope for place in own if place.position == 0]
    scopes = {place.scope for place in own}
    return home[0] if home else scopes.pop() if len(scopes) == 1 else None


async def _facts(tx: Transaction, scope: Scope, fingerprint: str, client_id: str | None) -> DeviceFacts | None:
    registration = await REGISTRATIONS.find(tx, *scope, fingerprint)
    certificate, bound_to, claim = await content_owner_and_claim(tx, scope, fingerprint)
    if registration is None and claim is None:
        return None
    thing: AttachedThing | None = None
    policies: tuple[PolicyDocument, ...] = ()
    groups = frozenset[str]()
    ca = registration.ca if registration is not None else None
    ca_state = await find_ca_state(tx, scope, ca) if ca is not None else None
    if registration is not None:
        thing = await attached_thing(tx, scope, fingerprint, client_id)
        policies, groups = await applying_policies(tx, scope, fingerprint, thing.name if thing else None)
    # The client id's thing also while it is not attached or does not exist: it may be by the time of a change.
    things = {name for name in (client_id, thing.name if thing is not None else None) if name is not None}

    def here(kind: str, *names: str) -> list[Dependency]:
        return [(*scope, kind, name) for name in names]

    return DeviceFacts(
        scope=scope,
        fingerprint=fingerprint,
        registration=registration,
        certificate=certificate,
        claim=claim,
        ca_state=ca_state,
        bound_to=bound_to,
        thing=thing,
        policies=policies,
        settings=await get_settings(tx, scope.account),
        dependencies=frozenset(
            [
                (scope.account, "", "account", scope.account),
                *here("certificate", fingerprint),
                *here("ca", *((ca,) if ca is not None else ())),
                *here("template", *((claim.template,) if claim is not None else ())),
                *here("policy", *(policy.name for policy in policies)),
                *here("thing", *things),
                *here("thinggroup", *groups),
            ]
        ),
    )


async def places_of(tx: Transaction, fingerprint: str, default_account: str | None, now: datetime) -> list[Place]:
    """Those that count for a device which names no host: proven ones, and those of ``default_account``.

    Proven are registrations in DEFAULT mode, which issued certificates are in too, and claims, as long as they last.
    """
    rows = await tx.fetch_all(_PLACES, fingerprint, default_account, to_micros(now))
    return [Place(account, region, position, bool(is_proven)) for account, region, position, is_proven, _ in rows]


async def all_scopes_of(tx: Transaction, fingerprint: str, limit: int) -> list[Scope]:
    """Up to ``limit`` of those that registered the certificate, in whatever mode, or have it as a claim."""
    return [Scope(*row) for row in await tx.fetch_all(_SCOPES, fingerprint, limit)]


async def other_account_provisions(tx: Transaction, account: str) -> bool:
    """Whether a CA in DEFAULT mode of another one registers devices by itself."""
    return await tx.fetch_one(_PROVISIONS, account) is not None


async def content_owner_and_claim(
    tx: Transaction, scope: Scope, fingerprint: str
) -> tuple[Certificate | None, BoundTo | None, Claim | None]:
    """What there is about a certificate besides its registration."""
    row = await tx.fetch_one(
        "SELECT c.der, c.not_before, c.not_after, b.kind, b.owner, t.name, p.expires_at FROM accounts AS a "
        "LEFT JOIN certificates AS c ON c.fingerprint = $3 "
        "LEFT JOIN bindings AS b ON b.account = $1 AND b.region = $2 AND b.fingerprint = $3 "
        "LEFT JOIN provisioning_claims AS p ON p.account = $1 AND p.region = $2 AND p.fingerprint = $3 "
        "LEFT JOIN provisioning_templates AS t ON t.account = $1 AND t.region = $2 AND t.name = p.template "
        "AND t.generation = p.template_generation "
        "WHERE a.id = $1",
        *scope,
        fingerprint,
    )
    if row is None:
        return None, None, None
    der, not_before, not_after, kind, owner, template, expires_at = row
    return (
        Certificate(der, fingerprint, from_micros(not_before), from_micros(not_after)) if der is not None else None,
        BoundTo(kind, owner) if kind is not None else None,
        Claim(template, from_micros(expires_at)) if template is not None else None,
    )


async def attached_thing(
    tx: Transaction, scope: Scope, fingerprint: str, client_id: str | None
) -> AttachedThing | None:
    """The thing that the certificate is for alone, else the one of that name if the certificate is attached to it."""
    row = await tx.fetch_one(
        "SELECT t.name, t.type, t.attributes, p.exclusive FROM thing_principals AS p "
        "JOIN things AS t ON t.account = $1 AND t.region = $2 AND t.name = p.thing "
        "WHERE p.account = $1 AND p.region = $2 AND p.fingerprint = $3 AND (p.exclusive = 1 OR p.thing = $4) "
        "ORDER BY p.exclusive DESC LIMIT 1",
        *scope,
        fingerprint,
        client_id,
    )
    return AttachedThing(row[0], row[1], orjson.loads(row[2]), bool(row[3])) if row else None


async def applying_policies(
    tx: Transaction, scope: Scope, fingerprint: str, thing: str | None
) -> tuple[tuple[PolicyDocument, ...], frozenset[str]]:
    """The default versions of the certificate's policies and, for a thing, of its groups' and all above, by name.

    And the names of those groups.
    """
    rows = await tx.fetch_all(_APPLYING, *scope, fingerprint, thing)
    documents = {
        name: PolicyDocument(name, version, document) for _, _, name, version, document in rows if name is not None
    }
    groups = frozenset(target for kind, target, *_ in rows if kind == "thinggroup")
    return tuple(documents[name] for name in sorted(documents)), groups
