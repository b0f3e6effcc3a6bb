"""Answers a call: a read with its response, a change with an Operation that is recorded in the same transaction."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from thingmint.access.operations import Operation, run
from thingmint.domain.errors import Invalid
from thingmint.domain.ids import IOT, new_id
from thingmint.services.operations import (
    RECORDED_OPERATIONS,
    IdempotencyKey,
    RecordedOperation,
    earlier_operation,
    reserve_key,
)
from thingmint.yandex.errors import status_of
from thingmint.yandex.operations.declaring import Refusal, Result, owner_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from thingmint.domain.errors import DomainError
    from thingmint.services.change import Change
    from thingmint.services.owners import InFolder, Named
    from thingmint.store.engine import Store, Transaction
    from thingmint.yandex.contract import Contract
    from thingmint.yandex.operations.declaring import YandexCall

_MAX_KEY_LENGTH = 256


async def answer(
    operation: Operation,
    store: Store,
    change: Change,
    call: YandexCall,
    idempotency_key: str | None,
    note_refusal: Callable[[DomainError], None],
) -> Message:
    """The response, or the Operation. Raises DomainErrors.

    If operations stay pending, a refusal of the change itself is not raised: its Operation reports it later, and
    ``note_refusal`` receives it now.
    """
    if not operation.writes:
        found = await run(operation, store, change, call)
        return found if isinstance(found, Message) else call.method.response_class(**found)
    recorder = _Recorder(call, change, idempotency_key)
    try:
        built: Message = await run(operation, store, change, call, recorder)
    except Refusal as refused:
        result = refused.result
        assert result.refusal is not None

        async def apply(*_: Any) -> Result:
            return result

        note_refusal(result.refusal)
        refusing = Operation(name=operation.name, apply=apply, writes=True, find=operation.find)
        built = await run(refusing, store, change, call, recorder)
    return built


class _Recorder:
    """Records the Operation of a change, and finds the Operation of an earlier call with the same idempotency key."""

    def __init__(self, call: YandexCall, change: Change, key: str | None) -> None:
        self._call = call
        self._change = change
        self._key = key
        self._id = new_id(IOT)
        self._request_sha256 = b""

    async def earlier(self, tx: Transaction, named: Named[InFolder]) -> Message | None:
        key = self._idempotency(named)
        recorded = await earlier_operation(tx, key, self._change.now) if key is not None else None
        return as_of(self._change.now, recorded, self._call.parts.contract) if recorded is not None else None

    async def reserve(self, tx: Transaction, named: Named[InFolder]) -> Message | None:
        key = self._idempotency(named)
        if key is None:
            return None
        # The folder of a deleted resource is unknown, so reserve_key() would not find the earlier call's key.
        earlier = await self.earlier(tx, named) if key.folder is None else None
        if earlier is not None or await reserve_key(tx, key, self._id, self._change.now):
            return earlier
        return await self.earlier(tx, named)

    async def record(self, tx: Transaction, result: Result, _named: Named[InFolder]) -> Message:
        call, change, refusal = self._call, self._change, result.refusal
        contract = call.parts.contract
        assert call.method.operation is not None, "only methods that return operations are declared as writes"
        operation: Message = contract.operations.build(
            call.method.operation,
            id=self._id,
            description=result.description,
            created_at=change.now,
            created_by=call.principal,
            metadata=result.metadata,
            response=result.response,
            error=status_of(contract, refusal, call.request_id) if refusal is not None else None,
        )
        finishes_at = change.now + call.parts.pending
        answer, owner = operation.SerializeToString(), owner_of(result.metadata)
        recorded = RecordedOperation(self._id, change.account, answer, finishes_at, change.now, owner)
        await RECORDED_OPERATIONS.insert(tx, recorded)
        return _unfinished(operation) if finishes_at > change.now else operation

    def _idempotency(self, named: Named[InFolder]) -> IdempotencyKey | None:
        """Raises Invalid."""
        if self._key is None:
            return None
        if not 0 < len(self._key) <= _MAX_KEY_LENGTH:
            raise Invalid("idempotency_key", f"must have 1 to {_MAX_KEY_LENGTH} characters")
        if not self._request_sha256:
            self._request_sha256 = _digest(self._call.request)
        folder = named.found.folder if named.found is not None else None
        return IdempotencyKey(self._call.principal, folder, self._call.method.path, self._key, self._request_sha256)


def _digest(request: Message) -> bytes:
    """Without the password: a plain hash of a request that holds one would give away what can be guessed."""
    if "password" in request.DESCRIPTOR.fields_by_name:
        copy = type(request)()
        copy.CopyFrom(request)
        copy.ClearField("password")
        request = copy
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()


def as_of(now: datetime, recorded: RecordedOperation, contract: Contract) -> Any:
    """A recorded Operation as callers see it at the time ``now``."""
    operation = contract.operations.message_class.FromString(recorded.answer)
    return _unfinished(operation) if recorded.finishes_at > now else operation


def _unfinished(operation: Any) -> Any:
    operation.done = False
    operation.ClearField("response")
    operation.ClearField("error")
    return operation
