"""How much memory requests may hold before they are answered: in all, and from one address or for one account."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

MIB = 1024 * 1024
FREE_BYTES = 16 * 1024
"""What a request may hold uncounted, so that usual requests are served however much others hold. The number of
connections bounds the sum of these."""


class MemoryBudget:
    """Bytes that are held now. ``share`` is what one source, an address or an account, may hold of ``total``."""

    def __init__(self, total: int, share: int) -> None:
        self._total = total
        self._share = share
        self._by_source: Counter[str] = Counter()
        self.used = 0

    def take(self, source: str, amount: int) -> bool:
        """False, and nothing is taken, when it would be more than there is."""
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
    """Callers whose credentials are not verified, counted by address, and the others, by account: two budgets, so that
    the first cannot take what the second need."""

    unauthenticated: MemoryBudget
    authenticated: MemoryBudget

    @classmethod
    def of(cls, *, unauthenticated: int = 32 * MIB, authenticated: int = 256 * MIB) -> RequestMemory:
        """Budgets of so many bytes, of which one source may hold half."""
        return cls(MemoryBudget(unauthenticated, unauthenticated // 2), MemoryBudget(authenticated, authenticated // 2))


class Lease:
    """What one request, or one connection, holds of a budget."""

    __slots__ = ("_budget", "_source", "_taken")

    def __init__(self, budget: MemoryBudget, source: str) -> None:
        self._budget = budget
        self._source = source
        self._taken = 0

    def resize(self, size: int) -> bool:
        """Whether ``size`` bytes may be held now; if not, the lease stays as it was."""
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
        """To another budget. Where that has no room, what is held goes uncounted."""
        taken = self._taken
        self.release()
        self._budget, self._source = budget, source
        if taken and budget.take(source, taken):
            self._taken = taken

    def release(self) -> None:
        if self._taken:
            self._budget.give_back(self._source, self._taken)
            self._taken = 0
