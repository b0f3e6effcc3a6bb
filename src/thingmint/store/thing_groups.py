"""Thing groups, and which things are in them, in SQL. See things.py for how text has to sort."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from thingmint.domain.registration import Scope
from thingmint.domain.things import ThingGroup
from thingmint.store.things import AFTER_NAMES
from thingmint.store.times import from_micros, to_micros

if TYPE_CHECKING:
    from datetime import datetime

    from thingmint.store.engine import Row, Transaction

__all__ = [
    "count_children",
    "delete_group",
    "delete_member",
    "get_group",
    "groups_of",
    "insert_group",
    "insert_member",
    "leave_all_groups",
    "list_children",
    "list_descendants",
    "list_groups",
    "list_members",
    "update_group",
]

_GROUP = (
    "SELECT g.account, g.region, g.name, g.id, g.path, g.description, g.attributes, g.version, g.created_at "
    "FROM thing_groups AS g "
)
_AFTER_SLASH = chr(ord("/") + 1)  # no name has a slash, so all paths below x lie between x/ and x0


async def insert_group(tx: Transaction, group: ThingGroup) -> bool:
    """False if there is one of that name."""
    inserted = await tx.execute(
        "INSERT INTO thing_groups "
        "(account, region, name, id, parent, path, description, attributes, version, created_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (account, region, name) DO NOTHING",
        *group.scope,
        group.name,
        group.id,
        group.parent,
        "/".join(group.path),
        group.description,
        orjson.dumps(group.attributes).decode(),
        group.version,
        to_micros(group.created_at),
    )
    return inserted == 1


async def update_group(tx: Transaction, group: ThingGroup) -> None:
    await tx.execute(
        "UPDATE thing_groups SET description = $4, attributes = $5, version = $6 "
        "WHERE account = $1 AND region = $2 AND name = $3",
        *group.scope,
        group.name,
        group.description,
        orjson.dumps(group.attributes).decode(),
        group.version,
    )


async def delete_group(tx: Transaction, scope: Scope, name: str) -> None:
    """Along with its members' being in it, and with policies' being attached: a later one of that name has none."""
    await tx.execute(
        "DELETE FROM thing_group_members WHERE account = $1 AND region = $2 AND thing_group = $3", *scope, name
    )
    await tx.execute(
        "DELETE FROM device_policy_attachments "
        "WHERE account = $1 AND region = $2 AND kind = 'thinggroup' AND target = $3",
        *scope,
        name,
    )
    await tx.execute("DELETE FROM thing_groups WHERE account = $1 AND region = $2 AND name = $3", *scope, name)


async def get_group(tx: Transaction, scope: Scope, name: str) -> ThingGroup | None:
    row = await tx.fetch_one(_GROUP + "WHERE g.account = $1 AND g.region = $2 AND g.name = $3", *scope, name)
    return _group(row) if row else None


async def count_children(tx: Transaction, scope: Scope, name: str) -> int:
    row = await tx.fetch_one(
        "SELECT count(*) FROM thing_groups WHERE account = $1 AND region = $2 AND parent = $3", *scope, name
    )
    return int(row[0]) if row else 0


async def list_groups(tx: Transaction, scope: Scope, *, prefix: str, limit: int, after: str) -> list[ThingGroup]:
    """All of them whose names begin with ``prefix``, by name."""
    beyond = ">" if after else ">="
    rows = await tx.fetch_all(
        f"{_GROUP}WHERE g.account = $1 AND g.region = $2 AND g.name {beyond} $3 AND g.name < $4 "
        "ORDER BY g.name LIMIT $5",
        *scope,
        after or prefix,
        prefix + AFTER_NAMES,
        limit,
    )
    return [_group(row) for row in rows]


async def list_children(
    tx: Transaction, scope: Scope, parent: str | None, *, prefix: str, limit: int, after: str
) -> list[ThingGroup]:
    """Those directly below ``parent``, or the roots, whose names begin with ``prefix``; by name."""
    below = "g.parent IS NULL" if parent is None else "g.parent = $6"
    beyond = ">" if after else ">="
    rows = await tx.fetch_all(
        f"{_GROUP}WHERE g.account = $1 AND g.region = $2 AND {below} "
        f"AND g.name {beyond} $3 AND g.name < $4 ORDER BY g.name LIMIT $5",
        *scope,
        after or prefix,
        prefix + AFTER_NAMES,
        limit,
        *([] if parent is None else [parent]),
    )
    return [_group(row) for row in rows]


async def list_descendants(
    tx: Transaction, group: ThingGroup, *, prefix: str, limit: int, after: str
) -> list[ThingGroup]:
    """All those below ``group`` whose names begin with ``prefix``; by path, beyond the path ``after``."""
    path = "/".join(group.path)
    rows = await tx.fetch_all(
        f"{_GROUP}WHERE g.account = $1 AND g.region = $2 AND g.path > $3 AND g.path < $4 "
        "AND g.name >= $5 AND g.name < $6 ORDER BY g.path LIMIT $7",
        *group.scope,
        after or f"{path}/",
        path + _AFTER_SLASH,
        prefix,
        prefix + AFTER_NAMES,
        limit,
    )
    return [_group(row) for row in rows]


async def insert_member(tx: Transaction, scope: Scope, group: str, thing: str, now: datetime) -> None:
    await tx.execute(
        "INSERT INTO thing_group_members (account, region, thing_group, thing, added_at) VALUES ($1, $2, $3, $4, $5)",
        *scope,
        group,
        thing,
        to_micros(now),
    )


async def delete_member(tx: Transaction, scope: Scope, group: str, thing: str) -> bool:
    """False if it was not in it."""
    deleted = await tx.execute(
        "DELETE FROM thing_group_members WHERE account = $1 AND region = $2 AND thing_group = $3 AND thing = $4",
        *scope,
        group,
        thing,
    )
    return deleted == 1


async def leave_all_groups(tx: Transaction, scope: Scope, thing: str) -> None:
    await tx.execute("DELETE FROM thing_group_members WHERE account = $1 AND region = $2 AND thing = $3", *scope, thing)


async def groups_of(tx: Transaction, scope: Scope, thing: str) -> list[ThingGroup]:
    """The groups that ``thing`` is in itself, by name. They are few."""
    rows = await tx.fetch_all(
        f"{_GROUP}JOIN thing_group_members AS m "
        "ON m.account = g.account AND m.region = g.region AND m.thing_group = g.name "
        "WHERE m.account = $1 AND m.region = $2 AND m.thing = $3 ORDER BY m.thing_group",
        *scope,
        thing,
    )
    return [_group(row) for row in rows]


_MEMBER = (
    "SELECT g.path, m.thing FROM thing_groups AS g JOIN thing_group_members AS m "
    "ON m.account = g.account AND m.region = g.region AND m.thing_group = g.name "
    "WHERE g.account = $1 AND g.region = $2 "
)


async def list_members(
    tx: Transaction, group: ThingGroup, *, recursive: bool, limit: int, after: tuple[str, str] | None
) -> list[tuple[str, str]]:
    """Paths and things of ``group``, and of all below it if ``recursive``; in that order, beyond ``after``.

    No thing comes twice, as none is in two groups of one hierarchy.
    """
    path = "/".join(group.path)
    at, beyond = after or (path, "")
    rows = await tx.fetch_all(
        _MEMBER + "AND g.path = $3 AND m.thing > $4 ORDER BY m.thing LIMIT $5", *group.scope, at, beyond, limit
    )
    if recursive and len(rows) < limit:
        rows += await tx.fetch_all(
            _MEMBER + "AND g.path > $3 AND g.path < $4 ORDER BY g.path, m.thing LIMIT $5",
            *group.scope,
            f"{path}/" if at == path else at,
            path + _AFTER_SLASH,
            limit - len(rows),
        )
    return [(row[0], row[1]) for row in rows]


def _group(row: Row) -> ThingGroup:
    account, region, name, id, path, description, attributes, version, created_at = row
    return ThingGroup(
        Scope(account, region),
        name,
        id,
        tuple(path.split("/")),
        description,
        orjson.loads(attributes),
        version,
        created_at=from_micros(created_at),
    )
