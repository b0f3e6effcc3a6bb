"""Actions that are due at a given time."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator


class Deadlines:
    """One deadline per key; ``set`` replaces it. Times are of the caller's clock.

    Deadlines are grouped by second, and ``due`` rounds them up to it. So the cost of a call does not grow with the
    number of deadlines.
    """

    __slots__ = ("_due_at", "_next", "_seconds")

    def __init__(self) -> None:
        self._seconds: dict[int, OrderedDict[Hashable, Callable[[], None]]] = {}
        self._due_at: dict[Hashable, float] = {}
        self._next = 0  # there is no deadline before this second

    def __len__(self) -> int:
        return len(self._due_at)

    def set(self, key: Hashable, at: float, action: Callable[[], None]) -> None:
        self.clear(key)
        second = math.ceil(at)
        self._next = min(self._next, second) if self._due_at else second
        self._due_at[key] = at
        self._seconds.setdefault(second, OrderedDict())[key] = action

    def clear(self, key: Hashable) -> None:
        at = self._due_at.pop(key, None)
        if at is not None:
            second = math.ceil(at)
            del self._seconds[second][key]
            if not self._seconds[second]:
                del self._seconds[second]

    def is_due(self, key: Hashable, now: float) -> bool:
        return self._due_at.get(key, math.inf) <= now

    def due(self, now: float) -> Iterator[Callable[[], None]]:
        """Yields the actions that are due, the earliest first, each once."""
        while self._due_at and self._next <= now:
            actions = self._seconds.get(self._next)
            if actions is None:
                self._next += 1
                continue
            key = next(iter(actions))
            action = actions[key]
            self.clear(key)
            yield action
