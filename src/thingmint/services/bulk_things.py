"""Adds many things, and many members of thing groups, as an import does. What is there is never changed."""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from thingmint.services.imports import Result
from thingmint.services.registry_events import Membership, publishes, queue_members, things_changed
from thingmint.services.thing_group_members import MEMBERS, Member, refusal_of_member
from thingmint.services.thing_groups import THING_GROUPS, ThingGroup
from thingmint.services.things import THINGS, Thing, insert_attributes
from thingmint.store.key_lists import FIRST_FURTHER, KeyList
from thingmint.store.outbox import publish_change
from thingmint.store.table import to_micros, uuid_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from thingmint.domain.arns import Scope
    from thingmint.services.change import Change
    from thingmint.store.engine import Transaction

_SCOPE = f"account = ${FIRST_FURTHER} AND region = ${FIRST_FURTHER + 1}"
_THINGS = KeyList(f"{THINGS.select}WHERE {_SCOPE} AND name IN ({{keys}})")
_IDS = KeyList(f"SELECT name, id FROM things WHERE {_SCOPE} AND name IN ({{keys}})")
_NAMES = KeyList(f"SELECT name FROM things WHERE {_SCOPE} AND name IN ({{keys}})")
_TYPES = KeyList(f"SELECT name FROM thing_types WHERE {_SCOPE} AND name IN ({{keys}})")
_WITH_PRINCIPALS = KeyList(f"SELECT DISTINCT thing FROM thing_principals WHERE {_SCOPE} AND thing IN ({{keys}})")
_MEMBERSHIPS = KeyList(
    f"SELECT m.thing, {', '.join(THING_GROUPS.reads('g'))} FROM thing_group_members AS m JOIN thing_groups AS g "
    "ON g.account = m.account AND g.region = m.region AND g.id = m.thing_group "
    f"WHERE m.account = ${FIRST_FURTHER} AND m.region = ${FIRST_FURTHER + 1} AND m.thing IN ({{keys}})"
)


async def known_things(tx: Transaction, scope: Scope, names: Iterable[str]) -> set[str]:
    """Return those of the names that are things."""
    return {row[0] for row in await _NAMES.fetch(tx, list(dict.fromkeys(names)), *scope)}


async def add_things(
    tx: Transaction, change: Change, things: Sequence[tuple[Thing, str]], *, dry_run: bool
) -> list[list[Result]]:
    """Add things, each with the subject of its results. Their types may be deprecated, as at AWS."""
    scope = change.scope
    there = {
        thing.name: thing for thing in THINGS.load_all(await _THINGS.fetch(tx, [t.name for t, _ in things], *scope))
    }
    types = {row[0] for row in await _TYPES.fetch(tx, list({t.type for t, _ in things if t.type is not None}), *scope)}
    new: list[Thing] = []
    results = []
    for thing, about in things:
        known = there.get(thing.name)
        if known is not None:
            results.append([_compared(known, thing, about)])
        elif thing.type is not None and thing.type not in types and not dry_run:
            reason = f"its thing type {thing.type} is not here"
            results.append([Result("thing", "refused", about, reason)])
        else:
            there[thing.name] = thing
            new.append(thing)
            results.append([Result("thing", "new", about)])
    if not dry_run:
        await THINGS.insert_many(tx, [(thing,) for thing in new])
        await insert_attributes(tx, new)
        await things_changed(tx, change, [(None, thing) for thing in new])
    return results


def _compared(there: Thing, thing: Thing, about: str) -> Result:
    differs = [name for name in ("type", "attributes") if getattr(there, name) != getattr(thing, name)]
    if not differs:
        return Result("thing", "same", about)
    reason = f"it is here with other content ({', '.join(differs)}), and stays as it is here"
    return Result("thing", "conflict", about, reason)


async def add_members(
    tx: Transaction, change: Change, name: str, things: Sequence[str], about: str, *, dry_run: bool
) -> list[Result]:
    """Add things to a group. A result for each."""
    scope = change.scope
    group = await THING_GROUPS.find(tx, *scope, name)
    if group is None:
        if dry_run:
            return [Result("member", "new", f"{about}: {thing}") for thing in things]
        return [Result("member", "refused", f"{about}: {thing}", "the thing group is not here") for thing in things]
    known = set(things) if dry_run else await known_things(tx, scope, things)
    groups: dict[str, list[ThingGroup]] = defaultdict(list)
    for thing, *row in await _MEMBERSHIPS.fetch(tx, things, *scope):
        groups[thing].append(THING_GROUPS.load(tuple(row)))
    new = []
    results = []
    for thing in things:
        subject = f"{about}: {thing}"
        if any(one.id == group.id for one in groups[thing]):
            results.append(Result("member", "same", subject))
        elif thing not in known:
            results.append(Result("member", "refused", subject, "the thing is not here"))
        elif (refusal := refusal_of_member(thing, group, groups[thing])) is not None:
            results.append(Result("member", "conflict", subject, refusal))
        else:
            new.append(thing)
            results.append(Result("member", "new", subject))
    if new and not dry_run:
        await MEMBERS.insert_many(tx, [(Member(scope, group.id, thing, change.now),) for thing in new])
        # Only a thing with a certificate can have a connection, whose permissions the group changes.
        for (thing,) in await _WITH_PRINCIPALS.fetch(tx, new, *scope):
            await publish_change(tx, scope, "thing", thing, change.now)
        if await publishes(tx, change, "THING_GROUP_MEMBERSHIP"):
            ids: dict[str, bytes] = dict(await _IDS.fetch(tx, new, *scope))
            added_at = to_micros(change.now)
            members = [Membership(name, group.id, thing, uuid_text(ids[thing]), added_at) for thing in new]
            await queue_members(tx, scope, "ADDED", members, change.now)
    return results
