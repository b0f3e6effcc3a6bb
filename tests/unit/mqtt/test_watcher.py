"""Who is told of what was announced, and what becomes of everybody if that cannot be read."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from thingmint.domain.errors import Unavailable
from thingmint.mqtt import watcher as module
from thingmint.mqtt.hub import Hub
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.watcher import Watcher
from thingmint.services.doorkeeping import Notice

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 11, 21, tzinfo=UTC)
MINE, OTHER = "111111111111", "222222222222"


class Outbox:
    """A stand-in for what the store holds."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.asked: list[datetime] = []
        self.error: Exception | None = None

    def put(self, account: str, region: str, kind: Any, name: str) -> None:
        self.notices.append(Notice(f"n{len(self.notices)}", 0, account, region, kind, name))

    async def notices_since(self, moment: datetime) -> list[Notice]:
        self.asked.append(moment)
        if self.error is not None:
            raise self.error
        return list(self.notices)


class Connection:
    def __init__(self) -> None:
        self.told = 0
        self.thrown_out: list[Reason] = []

    def reconsider(self) -> None:
        self.told += 1

    def throw_out(self, reason: Reason, why: str) -> None:
        self.thrown_out.append(reason)

    def check(self, now: float) -> None:
        pass


def watching(outbox: Outbox, clock: Callable[[], datetime] = lambda: NOW) -> tuple[Watcher, Hub, Connection]:
    hub, connection = Hub(), Connection()
    wanted = [(MINE, "r", "policy", "p"), (MINE, "", "account", MINE), ("", "", "certificate", "c")]
    hub.follow(connection, wanted)
    return Watcher(outbox, hub, clock), hub, connection  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("notice", "told"),
    [
        ((MINE, "r", "policy", "p"), 1),
        ((MINE, "r", "policy", "q"), 0),
        ((MINE, "r", "thing", "p"), 0),
        ((MINE, "elsewhere", "policy", "p"), 0),
        ((OTHER, "r", "policy", "p"), 0),
        ((MINE, "", "account", MINE), 1),
        ((OTHER, "", "account", OTHER), 0),
        # Whose certificate it is may not be known yet, so it is followed in all accounts.
        ((OTHER, "elsewhere", "certificate", "c"), 1),
        ((MINE, "r", "certificate", "d"), 0),
    ],
)
async def test_who_is_concerned(notice: tuple[str, str, str, str], told: int) -> None:
    outbox = Outbox()
    watcher, hub, connection = watching(outbox)
    outbox.put(*notice)
    await watcher.look()
    assert (connection.told, hub.news) == (told, 1)
    await watcher.look()  # which looks back, and finds it again
    assert (connection.told, hub.news) == (told, 1)


async def test_what_this_process_acted_on_is_not_acted_on_again() -> None:
    outbox, now = Outbox(), [NOW]
    watcher, hub, connection = watching(outbox, lambda: now[0])
    outbox.put(MINE, "r", "policy", "p")
    await hub.close(outbox.notices)
    assert connection.told == 1
    await watcher.look()
    outbox.put(MINE, "r", "policy", "p")
    await watcher.look()
    await hub.close(outbox.notices[1:])  # found before it was told
    assert connection.told == 3
    now[0] += timedelta(seconds=60)
    await watcher.look()
    assert (connection.told, hub.told) == (3, {})


async def test_it_looks_back_from_where_it_last_saw_everything() -> None:
    now = [NOW]
    outbox = Outbox()
    watcher, _, _ = watching(outbox, lambda: now[0])
    await watcher.look()
    now[0] += timedelta(seconds=60)
    outbox.error = Unavailable("gone")
    with contextlib.suppress(Unavailable):
        await watcher.look()
    outbox.error = None
    await watcher.look()
    assert outbox.asked == [NOW - timedelta(seconds=5)] * 3


@pytest.mark.parametrize("error", [Unavailable("gone"), KeyError("a bug")])
async def test_nobody_stays_unwatched(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(module, "POLL_EVERY", 0)
    monkeypatch.setattr(module, "_BLIND_AFTER", -1)

    with capture_logs() as logs:
        outbox = Outbox()
        watcher, _, connection = watching(outbox)
        outbox.error = error
        task = asyncio.create_task(watcher.run())
        for _ in range(10):
            await asyncio.sleep(0)
        assert set(connection.thrown_out) == {Reason.SERVER_UNAVAILABLE}
        outbox.error = None
        outbox.put(MINE, "r", "policy", "p")
        for _ in range(10):
            await asyncio.sleep(0)
        assert connection.told == 1, "it went on"
        task.cancel()
        await asyncio.wait([task])
    assert [line["event"] for line in logs] == ["the outbox cannot be followed"]
