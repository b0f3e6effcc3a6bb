"""One process at a time has a lease; another takes it over once the holder is gone; a late holder writes nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from tests.unit.vectors import FakeClock
from thingmint.access.audit import new_record_id
from thingmint.access.audit_sealer import insert_activity_with
from thingmint.domain.errors import Unavailable
from thingmint.services.jobs import JobRunner
from thingmint.services.leases import PERIOD, RENEW_EVERY, LeasedStore, LeaseKeeper, LeaseLost, SoleHolder
from thingmint.store.audit import AuditRow
from thingmint.store.engine import StoreWrapper

if TYPE_CHECKING:
    from datetime import datetime

    from tests.world import World
    from thingmint.store.engine import Body, Store, Transaction

_NOTE = "INSERT INTO hostnames (name, position) VALUES ($1, $2)"


class Away(StoreWrapper):
    """A store that cannot be reached while it is ``away``."""

    away = False

    async def read(self, body: Body[Any]) -> Any:
        if self.away:
            raise Unavailable("away")
        return await super().read(body)

    async def write(self, body: Body[Any], *, urgent: bool = False, once: bool = False) -> Any:
        if self.away:
            raise Unavailable("away")
        return await super().write(body, urgent=urgent, once=once)


class Process:
    """A process with clocks of its own, and ``note``, which may only be done with the lease."""

    def __init__(self, world: World, name: str) -> None:
        self.clock, self.monotonic = FakeClock(), 100.0
        self.connection = Away(world.store)
        self.keeper = LeaseKeeper(self.connection, name, ["work"], self.clock, lambda: self.monotonic)
        self.store = LeasedStore(self.connection, self.keeper, "work")

    async def note(self, name: str) -> None:
        await self.store.write(lambda tx: tx.execute(_NOTE, name, 0))


async def passes(seconds: float, *processes: Process) -> None:
    """Each of ``processes`` takes its turns meanwhile."""
    for _ in range(round(seconds / RENEW_EVERY)):
        for process in processes:
            process.monotonic += RENEW_EVERY
            process.clock.advance(seconds=RENEW_EVERY)
            await process.keeper.turn()


@pytest.fixture
def processes(world: World) -> tuple[Process, Process]:
    return Process(world, "first"), Process(world, "second")


async def lease(world: World) -> tuple[str, int]:
    ((holder, epoch),) = await world.rows("SELECT holder, epoch FROM leases WHERE name = 'work'")
    return holder, epoch


async def test_one_process_has_a_lease_for_as_long_as_it_renews_it(
    world: World, processes: tuple[Process, Process]
) -> None:
    first, second = processes
    await asyncio.gather(*(process.keeper.turn() for process in processes))
    assert sorted(process.store.held for process in processes) == [False, True]
    holder = await lease(world)
    await passes(10 * PERIOD, first, second)
    assert await lease(world) == holder
    assert sorted(process.store.held for process in processes) == [False, True]


async def test_a_lease_is_taken_over_a_period_after_its_holder_is_gone(
    world: World, processes: tuple[Process, Process]
) -> None:
    first, second = processes
    await passes(3, first, second)
    await passes(PERIOD - RENEW_EVERY, second)
    assert (second.store.held, await lease(world)) == (False, ("first", 1))
    with capture_logs() as logs:
        await passes(2 * RENEW_EVERY, second)
    assert (second.store.held, await lease(world)) == (True, ("second", 2))
    taken = {"lease": "work", "process": "second", "epoch": 2, "taken_from": "first"}
    assert logs == [{"event": "lease_taken", "log_level": "info", **taken}]


async def test_a_process_that_could_not_look_all_the_time_takes_nothing(
    world: World, processes: tuple[Process, Process]
) -> None:
    """Its own look took long, as the holder's renewal did: neither the database nor the host answered."""
    first, second = processes
    await passes(3, first, second)
    for process in processes:
        process.monotonic += 2 * PERIOD
    assert second.keeper.gone("work") == []
    await second.keeper.turn()
    assert second.keeper.gone("work") == []
    assert (second.store.held, await lease(world)) == (False, ("first", 1))
    await first.keeper.turn()
    await passes(PERIOD, first, second)
    assert (first.store.held, await lease(world)) == (True, ("first", 1))


@pytest.mark.parametrize("minutes", [-60, 60])
async def test_wall_clocks_that_differ_move_no_lease(
    world: World, processes: tuple[Process, Process], minutes: int
) -> None:
    first, second = processes
    second.clock.advance(minutes=minutes)
    with capture_logs() as logs:
        await passes(3 * PERIOD, first, second)
    assert (first.store.held, second.store.held, await lease(world)) == (True, False, ("first", 1))
    assert [(line["event"], line["other"], line["seconds_ahead"]) for line in logs if "other" in line] == [
        ("clocks_differ", "first", minutes * -60)
    ]


async def test_a_holder_whose_clock_is_set_back_keeps_its_lease(
    world: World, processes: tuple[Process, Process]
) -> None:
    first, second = processes
    await passes(3, first, second)
    first.clock.advance(minutes=-60)
    await passes(3 * PERIOD, first, second)
    assert (first.store.held, await lease(world)) == (True, ("first", 1))


async def test_a_holder_stops_by_its_own_clock_before_another_can_have_begun(
    processes: tuple[Process, Process],
) -> None:
    first, second = processes
    await passes(3, first, second)
    first.monotonic += PERIOD
    assert not first.store.held
    with pytest.raises(LeaseLost):
        await first.note("late")


async def test_a_holder_that_was_stalled_writes_nothing(world: World, processes: tuple[Process, Process]) -> None:
    """By its own clock, which stood still as well, it has the lease yet."""
    first, second = processes
    await passes(3, first, second)
    await passes(2 * PERIOD, second)
    await second.note("second")
    believes = [first.store.held]
    with pytest.raises(LeaseLost):
        await first.note("first")
    assert await world.rows("SELECT name FROM hostnames") == [("second",)]
    with capture_logs() as logs:
        await first.keeper.turn()
    believes.append(first.store.held)
    assert believes == [True, False]
    assert [line["event"] for line in logs] == ["lease_lost"]


async def test_a_write_under_way_ends_before_the_lease_is_another_s_or_not_at_all(
    world: World, processes: tuple[Process, Process]
) -> None:
    """On PostgreSQL the two are transactions side by side."""
    if not world.store.is_shared:
        pytest.skip("a body on SQLite runs in one step")
    first, second = processes
    await passes(3, first, second)
    begun, taken = asyncio.Event(), asyncio.Event()

    async def count(tx: Transaction) -> int:
        return len(await tx.fetch_all("SELECT name FROM hostnames"))

    async def slow(tx: Transaction) -> None:
        position = await count(tx)
        begun.set()
        await taken.wait()
        await tx.execute(_NOTE, "first", position)

    async def next_holder(tx: Transaction) -> None:
        await tx.execute(_NOTE, "second", await count(tx))

    late = asyncio.create_task(first.store.write(slow))
    await begun.wait()
    await passes(2 * PERIOD, second)
    await second.store.write(next_holder)
    taken.set()
    with pytest.raises(LeaseLost):
        await late
    assert await world.rows("SELECT name, position FROM hostnames") == [("second", 0)]


async def test_what_was_given_back_is_taken_at_once(world: World, processes: tuple[Process, Process]) -> None:
    first, second = processes
    await passes(3, first, second)
    await first.keeper.release()
    assert not first.store.held
    await second.keeper.turn()
    assert (second.store.held, await lease(world)) == (True, ("second", 2))
    await first.keeper.release()
    assert await lease(world) == ("second", 2)


async def test_a_process_that_could_not_look_takes_nothing_over_for_that(
    world: World, processes: tuple[Process, Process]
) -> None:
    """The store was away for both: the holder had no way to renew."""
    first, second = processes
    await passes(3, first, second)
    for process in processes:
        process.connection.away = True
    task = asyncio.create_task(second.keeper.run())
    await asyncio.sleep(0)
    task.cancel()
    for process in processes:
        process.connection.away = False
        process.monotonic += 10 * PERIOD
    await second.keeper.turn()
    assert not first.store.held
    await passes(PERIOD, first, second)
    assert (first.store.held, second.store.held, await lease(world)) == (True, False, ("first", 1))


async def test_the_only_process_has_every_lease_and_writes_nothing_for_it(world: World) -> None:
    store = LeasedStore(world.store, SoleHolder(), "work")
    assert store.held
    await store.write(lambda tx: tx.execute(_NOTE, "a", 0))
    assert await world.count("hostnames") == 1
    assert await world.count("leases") == 0


async def test_the_process_with_the_lease_runs_the_jobs(world: World, processes: tuple[Process, Process]) -> None:
    done: list[str] = []

    def runner(process: Process, name: str) -> JobRunner:
        async def repeated(store: Store, now: datetime) -> None:
            await process.note(name)
            done.append(name)

        return JobRunner(process.store, world.clock, [repeated])

    runners = [runner(process, name) for process, name in zip(processes, ("first", "second"), strict=True)]
    await passes(3, *processes)
    with capture_logs() as logs:
        for each in runners:
            await each.run_due()
            await each._repeat()
    assert (done, logs) == (["first"], [])


async def test_the_process_with_the_lease_seals_what_it_writes_and_others_leave_it_to_that(
    world: World, processes: tuple[Process, Process]
) -> None:
    first, second = processes

    async def sequences_after_a_record_of(process: Process) -> list[int | None]:
        world.clock.advance(seconds=1)
        row, insert = AuditRow(new_record_id(world.clock()), None, "{}"), insert_activity_with(process.store)
        await process.connection.write(lambda tx: insert(tx, [row]))
        return [number for (number,) in await world.rows("SELECT sequence FROM audit_activity ORDER BY id")]

    await passes(3, first, second)
    assert await sequences_after_a_record_of(first) == [1]
    assert await sequences_after_a_record_of(second) == [1, None]
    await passes(2 * PERIOD, second)
    assert first.store.held, "it was stalled, and does not know yet"
    assert await sequences_after_a_record_of(first) == [1, None, None]
    assert await sequences_after_a_record_of(second) == [1, None, None, 2]
