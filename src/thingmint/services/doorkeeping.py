"""What the devices' door reads when a device connects: who it is, and all that decides what it may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.domain.status import Status
from thingmint.services.ca_certificates import CaState, find_ca_state
from thingmint.services.certificates import REGISTRATIONS
from thingmint.store import doorkeeping as sql
from thingmint.store.doorkeeping import AttachedThing, BoundTo, Claim, PolicyDocument
from thingmint.store.engine import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from thingmint.domain.arns import Scope
    from thingmint.domain.certificates import Certificate
    from thingmint.services.certificates import Registration
    from thingmint.store.doorkeeping import Place
    from thingmint.store.engine import Store, Transaction

__all__ = [
    "AttachedThing",
    "BoundTo",
    "CaState",
    "Claim",
    "Dependency",
    "Doorkeeping",
    "LookUp",
    "NoHostName",
    "Passport",
    "PolicyDocument",
]

Dependency = tuple[Kind, str]

_MAX_TOLD = 5  # accounts and regions that the log names of one certificate


@dataclass(frozen=True, slots=True)
class Passport:
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
    settings: Mapping[str, str]  # the account's, where they differ from the defaults
    dependencies: frozenset[Dependency]
    ca_state: CaState | None = None

    @property
    def waits_under_ca(self) -> bool:
        """Whether it was registered just in time, and nobody has activated it."""
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
    ``passport``, ``elsewhere`` are accounts and regions that have it, which the device has to choose by a host name.
    """

    passport: Passport | None
    jit: tuple[Scope | NoHostName, ...] = ()
    elsewhere: tuple[Scope, ...] = ()


class Doorkeeping:
    """Every method reads one consistent state.

    ``default_account`` has the devices that name no account's host, and whose certificates no account has proven to
    be its own.
    """

    def __init__(self, store: Store, default_account: str | None = None) -> None:
        self._store = store
        self._default_account = default_account

    async def look_up(self, fingerprint: str, scope: Scope | None, *, thing_name: str, now: datetime) -> LookUp:
        """``scope`` is that of the host that the device names, if it is an account's; ``thing_name`` the client id."""

        async def body(tx: Transaction) -> LookUp:
            if scope is None:
                return await self._without_host_name(tx, fingerprint, thing_name, now)
            passport = await _passport(tx, scope, fingerprint, thing_name)
            return LookUp(passport, (scope,) if passport is None or passport.waits_under_ca else ())

        return await self._store.read(body)

    async def _without_host_name(self, tx: Transaction, fingerprint: str, thing_name: str, now: datetime) -> LookUp:
        """Registrations without proof (SNI_ONLY) of other accounts than the default one are never looked at.

        So no account can change, by what it registers, which devices another one has.
        """
        default = self._default_account
        places = await sql.places_of(tx, fingerprint, default, now)
        proven = [place for place in places if place.is_proven]
        if not places:
            elsewhere = await sql.all_scopes_of(tx, fingerprint, _MAX_TOLD)
            return LookUp(None, (NoHostName(default),), tuple(elsewhere))
        scope = _home_or_only(proven) if proven else min(places, key=lambda place: place.position).scope
        if scope is None:
            return LookUp(None, elsewhere=tuple(sorted({place.scope for place in proven})))
        passport = await _passport(tx, scope, fingerprint, thing_name)
        assert passport is not None, "it was just found there"
        jit: tuple[Scope | NoHostName, ...] = (scope,) if passport.waits_under_ca else ()
        if not proven and await sql.other_account_provisions(tx, scope.account):
            jit = (NoHostName(default, registered=True), *jit)
        return LookUp(passport, jit)


def _home_or_only(proven: Sequence[Place]) -> Scope | None:
    """Of the one account that they are of: its home region, else the only one; None if there are several."""
    own = [place for place in proven if place.account == proven[0].account]
    home = [place.scope for place in own if place.position == 0]
    scopes = {place.scope for place in own}
    return home[0] if home else scopes.pop() if len(scopes) == 1 else None


async def _passport(tx: Transaction, scope: Scope, fingerprint: str, client_id: str) -> Passport | None:
    registration = await REGISTRATIONS.find(tx, *scope, fingerprint)
    certificate, bound_to, claim = await sql.content_owner_and_claim(tx, scope, fingerprint)
    if registration is None and claim is None:
        return None
    thing: AttachedThing | None = None
    policies: tuple[PolicyDocument, ...] = ()
    groups = frozenset[str]()
    ca = registration.ca if registration is not None else None
    ca_state = await find_ca_state(tx, scope, ca) if ca is not None else None
    if registration is not None:
        thing = await sql.attached_thing(tx, scope, fingerprint, client_id)
        policies, groups = await sql.applying_policies(tx, scope, fingerprint, thing.name if thing else None)
    # The client id's thing also while it is not attached or does not exist: it may be by the time of a notice.
    things = {client_id, thing.name} if thing else {client_id}
    return Passport(
        scope=scope,
        fingerprint=fingerprint,
        registration=registration,
        certificate=certificate,
        claim=claim,
        ca_state=ca_state,
        bound_to=bound_to,
        thing=thing,
        policies=policies,
        settings=await sql.account_settings(tx, scope.account),
        dependencies=frozenset[Dependency](
            [
                ("account", scope.account),
                ("certificate", fingerprint),
                *((("ca", ca),) if ca is not None else ()),
                *((("template", claim.template),) if claim is not None else ()),
                *(("policy", policy.name) for policy in policies),
                *(("thing", name) for name in things),
                *(("thinggroup", group) for group in groups),
            ]
        ),
    )
