"""Thing types, and the user properties that a type adds to the messages of its things."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from thingmint.domain.arns import Scope, arn
from thingmint.domain.errors import AlreadyExists, Disallowed, Invalid, NotFound
from thingmint.services.pages import Page, page_by_text
from thingmint.services.registry_events import thing_type_changed
from thingmint.services.tags import drop_tags, put_tags
from thingmint.store.outbox import publish_change
from thingmint.store.table import Table, record

if TYPE_CHECKING:
    from thingmint.domain.messages import UserProperties
    from thingmint.services.change import Change, Query
    from thingmint.services.pages import Cursor
    from thingmint.store.engine import Transaction


ATTRIBUTE_NAME = re.compile(r"[a-zA-Z0-9_.,@/:#-]{1,128}")  # of a thing

_MAX_SEARCHABLE = 3
_SEARCHABLE = "searchableAttributes"
_MAX_PROPAGATING = 50  # as many as a thing can have attributes; each message of a device has a copy of their values
_PROPAGATING = "mqtt5Configuration.propagatingAttributes"
_CLIENT_ID, _THING_NAME = "iot:ClientId", "iot:Thing.ThingName"
_USER_PROPERTY_KEY = re.compile(r"[a-zA-Z0-9:$.]{1,128}")

PropagatingAttribute = Mapping[str, str]
"""As in the API of AWS IoT: ``userPropertyKey``, and either ``thingAttribute`` or ``connectionAttribute``."""

_HAS_THINGS = "SELECT 1 FROM things WHERE account = $1 AND region = $2 AND type = $3 LIMIT 1"


@record
class ThingType:
    scope: Scope
    name: str
    id: str  # a UUID
    description: str | None
    searchable: Sequence[str]
    deprecated_at: datetime | None
    created_at: datetime
    propagating: Sequence[PropagatingAttribute] | None = None  # None rather than empty

    @property
    def resource(self) -> str:
        return f"thingtype/{self.name}"

    @property
    def arn(self) -> str:
        return arn(self.scope, self.resource)

    def same_configuration(self, other: ThingType) -> bool:
        return self._configuration == other._configuration

    @property
    def _configuration(self) -> tuple[object, ...]:
        return self.description, set(self.searchable), self.propagating


_COLUMNS = {"searchable": "searchable_attributes", "propagating": "propagating_attributes"}
THING_TYPES = Table(ThingType, "thing_types", "thing type", columns=_COLUMNS)


async def create_thing_type(
    tx: Transaction,
    change: Change,
    name: str,
    description: str | None,
    searchable: Sequence[str],
    propagating: Sequence[PropagatingAttribute],
    tags: Mapping[str, str],
) -> ThingType:
    """Create a type. Returns it, or the existing type of that name if it has the same properties.

    Raises Invalid and AlreadyExists.
    """
    searchable, added = check_searchable(searchable), check_propagating(propagating)
    new = ThingType(change.scope, name, change.new_id(), description, searchable, None, change.now, added)
    if await insert_thing_type(tx, change, new, tags):
        return new
    existing = await THING_TYPES.get(tx, *change.scope, name)
    if not existing.same_configuration(new):
        reason = f"Thing type {name} already exists with other properties"
        raise AlreadyExists("thing type", existing.id, arn=existing.arn, reason=reason)
    return existing


async def insert_thing_type(tx: Transaction, change: Change, new: ThingType, tags: Mapping[str, str]) -> bool:
    """Insert a type. Returns False if there is one of that name."""
    if not await THING_TYPES.insert(tx, new):
        return False
    await put_tags(tx, change.scope, new.resource, tags)
    await thing_type_changed(tx, change, None, new)
    tx.audit_resources.append(new.arn)
    return True


async def list_thing_types(tx: Transaction, query: Query, name: str | None, cursor: Cursor) -> Page[ThingType]:
    """Return a page of types by name; with ``name``, only that type if it exists."""

    async def fetch(after: str, limit: int) -> list[ThingType]:
        if name is None:
            return await THING_TYPES.page(tx, *query.scope, after=after, limit=limit)
        found = await THING_TYPES.find(tx, *query.scope, name)
        return [found] if found else []

    return await page_by_text(query, cursor, f"thing-types {name or ''}", fetch, lambda row: row.name)


async def update_thing_type(
    tx: Transaction,
    change: Change,
    name: str,
    description: str | None,
    searchable: Sequence[str] | None,
    propagating: Sequence[PropagatingAttribute] | None,
) -> None:
    """Change a type. None keeps a property. Raises Invalid and NotFound."""
    checked = None if searchable is None else check_searchable(searchable)
    added = None if propagating is None else check_propagating(propagating)
    type = await THING_TYPES.get(tx, *change.scope, name)
    changed = replace(
        type,
        description=type.description if description is None else description,
        searchable=type.searchable if checked is None else checked,
        propagating=type.propagating if propagating is None else added,
    )
    await _update(tx, change, type, changed)
    if changed.propagating != type.propagating:
        await publish_change(tx, change.scope, "thingtype", name, change.now)


async def deprecate_thing_type(tx: Transaction, change: Change, name: str, *, undo: bool) -> None:
    """Deprecate a type. Things with the type keep it; no other thing can get it. Raises NotFound."""
    type = await THING_TYPES.get(tx, *change.scope, name)
    await _update(tx, change, type, replace(type, deprecated_at=None if undo else type.deprecated_at or change.now))


async def delete_thing_type(tx: Transaction, change: Change, name: str) -> None:
    """Delete a type. Raises NotFound, and Disallowed unless the type is deprecated and no thing has it.

    At AWS, callers must wait for five minutes after the deprecation. Here it takes effect immediately.
    """
    type = await THING_TYPES.get(tx, *change.scope, name)
    if type.deprecated_at is None:
        raise Disallowed("thing type", name, f"Thing type {name} must be deprecated before it is deleted")
    if await tx.fetch_one(_HAS_THINGS, *change.scope, name):
        raise Disallowed("thing type", name, f"Thing type {name} is still associated with one or more things")
    await THING_TYPES.delete(tx, *change.scope, name)
    await drop_tags(tx, change.scope, type.resource)
    await thing_type_changed(tx, change, type, None)
    tx.audit_resources.append(type.arn)


async def check_usable(tx: Transaction, scope: Scope, name: str) -> None:
    """Raise NotFound or Disallowed unless things can get the type: it must exist and not be deprecated."""
    refusal = await refusal_of_type(tx, scope, name)
    if refusal is not None:
        raise refusal


async def refusal_of_type(tx: Transaction, scope: Scope, name: str) -> NotFound | Disallowed | None:
    """Return the error that ``check_usable`` raises, or None."""
    type = await THING_TYPES.find(tx, *scope, name)
    if type is None:
        return NotFound(THING_TYPES.noun, name)
    if type.deprecated_at is not None:
        reason = f"Thing type {name} is deprecated: no thing can be associated with it"
        return Disallowed("thing type", name, reason)
    return None


async def _update(tx: Transaction, change: Change, before: ThingType, after: ThingType) -> None:
    if after != before:
        await THING_TYPES.update(tx, after)
        await thing_type_changed(tx, change, before, after)
        tx.audit_resources.append(after.arn)


def check_searchable(attributes: Sequence[str]) -> tuple[str, ...]:
    """Return the searchable attributes of a type. Raises Invalid."""
    if len(attributes) > _MAX_SEARCHABLE:
        raise Invalid(_SEARCHABLE, f"must have at most {_MAX_SEARCHABLE} entries")
    if len(set(attributes)) < len(attributes):
        raise Invalid(_SEARCHABLE, "must not name an attribute twice")
    return tuple(attributes)


def check_propagating(attributes: Sequence[PropagatingAttribute]) -> tuple[PropagatingAttribute, ...] | None:
    """Return the propagating attributes of a type, or None for an empty list. Raises Invalid."""
    if len(attributes) > _MAX_PROPAGATING:
        raise Invalid(_PROPAGATING, f"must have at most {_MAX_PROPAGATING} entries")
    for each in attributes:
        of_thing, of_connection = each.get("thingAttribute"), each.get("connectionAttribute")
        if not _USER_PROPERTY_KEY.fullmatch(each.get("userPropertyKey") or ""):
            reason = f"must have a userPropertyKey that satisfies the pattern: {_USER_PROPERTY_KEY.pattern}"
            raise Invalid(_PROPAGATING, reason)
        if (of_thing is None) == (of_connection is None):
            raise Invalid(_PROPAGATING, "must have either a thingAttribute or a connectionAttribute in each entry")
        if of_thing is not None and not ATTRIBUTE_NAME.fullmatch(of_thing):
            reason = f"must have a thingAttribute that satisfies the pattern: {ATTRIBUTE_NAME.pattern}"
            raise Invalid(_PROPAGATING, reason)
        if of_connection not in (None, _CLIENT_ID, _THING_NAME):
            raise Invalid(_PROPAGATING, f"must have {_CLIENT_ID} or {_THING_NAME} as connectionAttribute")
    known = ("userPropertyKey", "thingAttribute", "connectionAttribute")
    return tuple({name: each[name] for name in known if each.get(name) is not None} for each in attributes) or None


def propagated(
    propagating: Sequence[PropagatingAttribute], client_id: str, thing: str, attributes: Mapping[str, str]
) -> UserProperties:
    """Return the user properties of a device's messages. An attribute that the thing does not have adds none."""
    of_connection = {_CLIENT_ID: client_id, _THING_NAME: thing}
    values = (
        (each["userPropertyKey"], attributes.get(each["thingAttribute"]))
        if "thingAttribute" in each
        else (each["userPropertyKey"], of_connection[each["connectionAttribute"]])
        for each in propagating
    )
    return tuple((key, value) for key, value in values if value is not None)
