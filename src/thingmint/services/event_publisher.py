"""Publishes queued events: each at least once, soon after its change.

If several processes share a database, the process with the lease publishes. An event is deleted after the broker has
accepted it, so a kill between the two publishes it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import structlog

from thingmint.domain.errors import Invalid, Throttled, Unavailable
from thingmint.services.event_queue import START, Place, drop_old_events, events_after, remove_events
from thingmint.services.leases import LeaseLost
from thingmint.store.table import to_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from thingmint.domain.arns import Scope
    from thingmint.services.event_queue import QueuedEvent
    from thingmint.services.leases import LeasedStore
    from thingmint.services.messages import Messages
    from thingmint.store.engine import PublishedChange

EVENTS_LEASE = "events"
"""The name of the lease of the process that publishes."""

_LOOK_EVERY = 1.0  # seconds: for events that were queued when another process, or none, had the lease
_AT_ONCE = 100
_STOP_TIMEOUT = 1.0  # seconds
_TURN = 1000  # events of one account and region; then the others have their turn
_FIRST_PAUSE = 0.5  # seconds after a failure; it doubles with each further one
_LONGEST_PAUSE = 60.0
_KEPT = timedelta(days=1)  # while the broker does not accept them
# Sessions of the embedded broker end with its process. So events from before the start wait for their subscribers.
_WAIT_FOR_SUBSCRIBERS = timedelta(seconds=60)
_MAX_FAILING = 10_000

_log = structlog.get_logger("thingmint.events")


class _BrokerAway(Exception):
    """The broker accepts no event of any account at the moment."""


class _NoSubscriber(Exception):
    """The event waits for its subscribers to connect again."""


class _Failing(NamedTuple):
    """How often events of an account and region were refused, and when they are tried again (monotonic)."""

    failures: int
    again_at: float


class EventPublisher:
    """``published`` and ``dropped`` count events. ``failing``: whose events the broker refuses at the moment."""

    def __init__(
        self,
        store: LeasedStore,
        messages: Messages,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.published = 0
        self.dropped = 0
        self._store = store
        self._messages = messages
        self._clock = clock
        self._monotonic = monotonic
        self._queued = asyncio.Event()
        self._looking = asyncio.Lock()
        self._stopped = False
        self._failures = 0  # looks in a row
        self._failing: dict[Scope, _Failing] = {}
        self._began_at: datetime | None = None  # to have the lease

    @property
    def failing(self) -> int:
        return len(self._failing) + (self._failures > 0)

    def changed(self, changes: Sequence[PublishedChange]) -> None:
        """For the change feed."""
        if any(change.kind == "event" for change in changes):
            self._queued.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            self._queued.clear()
            pause = await self._look_and_log()
            if self._failures:
                await asyncio.sleep(pause)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._queued.wait()

    async def _look_and_log(self) -> float:
        """Publish what is queued. Returns the seconds until the next attempt."""
        try:
            await self.look()
        except LeaseLost:
            pass
        except (_BrokerAway, Unavailable) as error:
            self._failures += 1
            if self._failures == 1:
                _log.warning("events_not_published", why=str(error))
            return _pause(self._failures)
        if self._failures:
            self._failures = 0
            _log.info("events_published_again")
        return _LOOK_EVERY

    async def stop(self) -> None:
        """Publish nothing any more. Call this before the broker stops: an event would reach no subscriber then.

        Returns after a second at the latest. A broker that has not answered by then accepts no event any more.
        """
        self._stopped = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_TIMEOUT), self._looking:
                pass

    async def look(self) -> None:
        """Publish what is queued, the accounts in turn. Raises LeaseLost and Unavailable."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        if not self._store.held:
            self._began_at = None
            self._failing.clear()
            return
        if self._began_at is None:
            self._began_at = self._clock()
        place, turn = START, 0
        while not self._stopped:
            if (trouble := self._store.trouble) is not None:
                raise Unavailable(trouble)  # what is published could not be deleted
            events = await self._store.read(partial(events_after, place=place, limit=_AT_ONCE))
            if not events:
                return
            turn = turn + len(events) if events[0].place.scope == place.scope else len(events)
            try:
                waiting = await self._publish(events)
            except _BrokerAway:
                await self._drop_old(None)
                raise
            place = events[-1].place
            if place.scope in waiting or turn >= _TURN:
                place = Place.after(place.scope)

    async def _publish(self, events: Sequence[QueuedEvent]) -> set[Scope]:
        """Publish events and delete them. Returns the accounts and regions whose next events have to wait."""
        now = self._monotonic()
        waiting = {scope for scope, failing in self._failing.items() if failing.again_at > now}
        tried = [event for event in events if event.place.scope not in waiting]
        errors = await asyncio.gather(*(self._publish_one(event) for event in tried))
        done = [event.place for event, error in zip(tried, errors, strict=True) if error is None]
        if done:
            await self._store.write(partial(remove_events, places=done))
            self.published += len(done)
        throttled: dict[Scope, Throttled] = {}
        for event, error in zip(tried, errors, strict=True):
            if isinstance(error, Throttled):
                throttled.setdefault(event.place.scope, error)
            elif isinstance(error, Unavailable):
                raise _BrokerAway(str(error))
        for scope, error in throttled.items():
            await self._delay(scope, str(error))
        accepted = {place.scope for place in done} - throttled.keys()
        for scope in accepted:
            self._failing.pop(scope, None)
        return {event.place.scope for event in events} - accepted

    async def _publish_one(self, event: QueuedEvent) -> Throttled | Unavailable | _NoSubscriber | None:
        """Return None if the event is done, else why not."""
        scope = event.place.scope
        try:
            reached = await self._messages.publish_event(scope, event.topic, event.payload)
        except Invalid as error:
            _log.error("event_refused", account=scope.account, region=scope.region, topic=event.topic, why=str(error))
            self.dropped += 1
            return None
        except (Throttled, Unavailable) as error:
            return error
        return None if reached or not self._waits(event) else _NoSubscriber()

    def _waits(self, event: QueuedEvent) -> bool:
        """True for an event from before the start, as long as its subscribers may not have reconnected yet."""
        began_at = self._began_at
        assert began_at is not None, "look sets it"
        return event.place.created_at < to_micros(began_at) and self._clock() < began_at + _WAIT_FOR_SUBSCRIBERS

    async def _delay(self, scope: Scope, why: str) -> None:
        """Try again later, as the broker has no room for more messages of the account."""
        if len(self._failing) >= _MAX_FAILING:
            self._failing.clear()
        failures = self._failing[scope].failures + 1 if scope in self._failing else 1
        self._failing[scope] = _Failing(failures, self._monotonic() + _pause(failures))
        if failures == 1:
            _log.warning("events_delayed", account=scope.account, region=scope.region, why=why)
        await self._drop_old(scope)

    async def _drop_old(self, scope: Scope | None) -> None:
        """Drop events that the broker has not accepted for too long, of one account and region or of all."""
        dropped, before = 0, self._clock() - _KEPT
        while some := await self._store.write(partial(drop_old_events, scope=scope, before=before)):
            dropped += some
        if dropped:
            self.dropped += dropped
            about = {} if scope is None else {"account": scope.account, "region": scope.region}
            _log.error("events_dropped", events=dropped, **about)


def _pause(failures: int) -> float:
    longest: float = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(failures - 1, 20))
    return longest
