"""The audit trail in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thingmint.store.engine import Transaction


class AuditRow(NamedTuple):
    """``sequence`` and ``hash`` are None until the record is sealed."""

    id: str
    account: str | None
    record: str
    sequence: int | None = None
    hash: bytes | None = None


_INSERT = "INSERT INTO audit_records (id, account, record) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"


async def insert_record(tx: Transaction, id: str, account: str | None, record: str) -> None:
    await tx.execute(_INSERT, id, account, record)


async def insert_records(tx: Transaction, rows: Iterable[AuditRow]) -> None:
    """Unsealed. Again is no harm: a batch of which it is unknown whether it was kept is written once more."""
    await tx.execute_many(_INSERT, [row[:3] for row in rows])


async def last_sealed(tx: Transaction) -> tuple[int, bytes] | None:
    """The chain's end: sequence number and hash."""
    row = await tx.fetch_one(
        "SELECT sequence, hash FROM audit_records WHERE sequence IS NOT NULL ORDER BY sequence DESC LIMIT 1"
    )
    return (row[0], row[1]) if row else None


async def unsealed_records(tx: Transaction, limit: int) -> list[AuditRow]:
    """The oldest of them."""
    rows = await tx.fetch_all(
        "SELECT id, account, record FROM audit_records WHERE sequence IS NULL ORDER BY id LIMIT $1", limit
    )
    return [AuditRow(*row) for row in rows]


async def seal_record(tx: Transaction, id: str, sequence: int, hash: bytes) -> None:
    await seal_records(tx, [AuditRow(id, None, "", sequence, hash)])


async def seal_records(tx: Transaction, rows: Iterable[AuditRow]) -> None:
    """Those that are there already."""
    await tx.execute_many(
        "UPDATE audit_records SET sequence = $2, hash = $3 WHERE id = $1",
        [(row.id, row.sequence, row.hash) for row in rows],
    )


async def insert_sealed_records(tx: Transaction, rows: Iterable[AuditRow]) -> None:
    """New ones. One that is there already is an error, as its place in the chain would stay empty."""
    await tx.execute_many(
        "INSERT INTO audit_records (id, account, record, sequence, hash) VALUES ($1, $2, $3, $4, $5)", rows
    )


async def sealed_records(tx: Transaction, after: int, limit: int) -> list[AuditRow]:
    """In the chain's order, beyond the sequence number ``after``."""
    rows = await tx.fetch_all(
        "SELECT id, account, record, sequence, hash FROM audit_records WHERE sequence > $1 ORDER BY sequence LIMIT $2",
        after,
        limit,
    )
    return [AuditRow(*row) for row in rows]


async def list_records(
    tx: Transaction, *, account: str | None, before: str | None, limit: int, since: str | None = None
) -> list[AuditRow]:
    """Newest first, those from the id ``since`` on and before the id ``before``; of one account, or of all."""
    conditions, parameters = [], []
    for column, comparison, value in (("account", "=", account), ("id", "<", before), ("id", ">=", since)):
        if value is not None:
            parameters.append(value)
            conditions.append(f"{column} {comparison} ${len(parameters) + 1}")
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    rows = await tx.fetch_all(
        f"SELECT id, account, record, sequence, hash FROM audit_records {where}ORDER BY id DESC LIMIT $1",  # noqa: S608
        limit,
        *parameters,
    )
    return [AuditRow(*row) for row in rows]


async def insert_checkpoint(tx: Transaction, sequence: int, checkpoint: str) -> None:
    await tx.execute(
        "INSERT INTO audit_checkpoints (sequence, checkpoint) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        sequence,
        checkpoint,
    )


async def list_checkpoints(tx: Transaction) -> list[str]:
    rows = await tx.fetch_all("SELECT checkpoint FROM audit_checkpoints ORDER BY sequence")
    return [row[0] for row in rows]


async def last_checkpoint_before(tx: Transaction, id: str) -> int | None:
    """The sequence number of the last checkpoint behind which no sealed record lies whose id is not below ``id``."""
    row = await tx.fetch_one("SELECT min(sequence) FROM audit_records WHERE id >= $1 AND sequence IS NOT NULL", id)
    if row is None or row[0] is None:
        row = await tx.fetch_one("SELECT max(sequence) FROM audit_checkpoints")
    else:
        row = await tx.fetch_one("SELECT max(sequence) FROM audit_checkpoints WHERE sequence < $1", row[0])
    return row[0] if row else None


async def count_unsealed(tx: Transaction) -> int:
    row = await tx.fetch_one("SELECT count(*) FROM audit_records WHERE sequence IS NULL")
    return int(row[0]) if row else 0


async def delete_records(tx: Transaction, through: int) -> int:
    """Prunes the chain up to a checkpoint, which stays as the new beginning."""
    await tx.execute("DELETE FROM audit_checkpoints WHERE sequence < $1", through)
    return await tx.execute("DELETE FROM audit_records WHERE sequence <= $1", through)
