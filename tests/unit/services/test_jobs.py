"""Background jobs: one at a time, step by step, until they are done, whatever becomes of the process meanwhile."""

from __future__ import annotations

import asyncio
import uuid
from functools import partial
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tests.world import OURS
from thingmint.domain.errors import Unavailable
from thingmint.services import jobs as module
from thingmint.services.jobs import STEPS, JobRunner, add_job
from thingmint.store.table import to_micros

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from tests.world import World
    from thingmint.services.jobs import Job
    from thingmint.store.engine import Store, Transaction

_NOTE = "INSERT INTO hostnames (name, position) SELECT CAST($1 AS TEXT) || count(*), count(*) FROM hostnames"


async def add(tx: Transaction, name: str, now: datetime) -> None:
    await add_job(tx, OURS, str(uuid.uuid4()), "test", {"name": name}, now)


class Work:
    """Jobs of the kind "test": ``steps`` of each leave a row behind, and ``error`` is raised by a step."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.steps = 3
        self.error: Exception | None = None
        self.runner = JobRunner(world.store, world.clock)

    async def step(self, tx: Transaction, job: Job) -> bool:
        if self.error is not None:
            raise self.error
        await tx.execute(_NOTE, job.payload["name"])
        rows = await tx.fetch_all("SELECT 1 FROM hostnames WHERE name LIKE $1", job.payload["name"] + "%")
        return len(rows) < self.steps

    async def add(self, *names: str) -> None:
        for name in names:
            await self.world.write(partial(add, name=name, now=self.world.clock()))

    async def done(self) -> str:
        """The steps that were taken and kept, in order."""
        return "".join(name[0] for (name,) in await self.world.rows("SELECT name FROM hostnames ORDER BY position"))


@pytest.fixture
def work(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    made = Work(world)
    STEPS["test"] = made.step
    yield made
    del STEPS["test"]


async def test_jobs_are_run_to_their_ends_one_after_the_other(work: Work) -> None:
    await work.add("a", "b")
    with capture_logs() as logs:
        await work.runner.run_due()
    assert await work.done() in ("aaabbb", "bbbaaa")
    assert await work.world.count("jobs") == 0
    assert [line["event"] for line in logs] == ["job_done"] * 2
    assert (logs[0]["kind"], logs[0]["account"], logs[0]["region"]) == ("test", *OURS)


async def test_a_job_is_added_with_its_change_or_not_at_all(work: Work) -> None:
    async def change(tx: Transaction) -> None:
        await add(tx, "a", work.world.clock())
        raise KeyError

    with pytest.raises(KeyError):
        await work.world.write(change)
    assert await work.world.count("jobs") == 0


async def test_where_nothing_is_due_nothing_is_written(work: Work) -> None:
    changes = work.world.store.writes
    await work.runner.run_due()
    assert work.world.store.writes == changes


async def test_a_job_goes_on_after_its_process_was_killed(work: Work) -> None:
    """The other process waits for as long as a step may take."""
    await work.add("a")
    held = await work.runner._take()
    assert held is not None
    await work.runner._step(held)  # and no other one
    other = JobRunner(work.world.store, work.world.clock)
    await other.run_due()
    assert await work.done() == "a"
    work.world.clock.advance(seconds=5)
    await other.run_due()
    assert await work.done() == "aaa"


async def test_two_processes_do_not_share_a_job(work: Work) -> None:
    """The first was held up for so long that the second took over: its step is none."""
    await work.add("a")
    held = await work.runner._take()
    assert held is not None
    work.world.clock.advance(seconds=6)
    other = JobRunner(work.world.store, work.world.clock)
    assert await other._take() is not None
    assert await work.runner._step(held) is None
    assert (await work.done(), await work.world.count("jobs")) == ("", 1)


async def test_a_job_that_fails_is_tried_again_later_and_stops_no_other(work: Work) -> None:
    await work.add("a")
    work.error = KeyError("a bug")
    pauses = []
    for _ in range(12):
        with capture_logs() as logs:
            await work.runner.run_due()
        assert [line["event"] for line in logs] == ["job_failed"]
        ((due_at, failures),) = await work.world.rows("SELECT due_at, failures FROM jobs")
        pauses.append(round((due_at - to_micros(work.world.clock())) / 1e6))
        assert (work.runner.waiting, work.runner.failing) == (1, 1)
        await work.runner.run_due()
        assert failures == len(pauses), "not before its time"
        work.world.clock.advance(seconds=pauses[-1])
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]
    work.error = None
    await work.add("b")
    await work.runner.run_due()
    assert sorted(await work.done()) == list("aaabbb")
    assert (work.runner.waiting, work.runner.failing) == (0, 0)


async def test_a_job_of_a_kind_that_this_version_does_not_know_waits(work: Work) -> None:
    await work.add("a")
    await work.world.execute("UPDATE jobs SET kind = 'of a later version'")
    with capture_logs() as logs:
        await work.runner.run_due()
    assert [line["event"] for line in logs] == ["job_failed"]
    assert await work.world.count("jobs") == 1


async def test_the_store_being_away_is_no_failure_of_a_job(work: Work) -> None:
    await work.add("a")
    work.error = Unavailable("The store failed")
    with pytest.raises(Unavailable):
        await work.runner.run_due()
    work.error = None
    work.world.clock.advance(seconds=5)
    await work.runner.run_due()
    assert await work.done() == "aaa"


async def test_repeated_work_goes_on_whatever_happens(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REPEAT_EVERY", 0.0)
    monkeypatch.setattr(module, "_LOOK_EVERY", 0.0)
    errors: list[Exception | None] = [Unavailable("gone"), KeyError("a bug"), None]
    asked: list[str] = []
    enough = asyncio.Event()

    async def first(_store: Store, _now: datetime) -> None:
        asked.append("first")
        error = errors.pop(0) if errors else None
        if error is not None:
            raise error

    async def second(_store: Store, now: datetime) -> None:
        assert now == world.clock()
        asked.append("second")
        if not errors:
            enough.set()

    with capture_logs() as logs:
        running = asyncio.create_task(JobRunner(world.store, world.clock, [first, second]).run())
        await asyncio.wait_for(enough.wait(), 5)
        running.cancel()
        await asyncio.wait([running])
    assert asked[:5] == ["first", "first", "second", "first", "second"]
    assert [line["event"] for line in logs] == ["jobs_wait_for_the_store", "job_failed"]


async def test_the_runner_begins_with_what_is_due(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_EVERY", 0.001)
    running = asyncio.create_task(work.runner.run())
    await work.add("a")
    for _ in range(500):
        if await work.done() == "aaa":
            break
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])
    assert await work.done() == "aaa"


async def test_kinds_are_declared_once(work: Work) -> None:
    with pytest.raises(AssertionError, match="declared twice"):
        module.job("test")(work.step)
