"""Runs long work on the event loop in slices, so that other callbacks run in between.

Work is an iterator; each step is short and bounded. Small work is done in the call that starts it. The rest is done in
later turns of the event loop, fairly between accounts, and between the owners in an account.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator


STEPS: Final = 64  # of all work together in one turn; their output is encrypted and sent in the same turn
SECONDS: Final = 0.005  # a turn ends after this time even if fewer steps are done
_QUANTUM = 16  # steps of one owner, before the next owner's
_NONE: OrderedDict[Hashable, deque[Iterator[None]]] = OrderedDict()

_log = structlog.get_logger("thingmint.gateway")


def _call_soon(callback: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(callback)


class Slices:
    """Runs the work of one owner in the order in which it was given, one after the other.

    ``later`` calls a function in the next turn of the event loop.
    """

    def __init__(
        self,
        later: Callable[[Callable[[], None]], None] = _call_soon,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._later = later
        self._clock = clock
        self._accounts: OrderedDict[str, OrderedDict[Hashable, deque[Iterator[None]]]] = OrderedDict()
        self._running: Hashable = None
        self._left = STEPS
        self._ends = 0.0  # when the turn ends, by the clock
        self._is_turn_due = False

    @property
    def waiting(self) -> int:
        """The number of owners whose work is not done."""
        return sum(map(len, self._accounts.values()))

    def has_waiting(self, account: str, owner: Hashable) -> bool:
        """True if work of ``owner`` waits, apart from the work that runs now."""
        return bool(self._accounts.get(account, _NONE).get(owner))

    def run(self, account: str, owner: Hashable, work: Iterator[None]) -> None:
        """Starts ``work`` now, unless other work of ``owner`` is under way or this turn's steps are used up."""
        self._expect_turn()
        is_free = owner is not self._running and owner not in self._accounts.get(account, _NONE)
        if is_free and self._left > 0 and self._advance(owner, work, self._left):
            return
        owners = self._accounts.setdefault(account, OrderedDict())
        owners.setdefault(owner, deque()).append(work)

    async def finish(self, account: str, owner: Hashable, work: Iterator[None]) -> None:
        """Returns when ``work`` is done."""
        done = asyncio.get_running_loop().create_future()

        def whole() -> Iterator[None]:
            try:
                yield from work
            finally:
                if not done.done():
                    done.set_result(None)

        self.run(account, owner, whole())
        await done

    def _expect_turn(self) -> None:
        if not self._is_turn_due:
            self._is_turn_due = True
            self._ends = self._clock() + SECONDS
            self._later(self._turn)

    def _turn(self) -> None:
        self._is_turn_due = False
        self._left = STEPS
        if not self._accounts:
            return
        self._expect_turn()
        while self._accounts and self._left > 0:
            account, owners = next(iter(self._accounts.items()))
            owner, works = next(iter(owners.items()))
            self._accounts.move_to_end(account)
            owners.move_to_end(owner)
            work = works.popleft()
            if not self._advance(owner, work, min(_QUANTUM, self._left)):
                works.appendleft(work)
            if not works:
                del owners[owner]
                if not owners:
                    del self._accounts[account]

    def _advance(self, owner: Hashable, work: Iterator[None], steps: int) -> bool:
        """Runs up to ``steps`` steps. True if ``work`` is done."""
        before, self._running = self._running, owner
        try:
            for _ in work:
                self._left -= 1
                steps -= 1
                if self._clock() >= self._ends:
                    self._left = 0
                if steps <= 0 or self._left <= 0:
                    return False
        except Exception:  # noqa: BLE001 - other work, also of other accounts, must go on
            _log.exception("work_in_slices_failed")
        finally:
            self._running = before
        self._left -= 1  # the end counts as a step
        return True
