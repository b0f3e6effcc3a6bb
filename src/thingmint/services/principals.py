"""Which certificates are attached to which things: who a device is that shows one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.domain.errors import Disallowed, NotFound
from thingmint.domain.registration import arn_of
from thingmint.domain.things import thing_arn
from thingmint.services.certificates import REGISTRATIONS, utc_now
from thingmint.services.pages import Listing
from thingmint.services.things import existing_thing
from thingmint.store import things as sql
from thingmint.store.outbox import announce

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from thingmint.domain.registration import Scope
    from thingmint.domain.things import Attachment, PrincipalType
    from thingmint.services.markers import Markers
    from thingmint.services.pages import Page, PageRequest
    from thingmint.store.engine import Store, Transaction

__all__ = ["PrincipalRegistry", "attach_principal", "detach_principal"]


class PrincipalRegistry:
    """Every method is one transaction. A fingerprint that is passed in is in canonical form (see parse_fingerprint)."""

    def __init__(self, store: Store, markers: Markers, clock: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._markers = markers
        self._clock = clock

    async def attach(self, scope: Scope, thing: str, fingerprint: str, type: PrincipalType | None) -> None:
        """Raises what attach_principal does."""
        now = self._clock()

        async def body(tx: Transaction) -> None:
            await attach_principal(tx, scope, thing, fingerprint, now, type=type)

        await self._store.write(body)

    async def detach(self, scope: Scope, thing: str, fingerprint: str) -> None:
        """Raises what detach_principal does."""
        now = self._clock()

        async def body(tx: Transaction) -> None:
            await detach_principal(tx, scope, thing, fingerprint, now)

        await self._store.write(body)

    async def list_of_thing(
        self, scope: Scope, thing: str, type: PrincipalType | None, request: PageRequest
    ) -> Page[Attachment]:
        """By fingerprint; of one type only, if it is given. Raises NotFound."""
        listing = Listing(self._markers, f"principals {thing} {type}", scope)
        after = listing.after(request)

        async def body(tx: Transaction) -> list[Attachment]:
            await existing_thing(tx, scope, thing)
            return await sql.list_attachments_of_thing(
                tx, scope, thing, type=type, limit=request.limit + 1, after=after
            )

        return listing.page(request, await self._store.read(body), lambda attachment: attachment.fingerprint)

    async def list_of_certificate(
        self, scope: Scope, fingerprint: str, type: PrincipalType | None, request: PageRequest
    ) -> Page[Attachment]:
        """By the thing's name; of one type only, if it is given. Raises NotFound."""
        listing = Listing(self._markers, f"principal-things {fingerprint} {type}", scope)
        after = listing.after(request)

        async def body(tx: Transaction) -> list[Attachment]:
            await _check_registered(tx, scope, fingerprint)
            return await sql.list_attachments_of_certificate(
                tx, scope, fingerprint, type=type, limit=request.limit + 1, after=after
            )

        return listing.page(request, await self._store.read(body), lambda attachment: attachment.thing)


async def attach_principal(
    tx: Transaction,
    scope: Scope,
    thing: str,
    fingerprint: str,
    now: datetime,
    *,
    type: PrincipalType | None = None,
) -> None:
    """Attaching again is no change; without a type it is as it was, or not exclusive. Raises NotFound and Disallowed.

    A certificate that is one thing's exclusively is no other's, and to become so it has to be no other's before.
    """
    await existing_thing(tx, scope, thing)
    await _check_registered(tx, scope, fingerprint)
    known = await sql.get_attachment(tx, scope, thing, fingerprint)
    if known is not None:
        if type in (None, known.type):
            return
        # AWS has no word on this; keeping silent could leave a certificate less exclusive than its owner believes.
        raise Disallowed("thing", thing, f"The principal is attached to thing {thing} as {known.type}: detach it first")
    others = await sql.list_attachments_of_certificate(tx, scope, fingerprint, type=None, limit=1, after="")
    wanted: PrincipalType = type or "NON_EXCLUSIVE_THING"
    if others and "EXCLUSIVE_THING" in (wanted, others[0].type):
        raise Disallowed("thing", thing, "The principal is attached to another thing, and one of the two is exclusive")
    await sql.insert_attachment(tx, scope, thing, fingerprint, wanted, now)
    await _changed(tx, scope, thing, fingerprint, now)


async def detach_principal(tx: Transaction, scope: Scope, thing: str, fingerprint: str, now: datetime) -> None:
    """Raises NotFound, for one that is not attached too."""
    await existing_thing(tx, scope, thing)
    if not await sql.delete_attachment(tx, scope, thing, fingerprint):
        raise NotFound("principal", fingerprint)
    await _changed(tx, scope, thing, fingerprint, now)


async def _changed(tx: Transaction, scope: Scope, thing: str, fingerprint: str, now: datetime) -> None:
    await announce(tx, scope, "certificate", fingerprint, now)
    tx.audit_resources += [thing_arn(scope, thing), arn_of(scope, fingerprint)]


async def _check_registered(tx: Transaction, scope: Scope, fingerprint: str) -> None:
    await REGISTRATIONS.get(tx, *scope, fingerprint)
