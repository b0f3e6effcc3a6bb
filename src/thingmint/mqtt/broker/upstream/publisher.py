"""Publishes the gateway's messages (wills, events) to an upstream broker, over one shared connection."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from thingmint.domain.errors import Unavailable
from thingmint.mqtt.broker.limits import AccountBudgets, Bound
from thingmint.mqtt.broker.messages import size_of
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from thingmint.domain.messages import Message
    from thingmint.mqtt.broker.upstream.link import UpstreamLink
    from thingmint.mqtt.broker.upstream.names import Names

_FIRST_DELAY, _LONGEST_DELAY = 0.25, 30.0  # seconds between attempts to connect
_MAX_ATTEMPTS = 3  # to send a message, if the connection ends each time
_BOUND = Bound(10_000, 16 * 2**20)
_BOUND_PER_ACCOUNT = Bound(2_500, 4 * 2**20)

_log = structlog.get_logger("thingmint.gateway")


@dataclass(slots=True, eq=False)
class _Item:
    account: str
    topic: str
    message: Message
    names: Names
    size: int
    done: Callable[[Reason], None]
    attempts: int = 0


class Publisher:
    """Keeps messages until the broker acknowledges them. If there are too many, refuses and counts the rest.

    ``dial`` opens the connection, and raises Unavailable. Call ``lost`` when the connection has ended.
    """

    def __init__(
        self, dial: Callable[[], Awaitable[UpstreamLink]], random: Callable[[], float] = random.random
    ) -> None:
        self._dial = dial
        self._random = random
        self._waiting: OrderedDict[_Item, None] = OrderedDict()
        self._sent: OrderedDict[_Item, None] = OrderedDict()
        self._budgets = AccountBudgets(_BOUND, _BOUND_PER_ACCOUNT)
        self._link: UpstreamLink | None = None
        self._ended = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._sending: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return self._link is not None

    @property
    def waiting(self) -> int:
        """The number of messages that the broker has not acknowledged."""
        return len(self._waiting) + len(self._sent)

    @property
    def dropped(self) -> int:
        return self._budgets.total.refused

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="publisher to the upstream broker")

    async def stop(self) -> None:
        for task in (self._task, self._sending):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if self._link is not None:
            self._link.close()
        if self._waiting or self._sent:
            _log.warning("publications_not_sent", count=len(self._waiting) + len(self._sent))
            for item in (*self._waiting, *self._sent):
                item.done(Reason.SERVER_SHUTTING_DOWN)

    def publish(self, account: str, topic: str, message: Message, names: Names, done: Callable[[Reason], None]) -> None:
        item = _Item(account, topic, message, names, size_of(message), done)
        if not self._budgets.take(account, item.size):
            done(Reason.QUOTA_EXCEEDED)
            return
        self._waiting[item] = None
        self._send()

    def lost(self) -> None:
        self._link = None
        # Messages that were sent go first. The attempts are limited: a message may be why the broker closed.
        for item in reversed(self._sent):
            if item.attempts < _MAX_ATTEMPTS:
                self._waiting[item] = None
                self._waiting.move_to_end(item, last=False)
            else:
                _log.error("publication_dropped", why="the broker closed the connection over it", account=item.account)
                self._settle(item, Reason.IMPLEMENTATION_SPECIFIC_ERROR)
        self._sent.clear()
        self._ended.set()

    async def _run(self) -> None:
        delay = 0.0
        while True:
            self._ended.clear()
            try:
                self._link = await self._dial()
            except Unavailable as error:
                if not delay:
                    _log.error("broker_unreachable", why=str(error))
                delay = min(max(2 * delay, _FIRST_DELAY), _LONGEST_DELAY)
                await asyncio.sleep(delay * (0.5 + self._random() / 2))
                continue
            if delay:
                _log.info("broker_reachable_again")
            delay = 0.0
            self._link.resume()
            self._send()
            await self._ended.wait()
            await asyncio.sleep(_FIRST_DELAY * self._random())

    def _send(self) -> None:
        if self._sending is None and self._link is not None and self._waiting:
            self._sending = asyncio.create_task(self._send_all())

    async def _send_all(self) -> None:
        try:
            while self._waiting and (link := self._link) is not None:
                if (congestion := link.congestion()) is not None:
                    await congestion
                    continue
                item, _ = self._waiting.popitem(last=False)
                self._sent[item] = None
                item.attempts += 1
                link.send(item.topic, item.message, item.names, partial(self._done, item))
        finally:
            self._sending = None

    def _done(self, item: _Item, reasons: Sequence[Reason]) -> None:
        if item not in self._sent:
            return  # given up, or sent again, when the connection was lost
        del self._sent[item]
        self._settle(item, reasons[0])

    def _settle(self, item: _Item, reason: Reason) -> None:
        self._budgets.give_back(item.account, item.size)
        item.done(reason)
