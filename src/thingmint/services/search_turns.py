"""Limits the searches that run at the same time."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING

from thingmint.domain.errors import Throttled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_AT_ONCE = 2
_AT_ONCE_OF_ACCOUNT = 5


class SearchTurns:
    """Limits the searches that run at the same time, so that they leave the event loop and the store to others."""

    def __init__(self) -> None:
        self._searches: Counter[str] = Counter()
        self._turns = asyncio.Semaphore(_AT_ONCE)

    @contextlib.asynccontextmanager
    async def search(self, account: str) -> AsyncIterator[None]:
        """Raises Throttled if too many searches of the account run."""
        if self._searches[account] >= _AT_ONCE_OF_ACCOUNT:
            raise Throttled(f"{_AT_ONCE_OF_ACCOUNT} searches run at the same time already")
        self._searches[account] += 1
        try:
            yield
        finally:
            self._searches[account] -= 1
            if not self._searches[account]:
                del self._searches[account]

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        async with self._turns:
            yield
        await asyncio.sleep(0)
