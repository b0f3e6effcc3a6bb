"""The declaration of an operation, the same for all APIs, and the order in which its parts run.

First the gate and ``prepare`` run, then one transaction with the gate again and ``apply``. So signing, hashing and
hooks run only for an authorized caller. A transaction that runs again reuses what was prepared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from thingmint.store.engine import KeyTaken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from thingmint.services.change import Ids
    from thingmint.store.engine import Body, Store, Transaction

_MAX_DRAWS = 3  # attempts with new ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """``name`` is the contract's. Each part receives the input in the form that its API gives it.

    - ``find(tx, change, input)`` reads the rows that authorization needs, and raises Denied. Its result is passed to
      the other parts. Operations whose input names the resource have no ``find``: their API authorizes them first.
    - ``prepare(change, input, *found)`` is awaited outside of any transaction: parsing, hashing, keys, signing, hooks.
    - ``apply(tx, change, input, *found, *prepared)`` does the work and returns the answer. It may run more than once.
    - ``finish(change, input, result)`` makes the answer from the result of ``apply``, outside of the transaction. Only
      operations that read have it: work on what was read, which would keep the transaction open.
    - ``collect(store, change, input)`` returns the answer of an operation that reads in several transactions. It has
      no other parts.
    - ``discard(change, prepared, error)`` is called if what was prepared is not used: because of the error, or because
      an earlier call has the answer (``error`` is None). After Unavailable or CancelledError, the change may have been
      made nevertheless.

    ``secret``: the answer contains a private key, a password or a token, and must not be stored.
    """

    name: str
    apply: Callable[..., Awaitable[Any]]
    writes: bool
    find: Callable[..., Awaitable[Any]] | None = None
    prepare: Callable[..., Awaitable[Any]] | None = None
    discard: Callable[[Any, Any, BaseException | None], None] | None = None
    finish: Callable[..., Awaitable[Any]] | None = None
    collect: Callable[..., Awaitable[Any]] | None = None
    secret: bool = False


class HasIds(Protocol):
    """A Change or an AdminChange."""

    @property
    def ids(self) -> Ids: ...


class Recorder(Protocol):
    """Makes calls repeatable: a repeated call gets the answer of the first."""

    async def earlier(self, tx: Transaction, *found: Any) -> Any | None:
        """The answer of an earlier identical call, or None. Raises Invalid."""
        ...

    async def reserve(self, tx: Transaction, *found: Any) -> Any | None:
        """Like ``earlier``, in the transaction of the change; without an earlier call, reserves this call's key."""
        ...

    async def record(self, tx: Transaction, result: Any, *found: Any) -> Any:
        """Makes the answer from ``result``, keeps it for repeated calls, and returns it."""
        ...


async def run(operation: Operation, store: Store, change: HasIds, given: Any, recorder: Recorder | None = None) -> Any:
    """The operation's answer. Raises DomainErrors."""
    if operation.collect is not None:
        return await operation.collect(store, change, given)
    gated = operation.find is not None or recorder is not None
    if not (gated or operation.writes or operation.prepare is not None):
        result = await store.read(lambda tx: operation.apply(tx, change, given))
        return result if operation.finish is None else await operation.finish(change, given, result)
    prepared: tuple[Any, ...] = ()
    repeated = False

    async def apply(tx: Transaction) -> Any:
        change.ids.restart()
        return await operation.apply(tx, change, given, *prepared)

    async def gate(tx: Transaction) -> tuple[tuple[Any, ...], Any | None]:
        found = await _find(tx, operation, change, given)
        return found, await recorder.earlier(tx, *found) if recorder is not None else None

    async def gate_and_apply(tx: Transaction) -> Any:
        nonlocal repeated
        found = await _find(tx, operation, change, given)
        answer = await recorder.reserve(tx, *found) if recorder is not None else None
        repeated = answer is not None
        if repeated:
            return answer
        change.ids.restart()
        result = await operation.apply(tx, change, given, *found, *prepared)
        return await recorder.record(tx, result, *found) if recorder is not None else result

    body = gate_and_apply if gated else apply
    if operation.prepare is not None:
        found: tuple[Any, ...] = ()
        if gated:
            found, answer = await store.read(gate)
            if answer is not None:
                return answer
        prepared = (await operation.prepare(change, given, *found),)
    if not operation.writes:
        return await store.read(body)
    if operation.discard is None:
        return await write_with_new_ids(store, change, body)
    try:
        answer = await write_with_new_ids(store, change, body)
    except BaseException as error:
        operation.discard(change, prepared[0], error)
        raise
    if repeated:
        operation.discard(change, prepared[0], None)
    return answer


async def _find(tx: Transaction, operation: Operation, change: HasIds, given: Any) -> tuple[Any, ...]:
    """The result of the operation's ``find``, as a tuple. Raises Denied and what ``find`` raises."""
    return (await operation.find(tx, change, given),) if operation.find is not None else ()


async def write_with_new_ids(store: Store, change: HasIds, body: Body[Any], *, once: bool = False) -> Any:
    """The body's result. It runs again with new ids if another row has one of them; for ``once`` see Store.write."""
    for _ in range(_MAX_DRAWS - 1):
        try:
            return await store.write(body, once=once)
        except KeyTaken:
            change.ids.renew()
    return await store.write(body, once=once)
