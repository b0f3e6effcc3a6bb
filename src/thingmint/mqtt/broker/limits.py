"""Limits of the memory that messages, sessions and wills take, so that no device and no account can exhaust it."""

from __future__ import annotations

from dataclasses import dataclass

_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Bound:
    """``size`` is in bytes of memory, not of payload."""

    count: int
    size: int


@dataclass(frozen=True, slots=True)
class EmbeddedLimits:
    """``queued`` counts the messages that wait for a device, and those that it has not acknowledged.

    The limits of an account are well below the total, so that an account at its limit leaves room for others.
    """

    expiry: int = 3600  # seconds: the longest life of a session after its connection; AWS's default
    sessions: int = 100_000
    sessions_per_account: int = 50_000
    subscriptions_per_session: int = 200  # devices of AWS have fewer; one of Yandex's clients may need several of these
    levels: int = 128  # of a filter or a retained topic: each level costs memory and time
    queued: Bound = Bound(1_000_000, 256 * _MIB)
    queued_per_account: Bound = Bound(250_000, 64 * _MIB)
    queued_per_session: Bound = Bound(5_000, 16 * _MIB)  # all retained messages of an account fit, by their number
    unsent_per_scope: int = 1_000  # messages of the gateway that are not delivered to the subscribers yet
    retained: Bound = Bound(50_000, 128 * _MIB)
    retained_per_account: Bound = Bound(5_000, 32 * _MIB)


@dataclass(frozen=True, slots=True)
class WillLimits:
    """``open``: wills of open connections, and of ended ones until they are published. ``waiting``: delayed wills."""

    open: Bound = Bound(100_000, 128 * _MIB)
    open_per_account: Bound = Bound(50_000, 32 * _MIB)
    waiting: Bound = Bound(100_000, 64 * _MIB)
    waiting_per_account: Bound = Bound(50_000, 16 * _MIB)


class Budget:
    """Counts against a bound, and against the bounds of ``parent`` and its parents."""

    __slots__ = ("chain", "count", "max_count", "max_size", "refused", "size")

    def __init__(self, bound: Bound, parent: Budget | None = None) -> None:
        self.max_count = bound.count
        self.max_size = bound.size
        self.count = 0
        self.size = 0
        self.refused = 0
        self.chain: tuple[Budget, ...] = (self,) if parent is None else (self, *parent.chain)

    def take(self, size: int) -> bool:
        """Counts one more item of ``size``. False, and no change, if there is no room."""
        for budget in self.chain:
            if budget.count >= budget.max_count or budget.size + size > budget.max_size:
                self.chain[-1].refused += 1
                return False
        for budget in self.chain:
            budget.count += 1
            budget.size += size
        return True

    def give_back(self, size: int, count: int = 1) -> None:
        """``size`` is the sum of all ``count`` items."""
        for budget in self.chain:
            budget.count -= count
            budget.size -= size


class AccountBudgets:
    """A budget for each account that uses any, each a part of ``total``."""

    def __init__(self, bound: Bound, per_account: Bound) -> None:
        self.total = Budget(bound)
        self._per_account = per_account
        self._accounts: dict[str, Budget] = {}

    def take(self, account: str, size: int) -> bool:
        budget = self._accounts.get(account) or Budget(self._per_account, self.total)
        if not budget.take(size):
            return False
        self._accounts[account] = budget
        return True

    def give_back(self, account: str, size: int) -> None:
        budget = self._accounts[account]
        budget.give_back(size)
        if not budget.count:
            del self._accounts[account]
