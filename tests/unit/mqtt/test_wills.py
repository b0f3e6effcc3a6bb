"""Wills: their memory is limited, and they are published a few at a time."""

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
    """Authorization of wills waits for ``go``."""

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

    def end_connection(self, name: str, delay: float = 0, scope: Scope = SCOPE) -> bool:
        """Ends a connection with a will. False if there was no room for the will."""
        will = Will(Message(name, b"x" * (101 - len(name))), delay)
        if not self.wills.take(scope.account, will):
            return False
        self.wills.connection_ended(scope, name, PEER, will, name)
        return True


async def test_delayed_wills_without_room_are_published_immediately() -> None:
    world = World(waiting_per_account=Bound(1_000, 3 * SIZE))
    with capture_logs() as logs:
        assert all(world.end_connection(str(number), 600) for number in range(5))
        await settle()
    assert world.published == ["3", "4"]
    assert world.wills.held == Bound(3, 3 * SIZE)
    assert world.wills.published_early == 2
    assert [line["event"] for line in logs] == ["will_published_without_its_delay"] * 2
    assert world.end_connection("other", 600, OTHER)
    await settle()
    assert world.published == ["3", "4"]  # the limit of another account is separate
    await world.wills.close()


@pytest.mark.parametrize("which", ["open", "open_per_account"])
async def test_wills_of_open_connections_are_limited(which: str) -> None:
    world = World(**{which: Bound(1_000, 2 * SIZE)})
    wills = [Will(Message("w", b"x" * 100), 0)] * 3
    assert [world.wills.take(SCOPE.account, will) for will in wills] == [True, True, False]
    assert world.wills.take(OTHER.account, wills[0]) is (which == "open_per_account")
    world.wills.forget(SCOPE.account, wills[0])
    assert world.wills.take(SCOPE.account, wills[0])


async def test_many_due_wills_are_published_a_few_at_a_time_in_turns() -> None:
    world = World()
    world.go.clear()
    for number in range(200):
        assert world.end_connection(f"mine {number}")
    assert world.end_connection("other", scope=OTHER)
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
async def test_a_will_is_published_on_reconnect_unless_the_session_is_resumed(resumed: bool) -> None:
    world = World()
    world.end_connection("c", 600)
    world.wills.reconnected(SCOPE, "c", resumed=resumed)
    world.wills.reconnected(SCOPE, "c", resumed=resumed)
    await settle()
    assert world.published == ([] if resumed else ["c"])
    assert world.wills.held == Bound(0, 0)


async def test_a_will_is_published_after_its_delay() -> None:
    world = World()
    world.end_connection("c", 0.05)
    await settle()
    assert world.published == []
    await asyncio.sleep(0.1)
    assert world.published == ["c"]
    assert world.wills.held == Bound(0, 0)


async def test_a_failed_will_does_not_stop_others() -> None:
    world = World()
    world.error = KeyError("a bug")
    with capture_logs() as logs:
        world.end_connection("first")
        await settle()
    world.error = None
    world.end_connection("second")
    await settle()
    assert world.published == ["second"]
    assert len(logs) == 1
    assert world.wills.held == Bound(0, 0)


async def test_wills_wait_while_permissions_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_AFTER", 0)
    world = World()
    world.error = Unavailable("gone")
    for number in range(40):  # more than are published at the same time
        world.end_connection(str(number))
    await settle(20)
    world.error, world.feed.stale = None, True
    await settle(20)
    assert (world.published, world.wills.held.count) == ([], 40)
    world.feed.stale = False
    await settle(100)
    assert sorted(world.published, key=int) == [str(number) for number in range(40)]
    assert world.wills.held == Bound(0, 0)


async def test_close_drops_waiting_wills() -> None:
    world = World()
    world.go.clear()
    world.end_connection("due")
    world.end_connection("delayed", 0.01)
    await asyncio.sleep(0)
    await world.wills.close()
    world.go.set()
    await asyncio.sleep(0.05)
    assert world.published == []
