"""Thing types: what things of a kind have in common."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from thingmint.domain.errors import AlreadyExists, Disallowed, NotFound
from thingmint.domain.things import ThingType, check_searchable
from thingmint.services.certificates import utc_now
from thingmint.services.pages import Listing, Page
from thingmint.store import thing_types as sql
from thingmint.store.tags import drop_tags, put_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from thingmint.domain.registration import Scope
    from thingmint.services.markers import Markers
    from thingmint.services.pages import PageRequest
    from thingmint.store.engine import Store, Transaction

__all__ = ["ThingTypeRegistry", "check_usable"]

_SEARCHABLE = "searchableAttributes"


class ThingTypeRegistry:
    """Every method is one transaction."""

    def __init__(self, store: Store, markers: Markers, clock: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._markers = markers
        self._clock = clock

    async def create(
        self, scope: Scope, name: str, description: str | None, searchable: Sequence[str], tags: Mapping[str, str]
    ) -> ThingType:
        """The type, or the one of the same properties that is there already. Raises Invalid and AlreadyExists."""
        attributes = check_searchable(searchable, _SEARCHABLE)
        new = ThingType(scope, name, str(uuid.uuid4()), description, attributes, None, self._clock())

        async def body(tx: Transaction) -> ThingType:
            existing = await sql.get_type(tx, scope, name)
            if existing is not None:
                if existing.is_like(new):
                    return existing
                reason = f"Thing type {name} already exists with other properties"
                raise AlreadyExists("thing type", existing.id, arn=existing.arn, reason=reason)
            await sql.insert_type(tx, new)
            await put_tags(tx, scope, new.resource, tags)
            tx.subjects.append(new.arn)
            return new

        return await self._store.write(body)

    async def describe(self, scope: Scope, name: str) -> ThingType:
        async def body(tx: Transaction) -> ThingType:
            return await _existing(tx, scope, name)

        return await self._store.read(body)

    async def list(self, scope: Scope, name: str | None, request: PageRequest) -> Page[ThingType]:
        """By name; with ``name`` that one alone, or none."""
        listing = Listing(self._markers, f"thing-types {name or ''}", scope)
        after = listing.after(request)

        async def body(tx: Transaction) -> list[ThingType]:
            if name is None:
                return await sql.list_types(tx, scope, limit=request.limit + 1, after=after)
            found = await sql.get_type(tx, scope, name)
            return [found] if found else []

        return listing.page(request, await self._store.read(body), lambda found: found.name)

    async def update(self, scope: Scope, name: str, description: str | None, searchable: Sequence[str] | None) -> None:
        """What is None stays as it is. Raises NotFound and Invalid."""
        attributes = None if searchable is None else check_searchable(searchable, _SEARCHABLE)

        async def body(tx: Transaction) -> None:
            type = await _existing(tx, scope, name)
            changed = replace(
                type,
                description=type.description if description is None else description,
                searchable=type.searchable if attributes is None else attributes,
            )
            if changed != type:
                await sql.update_type(tx, changed)
                tx.subjects.append(type.arn)

        await self._store.write(body)

    async def deprecate(self, scope: Scope, name: str, *, undo: bool) -> None:
        """The things that have it keep it, but no other takes it. Raises NotFound."""
        now = self._clock()

        async def body(tx: Transaction) -> None:
            type = await _existing(tx, scope, name)
            if undo is (type.deprecated_at is None):
                return
            await sql.update_type(tx, replace(type, deprecated_at=None if undo else now))
            tx.subjects.append(type.arn)

        await self._store.write(body)

    async def delete(self, scope: Scope, name: str) -> None:
        """Raises NotFound, and Disallowed unless it is deprecated and no thing has it.

        AWS makes its callers wait for five minutes after the deprecation, until all of its servers know of it. Here
        all know at once, so there is nothing to wait for.
        """

        async def body(tx: Transaction) -> None:
            type = await _existing(tx, scope, name)
            if type.deprecated_at is None:
                raise Disallowed("thing type", name, f"Thing type {name} must be deprecated before it is deleted")
            if await sql.has_things(tx, scope, name):
                raise Disallowed("thing type", name, f"Thing type {name} is still associated with one or more things")
            await sql.delete_type(tx, scope, name)
            await drop_tags(tx, scope, type.resource)
            tx.subjects.append(type.arn)

        await self._store.write(body)


async def check_usable(tx: Transaction, scope: Scope, name: str) -> None:
    """Whether a thing can take that type now. Raises NotFound and Disallowed."""
    type = await _existing(tx, scope, name)
    if type.deprecated_at is not None:
        raise Disallowed("thing type", name, f"Thing type {name} is deprecated: no thing can be associated with it")


async def _existing(tx: Transaction, scope: Scope, name: str) -> ThingType:
    type = await sql.get_type(tx, scope, name)
    if type is None:
        raise NotFound("thing type", name)
    return type
