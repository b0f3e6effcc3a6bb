"""Publishes the life cycle events of AWS IoT: of connections, and of subscriptions.

Source: AWS's page "Lifecycle events". A session only puts an event into a queue, so it never waits. One task gives the
versions, a transaction for many connections, and publishes: the accounts in turns, a few events of each at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import orjson
import structlog

from thingmint.domain.errors import Unavailable
from thingmint.domain.messages import Message
from thingmint.services.client_ids import VERSION_KEPT, Wanted
from thingmint.services.presence import Client, EventQueue, of_vanished
from thingmint.store.table import to_micros

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from thingmint.domain.arns import Scope
    from thingmint.mqtt.broker.interface import Broker
    from thingmint.mqtt.protocol.reasons import Reason
    from thingmint.services.client_ids import ClientIds, Vanished
    from thingmint.services.messages import DisconnectReason
    from thingmint.services.presence import ConnectionRecord

Kind = Literal["connected", "disconnected", "connect_failed", "subscribed", "unsubscribed"]

_TOPICS = {"subscribed": "subscriptions", "unsubscribed": "subscriptions"}  # presence, if not listed
_WITH_VERSION = ("connected", "disconnected")
_MAX_WAITING = (200_000, 100_000, 100)  # in all, of an account, of a client
_AT_ONCE = 100  # events in one transaction
_MESSAGES_AT_ONCE = 20  # then other tasks have their turn
_UNDER_WAY = 100  # messages of an account at the broker
_MAX_ATTEMPTS = 5
_FIRST_PAUSE = 0.5  # seconds after a refusal of the broker; it doubles with each further one
_TAKEOVER_SEEN_AFTER = 1.0  # seconds from the end of a connection until the claim of the next one is in the store
_RETRY_AFTER = 0.5  # seconds, while the store cannot be used
_REPORT_TIMEOUT = 10.0  # seconds, for the events of connections that vanished

_log = structlog.get_logger("thingmint.gateway")


@dataclass(slots=True, eq=False)
class LifecycleEvent:
    """``reason`` is that of a disconnected event. ``kept``: for how many seconds the client keeps its version then.

    ``done`` is called when the event was published, or given up.
    """

    kind: Kind
    of: ConnectionRecord
    at: int  # milliseconds since 1970
    reason: DisconnectReason | None = None
    topics: Sequence[str] = ()
    kept: float = VERSION_KEPT
    attempts: int = 0
    done: Callable[[], None] | None = None

    @property
    def client(self) -> Client:
        return Client(self.of.scope, self.of.client_id)

    def message(self) -> Message:
        of = self.of
        payload: dict[str, object] = {"clientId": of.client_id}
        if of.exclusive_thing is not None:
            payload["thingName"] = of.exclusive_thing
        payload |= {
            "timestamp": self.at,
            "eventType": self.kind,
            "sessionIdentifier": of.id,
            "principalIdentifier": of.certificate,
        }
        if self.kind in ("connected", "connect_failed"):
            payload["ipAddress"] = of.address
        if self.kind == "connect_failed":
            payload["connectFailureReason"] = "AUTHORIZATION_FAILED"
        elif self.kind == "disconnected":
            payload["clientInitiatedDisconnect"] = self.reason == "CLIENT_INITIATED_DISCONNECT"
            payload["disconnectReason"] = self.reason
        elif self.topics:
            payload["topics"] = list(self.topics)
        if self.kind in _WITH_VERSION:
            assert of.claim is not None, "versions are given before"
            payload["versionNumber"] = of.claim.version
        topic = f"$aws/events/{_TOPICS.get(self.kind, 'presence')}/{self.kind}/{of.client_id}"
        return Message(topic, orjson.dumps(payload), qos=1)


class LifecycleEvents:
    """``enabled`` tells whether an account publishes such events in a region. It raises Unavailable."""

    def __init__(
        self,
        broker: Broker,
        client_ids: ClientIds,
        clock: Callable[[], datetime],
        enabled: Callable[[Scope], Awaitable[bool]],
    ) -> None:
        self._broker = broker
        self._client_ids = client_ids
        self._clock = clock
        self._enabled = enabled
        self._queue: EventQueue[LifecycleEvent] = EventQueue(*_MAX_WAITING)
        self._under_way: Counter[str] = Counter()  # by account
        self._more = asyncio.Event()
        self._settled = asyncio.Event()
        self._checks: set[asyncio.Task[None]] = set()
        self._stopped = False
        self.published = 0
        self.failed = 0

    @property
    def waiting(self) -> int:
        return self._queue.waiting

    @property
    def dropped(self) -> int:
        """Events for which there was no room, and those that the broker refused too often."""
        return self._queue.dropped + self.failed

    def put(
        self,
        kind: Kind,
        of: ConnectionRecord,
        *,
        reason: DisconnectReason | None = None,
        topics: Sequence[str] = (),
        kept: float = VERSION_KEPT,
        done: Callable[[], None] | None = None,
    ) -> None:
        event = LifecycleEvent(kind, of, to_micros(self._clock()) // 1000, reason, topics, kept, done=done)
        if self._queue.put(event.client, event, minor=bool(topics)):
            self._more.set()
        else:
            self._finish(event)

    async def report(self, vanished: Sequence[Vanished]) -> None:
        """Publish the ends of connections whose process has ended. Returns when that is done, or takes too long."""
        done = [asyncio.get_running_loop().create_future() for _ in vanished]
        for each, future in zip(vanished, done, strict=True):
            self.put("disconnected", of_vanished(each), reason="SERVER_ERROR", done=partial(_set, future))
        if done:
            await asyncio.wait(done, timeout=_REPORT_TIMEOUT)

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            congested = [account for account, count in self._under_way.items() if count >= _UNDER_WAY]
            batch = self._queue.take(_AT_ONCE, congested)
            if batch:
                await self._publish_batch(batch)
            else:
                self._more.clear()
                await self._more.wait()

    async def drain(self) -> None:
        """Wait until no event waits any more.

        If this is cancelled, the ends of connections that are not published stay in the store. Another process reports
        them, or the next one.
        """
        self._stopped = True
        while self._queue.waiting:
            self._settled.clear()
            await self._settled.wait()

    async def _publish_batch(self, batch: Sequence[LifecycleEvent]) -> None:
        while True:
            try:
                enabled = {scope: await self._enabled(scope) for scope in {event.of.scope for event in batch}}
                wanted = [event for event in batch if enabled[event.of.scope]]
                await self._give_versions(wanted)
                break
            except Unavailable:
                await asyncio.sleep(_RETRY_AFTER)
        for event in batch:
            if not enabled[event.of.scope]:
                self._settle(event)
        doubtful = [event for event in wanted if self._may_be_taken_over(event)]
        if doubtful:
            asyncio.get_running_loop().call_later(_TAKEOVER_SEEN_AFTER, self._check_soon, doubtful)
        for number, event in enumerate([event for event in wanted if event not in doubtful], 1):
            self._publish(event)
            if number % _MESSAGES_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _may_be_taken_over(self, event: LifecycleEvent) -> bool:
        """True if the broker ended the connection, maybe because the client connected to another process.

        Not every broker says so, and that process claims the client id after the broker has closed the connection.
        """
        return event.reason == "SERVER_ERROR" and event.done is None and self._client_ids.is_shared

    def _check_soon(self, events: Sequence[LifecycleEvent]) -> None:
        task = asyncio.create_task(self._check_takeovers(events))
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)

    async def _check_takeovers(self, events: Sequence[LifecycleEvent]) -> None:
        claims = [event.of.claim for event in events if event.of.claim is not None]
        lost = set()
        with contextlib.suppress(Unavailable):
            lost = set(await self._client_ids.lost(claims))
        for event in events:
            if event.of.claim in lost:
                event.reason = "DUPLICATE_CLIENTID"
            self._publish(event)

    async def _give_versions(self, events: Sequence[LifecycleEvent]) -> None:
        """Claim the client ids of connections, if CONNECT did not: it does only where processes share a store."""
        records = {event.of: None for event in events if event.kind in _WITH_VERSION and event.of.claim is None}
        if not records:
            return
        claims = await self._client_ids.claim_all([Wanted(of.scope, of.client_id, of.about()) for of in records])
        for of, claim in zip(records, claims, strict=True):
            of.claim = claim
            if (before := claim.vanished) is not None:
                self.put("disconnected", of_vanished(before), reason="SERVER_ERROR")

    def _publish(self, event: LifecycleEvent) -> None:
        self._under_way[event.of.scope.account] += 1
        self._broker.publish(event.of.scope, event.message(), partial(self._published, event))

    def _published(self, event: LifecycleEvent, reason: Reason) -> None:
        account = event.of.scope.account
        self._under_way[account] -= 1
        if not self._under_way[account]:
            del self._under_way[account]
        self._more.set()  # the account may have been congested
        if not reason.failed:
            self.published += 1
            self._settle(event)
            return
        event.attempts += 1
        if event.attempts < _MAX_ATTEMPTS:
            pause = _FIRST_PAUSE * 2 ** (event.attempts - 1)
            asyncio.get_running_loop().call_later(pause, self._publish, event)
        elif not self._stopped:
            self.failed += 1
            if self.failed == 1 or self.failed % 1000 == 0:
                _log.warning("lifecycle_event_refused_by_broker", reason=reason.name, refused=self.failed)
            self._settle(event)

    def _settle(self, event: LifecycleEvent) -> None:
        self._queue.settle(event.client)
        self._settled.set()
        self._finish(event)

    def _finish(self, event: LifecycleEvent) -> None:
        if event.kind == "disconnected" and event.of.claim is not None:
            self._client_ids.release(event.of.claim, event.kept)
        if event.done is not None:
            event.done()


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
