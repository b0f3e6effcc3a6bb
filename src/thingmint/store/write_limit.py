"""How many transactions that write may run at once, found out by how often they meet.

What they read and write lies closer together the smaller the tables are: of an empty one all of it, so that any two
meet. Running again costs more than having waited.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Self

_FIRST = 4.0  # until it is known better
# Both together: as many as let 1.4 of 100 meet.
_WHERE_ONE_MET = 0.5
_WHERE_NONE_DID = 1.01


class WriteLimit:
    """Used as a context manager around each run of a body, whose end ``passed`` or ``met`` are told."""

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self._limit = min(_FIRST, self._most)
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._ignored = 0  # what met was let in before the limit was lowered

    async def __aenter__(self) -> Self:
        if self._running < int(self._limit):
            self._running += 1
            return self
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was let in just then
                self._leave()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def passed(self) -> None:
        self._limit = min(self._most, self._limit * _WHERE_NONE_DID)
        self._ignored = max(0, self._ignored - 1)

    def met(self) -> None:
        if self._ignored:
            self._ignored -= 1
        else:
            self._limit = max(1.0, self._limit * _WHERE_ONE_MET)
            self._ignored = self._running - 1

    def _leave(self) -> None:
        self._running -= 1
        while self._waiting and self._running < int(self._limit):
            turn = self._waiting.popleft()
            if not turn.done():  # its caller waits still
                self._running += 1
                turn.set_result(None)
