"""Billing groups. A thing is in one at most, which it names by the group's id."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from thingmint.domain.arns import Scope, arn
from thingmint.domain.errors import AlreadyExists
from thingmint.services.pages import Page, page_by_text
from thingmint.services.quotas import check_quota
from thingmint.services.tags import drop_tags, put_tags
from thingmint.services.things import AFTER_NAMES, THINGS, check_version
from thingmint.store.table import Table, record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.services.change import Change, Query
    from thingmint.services.pages import Cursor
    from thingmint.services.things import Thing
    from thingmint.store.engine import Transaction

_NOUN = "billing group"


@record
class BillingGroup:
    scope: Scope
    name: str
    id: str  # a UUID
    description: str | None
    version: int  # counts changes, from 1
    created_at: datetime

    @property
    def resource(self) -> str:
        return f"billinggroup/{self.name}"

    @property
    def arn(self) -> str:
        return arn(self.scope, self.resource)


BILLING_GROUPS = Table(BillingGroup, "billing_groups", _NOUN)

_BY_ID = f"{BILLING_GROUPS.select}WHERE account = $1 AND region = $2 AND id = $3"
_NAMED = (
    f"{BILLING_GROUPS.select}WHERE account = $1 AND region = $2 AND name >= $4 AND name <> $5 AND name < $6 "
    "ORDER BY name LIMIT $3"
)
_MEMBERS = (
    "SELECT name FROM things WHERE account = $1 AND region = $2 AND billing_group = $4 AND name > $5 "
    "ORDER BY name LIMIT $3"
)
_SET = "UPDATE things SET billing_group = $4 WHERE account = $1 AND region = $2 AND name = $3"


async def create_billing_group(
    tx: Transaction, change: Change, name: str, description: str | None, tags: Mapping[str, str]
) -> BillingGroup:
    """Create a group. Returns it, or the existing group of that name if it has the same description.

    Raises AlreadyExists and LimitExceeded.
    """
    new = BillingGroup(change.scope, name, change.new_id(), description, 1, change.now)
    if await BILLING_GROUPS.insert(tx, new):
        await check_quota(tx, change.environment.quotas, "billing_groups", *change.scope)
        await put_tags(tx, change.scope, new.resource, tags)
        tx.audit_resources.append(new.arn)
        return new
    existing = await BILLING_GROUPS.get(tx, *change.scope, name)
    if existing.description != description:
        reason = f"Billing group {name} already exists with other properties"
        raise AlreadyExists(_NOUN, existing.id, arn=existing.arn, reason=reason)
    return existing


async def list_billing_groups(tx: Transaction, query: Query, prefix: str, cursor: Cursor) -> Page[BillingGroup]:
    """Return a page of the groups whose names begin with ``prefix``, by name."""

    async def fetch(after: str, limit: int) -> list[BillingGroup]:
        rows = await tx.fetch_all(_NAMED, *query.scope, limit, after or prefix, after, prefix + AFTER_NAMES)
        return BILLING_GROUPS.load_all(rows)

    return await page_by_text(query, cursor, f"billing-groups {prefix}", fetch, lambda group: group.name)


async def update_billing_group(
    tx: Transaction, change: Change, name: str, description: str | None, expected_version: int | None
) -> BillingGroup:
    """Change a group. None keeps the description. Without a difference, the version stays the same.

    Raises NotFound and VersionConflict.
    """
    group = await BILLING_GROUPS.get(tx, *change.scope, name)
    check_version(_NOUN, name, expected_version, group.version)
    if description in (None, group.description):
        return group
    changed = replace(group, description=description, version=group.version + 1)
    await BILLING_GROUPS.update(tx, changed)
    tx.audit_resources.append(changed.arn)
    return changed


async def delete_billing_group(tx: Transaction, change: Change, name: str, expected_version: int | None) -> None:
    """Delete a group if it exists. Its things stay, and are in no group then. Raises VersionConflict."""
    group = await BILLING_GROUPS.find(tx, *change.scope, name)
    if group is None:
        return
    check_version(_NOUN, name, expected_version, group.version)
    await BILLING_GROUPS.delete(tx, *change.scope, name)
    await drop_tags(tx, change.scope, group.resource)
    tx.audit_resources.append(group.arn)


async def find_group_of(tx: Transaction, thing: Thing) -> BillingGroup | None:
    """Return the thing's group, or None, also if the group was deleted."""
    if thing.billing_group is None:
        return None
    row = await tx.fetch_one(_BY_ID, *thing.scope, thing.billing_group)
    return BILLING_GROUPS.load(row) if row is not None else None


async def list_things_in(tx: Transaction, query: Query, name: str, cursor: Cursor) -> Page[str]:
    """Return a page of the names of the group's things. Raises NotFound."""

    async def fetch(after: str, limit: int) -> list[str]:
        group = await BILLING_GROUPS.get(tx, *query.scope, name)
        return [row[0] for row in await tx.fetch_all(_MEMBERS, *query.scope, limit, group.id, after)]

    return await page_by_text(query, cursor, f"things-in-billing-group {name}", fetch, lambda thing: thing)


async def put_in_group(tx: Transaction, change: Change, thing: str, name: str) -> None:
    """Put a thing in a group, in place of the group that it is in. Raises NotFound."""
    group = await BILLING_GROUPS.get(tx, *change.scope, name)
    found = await THINGS.get(tx, *change.scope, thing)
    if found.billing_group != group.id:
        await _set(tx, change, found, group, group.id)


async def take_from_group(tx: Transaction, change: Change, thing: str, name: str) -> None:
    """Take a thing out of a group. Nothing changes if it is not in that group. Raises NotFound."""
    group = await BILLING_GROUPS.get(tx, *change.scope, name)
    found = await THINGS.get(tx, *change.scope, thing)
    if found.billing_group == group.id:
        await _set(tx, change, found, group, None)


async def _set(tx: Transaction, change: Change, thing: Thing, group: BillingGroup, id: str | None) -> None:
    await tx.execute(_SET, *thing.scope, thing.name, id)
    tx.audit_resources += [thing.arn, group.arn]
