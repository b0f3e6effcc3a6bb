"""Notifies the parts of this process that depend on changed data.

Changes of this process are notified before the call returns; changes of other processes when the outbox is polled.
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
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from datetime import datetime

    from thingmint.domain.arns import Scope
    from thingmint.services.messages import OpenSessions
    from thingmint.store.engine import Body, PublishedChange, Store, Transaction

T = TypeVar("T")

POLL_EVERY = 0.25  # seconds
# A transaction becomes visible later than the times of its changes, and the clocks of processes differ. So each poll
# reads again the changes of the last seconds. Some polls read even more, for transactions that waited for a standby.
_OVERLAP = timedelta(seconds=5)
_LONG_OVERLAP = timedelta(seconds=60)
_LONG_EVERY = 20  # polls
_STALE_AFTER = 1.0  # seconds without a successful poll
_POLL_TIMEOUT = 5.0  # seconds, for a database that accepts a connection and does not answer
_REFRESH_TIMEOUT = 1.0  # seconds, while a device waits for its CONNACK

_log = structlog.get_logger("thingmint.changes")


class ChangeFeed:
    """Notifies followers of changes. All writes go through ``followed``, so no operation can forget to notify."""

    def __init__(self, store: Store, sessions: OpenSessions, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._sessions = sessions
        self._clock = clock
        self._followers: list[Callable[[Sequence[PublishedChange]], None]] = []
        self._listeners: list[Callable[[str, Scope], None]] = []
        self._notified: dict[str, int] = {}  # changes of this process, until a poll reads them: ids and times
        self._seen: dict[str, int] = {}
        self._polls = 0
        self.fresh_until = -math.inf
        """By the event loop's clock. An attribute, because it is read for each message."""
        self.interruptions = 0
        """Counts the periods without polls. Decisions from before the last of them must be made again."""
        self._complete_until = clock()

    @property
    def stale(self) -> bool:
        """True if the last poll is too old, so that changes may be missing. No decision is based on stale data."""
        return asyncio.get_running_loop().time() > self.fresh_until

    def follow(self, follower: Callable[[Sequence[PublishedChange]], None]) -> None:
        """Call ``follower``, which must be fast, with all later changes, before the devices' sessions are notified."""
        self._followers.append(follower)

    def listen(self, listener: Callable[[str, Scope], None]) -> None:
        """Call ``listener``, which must be fast, with what later transactions of this process have noted."""
        self._listeners.append(listener)

    def followed(self) -> Store:
        """Return the store. Its ``write`` returns after this process was notified of the changes."""
        return _FollowedStore(self._store, self._notify, self._tell)

    async def poll(self) -> None:
        """Read the outbox and notify of new changes. Raises Unavailable."""
        now = self._clock()
        self._polls += 1
        overlap = _LONG_OVERLAP if self._polls % _LONG_EVERY == 0 else _OVERLAP
        since = min(self._complete_until, now) - overlap
        changes = await self._store.read(lambda tx: published_since(tx, since))
        self._complete_until = now
        self.interruptions += self.stale
        self.fresh_until = asyncio.get_running_loop().time() + _STALE_AFTER
        notified, seen = self._notified, self._seen
        new = [each for each in changes if notified.pop(each.id, None) is None and each.id not in seen]
        seen.update((change.id, change.created_at) for change in changes)
        if overlap is _LONG_OVERLAP:
            for known in (notified, seen):  # in _notified too: a poll can read a change before _notify adds it
                for id in [id for id, created_at in known.items() if created_at < to_micros(since)]:
                    del known[id]
        if new:
            for follower in self._followers:
                follower(new)
            self._sessions.reauthorize(new)

    async def refresh(self) -> None:
        """Poll immediately if stale, for example because the event loop was blocked.

        Raises Unavailable, also if there is no answer in time.
        """
        if self.stale:
            try:
                async with asyncio.timeout(_REFRESH_TIMEOUT):
                    await self.poll()
            except TimeoutError:
                raise Unavailable("The store does not answer") from None

    async def run(self) -> None:
        """Poll until cancelled."""
        failing = False
        while True:
            try:
                async with asyncio.timeout(_POLL_TIMEOUT):
                    await self.poll()
                failing = False
            except Exception as error:  # noqa: BLE001 - without polls, what other processes revoke keeps access
                if not failing:
                    expected = isinstance(error, Unavailable | TimeoutError)  # these need no traceback
                    _log.error("outbox_not_followed", error=str(error) or "no answer", exc_info=not expected)
                failing = True
            await asyncio.sleep(POLL_EVERY)

    async def _notify(self, changes: Sequence[PublishedChange]) -> None:
        self._notified.update((change.id, change.created_at) for change in changes)
        for follower in self._followers:
            follower(changes)
        await self._sessions.close(changes)

    def _tell(self, noted: Iterable[tuple[Scope, str]]) -> None:
        for scope, name in noted:
            for listener in self._listeners:
                listener(name, scope)


class _FollowedStore(StoreWrapper):
    def __init__(
        self,
        store: Store,
        notify: Callable[[Sequence[PublishedChange]], Awaitable[None]],
        tell: Callable[[Iterable[tuple[Scope, str]]], None],
    ) -> None:
        super().__init__(store)
        self._notify = notify
        self._tell = tell

    async def write(self, body: Body[T], *, urgent: bool = False, once: bool = False) -> T:
        changes: Sequence[PublishedChange] = ()
        noted: Iterable[tuple[Scope, str]] = ()

        async def followed(tx: Transaction) -> T:
            nonlocal changes, noted
            result = await body(tx)
            changes, noted = tx.published, tx.noted  # if the body runs several times, the last run counts
            return result

        result = await self._store.write(followed, urgent=urgent, once=once)
        self._tell(noted)
        if changes:
            await self._notify(changes)
        return result
