"""What changed, told to the parts of this process that must not go on with what was before.

What the process changed itself is told before the call returns, what others changed once it was read from the outbox.
"""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import structlog

from thingmint.domain.errors import Unavailable
from thingmint.store.engine import StoreWrapper
from thingmint.store.outbox import published_since
from thingmint.store.table import to_micros

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from thingmint.services.messages import OpenSessions
    from thingmint.store.engine import Body, PublishedChange, Store, Transaction

T = TypeVar("T")

POLL_EVERY = 0.25  # seconds
# A transaction is seen later than its changes' times say, and clocks of processes differ: look back so far. What took
# even longer, for it waited for a standby, is found by a longer look now and then.
_OVERLAP = timedelta(seconds=5)
_LONG_OVERLAP = timedelta(seconds=60)
_LONG_EVERY = 20  # looks
_STALE_AFTER = 1.0  # seconds without a successful look
_POLL_TIMEOUT = 5.0  # seconds, for a database that takes a connection and does not answer
_REFRESH_TIMEOUT = 1.0  # seconds, while a device waits to be let in

_log = structlog.get_logger("thingmint.changes")


class ChangeFeed:
    """Every part of the server writes through ``followed``, so no operation can forget to tell."""

    def __init__(self, store: Store, sessions: OpenSessions, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._sessions = sessions
        self._clock = clock
        self._followers: list[Callable[[Sequence[PublishedChange]], None]] = []
        self._told: dict[str, int] = {}  # of this process, until they are found in the outbox: ids and times
        self._seen: dict[str, int] = {}
        self._polls = 0
        self.fresh_until = -math.inf
        """By the event loop's clock: what is asked for each message is kept ready."""
        self.interruptions = 0
        """The times that changes were not followed: what was decided before the last one is to be decided again."""
        self._complete_until = clock()

    @property
    def stale(self) -> bool:
        """Whether changes may have been missed: nothing is decided by knowledge that old."""
        return asyncio.get_running_loop().time() > self.fresh_until

    def follow(self, follower: Callable[[Sequence[PublishedChange]], None]) -> None:
        """``follower`` takes no time, and is told before the devices' sessions are."""
        self._followers.append(follower)

    def followed(self) -> Store:
        """The store; what is written returns once this process follows it."""
        return _FollowedStore(self._store, self._tell)

    async def poll(self) -> None:
        """Tells what is new. Raises Unavailable."""
        now = self._clock()
        self._polls += 1
        overlap = _LONG_OVERLAP if self._polls % _LONG_EVERY == 0 else _OVERLAP
        since = min(self._complete_until, now) - overlap
        changes = await self._store.read(lambda tx: published_since(tx, since))
        self._complete_until = now
        self.interruptions += self.stale
        self.fresh_until = asyncio.get_running_loop().time() + _STALE_AFTER
        told, seen = self._told, self._seen
        new = [each for each in changes if told.pop(each.id, None) is None and each.id not in seen]
        seen.update((change.id, change.created_at) for change in changes)
        if overlap is _LONG_OVERLAP:
            for known in (told, seen):  # also of those that were found before they were told
                for id in [id for id, created_at in known.items() if created_at < to_micros(since)]:
                    del known[id]
        if new:
            for follower in self._followers:
                follower(new)
            self._sessions.reauthorize(new)

    async def refresh(self) -> None:
        """Looks at once if the last look was long ago, if only because the event loop was held up.

        Raises Unavailable, also when there is no answer in time.
        """
        if self.stale:
            try:
                async with asyncio.timeout(_REFRESH_TIMEOUT):
                    await self.poll()
            except TimeoutError:
                raise Unavailable("The store does not answer") from None

    async def run(self) -> None:
        """For ever."""
        failing = False
        while True:
            try:
                async with asyncio.timeout(_POLL_TIMEOUT):
                    await self.poll()
                failing = False
            except Exception as error:  # noqa: BLE001 - without it nothing that others revoke would end
                if not failing:
                    expected = isinstance(error, Unavailable | TimeoutError)  # which needs no traceback
                    _log.error("outbox_not_followed", error=str(error) or "no answer", exc_info=not expected)
                failing = True
            await asyncio.sleep(POLL_EVERY)

    async def _tell(self, changes: Sequence[PublishedChange]) -> None:
        self._told.update((change.id, change.created_at) for change in changes)
        for follower in self._followers:
            follower(changes)
        await self._sessions.close(changes)


class _FollowedStore(StoreWrapper):
    def __init__(self, store: Store, tell: Callable[[Sequence[PublishedChange]], Awaitable[None]]) -> None:
        super().__init__(store)
        self._tell = tell

    async def write(self, body: Body[T], *, urgent: bool = False, once: bool = False) -> T:
        changes: Sequence[PublishedChange] = ()

        async def followed(tx: Transaction) -> T:
            nonlocal changes
            result = await body(tx)
            changes = tx.published  # of the last run that ended, which is the one that counts
            return result

        result = await self._store.write(followed, urgent=urgent, once=once)
        if changes:
            await self._tell(changes)
        return result
