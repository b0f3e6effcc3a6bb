"""Wills: what is kept of them, and that they are published a few at a time."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from structlog.testing import capture_logs

from tests.unit.mqtt.test_sessions import PEER, SCOPE, accepted, settle
from thingmint.domain.arns import Scope
from thingmint.domain.errors import Unavailable
from thingmint.domain.messages import Message
from thingmint.mqtt import wills as module
from thingmint.mqtt.broker.limits import Bound, WillLimits
from thingmint.mqtt.broker.messages import size_of
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.wills import Will, Wills

if TYPE_CHECKING:
    from collections.abc import Callable

OTHER = Scope("444455556666", "us-east-1")
SIZE = size_of(Message("w", b"x" * 100))
PLENTY = Bound(1_000, 1_000_000)


class World:
    """``go`` lets what is being authorized go on."""

    def __init__(self, **limits: Bound) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.under_way = self.most = 0
        self.published: list[str] = []
        self.error: Exception | None = None
        bounds = dict.fromkeys(WillLimits.__dataclass_fields__, PLENTY) | limits
        authenticator: Any = SimpleNamespace(reauthenticate=self._reauthenticate)
        broker: Any = SimpleNamespace(publish=self._publish)
        log: Any = SimpleNamespace()
        self.feed = cast("Any", SimpleNamespace(stale=False, fresh_until=math.inf, interruptions=0))
        self.wills = Wills(authenticator, broker, log, self.feed, WillLimits(**bounds))

    async def _reauthenticate(self, request: object, scope: Scope) -> Any:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.go.wait()
        await asyncio.sleep(0)
        self.under_way -= 1
        if self.error is not None:
            raise self.error
        return replace(accepted(), scope=scope)

    def _publish(self, scope: Scope, message: Message, done: Callable[[Reason], None]) -> None:
        self.published.append(message.topic)
        done(Reason.SUCCESS)

    def leave(self, name: str, delay: float = 0, scope: Scope = SCOPE) -> bool:
        """The end of a connection that was let in, if it was."""
        will = Will(Message(name, b"x" * (101 - len(name))), delay)
        if not self.wills.take(scope.account, will):
            return False
        self.wills.connection_ended(scope, name, PEER, will, name)
        return True


async def test_delayed_wills_without_room_are_published_at_once() -> None:
    world = World(waiting_per_account=Bound(1_000, 3 * SIZE))
    with capture_logs() as logs:
        assert all(world.leave(str(number), 600) for number in range(5))
        await settle()
    assert world.published == ["3", "4"]
    assert world.wills.held == Bound(3, 3 * SIZE)
    assert world.wills.published_early == 2
    assert [line["event"] for line in logs] == ["will_published_without_its_delay"] * 2
    assert world.leave("other", 600, OTHER)
    await settle()
    assert world.published == ["3", "4"]  # another account has room of its own
    await world.wills.close()


@pytest.mark.parametrize("which", ["open", "open_per_account"])
async def test_open_connections_wills_are_bounded(which: str) -> None:
    world = World(**{which: Bound(1_000, 2 * SIZE)})
    wills = [Will(Message("w", b"x" * 100), 0)] * 3
    assert [world.wills.take(SCOPE.account, will) for will in wills] == [True, True, False]
    assert world.wills.take(OTHER.account, wills[0]) is (which == "open_per_account")
    world.wills.forget(SCOPE.account, wills[0])
    assert world.wills.take(SCOPE.account, wills[0])


async def test_many_that_are_due_at_once_are_published_a_few_at_a_time_and_by_turns() -> None:
    world = World()
    world.go.clear()
    for number in range(200):
        assert world.leave(f"mine {number}")
    assert world.leave("other", scope=OTHER)
    await settle()
    assert world.most == 16
    assert world.wills.held.count == 201
    world.go.set()
    await settle(300)
    assert world.most == 16
    assert len(world.published) == 201
    assert world.published.index("other") <= 20
    assert world.wills.held == Bound(0, 0)


@pytest.mark.parametrize("resumed", [False, True])
async def test_a_device_that_comes_back(resumed: bool) -> None:
    world = World()
    world.leave("c", 600)
    world.wills.reconnected(SCOPE, "c", resumed=resumed)
    world.wills.reconnected(SCOPE, "c", resumed=resumed)
    await settle()
    assert world.published == ([] if resumed else ["c"])
    assert world.wills.held == Bound(0, 0)


async def test_a_will_comes_after_its_delay() -> None:
    world = World()
    world.leave("c", 0.05)
    await settle()
    assert world.published == []
    await asyncio.sleep(0.1)
    assert world.published == ["c"]
    assert world.wills.held == Bound(0, 0)


async def test_one_that_cannot_be_published_keeps_none_from_it() -> None:
    world = World()
    world.error = KeyError("a bug")
    with capture_logs() as logs:
        world.leave("first")
        await settle()
    world.error = None
    world.leave("second")
    await settle()
    assert world.published == ["second"]
    assert len(logs) == 1
    assert world.wills.held == Bound(0, 0)


async def test_wills_wait_until_it_is_known_what_their_devices_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_AFTER", 0)
    world = World()
    world.error = Unavailable("gone")
    for number in range(40):  # more than are published at once
        world.leave(str(number))
    await settle(20)
    world.error, world.feed.stale = None, True
    await settle(20)
    assert (world.published, world.wills.held.count) == ([], 40)
    world.feed.stale = False
    await settle(100)
    assert sorted(world.published, key=int) == [str(number) for number in range(40)]
    assert world.wills.held == Bound(0, 0)


async def test_close() -> None:
    world = World()
    world.go.clear()
    world.leave("due")
    world.leave("delayed", 0.01)
    await asyncio.sleep(0)
    await world.wills.close()
    world.go.set()
    await asyncio.sleep(0.05)
    assert world.published == []
