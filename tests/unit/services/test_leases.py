"""One process has a lease; another takes it when the holder stops renewing; a late holder writes nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from tests.unit.vectors import FakeClock
from thingmint.access.audit_events import new_record_id
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
    """A store that is unavailable while ``away``."""

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
    """A process with its own clocks, and with ``note``, which requires the lease."""

    def __init__(self, world: World, name: str) -> None:
        self.clock, self.monotonic = FakeClock(), 100.0
        self.connection = Away(world.store)
        self.keeper = LeaseKeeper(self.connection, name, ["work"], self.clock, lambda: self.monotonic)
        self.store = LeasedStore(self.connection, self.keeper, "work")

    async def note(self, name: str) -> None:
        await self.store.write(lambda tx: tx.execute(_NOTE, name, 0))


async def let_pass(seconds: float, *processes: Process) -> None:
    """Advance the clocks; each of ``processes`` renews its leases in that time."""
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


async def test_one_process_has_a_lease_while_it_renews_it(world: World, processes: tuple[Process, Process]) -> None:
    first, second = processes
    await asyncio.gather(*(process.keeper.turn() for process in processes))
    assert sorted(process.store.held for process in processes) == [False, True]
    holder = await lease(world)
    await let_pass(10 * PERIOD, first, second)
    assert await lease(world) == holder
    assert sorted(process.store.held for process in processes) == [False, True]


async def test_a_lease_is_taken_over_one_period_after_its_last_renewal(
    world: World, processes: tuple[Process, Process]
) -> None:
    first, second = processes
    await let_pass(3, first, second)
    await let_pass(PERIOD - RENEW_EVERY, second)
    assert (second.store.held, await lease(world)) == (False, ("first", 1))
    with capture_logs() as logs:
        await let_pass(2 * RENEW_EVERY, second)
    assert (second.store.held, await lease(world)) == (True, ("second", 2))
    taken = {"lease": "work", "process": "second", "epoch": 2, "taken_from": "first"}
    assert logs == [{"event": "lease_taken", "log_level": "info", **taken}]


async def test_the_others_are_the_processes_that_renew_their_leases(
    world: World, processes: tuple[Process, Process]
) -> None:
    first, second = processes
    await let_pass(3, first, second)
    assert (first.keeper.others("wo"), second.keeper.others("wo")) == ([], ["first"])
    assert second.keeper.others("other") == []
    await let_pass(PERIOD - RENEW_EVERY, second)
    assert second.keeper.others("wo") == ["first"]
    await first.keeper.release()
    await let_pass(RENEW_EVERY, second)
    assert second.keeper.others("wo") == []


async def test_a_process_with_a_gap_in_reading_takes_no_lease(world: World, processes: tuple[Process, Process]) -> None:
    """Its read took long, as the holder's renewal did, because the database or the host did not answer."""
    first, second = processes
    await let_pass(3, first, second)
    for process in processes:
        process.monotonic += 2 * PERIOD
    assert second.keeper.gone("work") == []
    await second.keeper.turn()
    assert second.keeper.gone("work") == []
    assert (second.store.held, await lease(world)) == (False, ("first", 1))
    await first.keeper.turn()
    await let_pass(PERIOD, first, second)
    assert (first.store.held, await lease(world)) == (True, ("first", 1))


@pytest.mark.parametrize("minutes", [-60, 60])
async def test_different_wall_clocks_do_not_move_a_lease(
    world: World, processes: tuple[Process, Process], minutes: int
) -> None:
    first, second = processes
    second.clock.advance(minutes=minutes)
    with capture_logs() as logs:
        await let_pass(3 * PERIOD, first, second)
    assert (first.store.held, second.store.held, await lease(world)) == (True, False, ("first", 1))
    assert [(line["event"], line["other"], line["seconds_ahead"]) for line in logs if "other" in line] == [
        ("clocks_differ", "first", minutes * -60)
    ]


async def test_a_holder_whose_clock_is_set_back_keeps_its_lease(
    world: World, processes: tuple[Process, Process]
) -> None:
    first, second = processes
    await let_pass(3, first, second)
    first.clock.advance(minutes=-60)
    await let_pass(3 * PERIOD, first, second)
    assert (first.store.held, await lease(world)) == (True, ("first", 1))


async def test_a_holder_stops_before_another_process_can_take_the_lease(
    processes: tuple[Process, Process],
) -> None:
    first, second = processes
    await let_pass(3, first, second)
    first.monotonic += PERIOD
    assert not first.store.held
    with pytest.raises(LeaseLost):
        await first.note("late")


async def test_a_stalled_former_holder_writes_nothing(world: World, processes: tuple[Process, Process]) -> None:
    """By its own clock, which was stopped too, it still has the lease."""
    first, second = processes
    await let_pass(3, first, second)
    await let_pass(2 * PERIOD, second)
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


async def test_a_running_write_commits_before_the_lease_is_taken_or_fails(
    world: World, processes: tuple[Process, Process]
) -> None:
    """On PostgreSQL the two transactions run concurrently."""
    if not world.store.is_shared:
        pytest.skip("a body on SQLite runs in one step")
    first, second = processes
    await let_pass(3, first, second)
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
    await let_pass(2 * PERIOD, second)
    await second.store.write(next_holder)
    taken.set()
    with pytest.raises(LeaseLost):
        await late
    assert await world.rows("SELECT name, position FROM hostnames") == [("second", 0)]


async def test_a_released_lease_is_taken_immediately(world: World, processes: tuple[Process, Process]) -> None:
    first, second = processes
    await let_pass(3, first, second)
    await first.keeper.release()
    assert not first.store.held
    await second.keeper.turn()
    assert (second.store.held, await lease(world)) == (True, ("second", 2))
    await first.keeper.release()
    assert await lease(world) == ("second", 2)


async def test_no_lease_is_taken_after_the_store_was_unavailable(
    world: World, processes: tuple[Process, Process]
) -> None:
    """The store was unavailable for both, so the holder could not renew."""
    first, second = processes
    await let_pass(3, first, second)
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
    await let_pass(PERIOD, first, second)
    assert (first.store.held, second.store.held, await lease(world)) == (True, False, ("first", 1))


async def test_a_sole_process_has_every_lease_without_writes(world: World) -> None:
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
    await let_pass(3, *processes)
    with capture_logs() as logs:
        for each in runners:
            await each.run_due()
            await each._repeat()
    assert (done, logs) == (["first"], [])


async def test_only_the_process_with_the_lease_seals_audit_records(
    world: World, processes: tuple[Process, Process]
) -> None:
    first, second = processes

    async def sequences_after_a_record_of(process: Process) -> list[int | None]:
        world.clock.advance(seconds=1)
        row, insert = AuditRow(new_record_id(world.clock()), None, "{}"), insert_activity_with(process.store)
        await process.connection.write(lambda tx: insert(tx, [row]))
        return [number for (number,) in await world.rows("SELECT sequence FROM audit_activity ORDER BY id")]

    await let_pass(3, first, second)
    assert await sequences_after_a_record_of(first) == [1]
    assert await sequences_after_a_record_of(second) == [1, None]
    await let_pass(2 * PERIOD, second)
    assert first.store.held, "it was stalled, and does not know yet"
    assert await sequences_after_a_record_of(first) == [1, None, None]
    assert await sequences_after_a_record_of(second) == [1, None, None, 2]
