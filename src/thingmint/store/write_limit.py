"""Limits how many writing transactions run at the same time. The limit adapts to how often they conflict.

The smaller the tables are, the closer together are the rows that transactions read and write: in an empty table any two
conflict. Running a transaction again costs more than waiting.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Self

_FIRST_LIMIT = 4.0
# Together these two let about 1.4 of 100 transactions conflict.
_AFTER_CONFLICT = 0.5
_AFTER_SUCCESS = 1.01


class WriteLimit:
    """A context manager around each run of a body. Call ``succeeded`` or ``conflicted`` at the end of the run."""

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self._limit = min(_FIRST_LIMIT, self._most)
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._ignored = 0  # results to ignore: of runs that started before the limit was lowered

    async def __aenter__(self) -> Self:
        if self._running < int(self._limit):
            self._running += 1
            return self
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # its turn came at the same moment
                self._leave()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def succeeded(self) -> None:
        self._limit = min(self._most, self._limit * _AFTER_SUCCESS)
        self._ignored = max(0, self._ignored - 1)

    def conflicted(self) -> None:
        if self._ignored:
            self._ignored -= 1
        else:
            self._limit = max(1.0, self._limit * _AFTER_CONFLICT)
            self._ignored = self._running - 1

    def _leave(self) -> None:
        self._running -= 1
        while self._waiting and self._running < int(self._limit):
            turn = self._waiting.popleft()
            if not turn.done():  # its caller is still waiting
                self._running += 1
                turn.set_result(None)
