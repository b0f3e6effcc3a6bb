"""The report on the health of the server."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.unit import vectors
from thingmint.access.audit_events import new_record_id
from thingmint.instance.layout import DataDirectory
from thingmint.server import health as module
from thingmint.server.health import ServerHealth
from thingmint.services.health import Check, Health, RecentHealth
from thingmint.store import audit

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.services.health import State


@dataclass
class Instance:
    store: Any
    directory: DataDirectory


@dataclass
class Part:
    """Stands in for the broker, the change feed, the listeners' certificates and the jobs."""

    trouble: str | None = None
    stale: bool = False
    failing: int = 0
    waiting: int = 2
    shown: list[tuple[str, str, Any]] = field(default_factory=list)

    def ends(self) -> Any:
        return iter(self.shown)


async def checks(world: World, **parts: Any) -> dict[str, Check]:
    instance = cast("Any", Instance(world.store, DataDirectory(world.folder)))
    report = await ServerHealth(instance, clock=world.clock, **parts)()
    return {check.name: check for check in report.checks}


async def test_what_is_not_there_is_not_checked(world: World) -> None:
    assert set(await checks(world)) == {"store", "audit", "authorities", "disk", "backup"}


@pytest.mark.parametrize(
    ("name", "part", "bad"),
    [
        ("broker", "broker", {"trouble": "it is away"}),
        ("changes", "feed", {"stale": True}),
        ("jobs", "jobs", {"failing": 1}),
    ],
)
async def test_trouble_of_a_part_is_told(world: World, name: str, part: str, bad: dict[str, Any]) -> None:
    assert (await checks(world, **{part: Part()}))[name].state == "ok"
    assert (await checks(world, **{part: Part(**bad)}))[name].state in ("warning", "error")


@pytest.mark.parametrize(("days", "state"), [(0.5, "error"), (-1, "error"), (3, "warning"), (30, "ok")])
async def test_the_certificate_that_ends_first_counts(world: World, days: float, state: State) -> None:
    now = world.clock()
    shown = [("mqtt", "*", now + timedelta(days=90)), ("api", "iot.example.org", now + timedelta(days=days))]
    check = (await checks(world, tls=Part(shown=shown)))["listeners"]
    assert check.state == state
    assert "HTTPS clients of iot.example.org see" in check.message


async def test_the_roots_are_read(world: World) -> None:
    assert (await checks(world))["authorities"].state == "unknown"
    pem = vectors.certificate_pem(not_after=world.clock() + timedelta(days=100))
    (world.folder / "ca.pem").write_text(pem)
    (world.folder / "device-ca.pem").write_text("damaged")
    check = (await checks(world))["authorities"]
    assert (check.state, list(check.facts)) == ("warning", ["ca.pem"])


@pytest.mark.parametrize(("seconds", "state"), [(1, "ok"), (90, "warning"), (3600, "error")])
async def test_audit_records_that_wait_to_be_sealed(world: World, seconds: int, state: State) -> None:
    assert (await checks(world))["audit"].facts == {"sealed_until": world.clock()}
    made = world.clock()
    await world.write(lambda tx: audit.insert_record(tx, new_record_id(made), None, "{}"))
    world.clock.advance(seconds=seconds)
    check = (await checks(world))["audit"]
    assert (check.state, check.facts) == (state, {"sealed_until": made})


async def test_lost_audit_records_are_told(world: World) -> None:
    assert (await checks(world, lost=lambda: 0))["audit"].state == "ok"
    check = (await checks(world, lost=lambda: 7))["audit"]
    assert (check.state, "7 audit records" in check.message) == ("error", True)


async def test_callers_share_a_recent_report(world: World) -> None:
    made = 0

    async def report() -> Health:
        nonlocal made
        made += 1
        await asyncio.sleep(0)
        return Health(world.clock(), "1", [])

    for seconds, expected in ((60.0, 1), (-1.0, 3)):
        made, recent = 0, RecentHealth(report, seconds)
        await asyncio.gather(*(recent() for _ in range(5)))
        for _ in range(2):
            await recent()
        assert made == expected


@pytest.mark.parametrize(("free", "state"), [(1, "error"), (200 * 2**20, "warning"), (2**40, "ok")])
async def test_a_full_disk(world: World, monkeypatch: pytest.MonkeyPatch, free: int, state: State) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda _: free)
    check = (await checks(world))["disk"]
    assert (check.state, check.facts["free_bytes"]) == (state, free)


async def test_the_last_backup_is_the_time_of_a_file(world: World) -> None:
    assert (await checks(world))["backup"].state == "unknown"
    file = world.folder / "last-backup"
    file.touch()
    for days, state in ((1, "ok"), (3, "warning")):
        made = world.clock() - timedelta(days=days)
        os.utime(file, (made.timestamp(), made.timestamp()))
        assert (await checks(world))["backup"].state == state


def test_the_worst_known_check_counts() -> None:
    def state(*states: State) -> State:
        return Health(vectors.NOW, "1", [Check("x", each, "") for each in states]).state

    assert state("ok", "unknown") == "ok"
    assert state("unknown") == "unknown"
    assert state("ok", "warning", "error", "unknown") == "error"
