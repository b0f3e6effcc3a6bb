"""Background jobs: they run one at a time, step by step, to their end, even if a process is killed."""

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
    """Jobs of the kind "test": each takes ``steps`` steps, which write a row or raise ``error``."""

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
        """Return the committed steps in order."""
        return "".join(name[0] for (name,) in await self.world.rows("SELECT name FROM hostnames ORDER BY position"))


@pytest.fixture
def work(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    made = Work(world)
    STEPS["test"] = made.step
    yield made
    del STEPS["test"]


async def test_jobs_run_one_after_the_other(work: Work) -> None:
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


async def test_without_due_jobs_nothing_is_written(work: Work) -> None:
    changes = work.world.store.writes
    await work.runner.run_due()
    assert work.world.store.writes == changes


async def test_another_process_continues_the_job_of_a_killed_process(work: Work) -> None:
    """The other process waits as long as a step may take."""
    await work.add("a")
    held = await work.runner._take()
    assert held is not None
    await work.runner._step(held)  # one step only
    other = JobRunner(work.world.store, work.world.clock)
    await other.run_due()
    assert await work.done() == "a"
    work.world.clock.advance(seconds=5)
    await other.run_due()
    assert await work.done() == "aaa"


async def test_two_processes_do_not_share_a_job(work: Work) -> None:
    """The first process stalls until the second takes the job: the first one's step has no effect."""
    await work.add("a")
    held = await work.runner._take()
    assert held is not None
    work.world.clock.advance(seconds=6)
    other = JobRunner(work.world.store, work.world.clock)
    assert await other._take() is not None
    assert await work.runner._step(held) is None
    assert (await work.done(), await work.world.count("jobs")) == ("", 1)


async def test_a_failed_job_is_retried_later_and_does_not_stop_other_jobs(work: Work) -> None:
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


async def test_a_job_of_an_unknown_kind_waits(work: Work) -> None:
    await work.add("a")
    await work.world.execute("UPDATE jobs SET kind = 'of a later version'")
    with capture_logs() as logs:
        await work.runner.run_due()
    assert [line["event"] for line in logs] == ["job_failed"]
    assert await work.world.count("jobs") == 1


async def test_an_unavailable_store_does_not_count_as_a_failure(work: Work) -> None:
    await work.add("a")
    work.error = Unavailable("The store failed")
    with pytest.raises(Unavailable):
        await work.runner.run_due()
    work.error = None
    work.world.clock.advance(seconds=5)
    await work.runner.run_due()
    assert await work.done() == "aaa"


async def test_repeated_work_continues_after_errors(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_the_runner_starts_with_due_jobs(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_kinds_can_be_declared_once(work: Work) -> None:
    with pytest.raises(AssertionError, match="declared twice"):
        module.job("test")(work.step)
