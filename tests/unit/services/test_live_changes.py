"""Counting the devices that are connected to all processes on one database, and hearing what they do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.world import ABROAD, OURS, THEIRS
from thingmint.domain.arns import Scope
from thingmint.domain.errors import Unavailable
from thingmint.services import live_changes
from thingmint.services.live_changes import CONNECTIONS, REFUSALS, LiveChanges, Publishing, names_about

if TYPE_CHECKING:
    from tests.world import World


@dataclass
class Leases:
    """``ended`` are names of leases that are not renewed."""

    ended: set[str] = field(default_factory=set)

    def runs(self, name: str, since: float) -> bool | None:
        del since
        return name not in self.ended


class Process:
    """A process with numbers of connections, and what it heard."""

    def __init__(self, world: World, name: str, leases: Leases) -> None:
        self.connected: dict[Scope, int] = {}
        self.heard: list[tuple[Scope, str]] = []
        self.now = 0.0
        publishing = Publishing(world.store, name, cast("Any", leases), world.clock)
        self.live = LiveChanges(
            lambda scope: self.connected.get(scope, 0), lambda: list(self.connected), publishing, lambda: self.now
        )
        self.live.follow(lambda scope, what: self.heard.append((scope, what)))
        world.store.followers.append(self.live.changed)

    async def connect(self, number: int, scope: Scope = OURS) -> None:
        self.connected[scope] = self.connected.get(scope, 0) + number
        self.live.note(CONNECTIONS, scope)
        await self.live.flush()


@pytest.fixture
def leases() -> Leases:
    return Leases()


async def test_the_connections_of_all_processes_are_counted(world: World, leases: Leases) -> None:
    first, second, third = (Process(world, name, leases) for name in ("first", "second", "third"))
    await first.connect(3)
    await second.connect(4)
    await second.connect(1, ABROAD)
    await third.connect(2, THEIRS)
    for process in (first, second, third):
        assert [process.live.count(scope) for scope in (OURS, ABROAD, THEIRS)] == [7, 1, 2]
    await second.connect(-4)
    assert [process.live.count(OURS) for process in (first, second, third)] == [3, 3, 3]
    leases.ended.add("process:third")
    assert first.live.count(THEIRS) == 0, "its devices are gone with it"
    assert third.live.count(THEIRS) == 2


async def test_other_processes_hear_of_changes_with_equal_numbers_too(world: World, leases: Leases) -> None:
    first, second = Process(world, "first", leases), Process(world, "second", leases)
    await first.connect(1)
    assert second.heard == [(OURS, CONNECTIONS)]
    first.live.note(REFUSALS, THEIRS)
    first.live.note(CONNECTIONS, OURS)
    assert first.heard[1:] == [(THEIRS, REFUSALS), (OURS, CONNECTIONS)], "at once"
    assert len(second.heard) == 1
    await first.live.flush()
    assert sorted(second.heard[1:]) == [(OURS, CONNECTIONS), (THEIRS, REFUSALS)]


async def test_many_changes_are_published_in_one_row(world: World, leases: Leases) -> None:
    process = Process(world, "first", leases)
    before = await world.count("outbox")
    process.connected = {Scope(str(account), "us-east-1"): 1 for account in range(100)}
    for _ in range(10):
        for scope in process.connected:
            process.live.note(CONNECTIONS, scope)
    await process.live.flush()
    await process.live.flush()
    assert await world.count("outbox") == before + 1


async def test_other_processes_hear_which_session_changed(world: World, leases: Leases) -> None:
    first, second = Process(world, "first", leases), Process(world, "second", leases)
    first.live.note(CONNECTIONS, OURS, "pump 1")
    assert first.heard == [(OURS, CONNECTIONS), (OURS, "connections pump 1")]
    await first.live.flush()
    assert sorted(second.heard) == sorted(first.heard)


async def test_of_very_many_or_long_names_others_hear_that_there_are_many(world: World, leases: Leases) -> None:
    first, second = Process(world, "first", leases), Process(world, "second", leases)
    for name in [*(f"pump-{number}" for number in range(1000)), *map(chr, range(0x4E00, 0x4E80))]:
        first.live.note(CONNECTIONS, OURS, name)
        assert len(first.live._noted[OURS]) <= live_changes._MAX_NAMES + 1
    first.live.note(CONNECTIONS, THEIRS, "x" * 10_000)
    await first.live.flush()
    _, many = names_about(CONNECTIONS, "pump-1")
    assert {(OURS, CONNECTIONS), (OURS, many), (THEIRS, CONNECTIONS), (THEIRS, many)} <= set(second.heard)
    assert len(second.heard) < 2 * live_changes._MAX_NAMES


async def test_a_process_that_starts_learns_the_numbers_of_the_others(world: World, leases: Leases) -> None:
    first = Process(world, "first", leases)
    await first.connect(3)
    second = Process(world, "second", leases)
    assert second.live.count(OURS) == 0
    await second.live._publish([None])
    await first.live.flush()
    assert second.live.count(OURS) == 3
    assert second.heard == [(OURS, CONNECTIONS)]


async def test_all_numbers_are_published_again_and_old_ones_forgotten(
    world: World, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Process(world, "first", leases), Process(world, "second", leases)
    await first.connect(3)
    assert second.live.count(OURS) == 3
    second.now = 1000.0
    second.live._forget()
    assert second.live.count(OURS) == 0, "it published nothing for long"
    first.live._note_all()
    await first.live.flush()
    assert second.live.count(OURS) == 3
    assert live_changes._FORGET_AFTER > live_changes._ALL_EVERY


async def test_what_the_store_does_not_take_is_published_later(
    world: World, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Process(world, "first", leases), Process(world, "second", leases)

    async def refuse(*_: object, **__: object) -> None:
        raise Unavailable("the disk is full")

    with monkeypatch.context() as away:
        away.setattr(world.store, "write", refuse)
        await first.connect(3)
    assert second.live.count(OURS) == 0
    await first.live.flush()
    assert second.live.count(OURS) == 3
    assert second.heard == [(OURS, CONNECTIONS)]


async def test_a_process_alone_publishes_nothing(world: World) -> None:
    heard: list[tuple[Scope, str]] = []
    live = LiveChanges(lambda _: 5, lambda: [OURS])
    live.follow(lambda scope, what: heard.append((scope, what)))
    before = await world.count("outbox")
    live.note(CONNECTIONS, OURS)
    await live.flush()
    assert heard == [(OURS, CONNECTIONS)]
    assert live.count(OURS) == 5
    assert await world.count("outbox") == before
