"""The embedded broker: it runs in this process and keeps everything in memory. For tests and small fleets."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from thingmint.domain.errors import Unavailable
from thingmint.mqtt.broker.embedded.deadlines import Deadlines
from thingmint.mqtt.broker.embedded.link import EmbeddedLink
from thingmint.mqtt.broker.embedded.router import Account, Router
from thingmint.mqtt.broker.embedded.session import Parts
from thingmint.mqtt.broker.interface import Features, log_refusal
from thingmint.mqtt.broker.limits import Bound, Budget, EmbeddedLimits
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.slices import Slices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from thingmint.domain.arns import Scope
    from thingmint.domain.messages import Message
    from thingmint.mqtt.broker.interface import Aged, Link, Opening, Subscriber, Subscription


_TICK = 1.0  # seconds; MQTT gives expiries in whole seconds


@dataclass(frozen=True, slots=True)
class Usage:
    """Current use of memory, sizes in bytes. ``refused`` counts what was refused for lack of room since the start."""

    sessions: int
    queued: Bound
    retained: Bound
    refused: int


class EmbeddedBroker:
    """A Broker whose sessions, messages and retained messages end with the process.

    It runs on the event loop's thread. A call that concerns few sessions or messages is done before it returns; longer
    work is done in ``slices``. Subscribers may call back while they are called: see Session.
    """

    def __init__(
        self,
        limits: EmbeddedLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        tick: float = _TICK,
        slices: Slices | None = None,
    ) -> None:
        self._slices = slices or Slices()
        self._limits = limits or EmbeddedLimits()
        self._clock = clock
        self._tick = tick
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._deadlines = Deadlines()
        self._routers: dict[Scope, Router] = {}
        self._sessions = Budget(Bound(self._limits.sessions, 0))
        self._queued = Budget(self._limits.queued)
        self._retained = Budget(self._limits.retained)
        self._accounts: WeakValueDictionary[str, Account] = WeakValueDictionary()  # the routers own the accounts

    @property
    def features(self) -> Features:
        return Features()

    @property
    def trouble(self) -> None:
        return None

    @property
    def usage(self) -> Usage:
        sessions, queued, retained = self._sessions, self._queued, self._retained
        return Usage(
            sessions.count,
            Bound(queued.count, queued.size),
            Bound(retained.count, retained.size),
            sessions.refused + queued.refused + retained.refused,
        )

    @property
    def unfinished(self) -> int:
        """The number of sessions and scopes whose work waits for its next slice."""
        return self._slices.waiting

    async def open(self, opening: Opening, subscriber: Subscriber) -> Link:
        if self._stopped:
            raise Unavailable("The broker has stopped")
        router = self._router(opening.scope)
        try:
            return EmbeddedLink.open(router, opening, subscriber)
        finally:
            router.settle()

    def publish(self, scope: Scope, message: Message, done: Callable[[Reason], None] = log_refusal) -> None:
        router = self._routers.get(scope)
        if router is None and message.retain and not self._stopped:
            router = self._router(scope)
        if router is None or self._stopped:
            done(Reason.NO_MATCHING_SUBSCRIBERS)
        else:
            router.publish_own(message, done)

    def retained_message(self, scope: Scope, topic: str) -> Aged | None:
        router = self._routers.get(scope)
        return None if router is None else router.retained_message(topic)

    def retained_after(self, scope: Scope, topic: str, limit: int) -> list[Aged]:
        router = self._routers.get(scope)
        return [] if router is None else router.retained_after(topic, limit)

    def has_session(self, scope: Scope, client_id: str) -> bool:
        router = self._routers.get(scope)
        return router is not None and router.has_session(client_id)

    def subscriptions(self, scope: Scope, client_id: str) -> Sequence[Subscription] | None:
        router = self._routers.get(scope)
        return None if router is None else router.subscriptions(client_id)

    def queued(self, scope: Scope, client_id: str) -> int:
        router = self._routers.get(scope)
        return 0 if router is None else router.queued(client_id)

    def discard(self, scope: Scope, client_id: str) -> None:
        router = self._routers.get(scope)
        if router is not None:
            router.discard(client_id)

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="embedded broker")

    async def stop(self) -> None:
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        routers = list(self._routers.values())
        self._routers.clear()
        await self._slices.finish("", self, (step for router in routers for step in router.stop()))

    def expire(self, now: float) -> Iterator[None]:
        """Ends the sessions and removes the retained messages that have expired, one in each step."""
        for action in self._deadlines.due(now):
            action()
            yield

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._tick)
            await self._slices.finish("", self, self.expire(self._clock()))

    def _router(self, scope: Scope) -> Router:
        router = self._routers.get(scope)
        if router is None:
            account = self._accounts.get(scope.account)
            if account is None:
                account = self._accounts[scope.account] = self._new_account(scope.account)
            router = self._routers[scope] = Router(account, partial(self._forget, scope))
        return router

    def _forget(self, scope: Scope) -> None:
        self._routers.pop(scope, None)

    def _new_account(self, name: str) -> Account:
        limits = self._limits
        queued = Budget(limits.queued_per_account, self._queued)
        return Account(
            Budget(Bound(limits.sessions_per_account, 0), self._sessions),
            Budget(limits.retained_per_account, self._retained),
            Parts(name, limits, queued, self._deadlines, self._slices, self._clock),
        )
