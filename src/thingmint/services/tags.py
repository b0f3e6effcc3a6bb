"""Tags of an account's resources. A resource is written kind/name, as in ARNs."""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.domain.arns import arn
from thingmint.domain.errors import Invalid, LimitExceeded, NotFound
from thingmint.store.table import fingerprint_bytes, id_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from thingmint.domain.arns import Scope
    from thingmint.services.change import Change
    from thingmint.store.engine import Transaction


_MAX_TAGS = 50  # of one resource
_RESERVED = "aws:"  # for AWS's own tags, in upper or lower case, at the beginning of keys and of values

_TABLES = {
    "thingtype": ("thing_types", "name"),
    "thinggroup": ("thing_groups", "name"),
    "billinggroup": ("billing_groups", "name"),
    "policy": ("device_policies", "name"),
    "provisioningtemplate": ("provisioning_templates", "name"),
    "cacert": ("ca_certificates", "certificate"),
    "rolealias": ("role_aliases", "name"),
    "certificateprovider": ("certificate_providers", "name"),
}
TAGGABLE = tuple(_TABLES)
"""The kinds of resources that can have tags."""

_PUT = (
    "INSERT INTO tags (account, region, resource, key, value) VALUES ($1, $2, $3, $4, $5) "
    "ON CONFLICT (account, region, resource, key) DO UPDATE SET value = excluded.value"
)
_OF_RESOURCE = "WHERE account = $1 AND region = $2 AND resource = $3"


def check_tags(tags: Iterable[tuple[str, str]], field: str) -> dict[str, str]:
    """Return the tags of one request. The model has checked their characters and lengths. Raises Invalid."""
    checked: dict[str, str] = {}
    for key, value in tags:
        if key.lower().startswith(_RESERVED) or value.lower().startswith(_RESERVED):
            raise Invalid(field, f"must not begin with {_RESERVED}, in keys or in values")
        if key in checked:
            raise Invalid(field, "must not have a key twice")
        checked[key] = value
    if len(checked) > _MAX_TAGS:
        raise Invalid(field, f"must be at most {_MAX_TAGS}")
    return checked


async def get_tags(tx: Transaction, scope: Scope, kind: str, name: str) -> dict[str, str]:
    """Return a resource's tags, sorted by key. Raises NotFound for a resource that does not exist."""
    table, column = _TABLES[kind]
    key, mark = (fingerprint_bytes(name), id_of("$3")) if column == "certificate" else (name, "$3")
    found = f"SELECT 1 FROM {table} WHERE account = $1 AND region = $2 AND {column} = {mark}"
    if await tx.fetch_one(found, *scope, key) is None:
        raise NotFound(kind, name)
    sql = f"SELECT key, value FROM tags {_OF_RESOURCE} ORDER BY key"
    return {row[0]: row[1] for row in await tx.fetch_all(sql, *scope, f"{kind}/{name}")}


async def add_tags(tx: Transaction, change: Change, kind: str, name: str, tags: Mapping[str, str]) -> None:
    """Add checked tags; existing keys get new values. Raises NotFound and LimitExceeded."""
    if len({**await get_tags(tx, change.scope, kind, name), **tags}) > _MAX_TAGS:
        raise LimitExceeded(kind, name, f"A resource can have at most {_MAX_TAGS} tags")
    await put_tags(tx, change.scope, f"{kind}/{name}", tags)
    tx.audit_resources.append(arn(change.scope, f"{kind}/{name}"))


async def remove_tags(tx: Transaction, change: Change, kind: str, name: str, keys: Iterable[str]) -> None:
    """Remove tags; unknown keys are ignored. Raises NotFound."""
    there = set(keys) & (await get_tags(tx, change.scope, kind, name)).keys()
    if there:
        rows = [(*change.scope, f"{kind}/{name}", key) for key in there]
        await tx.execute_many(f"DELETE FROM tags {_OF_RESOURCE} AND key = $4", rows)
        tx.audit_resources.append(arn(change.scope, f"{kind}/{name}"))


async def put_tags(tx: Transaction, scope: Scope, resource: str, tags: Mapping[str, str]) -> None:
    """Store checked tags of a new resource, which cannot exceed the limit."""
    await tx.execute_many(_PUT, [(*scope, resource, key, value) for key, value in tags.items()])


async def drop_tags(tx: Transaction, scope: Scope, resource: str) -> None:
    """Delete all tags of a deleted resource, so that a later one of the same name has none."""
    await tx.execute(f"DELETE FROM tags {_OF_RESOURCE}", *scope, resource)
