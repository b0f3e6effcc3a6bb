"""Recorded operations, by which a caller can ask for a change's outcome again, and the keys of repeated requests.

A record is written in its change's own transaction. What it says is the API's business: bytes are kept here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from thingmint.domain.errors import Invalid
from thingmint.store.table import BoundedDelete, Table, record, to_micros

if TYPE_CHECKING:
    from thingmint.store.engine import Store, Transaction

# How long a repeated request is recognised.
_IDEMPOTENCY_WINDOW = timedelta(hours=24)


@record
class RecordedOperation:
    """``answer`` is what the API made of it. Before ``finishes_at`` the operation counts as not done."""

    id: str
    account: str
    answer: bytes
    finishes_at: datetime
    created_at: datetime


RECORDED_OPERATIONS = Table(RecordedOperation, "operations", "operation", key=("account", "id"), unique=None)

_EARLIER = (
    "SELECT o.id, o.account, o.answer, o.finishes_at, o.created_at, k.folder, k.request_sha256 "
    "FROM idempotency_keys AS k JOIN operations AS o ON o.id = k.operation "
    "WHERE k.caller = $1 AND k.method = $2 AND k.key = $3 AND k.created_at > $4"
)
_FORGET = BoundedDelete("idempotency_keys", ("caller", "method", "key", "folder"), "created_at <= $1")
_RESERVE = (
    "INSERT INTO idempotency_keys (caller, folder, method, key, request_sha256, operation, created_at) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (caller, method, key, folder) "
    # One that is too old to be recognised, and not forgotten yet.
    "DO UPDATE SET request_sha256 = excluded.request_sha256, operation = excluded.operation, "
    "created_at = excluded.created_at WHERE idempotency_keys.created_at <= $8"
)


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A request is the same one for the same caller, folder and method only, and only with the same content.

    Without ``folder``, because what the request names is gone, an earlier one is found by its content.
    """

    caller: str
    folder: str | None
    method: str
    key: str
    request_sha256: bytes


async def earlier_operation(tx: Transaction, key: IdempotencyKey, now: datetime) -> RecordedOperation | None:
    """What the very same request made before. Raises Invalid for a key that was used for another request."""
    since = to_micros(now - _IDEMPOTENCY_WINDOW)
    for *row, folder, request_sha256 in await tx.fetch_all(_EARLIER, key.caller, key.method, key.key, since):
        if request_sha256 == key.request_sha256 and key.folder in (folder, None):
            return RECORDED_OPERATIONS.load(tuple(row))
        if folder == key.folder:
            raise Invalid("idempotency_key", "was used for another request already")
    return None


async def reserve_key(tx: Transaction, key: IdempotencyKey, operation: str, now: datetime) -> bool:
    """False if the key was used already. ``operation`` is the id of the operation that this transaction will record.

    Keys are not looked for before: what several transactions read and insert around makes them conflict.
    """
    identity = (key.caller, key.folder or "", key.method, key.key)
    times = (to_micros(now), to_micros(now - _IDEMPOTENCY_WINDOW))
    return await tx.execute(_RESERVE, *identity, key.request_sha256, operation, *times) == 1


async def forget_idempotency_keys(store: Store, now: datetime) -> None:
    """Those that are recognised no longer. To be called now and then."""
    await _FORGET.run(store, to_micros(now - _IDEMPOTENCY_WINDOW))
