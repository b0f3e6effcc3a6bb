"""The queue of a data stream export: the messages that its hook has not accepted yet, in the store.

A queue has a bound. When it is full, the oldest messages are dropped and counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from thingmint.services.jobs import add_job, job

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from thingmint.services.change import Change
    from thingmint.services.jobs import Job
    from thingmint.store.engine import Store, Transaction

OVERHEAD: Final = 256
"""Bytes that a message counts for besides its topic and payload."""

_QUEUED_AT_ONCE = 100
_BYTES_AT_ONCE = 1_048_576
_DROPPED_AT_ONCE = 200
_DELETED_AT_ONCE = 100  # up to 256 KB each

_OPEN = "INSERT INTO export_queues (export, messages, bytes, dropped, next) VALUES ($1, 0, 0, 0, 1)"
_CLOSE = "DELETE FROM export_queues WHERE export = $1"
_COUNT = (
    "UPDATE export_queues SET messages = messages + $2, bytes = bytes + $3, next = next + $2 WHERE export = $1 "
    "RETURNING bytes, next"
)
_INSERT = "INSERT INTO export_messages (export, number, size, device, topic, payload) VALUES ($1, $2, $3, $4, $5, $6)"
_OLDEST = "SELECT number, size FROM export_messages WHERE export = $1 ORDER BY number LIMIT $2"
_FIRST = (
    "SELECT number, device, topic, payload FROM export_messages WHERE export = $1 "
    "AND EXISTS (SELECT 1 FROM export_queues WHERE export = $1) ORDER BY number LIMIT $2"
)
_DELETE = "DELETE FROM export_messages WHERE export = $1 AND number <= $2 RETURNING size"
_COUNT_LESS = (
    "UPDATE export_queues SET messages = messages - $2, bytes = bytes - $3, dropped = dropped + $4 WHERE export = $1"
)
_STATE = "SELECT messages, bytes, dropped FROM export_queues WHERE export = $1"
_TO_SEND = "SELECT export, messages, bytes, dropped FROM export_queues WHERE messages > 0"
_DELETE_SOME = (
    "DELETE FROM export_messages WHERE export = $1 AND number IN "
    "(SELECT number FROM export_messages WHERE export = $1 ORDER BY number LIMIT $2)"
)
_MESSAGES_OF_DELETED = "messages of a deleted export"


class ExportMessage(NamedTuple):
    """``device`` is the id of the sender; empty if the registry sent the message."""

    device: str
    topic: str
    payload: bytes

    @property
    def size(self) -> int:
        return len(self.topic.encode()) + len(self.payload) + OVERHEAD


class NumberedMessage(NamedTuple):
    number: int
    message: ExportMessage


class QueueState(NamedTuple):
    messages: int
    bytes: int
    dropped: int


async def open_queue(tx: Transaction, export: str) -> None:
    """For a new export."""
    await tx.execute(_OPEN, export)


async def queue_state(tx: Transaction, export: str) -> QueueState:
    row = await tx.fetch_one(_STATE, export)
    return QueueState(*row) if row is not None else QueueState(0, 0, 0)


async def put_messages(tx: Transaction, export: str, messages: Sequence[ExportMessage], bound: int) -> tuple[int, bool]:
    """Queue ``messages``, and drop the oldest if the queue then has more than ``bound`` bytes.

    Returns how many were dropped, and whether further ones have to be dropped. Does nothing if the export was deleted.
    """
    size = sum(message.size for message in messages)
    counted = await tx.fetch_one(_COUNT, export, len(messages), size)
    if counted is None:
        return 0, False
    held, after = counted
    numbers = range(after - len(messages), after)
    rows = [(export, number, message.size, *message) for number, message in zip(numbers, messages, strict=True)]
    await tx.execute_many(_INSERT, rows)
    return await _drop(tx, export, held - bound)


async def drop_beyond(tx: Transaction, export: str, bound: int) -> tuple[int, bool]:
    """Drop the oldest messages of a queue that has more than ``bound`` bytes. Returns what ``put_messages`` returns."""
    return await _drop(tx, export, (await queue_state(tx, export)).bytes - bound)


async def _drop(tx: Transaction, export: str, excess: int) -> tuple[int, bool]:
    if excess <= 0:
        return 0, False
    number = freed = dropped = 0
    for oldest, size in await tx.fetch_all(_OLDEST, export, _DROPPED_AT_ONCE):
        if freed >= excess:
            break
        number, freed, dropped = oldest, freed + size, dropped + 1
    await tx.fetch_all(_DELETE, export, number)
    await tx.execute(_COUNT_LESS, export, dropped, freed, dropped)
    return dropped, freed < excess


async def first_messages(tx: Transaction, export: str, limit: int) -> Sequence[NumberedMessage]:
    """The oldest messages; none if the export was deleted."""
    rows = await tx.fetch_all(_FIRST, export, limit)
    return [
        NumberedMessage(number, ExportMessage(device, topic, bytes(payload))) for number, device, topic, payload in rows
    ]


async def remove_sent(tx: Transaction, export: str, number: int) -> None:
    """Remove the messages up to that number. Some may have been dropped already."""
    sizes = [size for (size,) in await tx.fetch_all(_DELETE, export, number)]
    if sizes:
        await tx.execute(_COUNT_LESS, export, len(sizes), sum(sizes), 0)


async def queues_to_send(tx: Transaction) -> Mapping[str, QueueState]:
    """The queues that are not empty, by export."""
    return {export: QueueState(*state) for export, *state in await tx.fetch_all(_TO_SEND)}


async def delete_queue(tx: Transaction, change: Change, export: str) -> None:
    """What is too much for one transaction is left to a job."""
    await tx.execute(_CLOSE, export)
    if await _delete_some(tx, export):
        payload = {"export": export}
        await add_job(tx, change.scope, change.new_id(), _MESSAGES_OF_DELETED, payload, change.now)


@job(_MESSAGES_OF_DELETED)
async def _delete_more(tx: Transaction, job: Job) -> bool:
    return await _delete_some(tx, job.payload["export"])


async def _delete_some(tx: Transaction, export: str) -> bool:
    """True if some may be left."""
    return await tx.execute(_DELETE_SOME, export, _DELETED_AT_ONCE) == _DELETED_AT_ONCE


class QueueWriter:
    """Queues the messages of this process: those that arrive during one transaction are queued by the next one.

    ``queued(export, dropped)`` is called after each transaction, with the number of messages that it dropped.
    """

    def __init__(self, store: Store, queued: Callable[[str, int], None]) -> None:
        self._store = store
        self._queued = queued
        self._waiting: dict[str, deque[tuple[ExportMessage, asyncio.Future[None]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, export: str, message: ExportMessage, bound: int) -> asyncio.Future[None]:
        """Queue the message, also if the result is not awaited. The result is done when the message is stored.

        The result raises Unavailable.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get(export)
        if waiting is None:
            self._waiting[export] = deque([(message, done)])
            task = asyncio.create_task(self._write(export, bound))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            waiting.append((message, done))
        return done

    async def close(self) -> None:
        """Wait for the transactions in progress."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _write(self, export: str, bound: int) -> None:
        waiting = self._waiting[export]
        while waiting:
            batch = [waiting.popleft()]
            size = batch[0][0].size
            while waiting and len(batch) < _QUEUED_AT_ONCE and size + waiting[0][0].size <= _BYTES_AT_ONCE:
                batch.append(waiting.popleft())
                size += batch[-1][0].size
            try:
                await self._write_batch(export, [message for message, _ in batch], bound)
            except Exception as error:  # noqa: BLE001 - raised where each message is waited for
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
            else:
                for _, done in batch:
                    if not done.done():
                        done.set_result(None)
        del self._waiting[export]

    async def _write_batch(self, export: str, messages: Sequence[ExportMessage], bound: int) -> None:
        body = partial(put_messages, export=export, messages=messages, bound=bound)
        dropped, is_over = await self._store.write(body)
        self._queued(export, dropped)
        while is_over:
            dropped, is_over = await self._store.write(partial(drop_beyond, export=export, bound=bound))
            self._queued(export, dropped)
