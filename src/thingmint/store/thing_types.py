"""Thing types in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from thingmint.domain.registration import Scope
from thingmint.domain.things import ThingType
from thingmint.store.times import from_micros, to_micros

if TYPE_CHECKING:
    from thingmint.store.engine import Row, Transaction

__all__ = ["delete_type", "get_type", "has_things", "insert_type", "list_types", "update_type"]

_TYPE = (
    "SELECT account, region, name, id, description, searchable_attributes, deprecated_at, created_at FROM thing_types "
)


async def insert_type(tx: Transaction, type: ThingType) -> bool:
    """False if there is one of that name."""
    inserted = await tx.execute(
        "INSERT INTO thing_types "
        "(account, region, name, id, description, searchable_attributes, deprecated_at, created_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (account, region, name) DO NOTHING",
        *type.scope,
        type.name,
        type.id,
        type.description,
        orjson.dumps(type.searchable).decode(),
        to_micros(type.deprecated_at) if type.deprecated_at else None,
        to_micros(type.created_at),
    )
    return inserted == 1


async def update_type(tx: Transaction, type: ThingType) -> None:
    await tx.execute(
        "UPDATE thing_types SET description = $4, searchable_attributes = $5, deprecated_at = $6 "
        "WHERE account = $1 AND region = $2 AND name = $3",
        *type.scope,
        type.name,
        type.description,
        orjson.dumps(type.searchable).decode(),
        to_micros(type.deprecated_at) if type.deprecated_at else None,
    )


async def delete_type(tx: Transaction, scope: Scope, name: str) -> None:
    await tx.execute("DELETE FROM thing_types WHERE account = $1 AND region = $2 AND name = $3", *scope, name)


async def get_type(tx: Transaction, scope: Scope, name: str) -> ThingType | None:
    row = await tx.fetch_one(_TYPE + "WHERE account = $1 AND region = $2 AND name = $3", *scope, name)
    return _type(row) if row else None


async def list_types(tx: Transaction, scope: Scope, *, limit: int, after: str) -> list[ThingType]:
    """Up to ``limit`` of them by name, beyond the one that ``after`` names."""
    rows = await tx.fetch_all(
        f"{_TYPE}WHERE account = $1 AND region = $2 AND name > $3 ORDER BY name LIMIT $4", *scope, after, limit
    )
    return [_type(row) for row in rows]


async def has_things(tx: Transaction, scope: Scope, name: str) -> bool:
    found = await tx.fetch_one(
        "SELECT 1 FROM things WHERE account = $1 AND region = $2 AND type = $3 LIMIT 1", *scope, name
    )
    return found is not None


def _type(row: Row) -> ThingType:
    account, region, name, id, description, searchable, deprecated_at, created_at = row
    return ThingType(
        Scope(account, region),
        name,
        id,
        description,
        tuple(orjson.loads(searchable)),
        deprecated_at=None if deprecated_at is None else from_micros(deprecated_at),
        created_at=from_micros(created_at),
    )
