"""An operation as all APIs declare it, and the order in which a call of one runs.

Gate, prepare, then one transaction: gate again, apply. Nothing is signed, hashed or asked of a hook for a caller who
may not, and what was prepared is used by every run of the body.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from thingmint.store.engine import KeyTaken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from thingmint.services.change import Ids
    from thingmint.store.engine import Body, Store, Transaction

_MAX_DRAWS = 3  # of a call's ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """``name`` is the contract's. Each part receives the input in the form that its API gives it.

    - ``find(tx, change, input)`` reads the rows that say whether the caller may, and raises Denied. What it returns
      is handed on. Operations whose resource is known from the input have none: their API authorizes them before.
    - ``prepare(change, input, *looked)`` is awaited outside of any transaction: parsing, hashing, keys, signing, hooks.
    - ``apply(tx, change, input, *looked, *prepared)`` does the work and returns the answer. It may be run again.
    - ``discard(change, prepared, error)`` is called if what was prepared came to nothing: for the error, or as another
      call had the answer already. After Unavailable or CancelledError the change may have been made all the same.

    ``secret``: the answer holds a private key, a password or a token, and must not be kept.
    """

    name: str
    apply: Callable[..., Awaitable[Any]]
    writes: bool
    find: Callable[..., Awaitable[Any]] | None = None
    prepare: Callable[..., Awaitable[Any]] | None = None
    discard: Callable[[Any, Any, BaseException | None], None] | None = None
    secret: bool = False


class HasIds(Protocol):
    """A Change, or what serves as one in another place."""

    @property
    def ids(self) -> Ids: ...


class Recorder(Protocol):
    """Keeps the answers of an API whose calls can be repeated: what a repeated call is answered, and what is kept."""

    async def earlier(self, tx: Transaction, *looked: Any) -> Any | None:
        """The answer to the same call before, if there was one. Raises Invalid."""
        ...

    async def reserve(self, tx: Transaction, *looked: Any) -> Any | None:
        """The same, in the transaction of the change: without an earlier call, a later one will find this."""
        ...

    async def record(self, tx: Transaction, result: Any, *looked: Any) -> Any:
        """Keeps and returns the answer that ``result`` comes to."""
        ...


async def run(operation: Operation, store: Store, change: HasIds, given: Any, recorder: Recorder | None = None) -> Any:
    """The operation's answer. Raises DomainErrors."""
    gated = operation.find is not None or recorder is not None
    if not (gated or operation.writes or operation.prepare is not None):
        return await store.read(lambda tx: operation.apply(tx, change, given))
    prepared: tuple[Any, ...] = ()
    repeated = False

    async def apply(tx: Transaction) -> Any:
        change.ids.restart()
        return await operation.apply(tx, change, given, *prepared)

    async def gate(tx: Transaction) -> tuple[tuple[Any, ...], Any | None]:
        looked = await _find(tx, operation, change, given)
        return looked, await recorder.earlier(tx, *looked) if recorder is not None else None

    async def gate_and_apply(tx: Transaction) -> Any:
        nonlocal repeated
        looked = await _find(tx, operation, change, given)
        answer = await recorder.reserve(tx, *looked) if recorder is not None else None
        repeated = answer is not None
        if repeated:
            return answer
        change.ids.restart()
        result = await operation.apply(tx, change, given, *looked, *prepared)
        return await recorder.record(tx, result, *looked) if recorder is not None else result

    body = gate_and_apply if gated else apply
    if operation.prepare is not None:
        looked: tuple[Any, ...] = ()
        if gated:
            looked, answer = await store.read(gate)
            if answer is not None:
                return answer
        prepared = (await operation.prepare(change, given, *looked),)
    if not operation.writes:
        return await store.read(body)
    if operation.discard is None:
        return await _write(store, change, body)
    try:
        answer = await _write(store, change, body)
    except BaseException as error:
        operation.discard(change, prepared[0], error)
        raise
    if repeated:
        operation.discard(change, prepared[0], None)
    return answer


async def _find(tx: Transaction, operation: Operation, change: HasIds, given: Any) -> tuple[Any, ...]:
    """What the operation looked up. Raises Denied and what ``find`` raises."""
    return (await operation.find(tx, change, given),) if operation.find is not None else ()


async def _write(store: Store, change: HasIds, body: Body[Any]) -> Any:
    for _ in range(_MAX_DRAWS - 1):
        try:
            return await store.write(body)
        except KeyTaken:
            change.ids.renew()
    return await store.write(body)
