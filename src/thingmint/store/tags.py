"""Tags in SQL. A resource is named by what follows the account in its ARN."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from thingmint.domain.registration import Scope
    from thingmint.store.engine import Transaction

__all__ = ["delete_tags", "drop_tags", "get_tags", "has_resource", "put_tags"]

_TABLES = {
    "cacert": ("ca_certificates", "fingerprint"),
    "policy": ("device_policies", "name"),
    "provisioningtemplate": ("provisioning_templates", "name"),
    "thinggroup": ("thing_groups", "name"),
    "thingtype": ("thing_types", "name"),
}


async def has_resource(tx: Transaction, scope: Scope, kind: str, name: str) -> bool:
    """``kind`` is one of those that can have tags."""
    table, column = _TABLES[kind]
    found = await tx.fetch_one(
        f"SELECT 1 FROM {table} WHERE account = $1 AND region = $2 AND {column} = $3",  # noqa: S608 - constants
        *scope,
        name,
    )
    return found is not None


async def put_tags(tx: Transaction, scope: Scope, resource: str, tags: Mapping[str, str]) -> None:
    """Adds them; a key that is there gets its new value."""
    for key, value in tags.items():
        await tx.execute(
            "INSERT INTO tags (account, region, resource, key, value) VALUES ($1, $2, $3, $4, $5) "
            "ON CONFLICT (account, region, resource, key) DO UPDATE SET value = excluded.value",
            *scope,
            resource,
            key,
            value,
        )


async def get_tags(tx: Transaction, scope: Scope, resource: str) -> dict[str, str]:
    """In order of their keys."""
    rows = await tx.fetch_all(
        "SELECT key, value FROM tags WHERE account = $1 AND region = $2 AND resource = $3 ORDER BY key",
        *scope,
        resource,
    )
    return {row[0]: row[1] for row in rows}


async def delete_tags(tx: Transaction, scope: Scope, resource: str, keys: Iterable[str]) -> None:
    for key in keys:
        await tx.execute(
            "DELETE FROM tags WHERE account = $1 AND region = $2 AND resource = $3 AND key = $4", *scope, resource, key
        )


async def drop_tags(tx: Transaction, scope: Scope, resource: str) -> None:
    """With the resource that they are of: a later one of the same name has none of them."""
    await tx.execute("DELETE FROM tags WHERE account = $1 AND region = $2 AND resource = $3", *scope, resource)
