"""The audit log in SQL: one stream of changes, one of reads and refusals, each with its own hash chain."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from thingmint.store.search_keys import INSERT_FURTHER, Searched, audit_keys, further_resource_keys, search_key
from thingmint.store.table import uuid_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from thingmint.store.engine import Row, Transaction, Value


@dataclass(frozen=True, slots=True)
class Stream:
    """A part of the audit log with its own hash chain."""

    name: str
    records: str
    checkpoints: str
    searched: tuple[Searched, ...]

    @property
    def keys(self) -> str:
        """The columns by which records are searched."""
        return ", ".join(f"{kind}_key" for kind in self.searched)


CHANGES = Stream("changes", "audit_records", "audit_checkpoints", ("event", "principal", "resource"))
ACTIVITY = Stream("activity", "audit_activity", "audit_activity_checkpoints", ("event", "principal"))
STREAMS = (CHANGES, ACTIVITY)


class AuditRow(NamedTuple):
    """``id`` is 32 hexadecimal digits. ``sequence`` and ``hash`` are None until the record is sealed."""

    id: str
    account: str | None
    record: str
    sequence: int | None = None
    hash: bytes | None = None
    stream: Stream = CHANGES


_INSERT = (
    f"INSERT INTO audit_records (id, call, account, record, {CHANGES.keys}) "  # noqa: S608
    "VALUES ($1, $2, $3, $4, $5, $6, $7)"
)
_ABOUT: tuple[Searched, ...] = ("principal", "resource")
_OF_FURTHER = (
    "SELECT a.id, a.account, a.record, a.sequence, a.hash FROM audit_further_resources AS f "
    "CROSS JOIN audit_records AS a WHERE a.id = f.id AND f.resource_key = $1 AND f.id >= $2 AND f.id < $3 "
    "ORDER BY f.id DESC LIMIT $4"
)
_OLDEST = "SELECT id, account, record FROM audit_records WHERE sequence <= $1 ORDER BY sequence LIMIT $2"
_DELETE_FURTHER = "DELETE FROM audit_further_resources WHERE resource_key = $1 AND id = $2"
_OF_CALL = "SELECT 1 FROM audit_records WHERE call = $1"


async def insert_record(tx: Transaction, id: str, account: str | None, record: str, call: str | None = None) -> None:
    """Inserts the record of a change. ``call`` is the UUID of its request, which has at most one record."""
    known = (bytes.fromhex(id), uuid_bytes(call) if call is not None else None, account, record)
    await tx.execute(_INSERT, *known, *audit_keys(account, record, CHANGES.searched))
    await _insert_further(tx, [AuditRow(id, account, record)])


async def _insert_further(tx: Transaction, rows: Iterable[AuditRow]) -> None:
    """Inserts the keys of the resources after the first, by which changes are found too."""
    if found := list(_further(rows)):
        await tx.execute_many(INSERT_FURTHER, found)


def _further(rows: Iterable[AuditRow]) -> Iterator[tuple[int, str | bytes]]:
    for row in rows:
        for key in further_resource_keys(row.account, row.record):
            yield key, _stored(row.id)


async def has_record_of(tx: Transaction, call: str) -> bool:
    return await tx.fetch_one(_OF_CALL, uuid_bytes(call)) is not None


async def insert_records(tx: Transaction, rows: Iterable[AuditRow], stream: Stream = CHANGES) -> None:
    """Inserts unsealed records that are not there yet. A batch is repeated if its commit was not answered."""
    rows = list(rows)
    await tx.execute_many(
        f"INSERT INTO {stream.records} (id, account, record, {stream.keys}) "  # noqa: S608
        f"VALUES ({_marks(3, stream)}) ON CONFLICT (id) DO NOTHING",
        [(bytes.fromhex(row.id), *row[1:3], *audit_keys(*row[1:3], stream.searched)) for row in rows],
    )
    if stream is CHANGES:
        await _insert_further(tx, rows)


async def insert_activity(tx: Transaction, rows: Iterable[AuditRow]) -> None:
    await insert_records(tx, rows, ACTIVITY)


async def last_sealed(tx: Transaction, stream: Stream = CHANGES) -> tuple[Any, Any] | None:
    """The sequence number and hash of the last record in the chain. SQLite takes other types there, too."""
    row = await tx.fetch_one(
        f"SELECT sequence, hash FROM {stream.records} WHERE sequence IS NOT NULL ORDER BY sequence DESC LIMIT 1"  # noqa: S608
    )
    return (row[0], row[1]) if row else None


async def unsealed_records(tx: Transaction, limit: int, stream: Stream = CHANGES) -> list[AuditRow]:
    """The oldest unsealed records."""
    rows = await tx.fetch_all(
        f"SELECT id, account, record FROM {stream.records} WHERE sequence IS NULL ORDER BY id LIMIT $1",  # noqa: S608
        limit,
    )
    return [_row((*row, None, None), stream) for row in rows]


async def seal_records(tx: Transaction, rows: Iterable[AuditRow], stream: Stream = CHANGES) -> None:
    """Sets the sequence number and hash of records that are in the table."""
    await tx.execute_many(
        f"UPDATE {stream.records} SET sequence = $2, hash = $3 WHERE id = $1",  # noqa: S608
        [(_stored(row.id), row.sequence, row.hash) for row in rows],
    )


async def insert_sealed_records(tx: Transaction, rows: Iterable[AuditRow], stream: Stream = CHANGES) -> None:
    """Inserts sealed records. A record that is there already is an error: its place in the chain would stay empty."""
    rows = list(rows)
    await tx.execute_many(
        f"INSERT INTO {stream.records} (id, account, record, sequence, hash, {stream.keys}) "  # noqa: S608
        f"VALUES ({_marks(5, stream)})",
        [(bytes.fromhex(row.id), *row[1:5], *audit_keys(*row[1:3], stream.searched)) for row in rows],
    )
    if stream is CHANGES:
        await _insert_further(tx, rows)


async def sealed_records(tx: Transaction, after: int, limit: int, stream: Stream = CHANGES) -> list[AuditRow]:
    """The records after the sequence number ``after``, in the chain's order."""
    rows = await tx.fetch_all(
        f"SELECT id, account, record, sequence, hash FROM {stream.records} "  # noqa: S608
        "WHERE sequence > $1 ORDER BY sequence LIMIT $2",
        after,
        limit,
    )
    return [_row(row, stream) for row in rows]


def _row(row: Row, stream: Stream) -> AuditRow:
    id, account, record, sequence, hash = row
    text = id.hex() if isinstance(id, bytes) else id  # in SQLite an id that was inserted by hand can be text
    return AuditRow(text, account, record, sequence, hash, stream)


def _marks(count: int, stream: Stream) -> str:
    return ", ".join(f"${number}" for number in range(1, count + len(stream.searched) + 1))


def _stored(id: str) -> str | bytes:
    try:
        return bytes.fromhex(id)
    except ValueError:
        return id


async def size_of_records(tx: Transaction, after: int, through: int, stream: Stream) -> int:
    """The number of characters in the sealed records after ``after``, up to and including ``through``."""
    row = await tx.fetch_one(
        f"SELECT sum(length(record)) FROM {stream.records} WHERE sequence > $1 AND sequence <= $2",  # noqa: S608
        after,
        through,
    )
    return int(row[0] or 0) if row else 0


async def list_records(
    tx: Transaction,
    *,
    account: str | None,
    before: str | None,
    limit: int,
    since: str | None = None,
    wanted: tuple[Searched, str] | None = None,
) -> list[AuditRow]:
    """The records of both streams, newest first: from the id ``since`` on, before ``before``, of one or all accounts.

    ``wanted`` is a kind and a text by which records of the account are searched. One result in many millions has
    another text with the same key.
    """
    conditions: list[str] = []
    parameters: list[Value] = []
    first, last = (bytes.fromhex(id) if id is not None else None for id in (since, before))
    of: tuple[str, Value] = ("account", account)
    if wanted is not None:
        of = f"{wanted[0]}_key", search_key(account or "", *wanted)
    for column, comparison, value in ((of[0], "=", of[1]), ("id", "<", last), ("id", ">=", first)):
        if value is not None:
            parameters.append(value)
            conditions.append(f"{column} {comparison} ${len(parameters) + 1}")
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    found = []
    for stream in STREAMS:
        if wanted is not None and wanted[0] not in stream.searched:
            continue
        rows = await tx.fetch_all(
            f"SELECT id, account, record, sequence, hash FROM {stream.records} {where}ORDER BY id DESC LIMIT $1",  # noqa: S608
            limit,
            *parameters,
        )
        found.append([_row(row, stream) for row in rows])
    return list(islice(heapq.merge(*found, key=attrgetter("id"), reverse=True), limit))


async def list_about(
    tx: Transaction, *, account: str, about: str, before: str | None, limit: int, since: str | None = None
) -> list[AuditRow]:
    """The records in which ``about`` acted, or which changed it, newest first. It is an ARN or the like."""
    found = [
        await list_records(tx, account=account, before=before, since=since, limit=limit, wanted=(kind, about))
        for kind in _ABOUT
    ]
    key, first, last = search_key(account, "resource", about), _bound(since, "00"), _bound(before, "ff")
    found.append([_row(row, CHANGES) for row in await tx.fetch_all(_OF_FURTHER, key, first, last, limit)])
    rows = {row.id: row for rows in found for row in rows}
    return [rows[id] for id in sorted(rows, reverse=True)[:limit]]


def _bound(id: str | None, otherwise: str) -> bytes:
    return bytes.fromhex(id if id is not None else otherwise * 17)


async def insert_checkpoint(tx: Transaction, sequence: int, checkpoint: str, stream: Stream = CHANGES) -> None:
    await tx.execute(
        f"INSERT INTO {stream.checkpoints} (sequence, checkpoint) VALUES ($1, $2) ON CONFLICT DO NOTHING",  # noqa: S608
        sequence,
        checkpoint,
    )


async def list_checkpoints(tx: Transaction, stream: Stream = CHANGES, after: int = 0, limit: int = -1) -> list[str]:
    """The checkpoints after the sequence number ``after``, in order; all of them if ``limit`` is negative."""
    rows = await tx.fetch_all(
        f"SELECT checkpoint FROM {stream.checkpoints} WHERE sequence > $1 ORDER BY sequence"  # noqa: S608
        + (" LIMIT $2" if limit >= 0 else ""),
        *((after, limit) if limit >= 0 else (after,)),
    )
    return [row[0] for row in rows]


async def last_checkpoint(tx: Transaction, stream: Stream) -> str | None:
    row = await tx.fetch_one(f"SELECT checkpoint FROM {stream.checkpoints} ORDER BY sequence DESC LIMIT 1")  # noqa: S608
    return row[0] if row else None


async def count_unsealed(tx: Transaction, stream: Stream = CHANGES) -> int:
    row = await tx.fetch_one(f"SELECT count(*) FROM {stream.records} WHERE sequence IS NULL")  # noqa: S608
    return int(row[0]) if row else 0


async def delete_records(tx: Transaction, through: int, limit: int, stream: Stream = CHANGES) -> int:
    """Deletes up to ``limit`` records from the beginning of the chain, and returns how many it deleted.

    ``through`` is the sequence number of a checkpoint, which stays as the new beginning of the chain. Up to ``limit``
    earlier checkpoints are deleted too.
    """
    if stream is CHANGES:
        oldest = await tx.fetch_all(_OLDEST, through, limit)
        await tx.execute_many(_DELETE_FURTHER, list(_further(_row((*row, None, None), stream) for row in oldest)))
    for table, bound in ((stream.checkpoints, through - 1), (stream.records, through)):
        deleted = await tx.execute(
            f"DELETE FROM {table} WHERE sequence IN "  # noqa: S608
            f"(SELECT sequence FROM {table} WHERE sequence <= $1 ORDER BY sequence LIMIT $2)",
            bound,
            limit,
        )
    return deleted
