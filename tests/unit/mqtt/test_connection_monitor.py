"""What becomes of everybody when changes cannot be followed, and that time is looked at."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from thingmint.mqtt import connection_monitor as module
from thingmint.mqtt.connection_index import ConnectionIndex
from thingmint.mqtt.connection_monitor import ConnectionMonitor
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    import pytest


class Connection:
    def __init__(self) -> None:
        self.checked = 0
        self.disconnected: list[Reason] = []

    def reauthorize(self) -> None: ...

    def disconnect(self, reason: Reason, why: str, *, with_will: bool = False) -> None:
        self.disconnected.append(reason)

    def check_deadlines(self, now: float) -> None:
        self.checked += 1


async def test_nobody_stays_while_changes_cannot_be_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHECK_EVERY", 0)
    feed, connections, connection = SimpleNamespace(stale=False), ConnectionIndex(), Connection()
    connections.follow(connection, [("", "", "certificate", "c")])
    task = asyncio.create_task(ConnectionMonitor(cast("Any", feed), connections).run())
    for _ in range(10):
        await asyncio.sleep(0)
    assert connection.checked > 0
    assert not connection.disconnected
    feed.stale = True
    for _ in range(10):
        await asyncio.sleep(0)
    assert set(connection.disconnected) == {Reason.SERVER_UNAVAILABLE}
    task.cancel()
    await asyncio.wait([task])
