"""Things: named devices with a type and attributes. Patterns are from AWS's model, limits from its page of quotas.

Queries look up prefixes as ranges, so text must sort by its bytes, as in SQLite and in PostgreSQL's collation ``C``.
"""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from thingmint.domain.arns import Scope, arn
from thingmint.domain.errors import AlreadyExists, Disallowed, Invalid, VersionConflict
from thingmint.services.pages import Page, page_by_text, size_of_texts
from thingmint.services.registry_events import Membership, publishes, queue_members, thing_changed
from thingmint.services.thing_types import ATTRIBUTE_NAME, check_usable, refusal_of_type
from thingmint.store.outbox import publish_change
from thingmint.store.table import Table, Uuid, record

if TYPE_CHECKING:
    from thingmint.services.change import Change, Query
    from thingmint.services.pages import Cursor
    from thingmint.store.engine import Transaction

AFTER_NAMES = "~"
"""Sorts after every character that names and attributes can have."""

_MAX_ATTRIBUTES = 50  # of a thing with a type, and of a group
_MAX_ATTRIBUTES_UNTYPED = 3
_NAME = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
_ATTRIBUTE_VALUE = re.compile(r"[a-zA-Z0-9_.,@/:#=\[\]-]{0,800}")


@dataclass(frozen=True, slots=True)
class AttributeChange:
    """New attributes, or with ``merge``, changes to attributes. An empty value removes an attribute."""

    values: Mapping[str, str]
    merge: bool = False

    def applied(self, before: Mapping[str, str], field: str = "attributes") -> dict[str, str]:
        """Return the attributes after the change. Raises Invalid."""
        for name, value in self.values.items():
            if not ATTRIBUTE_NAME.fullmatch(name):
                raise Invalid(field, f"has a name that does not satisfy the pattern: {ATTRIBUTE_NAME.pattern}")
            if not _ATTRIBUTE_VALUE.fullmatch(value):
                raise Invalid(field, f"has a value that does not satisfy the pattern: {_ATTRIBUTE_VALUE.pattern}")
        merged = {**before, **self.values} if self.merge else self.values
        return {name: value for name, value in merged.items() if value}


@record
class Thing:
    scope: Scope
    name: str
    id: Uuid
    type: str | None
    attributes: Mapping[str, str]
    version: int  # counts changes, from 1
    created_at: datetime
    billing_group: str | None = None  # its id; the group may have been deleted

    @classmethod
    def new(
        cls, scope: Scope, name: str, *, id: str, type: str | None, attributes: Mapping[str, str], now: datetime
    ) -> Thing:
        """Return the first version of a new thing. Raises Invalid."""
        check_name(name, "thingName")
        if type is not None:
            check_name(type, "thingTypeName")
        return _check(cls(scope, name, id, type, AttributeChange(attributes).applied({}), version=1, created_at=now))

    @property
    def arn(self) -> str:
        return thing_arn(self.scope, self.name)


THINGS = Table(Thing, "things", "thing")

_BY_TYPE = (
    f"{THINGS.select}JOIN (SELECT name AS thing FROM things WHERE account = $1 AND region = $2 AND type = $5 "
    "AND name > $3 ORDER BY name LIMIT $4) AS t ON thing = name WHERE account = $1 AND region = $2 ORDER BY name"
)
_FIND = (
    f"{THINGS.select}JOIN (SELECT value, thing FROM thing_attributes WHERE account = $1 AND region = $2 AND name = $3 "
    "AND (value, thing) > ($5, $6) AND value <= $7) AS a ON thing = name "
    "WHERE account = $1 AND region = $2 ORDER BY value, thing LIMIT $4"
)
_HAS_PRINCIPALS = "SELECT 1 FROM thing_principals WHERE account = $1 AND region = $2 AND thing = $3 LIMIT 1"
_GROUP_LIVES = "SELECT 1 FROM billing_groups WHERE account = $1 AND region = $2 AND id = $3"
_INSERT_ATTRIBUTES = "INSERT INTO thing_attributes (account, region, thing, name, value) VALUES ($1, $2, $3, $4, $5)"
_DELETE_ATTRIBUTES = "DELETE FROM thing_attributes WHERE account = $1 AND region = $2 AND thing = $3"
_LEAVE_GROUPS = "DELETE FROM thing_group_members WHERE account = $1 AND region = $2 AND thing = $3"
_GROUPS = (
    "SELECT g.name, g.id, m.added_at FROM thing_group_members AS m JOIN thing_groups AS g "
    "ON g.account = m.account AND g.region = m.region AND g.id = m.thing_group "
    "WHERE m.account = $1 AND m.region = $2 AND m.thing = $3 ORDER BY g.name"
)


async def create_thing(tx: Transaction, change: Change, thing: Thing) -> Thing:
    """Create a thing. Returns it, or the existing thing of that name if it has the same configuration.

    Raises AlreadyExists for another configuration, NotFound for an unknown type, Disallowed for a deprecated one.
    """
    existing = await insert_thing(tx, change, thing)
    if existing is None:
        return thing
    differs = None
    if (existing.type, existing.attributes) != (thing.type, thing.attributes):
        differs = "another type or other attributes"
    elif await _living(tx, existing) != thing.billing_group:
        differs = "another billing group"
    if differs is not None:
        reason = f"Thing {thing.name} already exists with {differs}"
        raise AlreadyExists("thing", existing.id, arn=existing.arn, reason=reason)
    return existing


async def _living(tx: Transaction, thing: Thing) -> str | None:
    """Return the id of the thing's billing group, or None if it has none or if the group was deleted."""
    group = thing.billing_group
    return group if group is not None and await tx.fetch_one(_GROUP_LIVES, *thing.scope, group) else None


async def insert_thing(
    tx: Transaction, change: Change, thing: Thing, allow: Callable[[], None] = lambda: None
) -> Thing | None:
    """Insert a thing. Returns None, or the existing thing of that name.

    ``allow`` authorizes the creation. It is called before an error shows whether the type exists. The thing is not read
    before the insert, because transactions that read the same rows and insert others conflict with each other.

    Raises NotFound for an unknown type, Disallowed for a deprecated one, and what ``allow`` raises.
    """
    refusal = await refusal_of_type(tx, thing.scope, thing.type) if thing.type is not None else None
    if refusal is None and await THINGS.insert(tx, thing):
        allow()
        await insert_attributes(tx, [thing])
        await thing_changed(tx, change, None, thing)
        tx.audit_resources.append(thing.arn)
        return None
    existing = await THINGS.find(tx, *thing.scope, thing.name)
    if existing is not None:
        return existing
    allow()
    assert refusal is not None, "a thing that does not exist can be inserted"
    raise refusal


async def update_thing(
    tx: Transaction,
    change: Change,
    name: str,
    *,
    type: str | None = None,
    remove_type: bool = False,
    attributes: AttributeChange | None = None,
    expected_version: int | None = None,
) -> Thing:
    """Change a thing. None keeps a property. Without a difference, the version stays the same.

    Raises NotFound, VersionConflict, Invalid, Disallowed.
    """
    scope = change.scope
    thing = await THINGS.get(tx, *scope, name)
    check_version("thing", name, expected_version, thing.version)
    if type is not None:
        if remove_type:
            raise Invalid("removeThingType", "must not be set along with thingTypeName")
        check_name(type, "thingTypeName")
    changed = replace(
        thing,
        type=None if remove_type else type or thing.type,
        attributes=attributes.applied(thing.attributes) if attributes else thing.attributes,
    )
    if _check(changed) == thing:
        return thing
    if changed.type is not None and changed.type != thing.type:
        await check_usable(tx, scope, changed.type)
    changed = replace(changed, version=thing.version + 1)
    await THINGS.update(tx, changed)
    await tx.execute(_DELETE_ATTRIBUTES, *scope, name)
    await insert_attributes(tx, [changed])
    await publish_change(tx, scope, "thing", name, change.now)
    await thing_changed(tx, change, thing, changed)
    tx.audit_resources.append(changed.arn)
    return changed


async def delete_thing(tx: Transaction, change: Change, name: str, *, expected_version: int | None = None) -> None:
    """Delete a thing if it exists. Raises VersionConflict, and Disallowed while it has principals."""
    scope = change.scope
    thing = await THINGS.find(tx, *scope, name)
    if thing is None:
        return
    check_version("thing", name, expected_version, thing.version)
    if await tx.fetch_one(_HAS_PRINCIPALS, *scope, name):
        reason = f"Cannot delete. Thing {name} is still attached to one or more principals"
        raise Disallowed("thing", name, reason)
    await _end_memberships(tx, change, thing)
    await tx.execute(_LEAVE_GROUPS, *scope, name)
    await tx.execute(_DELETE_ATTRIBUTES, *scope, name)
    await THINGS.delete(tx, *scope, name)
    await publish_change(tx, scope, "thing", name, change.now)
    await thing_changed(tx, change, thing, None)
    tx.audit_resources.append(thing.arn)


async def _end_memberships(tx: Transaction, change: Change, thing: Thing) -> None:
    """Queue the events of a deleted thing's memberships, if the account has them enabled."""
    if not await publishes(tx, change, "THING_GROUP_MEMBERSHIP"):
        return
    groups = await tx.fetch_all(_GROUPS, *thing.scope, thing.name)
    members = [Membership(name, id, thing.name, thing.id, added_at) for name, id, added_at in groups]
    await queue_members(tx, thing.scope, "REMOVED", members, change.now)


@dataclass(frozen=True, slots=True)
class ThingFilter:
    """Selects things by type or by attribute.

    ``value`` is the attribute's value, or with ``prefix`` its beginning. No attribute has an empty value.
    """

    type: str | None = None
    attribute: str | None = None
    value: str = ""
    prefix: bool = False

    @property
    def listing(self) -> str:
        # None of these contains a space.
        return f"things {self.type or ''} {self.attribute or ''} {self.value} {self.prefix}"

    def position(self, thing: Thing) -> str:
        return thing.name if self.attribute is None else f"{thing.attributes[self.attribute]} {thing.name}"


async def list_things(tx: Transaction, query: Query, wanted: ThingFilter, cursor: Cursor) -> Page[Thing]:
    """Return a page of things, sorted by name or by the value of the filter's attribute."""

    async def fetch(after: str, limit: int) -> list[Thing]:
        if wanted.attribute is not None:
            value, _, name = after.rpartition(" ")
            last = wanted.value + AFTER_NAMES if wanted.prefix else wanted.value
            bounds = (value or wanted.value, name, last)
            return THINGS.load_all(await tx.fetch_all(_FIND, *query.scope, wanted.attribute, limit, *bounds))
        if wanted.type is not None:
            return THINGS.load_all(await tx.fetch_all(_BY_TYPE, *query.scope, after, limit, wanted.type))
        return await THINGS.page(tx, *query.scope, after=after, limit=limit)

    return await page_by_text(query, cursor, wanted.listing, fetch, wanted.position, _size)


def _size(thing: Thing) -> int:
    return size_of_texts(thing.attributes)


def thing_arn(scope: Scope, name: str) -> str:
    return arn(scope, f"thing/{name}")


def check_name(name: str, field: str) -> str:
    """Return ``name`` if it is valid for things, types and groups. Raises Invalid."""
    if not _NAME.fullmatch(name):
        raise Invalid(field, f"must satisfy regular expression pattern: {_NAME.pattern}")
    return name


def check_count(attributes: Mapping[str, str], most: int = _MAX_ATTRIBUTES) -> None:
    """Raise Invalid if there are too many attributes."""
    if len(attributes) > most:
        raise Invalid("attributes", f"must be at most {most}")


def check_version(kind: str, name: str, expected: int | None, version: int) -> None:
    """Raise VersionConflict if a version is expected and it is another one."""
    if expected is not None and expected != version:
        raise VersionConflict(kind, name, expected=expected, version=version)


def _check(thing: Thing) -> Thing:
    check_count(thing.attributes, _MAX_ATTRIBUTES if thing.type else _MAX_ATTRIBUTES_UNTYPED)
    return thing


async def insert_attributes(tx: Transaction, things: Iterable[Thing]) -> None:
    """Store the attributes of things, which have none in the store yet."""
    rows = [(*thing.scope, thing.name, name, value) for thing in things for name, value in thing.attributes.items()]
    if rows:
        await tx.execute_many(_INSERT_ATTRIBUTES, rows)
