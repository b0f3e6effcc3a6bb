"""If several processes share a store, the one with the newest connection of a client id has it."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from tests.unit.services.test_leases import Process, let_pass
from tests.world import OURS, THEIRS
from thingmint.domain.errors import Unavailable
from thingmint.services.client_ids import (
    VERSION_KEPT,
    ClientIds,
    Vanished,
    Wanted,
    forget_old_versions,
    forget_process,
)
from thingmint.services.leases import PERIOD, PROCESS, LeasedStore, LeaseKeeper, SoleHolder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.world import World
    from thingmint.services.client_ids import Claim


class Processes:
    def __init__(self, world: World) -> None:
        self.world = world
        self.a, self.b = (ClientIds(world.store, name, world.clock) for name in "ab")
        self.reported: list[Vanished] = []

    async def report(self, vanished: Sequence[Vanished]) -> None:
        self.reported += vanished

    async def rows(self) -> list[tuple[str, str]]:
        rows = await self.world.rows(
            "SELECT client_id, process FROM connections WHERE process <> '' ORDER BY account, client_id"
        )
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


async def test_clients_of_all_processes_are_listed(both: Processes) -> None:
    for name in ("a", "c"):
        await both.a.claim(OURS, name)
    await both.b.claim(OURS, "b")
    await both.b.claim(THEIRS, "d")
    assert [await both.a.after(OURS, after, 2) for after in ("", "a", "c")] == [["a", "b"], ["b", "c"], []]
    at = both.world.clock()
    assert await both.a.connected_elsewhere(OURS, ["a", "b", "c", "d"]) == [("b", at)]


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
    await forget_process(jobs, lease, world.clock, both.report)
    assert await both.rows() == [("third", "b")]
    assert await world.rows("SELECT name FROM leases ORDER BY name") == [("jobs",), (PROCESS + "b",)]


async def test_a_process_that_was_cut_off_writes_its_rows_again(world: World, both: Processes) -> None:
    cut_off, here = Process(world, "a"), Process(world, "b")
    cut_off.keeper = LeaseKeeper(world.store, "a", [PROCESS + "a"], cut_off.clock, lambda: cut_off.monotonic)
    kept, lost = await both.a.claim(OURS, "kept"), await both.a.claim(OURS, "lost")
    await let_pass(1, cut_off, here)
    await let_pass(PERIOD + 1, here)
    (lease,) = here.keeper.gone(PROCESS)
    await forget_process(LeasedStore(world.store, SoleHolder(), "jobs"), lease, world.clock, both.report)
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
    await forget_process(LeasedStore(world.store, SoleHolder(), "jobs"), lease, world.clock, both.report)
    assert await both.a.lost([claim]) == []


async def test_claims_of_different_devices_do_not_conflict(world: World, both: Processes) -> None:
    """Each claim is one statement, which reads no other claim's row."""
    before = world.store.writes
    claims: list[Claim] = await asyncio.gather(*(both.a.claim(OURS, f"d{number}") for number in range(50)))
    assert len({claim.client_id for claim in claims}) == 50
    assert world.store.writes - before == 50


async def test_versions_count_the_connections_of_a_client_id(world: World, both: Processes) -> None:
    # Each takes the client id from the one before.
    claims = [await process.claim(OURS, "lamp", "about") for process in (both.a, both.b, both.a, both.a)]
    last = claims[-1]
    assert [claim.version for claim in claims] == [0, 1, 2, 3]
    assert (await both.b.claim(THEIRS, "lamp", "about")).version == 0
    both.a.release(last, VERSION_KEPT)
    await both.a.flush()
    world.clock.advance(seconds=VERSION_KEPT - 1)
    again = await both.b.claim(OURS, "lamp", "about")
    assert (again.version, again.vanished) == (4, None)
    both.b.release(again, VERSION_KEPT)
    await both.b.flush()
    world.clock.advance(seconds=VERSION_KEPT + 1)
    assert (await both.b.claim(OURS, "lamp", "about")).version == 0


async def test_several_claims_in_one_transaction_count_in_their_order(both: Processes) -> None:
    claims = await both.a.claim_all([Wanted(OURS, "lamp", "1"), Wanted(OURS, "other", "2"), Wanted(OURS, "lamp", "3")])
    assert [(claim.client_id, claim.version, claim.about) for claim in claims] == [
        ("lamp", 0, "1"),
        ("other", 0, "2"),
        ("lamp", 1, "3"),
    ]
    assert await both.a.lost(claims) == [claims[0]]


async def test_a_claim_knows_the_connection_of_another_process_before_it(both: Processes) -> None:
    await both.a.claim(OURS, "lamp", "first")
    assert (await both.b.claim(OURS, "lamp", "second")).vanished == Vanished(OURS, "lamp", 0, "first")
    assert (await both.b.claim(OURS, "lamp", "third")).vanished is None  # of the same process
    await both.a.claim(OURS, "yandex", "")
    assert (await both.b.claim(OURS, "yandex", "")).vanished is None  # its end has no event


async def test_the_ends_of_connections_are_reported_before_they_are_released(world: World, both: Processes) -> None:
    former = ClientIds(world.store, "former", world.clock, is_shared=False)
    now = ClientIds(world.store, "now", world.clock, is_shared=False)
    claims = [await former.claim(OURS, name, name.upper()) for name in ("a", "b")]
    await former.claim(OURS, "silent")
    own = await now.claim(OURS, "own", "OWN")
    failing = True

    async def report(vanished: Sequence[Vanished]) -> None:
        await both.report(vanished)
        if failing:
            raise Unavailable("killed")

    with pytest.raises(Unavailable):
        await now.forget_former(report)
    failing = False
    await now.forget_former(report)
    ends = [Vanished(OURS, "a", 0, "A"), Vanished(OURS, "b", 0, "B")]
    assert both.reported == ends * 2
    assert await both.rows() == [("own", "now")]
    assert await now.lost([own, *claims]) == claims
    assert (await now.claim(OURS, "a", "A")).version == 1
    assert await both.published() == []  # no other process has to notice


async def test_a_process_that_stops_leaves_what_it_did_not_report(both: Processes) -> None:
    reported = await both.a.claim(OURS, "reported", "x")
    await both.a.claim(OURS, "unreported", "x")
    both.a.release(reported)
    await both.a.close()
    assert await both.rows() == [("unreported", "a")]


async def test_old_versions_are_forgotten(world: World, both: Processes) -> None:
    ended, kept = await both.a.claim(OURS, "ended", "x"), await both.a.claim(OURS, "kept", "x")
    await both.a.claim(OURS, "open", "x")
    both.a.release(ended, 60)
    both.a.release(kept, 3600)
    await both.a.flush()
    world.clock.advance(seconds=61)
    await forget_old_versions(world.store, world.clock())
    assert await world.rows("SELECT client_id FROM connections ORDER BY client_id") == [("kept",), ("open",)]
