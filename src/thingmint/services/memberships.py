"""Which things are in which groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.domain.errors import Disallowed, NotFound
from thingmint.domain.things import MAX_GROUPS, check_name
from thingmint.services.certificates import utc_now
from thingmint.services.pages import Listing, Page
from thingmint.services.things import existing_thing
from thingmint.store import thing_groups as sql
from thingmint.store.outbox import announce

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from thingmint.domain.registration import Scope
    from thingmint.domain.things import Thing, ThingGroup
    from thingmint.services.markers import Markers
    from thingmint.services.pages import PageRequest
    from thingmint.store.engine import Store, Transaction

__all__ = ["MembershipRegistry", "add_to_group", "existing_group", "update_groups"]


class MembershipRegistry:
    """Every method is one transaction."""

    def __init__(self, store: Store, markers: Markers, clock: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._markers = markers
        self._clock = clock

    async def update(self, scope: Scope, thing: str, *, add: Sequence[str], remove: Sequence[str]) -> None:
        """Raises what update_groups does."""
        now = self._clock()

        async def body(tx: Transaction) -> None:
            await update_groups(tx, scope, thing, now, add=add, remove=remove)

        await self._store.write(body)

    async def list_groups(self, scope: Scope, thing: str, request: PageRequest) -> Page[ThingGroup]:
        """The groups that the thing is in itself, by name. Raises NotFound."""
        listing = Listing(self._markers, f"groups-of-thing {thing}", scope)
        after = listing.after(request)

        async def body(tx: Transaction) -> list[ThingGroup]:
            await existing_thing(tx, scope, thing)
            return [group for group in await sql.groups_of(tx, scope, thing) if group.name > after]

        return listing.page(request, await self._store.read(body), lambda group: group.name)

    async def list_things(self, scope: Scope, group: str, request: PageRequest, *, recursive: bool) -> Page[str]:
        """The names of those in the group, and in all below it if ``recursive``. Raises NotFound."""
        listing = Listing(self._markers, f"things-in-group {group} {recursive}", scope)
        path, _, name = listing.after(request).partition(" ")

        async def body(tx: Transaction) -> list[tuple[str, str]]:
            return await sql.list_members(
                tx,
                await existing_group(tx, scope, group),
                recursive=recursive,
                limit=request.limit + 1,
                after=(path, name) if path else None,
            )

        page = listing.page(request, await self._store.read(body), " ".join)
        return Page([thing for _, thing in page.items], page.next_token)


async def existing_group(tx: Transaction, scope: Scope, name: str) -> ThingGroup:
    """Raises NotFound."""
    group = await sql.get_group(tx, scope, name)
    if group is None:
        raise NotFound("thing group", name)
    return group


async def add_to_group(tx: Transaction, scope: Scope, group: str, thing: str, now: datetime) -> None:
    """Adding again is no change. Raises Invalid for what can be no name, NotFound and Disallowed."""
    await update_groups(tx, scope, thing, now, add=[check_name(group, "thingGroupName")], remove=[])


async def update_groups(
    tx: Transaction, scope: Scope, thing: str, now: datetime, *, add: Sequence[str], remove: Sequence[str]
) -> None:
    """Removes first, so that a thing can move within a hierarchy; what is so already is no change.

    Raises NotFound and Disallowed.
    """
    member = await existing_thing(tx, scope, thing)
    for name in remove:
        await _remove(tx, member, await existing_group(tx, scope, name), now)
    for name in add:
        await _add(tx, member, await existing_group(tx, scope, name), now)


async def _add(tx: Transaction, thing: Thing, group: ThingGroup, now: datetime) -> None:
    known = await sql.groups_of(tx, thing.scope, thing.name)
    if any(one.name == group.name for one in known):
        return
    # AWS's guide: a thing is in 10 groups at most, and never in two that share a parent, near or far.
    for one in known:
        if one.root == group.root:
            reason = f"Thing {thing.name} is in thing group {one.name}, which is in the same hierarchy as {group.name}"
            raise Disallowed("thing", thing.name, reason)
    if len(known) >= MAX_GROUPS:
        raise Disallowed("thing", thing.name, f"Thing {thing.name} is in {MAX_GROUPS} thing groups already")
    await sql.insert_member(tx, thing.scope, group.name, thing.name, now)
    await _changed(tx, thing, group, now)


async def _remove(tx: Transaction, thing: Thing, group: ThingGroup, now: datetime) -> None:
    if await sql.delete_member(tx, thing.scope, group.name, thing.name):
        await _changed(tx, thing, group, now)


async def _changed(tx: Transaction, thing: Thing, group: ThingGroup, now: datetime) -> None:
    await announce(tx, thing.scope, "thing", thing.name, now)
    tx.audit_resources += [thing.arn, group.arn]
