"""If several processes share a store, the one with the newest connection of a client id has it."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from tests.unit.services.test_leases import Process, let_pass
from tests.world import OURS, THEIRS
from thingmint.services.client_ids import ClientIds, forget_process
from thingmint.services.leases import PERIOD, PROCESS, LeasedStore, LeaseKeeper, SoleHolder

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.services.client_ids import Claim


class Processes:
    def __init__(self, world: World) -> None:
        self.world = world
        self.a, self.b = (ClientIds(world.store, name, world.clock) for name in "ab")

    async def rows(self) -> list[tuple[str, str]]:
        rows = await self.world.rows("SELECT client_id, process FROM connections ORDER BY account, client_id")
        return [(client_id, process) for client_id, process in rows]

    async def published(self) -> list[str]:
        return [name for kind, name in await self.world.published() if kind == "client"]


@pytest.fixture
def both(world: World) -> Processes:
    return Processes(world)


async def test_the_newest_connection_has_the_client_id(both: Processes) -> None:
    first = await both.a.claim(OURS, "lamp")
    assert (await both.a.lost([first]), await both.published()) == ([], [])
    second = await both.b.claim(OURS, "lamp")
    assert await both.published() == ["lamp"]
    assert await both.a.lost([first]) == [first]
    assert await both.b.lost([second]) == []
    assert second.epoch > first.epoch
    assert await both.rows() == [("lamp", "b")]


async def test_taking_a_client_id_within_a_process_publishes_nothing(both: Processes) -> None:
    first, second = await both.a.claim(OURS, "lamp"), await both.a.claim(OURS, "lamp")
    assert await both.published() == []
    assert await both.a.lost([first, second]) == [first]


async def test_client_ids_are_unique_per_account(both: Processes) -> None:
    ours, theirs = await both.a.claim(OURS, "lamp"), await both.b.claim(THEIRS, "lamp")
    assert (await both.a.lost([ours]), await both.b.lost([theirs]), await both.published()) == ([], [], [])


async def test_a_late_release_does_not_release_a_later_claim(both: Processes) -> None:
    first = await both.a.claim(OURS, "lamp")
    second = await both.b.claim(OURS, "lamp")
    both.a.release(first)
    await both.a.flush()
    assert await both.rows() == [("lamp", "b")]
    both.b.release(second)
    await both.b.flush()
    assert await both.rows() == []
    both.world.clock.advance(seconds=1)
    third = await both.a.claim(OURS, "lamp")
    both.a.release(first)  # again, after another process had the row
    await both.a.flush()
    assert await both.a.lost([third]) == []


async def test_epochs_increase_even_if_another_clock_is_ahead(both: Processes) -> None:
    both.world.clock.advance(hours=1)
    first = await both.a.claim(OURS, "lamp")
    both.world.clock.advance(hours=-1)
    assert (await both.b.claim(OURS, "lamp")).epoch == first.epoch + 1


async def test_one_of_many_concurrent_claims_has_the_client_id(both: Processes) -> None:
    processes = [both.a, both.b] * 10
    random.shuffle(processes)
    claims = await asyncio.gather(*(process.claim(OURS, "lamp") for process in processes))
    kept = [claim for p, claim in zip(processes, claims, strict=True) if not await p.lost([claim])]
    assert kept == [max(claims, key=lambda claim: claim.epoch)]


async def test_a_process_deletes_its_rows_when_it_stops(both: Processes) -> None:
    for number in range(3):
        await both.a.claim(OURS, f"a{number}")
    await both.b.claim(OURS, "b")
    await both.a.close()
    assert await both.rows() == [("b", "b")]


async def test_the_rows_of_a_process_that_ended_are_deleted(world: World, both: Processes) -> None:
    gone, here = Process(world, "a"), Process(world, "b")
    gone.keeper = LeaseKeeper(world.store, "a", [PROCESS + "a"], gone.clock, lambda: gone.monotonic)
    here.keeper = LeaseKeeper(world.store, "b", [PROCESS + "b", "jobs"], here.clock, lambda: here.monotonic)
    jobs = LeasedStore(world.store, here.keeper, "jobs")
    for process, name in ((both.a, "first"), (both.a, "second"), (both.b, "third")):
        await process.claim(OURS, name)
    await let_pass(3, gone, here)
    assert here.keeper.gone(PROCESS) == []
    await let_pass(PERIOD + 1, here)
    (lease,) = here.keeper.gone(PROCESS)
    await forget_process(jobs, lease)
    assert await both.rows() == [("third", "b")]
    assert await world.rows("SELECT name FROM leases ORDER BY name") == [("jobs",), (PROCESS + "b",)]


async def test_a_process_that_was_cut_off_writes_its_rows_again(world: World, both: Processes) -> None:
    cut_off, here = Process(world, "a"), Process(world, "b")
    cut_off.keeper = LeaseKeeper(world.store, "a", [PROCESS + "a"], cut_off.clock, lambda: cut_off.monotonic)
    kept, lost = await both.a.claim(OURS, "kept"), await both.a.claim(OURS, "lost")
    await let_pass(1, cut_off, here)
    await let_pass(PERIOD + 1, here)
    (lease,) = here.keeper.gone(PROCESS)
    await forget_process(LeasedStore(world.store, SoleHolder(), "jobs"), lease)
    await both.b.claim(OURS, "lost")
    assert await both.published() == []  # the row of the former process was deleted
    await let_pass(2, cut_off)
    assert cut_off.keeper.times_taken(PROCESS + "a") == 2
    await both.a.restore([kept, lost])
    assert await both.a.lost([kept, lost]) == [lost]


async def test_a_process_that_returns_in_time_keeps_its_rows(world: World, both: Processes) -> None:
    slow, here = Process(world, "a"), Process(world, "b")
    slow.keeper = LeaseKeeper(world.store, "a", [PROCESS + "a"], slow.clock, lambda: slow.monotonic)
    claim = await both.a.claim(OURS, "lamp")
    await let_pass(1, slow, here)
    await let_pass(PERIOD + 1, here)
    (lease,) = here.keeper.gone(PROCESS)
    await let_pass(1, slow)
    await forget_process(LeasedStore(world.store, SoleHolder(), "jobs"), lease)
    assert await both.a.lost([claim]) == []


async def test_claims_of_different_devices_do_not_conflict(world: World, both: Processes) -> None:
    """Each claim is one statement, which reads no other claim's row."""
    before = world.store.writes
    claims: list[Claim] = await asyncio.gather(*(both.a.claim(OURS, f"d{number}") for number in range(50)))
    assert len({claim.client_id for claim in claims}) == 50
    assert world.store.writes - before == 50
