"""What becomes of everybody when changes cannot be followed, and that time is looked at."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from thingmint.mqtt import watcher as module
from thingmint.mqtt.hub import Hub
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.watcher import Watcher

if TYPE_CHECKING:
    import pytest


class Connection:
    def __init__(self) -> None:
        self.checked = 0
        self.thrown_out: list[Reason] = []

    def reconsider(self) -> None: ...

    def throw_out(self, reason: Reason, why: str) -> None:
        self.thrown_out.append(reason)

    def check(self, now: float) -> None:
        self.checked += 1


async def test_nobody_stays_while_changes_cannot_be_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHECK_EVERY", 0)
    feed, hub, connection = SimpleNamespace(blind=False), Hub(), Connection()
    hub.follow(connection, [("", "", "certificate", "c")])
    task = asyncio.create_task(Watcher(cast("Any", feed), hub).run())
    for _ in range(10):
        await asyncio.sleep(0)
    assert connection.checked > 0
    assert not connection.thrown_out
    feed.blind = True
    for _ in range(10):
        await asyncio.sleep(0)
    assert set(connection.thrown_out) == {Reason.SERVER_UNAVAILABLE}
    task.cancel()
    await asyncio.wait([task])
