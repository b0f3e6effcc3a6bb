"""Limits the memory of requests that are not answered yet: in total, and per address or account."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

MIB = 1024 * 1024
FREE_BYTES = 16 * 1024
"""Bytes of each request that are not counted, so that small requests are served even when a budget is used up. The
number of connections bounds their sum."""


class MemoryBudget:
    """Counts bytes in use. Of ``total``, one source (an address or an account) may use ``share``."""

    def __init__(self, total: int, share: int) -> None:
        self._total = total
        self._share = share
        self._by_source: Counter[str] = Counter()
        self.used = 0

    def take(self, source: str, amount: int) -> bool:
        """Takes ``amount`` bytes. False, and takes none, if that would exceed a limit."""
        if self.used + amount > self._total or self._by_source[source] + amount > self._share:
            return False
        self.used += amount
        self._by_source[source] += amount
        return True

    def give_back(self, source: str, amount: int) -> None:
        self.used -= amount
        self._by_source[source] -= amount
        if not self._by_source[source]:
            del self._by_source[source]


@dataclass(frozen=True, slots=True)
class RequestMemory:
    """Two budgets, so that unauthenticated callers (by address) cannot use the memory of authenticated ones (by
    account)."""

    unauthenticated: MemoryBudget
    authenticated: MemoryBudget

    @classmethod
    def of(cls, *, unauthenticated: int = 32 * MIB, authenticated: int = 256 * MIB) -> RequestMemory:
        """Budgets of these numbers of bytes; one source may use half of a budget."""
        return cls(MemoryBudget(unauthenticated, unauthenticated // 2), MemoryBudget(authenticated, authenticated // 2))


class Lease:
    """The bytes of a budget that one request or one connection uses."""

    __slots__ = ("_budget", "_source", "_taken")

    def __init__(self, budget: MemoryBudget, source: str) -> None:
        self._budget = budget
        self._source = source
        self._taken = 0

    def resize(self, size: int) -> bool:
        """Changes the lease to ``size`` bytes. False, without a change, if the budget does not allow it."""
        if size <= FREE_BYTES and not self._taken:
            return True
        wanted = max(0, size - FREE_BYTES)
        if wanted > self._taken and not self._budget.take(self._source, wanted - self._taken):
            return False
        if wanted < self._taken:
            self._budget.give_back(self._source, self._taken - wanted)
        self._taken = wanted
        return True

    def move(self, budget: MemoryBudget, source: str) -> None:
        """Moves the lease to another budget. If that has no room, the lease's bytes are no longer counted."""
        taken = self._taken
        self.release()
        self._budget, self._source = budget, source
        if taken and budget.take(source, taken):
            self._taken = taken

    def release(self) -> None:
        if self._taken:
            self._budget.give_back(self._source, self._taken)
            self._taken = 0
