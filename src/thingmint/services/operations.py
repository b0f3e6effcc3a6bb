"""Recorded operations, so that callers can ask for the result of a change later, and idempotency keys.

A record is written in the transaction of its change. Its content is bytes that only the API interprets.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from thingmint.domain.errors import Invalid
from thingmint.services.pages import page_of
from thingmint.store.table import BoundedDelete, Table, fetch_in_order, record, to_micros

if TYPE_CHECKING:
    from thingmint.services.change import Query
    from thingmint.services.page_tokens import Position
    from thingmint.services.pages import Cursor, Page
    from thingmint.store.engine import Store, Transaction

# How long a repeated request is recognised.
_IDEMPOTENCY_WINDOW = timedelta(hours=24)
# How long an operation can be asked for.
_RETENTION = timedelta(days=30)


@record
class RecordedOperation:
    """``answer`` is the API's own form of it. Before ``finishes_at`` the operation counts as not done.

    ``owner`` is the id of the device, registry or broker that it is about.
    """

    id: str
    account: str
    answer: bytes
    finishes_at: datetime
    created_at: datetime
    owner: str


RECORDED_OPERATIONS = Table(RecordedOperation, "operations", "operation", key=("account", "id"), unique=None)

_EARLIER = (
    "SELECT o.id, o.account, o.answer, o.finishes_at, o.created_at, o.owner, k.folder, k.request_sha256 "
    "FROM idempotency_keys AS k JOIN operations AS o ON o.id = k.operation "
    "WHERE k.caller = $1 AND k.method = $2 AND k.key = $3 AND k.created_at > $4"
)
_OF_OWNER = f"{RECORDED_OPERATIONS.select}WHERE owner = $1"
_EXPIRED = BoundedDelete("operations", ("id",), "created_at <= $1")
_FORGET = BoundedDelete("idempotency_keys", ("caller", "method", "key", "folder"), "created_at <= $1")
_RESERVE = (
    "INSERT INTO idempotency_keys (caller, folder, method, key, request_sha256, operation, created_at) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (caller, method, key, folder) "
    # Replaces a key that is too old to be recognised but not deleted yet.
    "DO UPDATE SET request_sha256 = excluded.request_sha256, operation = excluded.operation, "
    "created_at = excluded.created_at WHERE idempotency_keys.created_at <= $8"
)


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A repeated request has the same caller, folder, method and content.

    ``folder`` is None if the resource that the request names no longer exists; the content identifies the request then.
    """

    caller: str
    folder: str | None
    method: str
    key: str
    request_sha256: bytes


async def earlier_operation(tx: Transaction, key: IdempotencyKey, now: datetime) -> RecordedOperation | None:
    """Return the operation of an identical earlier request. Raises Invalid if the key was used for another request."""
    since = to_micros(now - _IDEMPOTENCY_WINDOW)
    for *row, folder, request_sha256 in await tx.fetch_all(_EARLIER, key.caller, key.method, key.key, since):
        if request_sha256 == key.request_sha256 and key.folder in (folder, None):
            return RECORDED_OPERATIONS.load(tuple(row))
        if folder == key.folder:
            raise Invalid("idempotency_key", "was used for another request already")
    return None


async def reserve_key(tx: Transaction, key: IdempotencyKey, operation: str, now: datetime) -> bool:
    """Reserve an idempotency key. False if it was used already.

    ``operation`` is the id of the operation that this transaction will record. Keys are not read before, because
    transactions that read the same rows and insert others conflict with each other.
    """
    identity = (key.caller, key.folder or "", key.method, key.key)
    times = (to_micros(now), to_micros(now - _IDEMPOTENCY_WINDOW))
    return await tx.execute(_RESERVE, *identity, key.request_sha256, operation, *times) == 1


async def list_operations(tx: Transaction, query: Query, owner: str, cursor: Cursor) -> Page[RecordedOperation]:
    """Those about one device, registry or broker, the newest first. Raises Invalid (page token)."""

    async def fetch(after: Position | None, limit: int) -> list[RecordedOperation]:
        rows = await fetch_in_order(tx, _OF_OWNER, (owner,), ("created_at", "id"), after or (), limit, ascending=False)
        return RECORDED_OPERATIONS.load_all(rows)

    return await page_of(query, cursor, f"operations {owner}", fetch, _position, lambda row: len(row.answer))


def _position(row: RecordedOperation) -> Position:
    return to_micros(row.created_at), row.id


async def delete_expired_operations(store: Store, now: datetime) -> None:
    """Delete the operations that are 30 days old. To be called from time to time."""
    await _EXPIRED.run(store, to_micros(now - _RETENTION))


async def forget_idempotency_keys(store: Store, now: datetime) -> None:
    """Delete idempotency keys that are too old. The job runner calls this periodically."""
    await _FORGET.run(store, to_micros(now - _IDEMPOTENCY_WINDOW))
