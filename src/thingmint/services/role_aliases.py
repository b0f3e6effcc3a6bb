"""Role aliases: the names by which devices ask for temporary credentials of a role."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from thingmint.domain.arns import Scope, arn, parse_role_arn
from thingmint.domain.errors import AlreadyExists, CrossAccountRole
from thingmint.services.pages import Page, page_of
from thingmint.services.quotas import check_quota
from thingmint.services.tags import drop_tags, put_tags
from thingmint.store.table import Table, fetch_in_order, record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.services.change import Change, Query
    from thingmint.services.page_tokens import Position
    from thingmint.services.pages import Cursor
    from thingmint.store.engine import Transaction

DEFAULT_DURATION = 3600
"""Seconds for which credentials are valid, if the alias does not say otherwise."""

_KIND = "role alias"


@record
class RoleAlias:
    """``credential_duration`` is in seconds."""

    scope: Scope
    name: str
    role_arn: str
    credential_duration: int
    created_at: datetime
    modified_at: datetime

    @property
    def resource(self) -> str:
        return f"rolealias/{self.name}"

    @property
    def arn(self) -> str:
        return arn(self.scope, self.resource)


ROLE_ALIASES = Table(RoleAlias, "role_aliases", _KIND)

_OF_SCOPE = f"{ROLE_ALIASES.select}WHERE account = $1 AND region = $2"


async def create_role_alias(
    tx: Transaction, change: Change, name: str, role_arn: str, duration: int, tags: Mapping[str, str]
) -> RoleAlias:
    """Create an alias. The role need not exist yet. Raises Invalid, CrossAccountRole, AlreadyExists, LimitExceeded."""
    _check_role(change.scope, role_arn)
    new = RoleAlias(change.scope, name, role_arn, duration, change.now, change.now)
    if not await ROLE_ALIASES.insert(tx, new):
        raise AlreadyExists(_KIND, name, arn=new.arn, reason=f"Role alias {name} already exists")
    await check_quota(tx, change.environment.quotas, "role_aliases", *change.scope)
    await put_tags(tx, change.scope, new.resource, tags)
    tx.audit_resources.append(new.arn)
    return new


async def list_role_aliases(tx: Transaction, query: Query, cursor: Cursor, *, ascending: bool) -> Page[RoleAlias]:
    """Return a page of aliases in alphabetical order, or in the reverse order. Raises Invalid."""

    async def fetch(after: Position | None, limit: int) -> list[RoleAlias]:
        beyond = () if after is None else (after[1],)
        rows = await fetch_in_order(tx, _OF_SCOPE, query.scope, ["name"], beyond, limit, ascending=ascending)
        return ROLE_ALIASES.load_all(rows)

    listing = f"role-aliases-{'ascending' if ascending else 'descending'}"
    return await page_of(query, cursor, listing, fetch, lambda alias: (0, alias.name))


async def update_role_alias(
    tx: Transaction, change: Change, name: str, role_arn: str | None, duration: int | None
) -> RoleAlias:
    """Change an alias. None keeps a property. Raises Invalid, CrossAccountRole and NotFound."""
    alias = await ROLE_ALIASES.get(tx, *change.scope, name)
    if role_arn is not None:
        _check_role(change.scope, role_arn)
    changed = replace(
        alias,
        role_arn=alias.role_arn if role_arn is None else role_arn,
        credential_duration=alias.credential_duration if duration is None else duration,
        modified_at=change.now,
    )
    await ROLE_ALIASES.update(tx, changed)
    tx.audit_resources.append(changed.arn)
    return changed


async def delete_role_alias(tx: Transaction, change: Change, name: str) -> None:
    """Delete an alias and its tags. Credentials that devices got by it become invalid. Raises NotFound."""
    alias = await ROLE_ALIASES.get(tx, *change.scope, name)
    await ROLE_ALIASES.delete(tx, *change.scope, name)
    await drop_tags(tx, change.scope, alias.resource)
    tx.audit_resources.append(alias.arn)


def _check_role(scope: Scope, role_arn: str) -> None:
    if parse_role_arn(role_arn, "roleArn")[0] != scope.account:
        raise CrossAccountRole(role_arn)
