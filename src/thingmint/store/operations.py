"""Operations, and the keys that make a repeated request the same one, in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from thingmint.store.engine import Transaction

__all__ = [
    "OperationRow",
    "delete_idempotency_keys",
    "find_idempotent",
    "get_operation",
    "insert_idempotency_key",
    "insert_operation",
]


class OperationRow(NamedTuple):
    id: str
    account: str
    answer: bytes
    finishes_at: int
    created_at: int


async def insert_operation(tx: Transaction, operation: OperationRow) -> None:
    await tx.execute(
        "INSERT INTO operations (id, account, answer, finishes_at, created_at) VALUES ($1, $2, $3, $4, $5)", *operation
    )


async def get_operation(tx: Transaction, account: str, id: str) -> OperationRow | None:
    row = await tx.fetch_one(
        "SELECT id, account, answer, finishes_at, created_at FROM operations WHERE id = $1 AND account = $2",
        id,
        account,
    )
    return OperationRow(*row) if row else None


async def find_idempotent(
    tx: Transaction, caller: str, method: str, key: str, since: int
) -> list[tuple[str, bytes, OperationRow]]:
    """Folder, request's hash and operation of every use of that key ``since``."""
    rows = await tx.fetch_all(
        "SELECT k.folder, k.request_sha256, o.id, o.account, o.answer, o.finishes_at, o.created_at "
        "FROM idempotency_keys AS k JOIN operations AS o ON o.id = k.operation "
        "WHERE k.caller = $1 AND k.method = $2 AND k.key = $3 AND k.created_at > $4",
        caller,
        method,
        key,
        since,
    )
    return [(row[0], row[1], OperationRow(*row[2:])) for row in rows]


async def insert_idempotency_key(
    tx: Transaction, key: tuple[str, str, str, str], request_sha256: bytes, operation: OperationRow
) -> None:
    await tx.execute(
        "INSERT INTO idempotency_keys (caller, folder, method, key, request_sha256, operation, created_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        *key,
        request_sha256,
        operation.id,
        operation.created_at,
    )


async def delete_idempotency_keys(tx: Transaction, before: int) -> None:
    await tx.execute("DELETE FROM idempotency_keys WHERE created_at <= $1", before)
