"""ConnectionMonitor: it checks deadlines, and suspends or closes connections while changes cannot be followed."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from thingmint.mqtt import connection_monitor as module
from thingmint.mqtt.connection_index import ConnectionIndex
from thingmint.mqtt.connection_monitor import ConnectionMonitor
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Connection:
    def __init__(self) -> None:
        self.is_accepted = True
        self.checked = 0
        self.calls: list[object] = []

    def reauthorize(self) -> None:
        self.calls.append("authenticated again")

    def suspend(self) -> None:
        self.calls.append("suspended")

    def disconnect(self, reason: Reason, why: str, *, with_will: bool = False) -> None:
        self.calls.append(reason)

    def check_deadlines(self, now: float) -> None:
        self.checked += 1


class World:
    def __init__(self, grace: float) -> None:
        self.feed = cast("Any", SimpleNamespace(stale=False, fresh_until=math.inf, interruptions=0))
        self.connections, self.connection = ConnectionIndex(), Connection()
        self.connections.follow(self.connection, [("", "", "certificate", "c")])
        self.monitor = ConnectionMonitor(self.feed, self.connections, grace)

    async def wait_for(self, what: object) -> None:
        async with asyncio.timeout(10):
            while what not in self.connection.calls:  # noqa: ASYNC110 - the list has no event
                await asyncio.sleep(0)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    monkeypatch.setattr(module, "_FEED_CHECK_EVERY", 0)
    monkeypatch.setattr(module, "_DEADLINES_CHECK_EVERY", 0)
    made = World(request.param)
    task = asyncio.create_task(made.monitor.run())
    yield made
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("world", [3600], indirect=True)
async def test_connections_are_suspended_and_reauthorized_around_a_short_outage(world: World) -> None:
    await asyncio.sleep(0.01)
    assert world.connection.checked > 0
    assert world.connection.calls == []
    world.feed.stale = True
    await world.wait_for("suspended")
    await asyncio.sleep(0.01)
    assert world.connection.calls == ["suspended"]
    world.feed.stale = False
    world.feed.interruptions += 1
    await world.wait_for("authenticated again")
    await asyncio.sleep(0.01)
    assert world.connection.calls == ["suspended", "authenticated again"]


@pytest.mark.parametrize("world", [3600], indirect=True)
async def test_connections_are_reauthorized_after_an_unnoticed_interruption(world: World) -> None:
    await asyncio.sleep(0.01)
    world.feed.interruptions += 1
    await world.wait_for("authenticated again")
    await asyncio.sleep(0.01)
    assert world.connection.calls == ["authenticated again"]


@pytest.mark.parametrize("world", [0, 0.01], indirect=True)
async def test_connections_are_closed_after_the_grace_period(world: World) -> None:
    world.feed.stale = True
    await world.wait_for(Reason.SERVER_BUSY)
    assert world.connection.calls[0] == "suspended"


@pytest.mark.parametrize("world", [0], indirect=True)
async def test_a_connection_that_waits_for_its_connack_is_not_closed_without_one(world: World) -> None:
    waiting = Connection()
    waiting.is_accepted = False
    world.connections.follow(waiting, [("", "", "certificate", "c")])
    world.feed.stale = True
    await world.wait_for(Reason.SERVER_BUSY)
    await asyncio.sleep(0.01)
    assert Reason.SERVER_BUSY not in waiting.calls
