"""Thing types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from thingmint.domain.arns import Scope, arn
from thingmint.domain.errors import AlreadyExists, Disallowed, Invalid, NotFound
from thingmint.services.pages import Page, page_by_text
from thingmint.services.tags import drop_tags, put_tags
from thingmint.store.table import Table, record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.services.change import Change, Query
    from thingmint.services.pages import Cursor
    from thingmint.store.engine import Transaction


_MAX_SEARCHABLE = 3
_SEARCHABLE = "searchableAttributes"

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

    @property
    def resource(self) -> str:
        return f"thingtype/{self.name}"

    @property
    def arn(self) -> str:
        return arn(self.scope, self.resource)

    def same_configuration(self, other: ThingType) -> bool:
        return (self.description, set(self.searchable)) == (other.description, set(other.searchable))


THING_TYPES = Table(ThingType, "thing_types", "thing type", columns={"searchable": "searchable_attributes"})


async def create_thing_type(
    tx: Transaction,
    change: Change,
    name: str,
    description: str | None,
    searchable: Sequence[str],
    tags: Mapping[str, str],
) -> ThingType:
    """Create a type. Returns it, or the existing type of that name if it has the same properties.

    Raises Invalid and AlreadyExists.
    """
    new = ThingType(change.scope, name, change.new_id(), description, check_searchable(searchable), None, change.now)
    if await THING_TYPES.insert(tx, new):
        await put_tags(tx, change.scope, new.resource, tags)
        tx.audit_resources.append(new.arn)
        return new
    existing = await THING_TYPES.get(tx, *change.scope, name)
    if not existing.same_configuration(new):
        reason = f"Thing type {name} already exists with other properties"
        raise AlreadyExists("thing type", existing.id, arn=existing.arn, reason=reason)
    return existing


async def list_thing_types(tx: Transaction, query: Query, name: str | None, cursor: Cursor) -> Page[ThingType]:
    """Return a page of types by name; with ``name``, only that type if it exists."""

    async def fetch(after: str, limit: int) -> list[ThingType]:
        if name is None:
            return await THING_TYPES.page(tx, *query.scope, after=after, limit=limit)
        found = await THING_TYPES.find(tx, *query.scope, name)
        return [found] if found else []

    return await page_by_text(query, cursor, f"thing-types {name or ''}", fetch, lambda row: row.name)


async def update_thing_type(
    tx: Transaction, change: Change, name: str, description: str | None, searchable: Sequence[str] | None
) -> None:
    """Change a type. None keeps a property. Raises Invalid and NotFound."""
    checked = None if searchable is None else check_searchable(searchable)
    type = await THING_TYPES.get(tx, *change.scope, name)
    changed = replace(
        type,
        description=type.description if description is None else description,
        searchable=type.searchable if checked is None else checked,
    )
    await _update(tx, type, changed)


async def deprecate_thing_type(tx: Transaction, change: Change, name: str, *, undo: bool) -> None:
    """Deprecate a type. Things with the type keep it; no other thing can get it. Raises NotFound."""
    type = await THING_TYPES.get(tx, *change.scope, name)
    await _update(tx, type, replace(type, deprecated_at=None if undo else type.deprecated_at or change.now))


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


async def _update(tx: Transaction, before: ThingType, after: ThingType) -> None:
    if after != before:
        await THING_TYPES.update(tx, after)
        tx.audit_resources.append(after.arn)


def check_searchable(attributes: Sequence[str]) -> tuple[str, ...]:
    """Return the searchable attributes of a type. Raises Invalid."""
    if len(attributes) > _MAX_SEARCHABLE:
        raise Invalid(_SEARCHABLE, f"must have at most {_MAX_SEARCHABLE} entries")
    if len(set(attributes)) < len(attributes):
        raise Invalid(_SEARCHABLE, "must not name an attribute twice")
    return tuple(attributes)
