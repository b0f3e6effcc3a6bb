"""The embedded broker: in this process and in its memory, for tests and small fleets."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from thingmint.domain.errors import Unavailable
from thingmint.mqtt.broker.deadlines import Deadlines
from thingmint.mqtt.broker.interface import Features
from thingmint.mqtt.broker.limits import Bound, Budget, EmbeddedLimits
from thingmint.mqtt.broker.router import Budgets, Router

if TYPE_CHECKING:
    from collections.abc import Callable

    from thingmint.domain.arns import Scope
    from thingmint.mqtt.broker.interface import Link, Message, Opening, Subscriber


_TICK = 1.0  # seconds; what expires is given in whole ones


@dataclass(frozen=True, slots=True)
class Usage:
    """What is held now, sizes in bytes; ``refused`` counts what found no room since the start."""

    sessions: int
    queued: Bound
    retained: Bound
    refused: int


class EmbeddedBroker:
    """A Broker whose sessions, messages and retained messages end with the process.

    It runs on the event loop's thread: every call is answered before it returns, and delivers to all who are
    subscribed. What may call back while it is being called is said at Session.
    """

    def __init__(
        self,
        limits: EmbeddedLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        tick: float = _TICK,
    ) -> None:
        self._limits = limits or EmbeddedLimits()
        self._clock = clock
        self._tick = tick
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._deadlines = Deadlines()
        self._routers: dict[Scope, Router] = {}
        self._budgets = Budgets(
            Budget(Bound(self._limits.sessions, 0)), Budget(self._limits.queued), Budget(self._limits.retained)
        )
        self._accounts: WeakValueDictionary[str, Budgets] = WeakValueDictionary()  # as long as a router has them

    @property
    def features(self) -> Features:
        return Features()

    @property
    def usage(self) -> Usage:
        sessions, queued, retained = self._budgets.sessions, self._budgets.queued, self._budgets.retained
        return Usage(
            sessions.count,
            Bound(queued.count, queued.size),
            Bound(retained.count, retained.size),
            sessions.refused + queued.refused + retained.refused,
        )

    async def open(self, opening: Opening, subscriber: Subscriber) -> Link:
        if self._stopped:
            raise Unavailable("The broker has stopped")
        self.expire(self._clock())  # a session that should have ended by now is not resumed
        router = self._router(opening.scope)
        try:
            return router.open(opening, subscriber)
        finally:
            router.settle()

    def publish(self, scope: Scope, message: Message) -> None:
        if self._stopped:
            return
        router = self._routers.get(scope)
        if router is None:
            if not message.retain:
                return
            router = self._router(scope)
        router.publish(message, None)
        router.settle()

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
        for router in routers:
            router.stop()

    def expire(self, now: float) -> None:
        """Ends the sessions and the retained messages whose time has come."""
        for action in self._deadlines.due(now):
            action()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._tick)
            self.expire(self._clock())

    def _router(self, scope: Scope) -> Router:
        router = self._routers.get(scope)
        if router is None:
            account = self._accounts.get(scope.account)
            if account is None:
                account = self._accounts[scope.account] = self._new_account()
            forget = partial(self._forget, scope)
            router = self._routers[scope] = Router(self._limits, account, self._deadlines, self._clock, forget)
        return router

    def _forget(self, scope: Scope) -> None:
        self._routers.pop(scope, None)

    def _new_account(self) -> Budgets:
        limits, all_accounts = self._limits, self._budgets
        return Budgets(
            Budget(Bound(limits.sessions_per_account, 0), all_accounts.sessions),
            Budget(limits.queued_per_account, all_accounts.queued),
            Budget(limits.retained_per_account, all_accounts.retained),
        )
