"""Thing groups and their hierarchies. See things.py for how text must sort."""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from thingmint.domain.arns import Scope, arn
from thingmint.domain.errors import AlreadyExists, Disallowed, Invalid
from thingmint.services.jobs import Job, add_job, job
from thingmint.services.pages import Page, page_by_text
from thingmint.services.registry_events import (
    Membership,
    publishes,
    queue_members,
    thing_group_changed,
)
from thingmint.services.tags import drop_tags, put_tags
from thingmint.services.things import AFTER_NAMES, AttributeChange, check_count, check_name, check_version
from thingmint.store.key_lists import FIRST_FURTHER, KeyList
from thingmint.store.outbox import publish_change
from thingmint.store.table import DELETED_AT_ONCE, BoundedDelete, Table, from_micros, record, to_micros, uuid_text

if TYPE_CHECKING:
    from thingmint.services.change import Change, Query
    from thingmint.services.pages import Cursor
    from thingmint.store.engine import Transaction

_MAX_CHILDREN = 100  # directly below a group
_MAX_DEPTH = 7  # levels of groups, including the root
AFTER_SLASH = chr(ord("/") + 1)  # names contain no slash, so all paths below x sort between x/ and x0


@record
class ThingGroup:
    """``path`` is the names from the root of the hierarchy to the group, separated by slashes. A group never moves."""

    scope: Scope
    name: str
    id: str  # a UUID
    parent: str | None
    path: str
    description: str | None
    attributes: Mapping[str, str]
    version: int  # counts changes, from 1
    created_at: datetime

    @property
    def resource(self) -> str:
        return f"thinggroup/{self.name}"

    @property
    def arn(self) -> str:
        return arn(self.scope, self.resource)

    @property
    def ancestors(self) -> list[str]:
        """The names of the groups that contain it, from the root to the parent."""
        return self.path.split("/")[:-1]

    @property
    def root(self) -> str:
        return self.path.partition("/")[0]

    def same_configuration(self, other: ThingGroup) -> bool:
        mine, theirs = [(group.path, group.description, group.attributes) for group in (self, other)]
        return mine == theirs


THING_GROUPS = Table(ThingGroup, "thing_groups", "thing group")

_COUNT_CHILDREN = "SELECT count(*) FROM thing_groups WHERE account = $1 AND region = $2 AND parent = $3"
_DROP_MEMBERS = BoundedDelete(
    "thing_group_members",
    ("account", "region", "thing_group", "thing"),
    "account = $1 AND region = $2 AND thing_group = $3",
)
_SOME_MEMBERS = (
    "SELECT m.thing, t.id, m.added_at FROM thing_group_members AS m LEFT JOIN things AS t "
    "ON t.account = m.account AND t.region = m.region AND t.name = m.thing "
    "WHERE m.account = $1 AND m.region = $2 AND m.thing_group = $3 ORDER BY m.thing LIMIT $4"
)
_DROP_MEMBER = "DELETE FROM thing_group_members WHERE account = $1 AND region = $2 AND thing_group = $3 AND thing = $4"
_MEMBERS_OF_DELETED = "members of a deleted thing group"
_IDS = KeyList(
    f"SELECT name, id FROM thing_groups WHERE account = ${FIRST_FURTHER} AND region = ${FIRST_FURTHER + 1} "
    "AND name IN ({keys})"
)
_DETACH_POLICIES = (
    "DELETE FROM device_policy_attachments WHERE account = $1 AND region = $2 AND certificate = 0 AND thing_group = $3"
)
# The row at which a page begins is excluded by a separate condition (<>), so that the index is always entered there.
_NAMED = f"{THING_GROUPS.select}WHERE account = $1 AND region = $2 AND name >= $4 AND name <> $5 AND name < $6 "
_ALL = f"{_NAMED}ORDER BY name LIMIT $3"
_ROOTS = f"{_NAMED}AND parent IS NULL ORDER BY name LIMIT $3"
_CHILDREN = f"{_NAMED}AND parent = $7 ORDER BY name LIMIT $3"
_BELOW = (
    f"{THING_GROUPS.select}WHERE account = $1 AND region = $2 AND path > $6 AND path < $7 "
    "AND name >= $4 AND name < $5 ORDER BY path LIMIT $3"
)


async def create_thing_group(
    tx: Transaction,
    change: Change,
    name: str,
    parent: str | None,
    description: str | None,
    attributes: Mapping[str, str],
    tags: Mapping[str, str],
    created_at: datetime | None = None,
) -> ThingGroup:
    """Create a group. Returns it, or the existing group of that name if it has the same parent and properties.

    ``created_at`` is when it was created elsewhere, if it is imported. Raises Invalid, AlreadyExists, Disallowed. An
    unknown parent is Invalid, because AWS's model has no NotFound here.
    """
    path = name
    if parent is not None:
        above = await THING_GROUPS.find(tx, *change.scope, parent)
        if above is None:
            raise Invalid("parentGroupName", "must be the name of a thing group that exists")
        path = f"{above.path}/{name}"
    check_name(name, "thingGroupName")
    if path.count("/") >= _MAX_DEPTH:
        raise Invalid("parentGroupName", f"is on level {_MAX_DEPTH} of its hierarchy, which is the last one allowed")
    given = AttributeChange(attributes).applied({})
    check_count(given)
    new = ThingGroup(change.scope, name, change.new_id(), parent, path, description, given, 1, created_at or change.now)
    existing = await THING_GROUPS.find(tx, *change.scope, name)
    if existing is not None:
        if existing.same_configuration(new):
            return existing
        reason = f"Thing Group {name} already exists in current account with different properties"
        raise AlreadyExists("thing group", existing.id, arn=existing.arn, reason=reason)
    if parent is not None and await _count_children(tx, change.scope, parent) >= _MAX_CHILDREN:
        reason = f"Thing group {parent} has {_MAX_CHILDREN} groups directly below it already"
        raise Disallowed("thing group", parent, reason)
    await THING_GROUPS.insert(tx, new)
    await put_tags(tx, change.scope, new.resource, tags)
    await _changed_group(tx, change, None, new)
    tx.audit_resources.append(new.arn)
    return new


async def list_thing_groups(
    tx: Transaction, query: Query, parent: str | None, prefix: str, cursor: Cursor, *, recursive: bool
) -> Page[ThingGroup]:
    """Return a page of the groups directly below ``parent`` (None: the roots) or, if ``recursive``, of all below.

    Their names begin with ``prefix``. They are sorted by name; all groups below a parent by path. Raises NotFound for
    the parent.
    """
    by_path = recursive and parent is not None

    async def fetch(after: str, limit: int) -> list[ThingGroup]:
        end = prefix + AFTER_NAMES
        if parent is None:
            sql = _ALL if recursive else _ROOTS
            rows = await tx.fetch_all(sql, *query.scope, limit, after or prefix, after, end)
        else:
            above = (await THING_GROUPS.get(tx, *query.scope, parent)).path
            if recursive:
                paths = (after or f"{above}/", above + AFTER_SLASH)
                rows = await tx.fetch_all(_BELOW, *query.scope, limit, prefix, end, *paths)
            else:
                rows = await tx.fetch_all(_CHILDREN, *query.scope, limit, after or prefix, after, end, parent)
        return THING_GROUPS.load_all(rows)

    listing = f"thing-groups {parent or ''} {prefix} {recursive}"
    return await page_by_text(query, cursor, listing, fetch, lambda group: group.path if by_path else group.name)


async def update_thing_group(
    tx: Transaction,
    change: Change,
    name: str,
    description: str | None,
    attributes: AttributeChange | None,
    expected_version: int | None,
) -> ThingGroup:
    """Change a group. None keeps a property. Without a difference, the version stays the same.

    Raises NotFound, VersionConflict, Invalid.
    """
    group = await THING_GROUPS.get(tx, *change.scope, name)
    check_version("thing group", name, expected_version, group.version)
    changed = replace(
        group,
        description=group.description if description is None else description,
        attributes=group.attributes if attributes is None else attributes.applied(group.attributes),
    )
    check_count(changed.attributes)
    if changed == group:
        return group
    changed = replace(changed, version=group.version + 1)
    await THING_GROUPS.update(tx, changed)
    await _changed_group(tx, change, group, changed)
    tx.audit_resources.append(group.arn)
    return changed


async def delete_thing_group(tx: Transaction, change: Change, name: str, expected_version: int | None) -> None:
    """Delete a group if it exists. Its things stay; its policies are detached, so a later group of that name has none.

    Raises VersionConflict, and Disallowed while there are groups below it.
    """
    scope = change.scope
    group = await THING_GROUPS.find(tx, *scope, name)
    if group is None:
        return
    check_version("thing group", name, expected_version, group.version)
    if await _count_children(tx, scope, name):
        reason = f"Cannot delete thing group : {name} when there are still child groups attached to it"
        raise Disallowed("thing group", name, reason)
    rest: dict[str, Any] = {"group": group.id}
    if await publishes(tx, change, "THING_GROUP_MEMBERSHIP"):
        rest |= {"name": name, "deleted_at": to_micros(change.now)}
    if await _drop_members(tx, scope, rest):
        await add_job(tx, scope, change.new_id(), _MEMBERS_OF_DELETED, rest, change.now)
    await tx.execute(_DETACH_POLICIES, *scope, name)
    await THING_GROUPS.delete(tx, *scope, name)
    await drop_tags(tx, scope, group.resource)
    await publish_change(tx, scope, "thinggroup", name, change.now)
    await _changed_group(tx, change, group, None)
    tx.audit_resources.append(group.arn)


@job(_MEMBERS_OF_DELETED)
async def _drop_members_of_deleted(tx: Transaction, job: Job) -> bool:
    return await _drop_members(tx, job.scope, job.payload)


async def _drop_members(tx: Transaction, scope: Scope, group: Mapping[str, Any]) -> bool:
    """Delete some members of a deleted group. Returns True if some may be left.

    If the group has a ``name``, the account publishes events of memberships. The job does what the account had enabled
    when it deleted the group.
    """
    if "name" not in group:
        return await _DROP_MEMBERS.step(tx, *scope, group["group"])
    rows = await tx.fetch_all(_SOME_MEMBERS, *scope, group["group"], DELETED_AT_ONCE)
    await tx.execute_many(_DROP_MEMBER, [(*scope, group["group"], thing) for thing, *_ in rows])
    members = [
        Membership(group["name"], group["group"], thing, uuid_text(id), added_at)
        for thing, id, added_at in rows
        if id is not None
    ]
    await queue_members(tx, scope, "REMOVED", members, from_micros(group["deleted_at"]))
    return len(rows) == DELETED_AT_ONCE


async def _count_children(tx: Transaction, scope: Scope, name: str) -> int:
    row = await tx.fetch_one(_COUNT_CHILDREN, *scope, name)
    return int(row[0]) if row else 0


async def _changed_group(tx: Transaction, change: Change, before: ThingGroup | None, after: ThingGroup | None) -> None:
    """Queue the events of a group's change, if the account has them enabled."""
    if await publishes(tx, change, "THING_GROUP", "THING_GROUP_HIERARCHY"):
        group = before or after
        assert group is not None, "there is a state before or after"
        ids: dict[str, str] = dict(await _IDS.fetch(tx, group.ancestors, *change.scope)) if group.ancestors else {}
        await thing_group_changed(tx, change, before, after, [(name, ids[name]) for name in group.ancestors])
