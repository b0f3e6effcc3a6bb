"""What the devices' door reads when a device connects: who it is, and all that decides what it may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.services.ca_certificates import CaState, find_ca_state
from thingmint.services.certificates import REGISTRATIONS
from thingmint.store import doorkeeping as sql
from thingmint.store import outbox
from thingmint.store.doorkeeping import AttachedThing, BoundTo, Claim, PolicyDocument
from thingmint.store.outbox import Kind, Notice

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from thingmint.domain.arns import Scope
    from thingmint.domain.certificates import Certificate
    from thingmint.services.certificates import Registration
    from thingmint.store.engine import Store, Transaction

__all__ = [
    "AttachedThing",
    "BoundTo",
    "CaState",
    "Claim",
    "Dependency",
    "Doorkeeping",
    "Notice",
    "Passport",
    "PolicyDocument",
]

Dependency = tuple[Kind, str]


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


class Doorkeeping:
    """Every method reads one consistent state."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def passport(self, scope: Scope | None, fingerprint: str, *, thing_name: str) -> Passport | None:
        """``thing_name`` is the client id. Without ``scope``, that of the only candidate; None if there is not one."""

        async def body(tx: Transaction) -> Passport | None:
            if scope is not None:
                return await _passport(tx, scope, fingerprint, thing_name)
            scopes = await sql.scopes_of(tx, fingerprint)
            return await _passport(tx, scopes[0], fingerprint, thing_name) if len(scopes) == 1 else None

        return await self._store.read(body)

    async def candidates(self, fingerprint: str) -> list[Scope]:
        """Wherever the certificate is registered or is a claim, in whichever account."""

        async def body(tx: Transaction) -> list[Scope]:
            return await sql.scopes_of(tx, fingerprint)

        return await self._store.read(body)

    async def notices_since(self, moment: datetime) -> list[Notice]:
        """The oldest first. A notice bears the time at which its change began, and is seen once that has ended."""

        async def body(tx: Transaction) -> list[Notice]:
            return await outbox.notices_since(tx, moment)

        return await self._store.read(body)

    async def prune_notices(self, before: datetime) -> None:
        """Forgets what every gateway has read by now."""

        async def body(tx: Transaction) -> None:
            await outbox.prune_notices(tx, before)

        await self._store.write(body)


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
                *(("policy", policy.name) for policy in policies),
                *(("thing", name) for name in things),
                *(("thinggroup", group) for group in groups),
            ]
        ),
    )
