"""A pool of key pairs made in advance, because an RSA key takes 55 ms and callers should not wait for it.

Threads with low priority make the keys (PyCA releases the GIL meanwhile), so the event loop never waits. Keys are in
memory only. If the pool is empty, callers wait in one queue per account, and new keys go to the accounts round-robin.
If too many callers wait, one of the account with the most waiting callers is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import structlog

from thingmint.domain.errors import Throttled, Unavailable
from thingmint.domain.keys import KeyPair, generate_key_pair

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future


_NICENESS = 10
# Seconds after a take before a pool that is not empty is refilled: the threads would slow down the burst of callers.
_BURST = 0.05

_log = structlog.get_logger("thingmint.keys")


class KeyPool:
    """Keeps ``size`` keys ready; at most ``queue_limit`` callers wait for one."""

    def __init__(
        self,
        size: int,
        *,
        queue_limit: int = 256,
        threads: int | None = None,
        generate: Callable[[], KeyPair] = generate_key_pair,
    ) -> None:
        self._size = size
        self._queue_limit = queue_limit
        self._threads = threads or os.cpu_count() or 1
        self._generate = generate
        self._ready: deque[KeyPair] = deque()
        self._waiting: OrderedDict[str, deque[asyncio.Future[KeyPair]]] = OrderedDict()
        self._under_way = 0
        self._refill_later: asyncio.TimerHandle | None = None
        self._executor = ThreadPoolExecutor(self._threads, "keys", initializer=_lower_priority)
        self._closed = False

    @property
    def ready(self) -> int:
        return len(self._ready)

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def start(self) -> None:
        """Start to fill the pool. Call in the running event loop, after any fork."""
        self._loop = asyncio.get_running_loop()
        self._refill()

    async def take(self, account: str) -> KeyPair:
        """Return a key pair for one caller only. Raises Throttled if too many callers wait already."""
        if self._closed:
            raise Unavailable("The server is stopping")
        if self._ready:
            pair = self._ready.popleft()
            if self._refill_later is None:
                self._refill_later = self._loop.call_later(_BURST, self._burst_over)
            return pair
        waiter = self._enqueue(account)
        self._refill()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._hand_out(waiter.result())  # too late for this caller: give the key to another
            elif waiter in self._waiting.get(account, ()):
                self._waiting[account].remove(waiter)
            raise

    async def close(self) -> None:
        """Refuse the callers that still wait, and end the threads."""
        self._closed = True
        if self._refill_later is not None:
            self._refill_later.cancel()
        self._ready.clear()
        self._refuse_all(Unavailable("The server is stopping"))
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)

    def _enqueue(self, account: str) -> asyncio.Future[KeyPair]:
        if self.waiting >= self._queue_limit:
            longest = max(self._waiting, key=lambda name: len(self._waiting[name]))
            if len(self._waiting[longest]) <= len(self._waiting.get(account, ())) + 1:
                raise Throttled("Rate exceeded: callers ask for keys faster than this server can make them")
            _refuse(self._waiting[longest].pop(), Throttled("Rate exceeded: other accounts are waiting for keys too"))
        waiter: asyncio.Future[KeyPair] = self._loop.create_future()
        self._waiting.setdefault(account, deque()).append(waiter)
        return waiter

    def _burst_over(self) -> None:
        self._refill_later = None
        self._refill()

    def _refill(self) -> None:
        # Two for each thread: one in progress, and one queued so that the thread does not wait for the event loop.
        while (
            not self._closed
            and self._under_way < 2 * self._threads
            and len(self._ready) + self._under_way < self._size + self.waiting
        ):
            self._under_way += 1
            self._executor.submit(self._generate).add_done_callback(self._generated)

    def _generated(self, future: Future[KeyPair]) -> None:
        if not future.cancelled():
            with contextlib.suppress(RuntimeError):  # the loop is closed: no caller needs the key any more
                self._loop.call_soon_threadsafe(self._arrived, future)

    def _arrived(self, future: Future[KeyPair]) -> None:
        self._under_way -= 1
        if error := future.exception():
            # Refuse the waiting callers instead of keeping them; the next caller starts a new attempt.
            _log.error("key_pair_not_generated", error=type(error).__name__)
            self._refuse_all(Unavailable("Keys cannot be generated now"))
            return
        self._hand_out(future.result())
        self._refill()

    def _hand_out(self, pair: KeyPair) -> None:
        if self._closed:
            return
        while self._waiting:
            account, waiters = self._waiting.popitem(last=False)
            waiter = waiters.popleft() if waiters else None
            if waiters:
                self._waiting[account] = waiters  # to the end of the round
            if waiter is not None and not waiter.done():
                waiter.set_result(pair)
                return
        self._ready.append(pair)

    def _refuse_all(self, error: Exception) -> None:
        for waiters in self._waiting.values():
            for waiter in waiters:
                _refuse(waiter, error)
        self._waiting.clear()


def _refuse(waiter: asyncio.Future[KeyPair], error: Exception) -> None:
    if not waiter.done():
        waiter.set_exception(error)


def _lower_priority() -> None:
    # On Linux each thread has its own niceness; elsewhere this would lower the priority of the whole process.
    if hasattr(os, "sched_getscheduler"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
