"""What is to happen at a time, on one heap."""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator


_SLACK = 64


class Deadlines:
    """One deadline per key; setting it anew moves it. Times are of the caller's clock."""

    __slots__ = ("_heap", "_live", "_numbers")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Hashable]] = []
        self._live: dict[Hashable, tuple[int, Callable[[], None]]] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._live)

    def set(self, key: Hashable, at: float, action: Callable[[], None]) -> None:
        number = next(self._numbers)
        self._live[key] = (number, action)
        heapq.heappush(self._heap, (at, number, key))
        if len(self._heap) > 2 * len(self._live) + _SLACK:  # a device that reconnects all the time leaves many behind
            self._heap = [item for item in self._heap if self._is_live(item[1], item[2])]
            heapq.heapify(self._heap)

    def clear(self, key: Hashable) -> None:
        self._live.pop(key, None)

    def due(self, now: float) -> Iterator[Callable[[], None]]:
        """The actions whose time has come, the earliest first; each is given once."""
        while self._heap and self._heap[0][0] <= now:
            _, number, key = heapq.heappop(self._heap)
            if self._is_live(number, key):
                yield self._live.pop(key)[1]

    def _is_live(self, number: int, key: Hashable) -> bool:
        live = self._live.get(key)
        return live is not None and live[0] == number
