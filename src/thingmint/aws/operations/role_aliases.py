"""Role aliases (five operations)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.aws.operations.declaring import Members, Result, marker_cursor, new_tags, reads, writes
from thingmint.services.role_aliases import (
    DEFAULT_DURATION,
    ROLE_ALIASES,
    create_role_alias,
    delete_role_alias,
    list_role_aliases,
    update_role_alias,
)

if TYPE_CHECKING:
    from thingmint.services.change import Change, Query
    from thingmint.services.role_aliases import RoleAlias
    from thingmint.store.engine import Transaction

_DURATION = "credentialDurationSeconds"

DEVIATIONS = {
    "CreateRoleAlias": (
        "The role may be made later, and its longest session is compared when a device asks for credentials. The "
        "credentials end with the certificate; AWS's stay valid until they expire."
    ),
}


@writes("CreateRoleAlias")
async def create(tx: Transaction, change: Change, members: Members) -> Result:
    name, role_arn, duration = members["roleAlias"], members["roleArn"], members.get(_DURATION, DEFAULT_DURATION)
    return _identified(await create_role_alias(tx, change, name, role_arn, duration, new_tags(members)))


@reads("DescribeRoleAlias")
async def describe(tx: Transaction, query: Query, members: Members) -> Result:
    alias = await ROLE_ALIASES.get(tx, *query.scope, members["roleAlias"])
    return {
        "roleAliasDescription": {
            **_identified(alias),
            "roleArn": alias.role_arn,
            "owner": alias.scope.account,
            _DURATION: alias.credential_duration,
            "creationDate": alias.created_at,
            "lastModifiedDate": alias.modified_at,
        }
    }


@reads("ListRoleAliases")
async def list_(tx: Transaction, query: Query, members: Members) -> Result:
    ascending = members.get("ascendingOrder", False)
    page = await list_role_aliases(tx, query, marker_cursor(members), ascending=ascending)
    return {"roleAliases": [alias.name for alias in page.items], "nextMarker": page.next_token}


@writes("UpdateRoleAlias")
async def update(tx: Transaction, change: Change, members: Members) -> Result:
    role_arn, duration = members.get("roleArn"), members.get(_DURATION)
    return _identified(await update_role_alias(tx, change, members["roleAlias"], role_arn, duration))


@writes("DeleteRoleAlias")
async def delete(tx: Transaction, change: Change, members: Members) -> Result:
    await delete_role_alias(tx, change, members["roleAlias"])
    return {}


def _identified(alias: RoleAlias) -> Result:
    return {"roleAlias": alias.name, "roleAliasArn": alias.arn}
