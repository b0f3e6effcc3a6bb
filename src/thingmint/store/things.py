"""Things, and the certificates attached to them, in SQL.

Prefixes are looked up as ranges, so text has to sort by its bytes, as it does in SQLite and in PostgreSQL's collation
``C``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from thingmint.domain.registration import Scope
from thingmint.domain.things import Attachment, Thing
from thingmint.store.times import from_micros, to_micros

if TYPE_CHECKING:
    from datetime import datetime

    from thingmint.domain.things import PrincipalType
    from thingmint.store.engine import Row, Transaction

__all__ = [
    "AFTER_NAMES",
    "delete_attachment",
    "delete_thing",
    "find_things",
    "get_attachment",
    "get_thing",
    "insert_attachment",
    "insert_thing",
    "is_attached",
    "list_attachments_of_certificate",
    "list_attachments_of_thing",
    "list_things",
    "update_thing",
]

AFTER_NAMES = "~"
"""Sorts after every character that names and attributes can have."""

_THING = "SELECT t.account, t.region, t.name, t.id, t.type, t.attributes, t.version, t.created_at FROM things AS t "


async def insert_thing(tx: Transaction, thing: Thing) -> bool:
    """False if there is one of that name."""
    inserted = await tx.execute(
        "INSERT INTO things (account, region, name, id, type, attributes, version, created_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (account, region, name) DO NOTHING",
        *thing.scope,
        thing.name,
        thing.id,
        thing.type,
        orjson.dumps(thing.attributes).decode(),
        thing.version,
        to_micros(thing.created_at),
    )
    if inserted == 1:
        await _insert_attributes(tx, thing)
    return inserted == 1


async def update_thing(tx: Transaction, thing: Thing) -> None:
    await tx.execute(
        "UPDATE things SET type = $4, attributes = $5, version = $6 WHERE account = $1 AND region = $2 AND name = $3",
        *thing.scope,
        thing.name,
        thing.type,
        orjson.dumps(thing.attributes).decode(),
        thing.version,
    )
    await _delete_attributes(tx, thing.scope, thing.name)
    await _insert_attributes(tx, thing)


async def delete_thing(tx: Transaction, scope: Scope, name: str) -> None:
    """It must have no certificates and be in no group."""
    await _delete_attributes(tx, scope, name)
    await tx.execute("DELETE FROM things WHERE account = $1 AND region = $2 AND name = $3", *scope, name)


async def get_thing(tx: Transaction, scope: Scope, name: str) -> Thing | None:
    row = await tx.fetch_one(_THING + "WHERE t.account = $1 AND t.region = $2 AND t.name = $3", *scope, name)
    return _thing(row) if row else None


async def list_things(tx: Transaction, scope: Scope, *, type: str | None, limit: int, after: str) -> list[Thing]:
    """Up to ``limit`` of them by name, beyond the one that ``after`` names."""
    of_type = "AND t.type = $5 " if type is not None else ""
    rows = await tx.fetch_all(
        f"{_THING}WHERE t.account = $1 AND t.region = $2 AND t.name > $3 {of_type}ORDER BY t.name LIMIT $4",
        *scope,
        after,
        limit,
        *([type] if type is not None else []),
    )
    return [_thing(row) for row in rows]


async def find_things(
    tx: Transaction,
    scope: Scope,
    attribute: str,
    value: str,
    *,
    prefix: bool,
    type: str | None,
    limit: int,
    after: tuple[str, str] | None,
) -> list[Thing]:
    """Those whose ``attribute`` is, or begins with, ``value``; by its value and by name, beyond ``after``."""
    bounds: tuple[str, ...]
    if prefix:
        matches = "(a.value, a.thing) > ($5, $6) AND a.value < $7"
        bounds = (*(after or (value, "")), value + AFTER_NAMES)
    else:
        matches = "a.value = $5 AND a.thing > $6"
        bounds = (value, after[1] if after else "")
    of_type = f"AND t.type = ${5 + len(bounds)} " if type is not None else ""
    rows = await tx.fetch_all(
        f"{_THING}JOIN thing_attributes AS a ON a.account = t.account AND a.region = t.region AND a.thing = t.name "
        f"WHERE a.account = $1 AND a.region = $2 AND a.name = $3 AND {matches} {of_type}"
        "ORDER BY a.value, a.thing LIMIT $4",
        *scope,
        attribute,
        limit,
        *bounds,
        *([type] if type is not None else []),
    )
    return [_thing(row) for row in rows]


async def insert_attachment(
    tx: Transaction, scope: Scope, thing: str, fingerprint: str, type: PrincipalType, now: datetime
) -> None:
    await tx.execute(
        "INSERT INTO thing_principals (account, region, thing, fingerprint, exclusive, attached_at) "
        "VALUES ($1, $2, $3, $4, $5, $6)",
        *scope,
        thing,
        fingerprint,
        int(type == "EXCLUSIVE_THING"),
        to_micros(now),
    )


async def delete_attachment(tx: Transaction, scope: Scope, thing: str, fingerprint: str) -> bool:
    """False if there was none."""
    deleted = await tx.execute(
        "DELETE FROM thing_principals WHERE account = $1 AND region = $2 AND thing = $3 AND fingerprint = $4",
        *scope,
        thing,
        fingerprint,
    )
    return deleted == 1


async def is_attached(tx: Transaction, scope: Scope, fingerprint: str) -> bool:
    """Whether the certificate is to any thing."""
    return bool(await list_attachments_of_certificate(tx, scope, fingerprint, type=None, limit=1, after=""))


_ATTACHMENT = "SELECT thing, fingerprint, exclusive FROM thing_principals WHERE account = $1 AND region = $2 "


async def get_attachment(tx: Transaction, scope: Scope, thing: str, fingerprint: str) -> Attachment | None:
    row = await tx.fetch_one(_ATTACHMENT + "AND thing = $3 AND fingerprint = $4", *scope, thing, fingerprint)
    return _attachment(row) if row else None


async def list_attachments_of_thing(
    tx: Transaction, scope: Scope, thing: str, *, type: PrincipalType | None, limit: int, after: str
) -> list[Attachment]:
    """By fingerprint; of one ``type`` only, if it is given."""
    rows = await tx.fetch_all(
        f"{_ATTACHMENT}AND thing = $3 AND fingerprint > $4 {_of_type(type)}ORDER BY fingerprint LIMIT $5",
        *scope,
        thing,
        after,
        limit,
    )
    return [_attachment(row) for row in rows]


async def list_attachments_of_certificate(
    tx: Transaction, scope: Scope, fingerprint: str, *, type: PrincipalType | None, limit: int, after: str
) -> list[Attachment]:
    """By the thing's name; of one ``type`` only, if it is given."""
    rows = await tx.fetch_all(
        f"{_ATTACHMENT}AND fingerprint = $3 AND thing > $4 {_of_type(type)}ORDER BY thing LIMIT $5",
        *scope,
        fingerprint,
        after,
        limit,
    )
    return [_attachment(row) for row in rows]


def _of_type(type: PrincipalType | None) -> str:
    return "" if type is None else f"AND exclusive = {int(type == 'EXCLUSIVE_THING')} "


async def _insert_attributes(tx: Transaction, thing: Thing) -> None:
    for name, value in thing.attributes.items():
        await tx.execute(
            "INSERT INTO thing_attributes (account, region, thing, name, value) VALUES ($1, $2, $3, $4, $5)",
            *thing.scope,
            thing.name,
            name,
            value,
        )


async def _delete_attributes(tx: Transaction, scope: Scope, thing: str) -> None:
    await tx.execute("DELETE FROM thing_attributes WHERE account = $1 AND region = $2 AND thing = $3", *scope, thing)


def _thing(row: Row) -> Thing:
    account, region, name, id, type, attributes, version, created_at = row
    return Thing(
        Scope(account, region), name, id, type, orjson.loads(attributes), version, created_at=from_micros(created_at)
    )


def _attachment(row: Row) -> Attachment:
    return Attachment(row[0], row[1], "EXCLUSIVE_THING" if row[2] else "NON_EXCLUSIVE_THING")
