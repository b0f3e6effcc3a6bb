"""Operations: what a change leaves behind besides itself, so that its caller can ask for the outcome again.

The record is written in the change's own transaction. What it says is the face's business: the registry keeps bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Generic, TypeVar

from thingmint.domain.errors import Invalid, NotFound
from thingmint.store import operations as sql
from thingmint.store.times import from_micros, to_micros

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from thingmint.store.engine import Store, Transaction

__all__ = ["IdempotencyKey", "OperationRegistry", "Receipt", "RecordedOperation"]

T = TypeVar("T")

# How long a repeated request is recognised.
_IDEMPOTENCY_WINDOW = timedelta(hours=24) // timedelta(microseconds=1)


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


@dataclass(frozen=True, slots=True)
class Receipt(Generic[T]):
    """What to record of a change that is about to be made; ``encode`` tells it from the change's result."""

    id: str
    account: str
    created_at: datetime
    finishes_at: datetime
    encode: Callable[[T], bytes]
    idempotency: IdempotencyKey | None = None


@dataclass(frozen=True, slots=True)
class RecordedOperation:
    """``answer`` is what the face encoded. Before ``finishes_at`` the operation counts as not done."""

    id: str
    answer: bytes
    finishes_at: datetime


class OperationRegistry:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, account: str, id: str) -> RecordedOperation:
        """Raises NotFound."""

        async def body(tx: Transaction) -> RecordedOperation:
            row = await sql.get_operation(tx, account, id)
            if row is None:
                raise NotFound("operation", id)
            return _recorded(row)

        return await self._store.read(body)

    async def write(self, receipt: Receipt[T], change: Callable[[Transaction], Awaitable[T]]) -> RecordedOperation:
        """Makes the change and records it, or finds that the very same request made it before.

        Raises what ``change`` raises, and then nothing is recorded; and Invalid for an idempotency key that was used
        for another request.
        """
        now = to_micros(receipt.created_at)
        key = receipt.idempotency

        async def body(tx: Transaction) -> RecordedOperation:
            if key is not None and (earlier := await _earlier(tx, key, now - _IDEMPOTENCY_WINDOW)):
                return _recorded(earlier)
            answer = receipt.encode(await change(tx))
            row = sql.OperationRow(receipt.id, receipt.account, answer, to_micros(receipt.finishes_at), now)
            await sql.insert_operation(tx, row)
            if key is not None:
                await sql.delete_idempotency_keys(tx, now - _IDEMPOTENCY_WINDOW)
                identity = (key.caller, key.folder or "", key.method, key.key)
                await sql.insert_idempotency_key(tx, identity, key.request_sha256, row)
            return _recorded(row)

        return await self._store.write(body)

    async def record_refusal(self, receipt: Receipt[None]) -> RecordedOperation:
        """Records the operation of a change that was refused."""

        async def change(tx: Transaction) -> None:
            del tx

        return await self.write(receipt, change)


async def _earlier(tx: Transaction, key: IdempotencyKey, since: int) -> sql.OperationRow | None:
    for folder, request_sha256, operation in await sql.find_idempotent(tx, key.caller, key.method, key.key, since):
        if request_sha256 == key.request_sha256 and key.folder in (folder, None):
            return operation
        if folder == key.folder:
            raise Invalid("idempotency_key", "was used for another request already")
    return None


def _recorded(row: sql.OperationRow) -> RecordedOperation:
    return RecordedOperation(row.id, row.answer, from_micros(row.finishes_at))
