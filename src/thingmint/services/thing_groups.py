"""Thing groups: hierarchies of them, and who is in which."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from thingmint.domain.errors import AlreadyExists, Disallowed, Invalid
from thingmint.domain.things import MAX_CHILDREN, ThingGroup
from thingmint.services.certificates import utc_now
from thingmint.services.memberships import existing_group
from thingmint.services.pages import Listing
from thingmint.services.things import check_version
from thingmint.store import thing_groups as sql
from thingmint.store.outbox import announce
from thingmint.store.tags import drop_tags, put_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from thingmint.domain.registration import Scope
    from thingmint.domain.things import AttributeChange
    from thingmint.services.markers import Markers
    from thingmint.services.pages import Page, PageRequest
    from thingmint.store.engine import Store, Transaction

__all__ = ["ThingGroupRegistry"]


class ThingGroupRegistry:
    """Every method is one transaction."""

    def __init__(self, store: Store, markers: Markers, clock: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._markers = markers
        self._clock = clock

    async def create(
        self,
        scope: Scope,
        name: str,
        parent: str | None,
        description: str | None,
        attributes: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> ThingGroup:
        """The group, or the one of the same place and properties that is there already.

        Raises Invalid (an unknown parent too: AWS's model has no better word for it here), AlreadyExists, Disallowed.
        """
        id, now = str(uuid.uuid4()), self._clock()

        async def body(tx: Transaction) -> ThingGroup:
            above = None
            if parent is not None:
                above = await sql.get_group(tx, scope, parent)
                if above is None:
                    raise Invalid("parentGroupName", "must be the name of a thing group that exists")
            new = ThingGroup.begin(scope, name, above, id=id, description=description, attributes=attributes, now=now)
            existing = await sql.get_group(tx, scope, name)
            if existing is not None:
                if existing.is_like(new):
                    return existing
                reason = f"Thing Group {name} already exists in current account with different properties"
                raise AlreadyExists("thing group", existing.id, arn=existing.arn, reason=reason)
            if parent is not None and await sql.count_children(tx, scope, parent) >= MAX_CHILDREN:
                reason = f"Thing group {parent} has {MAX_CHILDREN} groups directly below it already"
                raise Disallowed("thing group", parent, reason)
            await sql.insert_group(tx, new)
            await put_tags(tx, scope, new.resource, tags)
            tx.audit_resources.append(new.arn)
            return new

        return await self._store.write(body)

    async def describe(self, scope: Scope, name: str) -> ThingGroup:
        async def body(tx: Transaction) -> ThingGroup:
            return await existing_group(tx, scope, name)

        return await self._store.read(body)

    async def list(
        self, scope: Scope, parent: str | None, prefix: str, request: PageRequest, *, recursive: bool
    ) -> Page[ThingGroup]:
        """Those directly below ``parent`` (without one: the roots), or all below. Raises NotFound for the parent.

        Their names begin with ``prefix``; they come by name, or by path if they are all those below one.
        """
        listing = Listing(self._markers, f"thing-groups {parent or ''} {prefix} {recursive}", scope)
        after = listing.after(request)
        limit = request.limit + 1

        async def body(tx: Transaction) -> list[ThingGroup]:
            above = None if parent is None else await existing_group(tx, scope, parent)
            if not recursive:
                return await sql.list_children(tx, scope, parent, prefix=prefix, limit=limit, after=after)
            if above is None:
                return await sql.list_groups(tx, scope, prefix=prefix, limit=limit, after=after)
            return await sql.list_descendants(tx, above, prefix=prefix, limit=limit, after=after)

        def position(group: ThingGroup) -> str:
            return "/".join(group.path) if recursive and parent is not None else group.name

        return listing.page(request, await self._store.read(body), position)

    async def update(
        self,
        scope: Scope,
        name: str,
        description: str | None,
        attributes: AttributeChange | None,
        expected_version: int | None,
    ) -> ThingGroup:
        """What is None stays as it is, and what changes nothing makes no new version.

        Raises NotFound, VersionConflict, Invalid.
        """

        async def body(tx: Transaction) -> ThingGroup:
            group = await existing_group(tx, scope, name)
            check_version("thing group", name, expected_version, group.version)
            changed = group.changed(description, attributes)
            if changed is not group:
                await sql.update_group(tx, changed)
                tx.audit_resources.append(group.arn)
            return changed

        return await self._store.write(body)

    async def delete(self, scope: Scope, name: str, expected_version: int | None) -> None:
        """Lets its members go. Deleting one that is not there is no error.

        Raises VersionConflict, and Disallowed while there are groups below it.
        """
        now = self._clock()

        async def body(tx: Transaction) -> None:
            group = await sql.get_group(tx, scope, name)
            if group is None:
                return
            check_version("thing group", name, expected_version, group.version)
            if await sql.count_children(tx, scope, name):
                reason = f"Cannot delete thing group : {name} when there are still child groups attached to it"
                raise Disallowed("thing group", name, reason)
            await sql.delete_group(tx, scope, name)
            await drop_tags(tx, scope, group.resource)
            await announce(tx, scope, "thinggroup", name, now)
            tx.audit_resources.append(group.arn)

        await self._store.write(body)
