"""The things in thing groups."""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from thingmint.domain.arns import Scope
from thingmint.domain.errors import Disallowed
from thingmint.services.pages import Page, page_by_text
from thingmint.services.registry_events import Membership, publishes, queue_members
from thingmint.services.thing_groups import AFTER_SLASH, THING_GROUPS
from thingmint.services.things import THINGS
from thingmint.store.outbox import publish_change
from thingmint.store.table import Table, record, to_micros

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.services.change import Change, Query
    from thingmint.services.pages import Cursor
    from thingmint.services.thing_groups import ThingGroup
    from thingmint.services.things import Thing
    from thingmint.store.engine import Transaction

_MAX_GROUPS = 10  # that a thing is in


@record
class Member:
    """``group`` is the group's id. Members of a deleted group are deleted later; no query returns them."""

    scope: Scope
    group: str
    thing: str
    added_at: datetime


MEMBERS = Table(
    Member,
    "thing_group_members",
    "member",
    key=("account", "region", "thing_group", "thing"),
    columns={"group": "thing_group"},
)

_GROUPS_OF = (
    f"{THING_GROUPS.select}JOIN (SELECT thing_group FROM thing_group_members "
    "WHERE account = $1 AND region = $2 AND thing = $3) AS m ON thing_group = id "
    "WHERE account = $1 AND region = $2 ORDER BY name"
)
_MEMBER = (
    "SELECT g.path, m.thing FROM thing_groups AS g JOIN thing_group_members AS m "
    "ON m.account = g.account AND m.region = g.region AND m.thing_group = g.id "
    "WHERE g.account = $1 AND g.region = $2 "
)
_MEMBERS_AT = f"{_MEMBER}AND g.path = $3 AND m.thing > $4 ORDER BY m.thing LIMIT $5"
_MEMBERS_BELOW = f"{_MEMBER}AND g.path > $3 AND g.path < $4 ORDER BY g.path, m.thing LIMIT $5"


async def groups_of(tx: Transaction, scope: Scope, thing: str) -> list[ThingGroup]:
    """Return the groups that the thing is directly in, by name. They are few."""
    return THING_GROUPS.load_all(await tx.fetch_all(_GROUPS_OF, *scope, thing))


async def list_groups_of(tx: Transaction, query: Query, thing: str, cursor: Cursor) -> Page[ThingGroup]:
    """Return a page of the groups that the thing is directly in. Raises NotFound."""

    async def fetch(after: str, limit: int) -> list[ThingGroup]:
        await THINGS.get(tx, *query.scope, thing)
        return [group for group in await groups_of(tx, query.scope, thing) if group.name > after]

    return await page_by_text(query, cursor, f"groups-of-thing {thing}", fetch, lambda group: group.name)


async def list_members(tx: Transaction, query: Query, group: str, cursor: Cursor, *, recursive: bool) -> Page[str]:
    """Return a page of names of the things in the group, and if ``recursive`` in all groups below it. Raises NotFound.

    They are sorted by the group's path and the thing's name. A thing is in one group of a hierarchy only, so no name
    is returned twice.
    """

    async def fetch(after: str, limit: int) -> list[tuple[str, str]]:
        path = (await THING_GROUPS.get(tx, *query.scope, group)).path
        at, _, thing = after.partition(" ")
        rows = await tx.fetch_all(_MEMBERS_AT, *query.scope, at or path, thing, limit)
        if recursive and len(rows) < limit:
            below = f"{path}/" if at in ("", path) else at
            left = limit - len(rows)
            rows += await tx.fetch_all(_MEMBERS_BELOW, *query.scope, below, path + AFTER_SLASH, left)
        return [(row[0], row[1]) for row in rows]

    page = await page_by_text(query, cursor, f"things-in-group {group} {recursive}", fetch, " ".join)
    return Page([thing for _, thing in page.items], page.next_token)


async def update_groups(
    tx: Transaction, change: Change, thing: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()
) -> None:
    """Remove a thing from groups, then add it to others, so that it can move within a hierarchy.

    Nothing changes for groups that the thing is already in, or not in. Raises NotFound and Disallowed.
    """
    scope, now = change.scope, change.now
    of = await THINGS.get(tx, *scope, thing)
    published = await publishes(tx, change, "THING_GROUP_MEMBERSHIP")
    removed, added = [], []
    for name in remove:
        group = await THING_GROUPS.get(tx, *scope, name)
        member = await MEMBERS.find(tx, *scope, group.id, thing) if published else None
        if await MEMBERS.delete(tx, *scope, group.id, thing):
            await _changed(tx, of, group, now)
            if member is not None:
                removed.append(_membership(group, of, member.added_at))
    for name in add:
        group = await THING_GROUPS.get(tx, *scope, name)
        known = await groups_of(tx, scope, thing)
        if all(one.name != name for one in known):
            if (refusal := refusal_of_member(thing, group, known)) is not None:
                raise Disallowed("thing", thing, refusal)
            await MEMBERS.insert(tx, Member(scope, group.id, thing, now))
            await _changed(tx, of, group, now)
            added.append(_membership(group, of, now))
    if published:
        await queue_members(tx, scope, "REMOVED", removed, now)
        await queue_members(tx, scope, "ADDED", added, now)


def _membership(group: ThingGroup, thing: Thing, added_at: datetime) -> Membership:
    return Membership(group.name, group.id, thing.name, thing.id, to_micros(added_at))


def refusal_of_member(thing: str, group: ThingGroup, known: Sequence[ThingGroup]) -> str | None:
    """Return why a thing of the groups ``known`` cannot join the group, or None.

    AWS's guide: at most 10 groups, and one per hierarchy.
    """
    for one in known:
        if one.root == group.root:
            return f"Thing {thing} is in thing group {one.name}, which is in the same hierarchy as {group.name}"
    if len(known) >= _MAX_GROUPS:
        return f"Thing {thing} is in {_MAX_GROUPS} thing groups already"
    return None


async def _changed(tx: Transaction, thing: Thing, group: ThingGroup, now: datetime) -> None:
    await publish_change(tx, thing.scope, "thing", thing.name, now)
    tx.audit_resources += [thing.arn, group.arn]
