"""Things: what devices are called, and what is known of them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.domain.errors import AlreadyExists, Disallowed, NotFound, VersionConflict
from thingmint.domain.things import Thing
from thingmint.services.certificates import utc_now
from thingmint.services.pages import Listing
from thingmint.services.thing_types import check_usable
from thingmint.store import thing_groups as groups_sql
from thingmint.store import things as sql
from thingmint.store.outbox import announce

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from thingmint.domain.registration import Scope
    from thingmint.domain.things import ThingChange
    from thingmint.services.markers import Markers
    from thingmint.services.pages import Page, PageRequest
    from thingmint.store.engine import Store, Transaction

__all__ = [
    "ThingFilter",
    "ThingRegistry",
    "check_version",
    "create_thing",
    "delete_thing",
    "existing_thing",
    "update_thing",
]


@dataclass(frozen=True, slots=True)
class ThingFilter:
    """``value`` is that of ``attribute``, or with ``prefix`` its beginning; an empty one is never a whole value."""

    type: str | None = None
    attribute: str | None = None
    value: str = ""
    prefix: bool = False

    @property
    def listing(self) -> str:
        # None of these can have a space in it.
        return f"things {self.type or ''} {self.attribute or ''} {self.value} {self.prefix}"


class ThingRegistry:
    """Every method is one transaction."""

    def __init__(self, store: Store, markers: Markers, clock: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._markers = markers
        self._clock = clock

    async def create(self, scope: Scope, name: str, type: str | None, attributes: Mapping[str, str]) -> Thing:
        """Raises Invalid, and what create_thing does."""
        thing = Thing.begin(scope, name, id=str(uuid.uuid4()), type=type, attributes=attributes, now=self._clock())

        async def body(tx: Transaction) -> Thing:
            return await create_thing(tx, thing)

        return await self._store.write(body)

    async def describe(self, scope: Scope, name: str) -> Thing:
        async def body(tx: Transaction) -> Thing:
            return await existing_thing(tx, scope, name)

        return await self._store.read(body)

    async def list(self, scope: Scope, wanted: ThingFilter, request: PageRequest) -> Page[Thing]:
        """By name, or by the value of the attribute that is asked for."""
        listing = Listing(self._markers, wanted.listing, scope)
        after = listing.after(request)
        limit = request.limit + 1

        async def body(tx: Transaction) -> list[Thing]:
            if wanted.attribute is None:
                return await sql.list_things(tx, scope, type=wanted.type, limit=limit, after=after)
            value, _, name = after.rpartition(" ")
            return await sql.find_things(
                tx,
                scope,
                wanted.attribute,
                wanted.value,
                prefix=wanted.prefix,
                type=wanted.type,
                limit=limit,
                after=(value, name) if after else None,
            )

        def position(thing: Thing) -> str:
            return thing.name if wanted.attribute is None else f"{thing.attributes[wanted.attribute]} {thing.name}"

        return listing.page(request, await self._store.read(body), position)

    async def update(self, scope: Scope, name: str, change: ThingChange, expected_version: int | None) -> Thing:
        """Raises what update_thing does."""
        now = self._clock()

        async def body(tx: Transaction) -> Thing:
            return await update_thing(tx, scope, name, change, now, expected_version=expected_version)

        return await self._store.write(body)

    async def delete(self, scope: Scope, name: str, expected_version: int | None) -> None:
        """Raises what delete_thing does."""
        now = self._clock()

        async def body(tx: Transaction) -> None:
            await delete_thing(tx, scope, name, now, expected_version=expected_version)

        await self._store.write(body)


async def create_thing(tx: Transaction, thing: Thing) -> Thing:
    """The thing, or the one of the same configuration that is there already.

    Raises AlreadyExists for another configuration, NotFound for an unknown type, Disallowed for a deprecated one.
    """
    existing = await sql.get_thing(tx, thing.scope, thing.name)
    if existing is not None:
        if (existing.type, existing.attributes) == (thing.type, thing.attributes):
            return existing
        raise AlreadyExists(
            "thing",
            existing.id,
            arn=existing.arn,
            reason=f"Thing {thing.name} already exists with another type or other attributes",
        )
    if thing.type is not None:
        await check_usable(tx, thing.scope, thing.type)
    await sql.insert_thing(tx, thing)
    tx.audit_resources.append(thing.arn)
    return thing


async def existing_thing(tx: Transaction, scope: Scope, name: str) -> Thing:
    """Raises NotFound."""
    thing = await sql.get_thing(tx, scope, name)
    if thing is None:
        raise NotFound("thing", name)
    return thing


async def update_thing(
    tx: Transaction, scope: Scope, name: str, change: ThingChange, now: datetime, *, expected_version: int | None = None
) -> Thing:
    """What changes nothing makes no new version. Raises NotFound, VersionConflict, Invalid, Disallowed."""
    thing = await existing_thing(tx, scope, name)
    check_version("thing", name, expected_version, thing.version)
    changed = thing.changed(change)
    if changed is thing:
        return thing
    if changed.type is not None and changed.type != thing.type:
        await check_usable(tx, scope, changed.type)
    await sql.update_thing(tx, changed)
    await announce(tx, scope, "thing", name, now)
    tx.audit_resources.append(changed.arn)
    return changed


async def delete_thing(
    tx: Transaction, scope: Scope, name: str, now: datetime, *, expected_version: int | None = None
) -> None:
    """Deleting one that is not there is no error. Raises VersionConflict, and Disallowed while it has certificates."""
    thing = await sql.get_thing(tx, scope, name)
    if thing is None:
        return
    check_version("thing", name, expected_version, thing.version)
    if await sql.list_attachments_of_thing(tx, scope, name, type=None, limit=1, after=""):
        reason = f"Cannot delete. Thing {name} is still attached to one or more principals"
        raise Disallowed("thing", name, reason)
    await groups_sql.leave_all_groups(tx, scope, name)
    await sql.delete_thing(tx, scope, name)
    await announce(tx, scope, "thing", name, now)
    tx.audit_resources.append(thing.arn)


def check_version(kind: str, name: str, expected: int | None, version: int) -> None:
    """Raises VersionConflict, unless nothing is expected."""
    if expected is not None and expected != version:
        raise VersionConflict(kind, name, expected=expected, version=version)
