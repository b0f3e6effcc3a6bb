"""Last messages that are written soon: those of QoS 0, whose client does not wait for an answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from thingmint.domain.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

Place = tuple[str, str]
"""A registry and a topic."""

_MAX_WAITING = 16 * 2**20  # bytes
_OVERHEAD = 1024  # bytes of memory that a message takes beside its payload
_AT_ONCE = 64  # messages in a transaction
_BYTES_AT_ONCE = 2**20
_RETRY_AFTER = 1.0  # seconds

_log = structlog.get_logger("thingmint.devices")


class LastMessageQueue:
    """Writes messages in batches, each topic's newest one only, in the order in which the topics came."""

    def __init__(self, write: Callable[[Mapping[Place, bytes]], Awaitable[None]]) -> None:
        self._write = write
        self._waiting: dict[Place, tuple[int, bytes]] = {}
        self._size = 0
        self._writing: dict[Place, bytes] = {}
        self._batch: asyncio.Future[None] | None = None  # done when the current batch is
        self._failing = False
        self._task: asyncio.Task[None] | None = None
        self._last_number = self._done_up_to = 0

    def put(self, place: Place, payload: bytes) -> bool:
        """False if too much waits."""
        size = len(payload) + _OVERHEAD
        number, before = self._waiting.get(place, (None, None))
        freed = 0 if before is None else len(before) + _OVERHEAD
        if self._size + size - freed > _MAX_WAITING:
            return False
        if number is None:
            self._last_number = number = self._last_number + 1
        self._waiting[place] = number, payload  # an earlier message's turn stays
        self._size += size - freed
        if self._task is None:
            self._failing = False
            self._task = asyncio.get_running_loop().create_task(self._run())
        return True

    async def give_way(self, place: Place) -> None:
        """Drop the message of that topic, as a newer one is about to be written; if it is being written, wait."""
        self._drop(place)
        while place in self._writing and self._batch is not None:
            await asyncio.shield(self._batch)

    async def settle(self) -> None:
        """Returns when all messages that were put before are written, or could not be."""
        wanted = self._last_number
        while self._task is not None and self._done_up_to < wanted and not self._failing:
            if self._batch is not None:
                await asyncio.shield(self._batch)
            else:  # the task is about to begin one
                await asyncio.sleep(0)

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._write_batch()
                if self._failing:
                    await asyncio.sleep(_RETRY_AFTER)
        finally:
            self._task = None

    async def _write_batch(self) -> None:
        taken, size = {}, 0
        for place, entry in self._waiting.items():
            taken[place], size = entry, size + len(entry[1])
            if len(taken) == _AT_ONCE or size > _BYTES_AT_ONCE:
                break
        for place in taken:
            self._drop(place)
        self._writing = {place: payload for place, (_, payload) in taken.items()}
        self._batch = asyncio.get_running_loop().create_future()
        try:
            await self._write(self._writing)
            self._failing = False
            self._done_up_to = max(self._done_up_to, *(number for number, _ in taken.values()))
        except Unavailable as error:
            self._failing = True
            _log.warning("last_messages_not_stored", error=str(error), waiting=len(taken) + len(self._waiting))
            for place, (number, payload) in taken.items():
                if place not in self._waiting:
                    self._waiting[place] = number, payload
                    self._size += len(payload) + _OVERHEAD
        except Exception:  # noqa: BLE001 - the messages of other topics go on
            _log.exception("last_messages_not_stored", waiting=len(self._waiting))
        finally:
            if not self._waiting:
                self._done_up_to = self._last_number
            self._writing = {}
            self._batch.set_result(None)
            self._batch = None

    def _drop(self, place: Place) -> None:
        entry = self._waiting.pop(place, None)
        if entry is not None:
            self._size -= len(entry[1]) + _OVERHEAD
