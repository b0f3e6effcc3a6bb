"""Long work in slices: fair, in order, and limited in each turn."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tests.unit.mqtt.broker.embedded.helpers import Turns
from tests.unit.vectors import FakeMonotonic
from thingmint.mqtt.slices import SECONDS, STEPS, Slices

if TYPE_CHECKING:
    from collections.abc import Iterator


class World:
    """Records the steps of works, and counts them for each turn."""

    def __init__(self, step: float = 0) -> None:
        self.turns = Turns()
        self.clock = FakeMonotonic()
        self.slices = Slices(self.turns, self.clock)
        self.step = step  # seconds for one step
        self.done: list[str] = []

    def work(self, name: str, steps: int) -> Iterator[None]:
        for _ in range(steps):
            self.done.append(name)
            self.clock.now += self.step
            yield
        self.done.append(f"{name} ends")

    def each_turn(self) -> list[int]:
        """Returns the number of steps in each turn."""
        counts: list[int] = []
        while True:
            before = len(self.done)
            if not self.turns.one():
                return counts
            counts.append(len(self.done) - before)


def test_small_work_is_done_in_the_call() -> None:
    world = World()
    world.slices.run("a", "x", world.work("x", 3))
    assert world.done == ["x", "x", "x", "x ends"]
    assert world.slices.waiting == 0


def test_no_turn_takes_more_steps_than_allowed() -> None:
    world = World()
    world.slices.run("a", "x", world.work("x", 10_000))
    assert len(world.done) == STEPS
    assert max(world.each_turn()) <= STEPS
    assert world.done[-1] == "x ends"
    assert world.turns.all() == 0


def test_works_started_in_one_turn_share_its_steps() -> None:
    world = World()
    for number in range(1_000):
        world.slices.run("a", number, world.work(str(number), number % 3))
    assert len(world.done) <= STEPS
    assert max(world.each_turn()) <= STEPS
    assert sum(each.endswith("ends") for each in world.done) == 1_000


def test_long_steps_end_a_turn_early() -> None:
    world = World(step=SECONDS / 4)
    world.slices.run("a", "x", world.work("x", 100))
    assert len(world.done) == 4
    assert max(world.each_turn()) <= 5


def test_the_works_of_one_owner_are_done_in_order() -> None:
    world = World()
    for name in ("1", "2", "3"):
        world.slices.run("a", "x", world.work(name, 1_000))
    world.turns.all()
    assert world.done == sorted(world.done)
    assert len(world.done) == 3 * 1_001


def test_work_started_during_work_of_its_owner_waits() -> None:
    world = World()

    def outer() -> Iterator[None]:
        world.slices.run("a", "x", world.work("inner", 1))
        world.slices.run("a", "y", world.work("another's", 1))
        yield from world.work("outer", 1)

    world.slices.run("a", "x", outer())
    assert world.slices.has_waiting("a", "x")
    world.turns.all()
    assert world.done == ["another's", "another's ends", "outer", "outer ends", "inner", "inner ends"]


def test_turns_are_shared_between_accounts_and_between_owners() -> None:
    """An account with 100 busy owners gets as many steps as an account with one."""
    world = World()
    for number in range(100):
        world.slices.run("many", number, world.work("many", 10_000))
    world.slices.run("one", "x", world.work("one", 10_000))
    del world.done[:]
    for _ in range(50):
        world.turns.one()
    many, one = world.done.count("many"), world.done.count("one")
    assert abs(many - one) <= STEPS
    assert many + one == 50 * STEPS


def test_other_callbacks_run_between_two_turns() -> None:
    world = World()
    world.slices.run("a", "x", world.work("x", 10 * STEPS))
    world.turns(lambda: world.done.append("other"))
    world.turns.one()
    assert world.done.index("other") <= 2 * STEPS
    assert world.done[-1] != "x ends"


def test_a_failure_does_not_end_other_work() -> None:
    world = World()

    def fails() -> Iterator[None]:
        yield
        raise KeyError("a bug")

    with capture_logs() as logs:
        world.slices.run("a", "x", fails())
        world.slices.run("a", "x", world.work("x", 1))
    assert world.done == ["x", "x ends"]
    assert [line["event"] for line in logs] == ["work_in_slices_failed"]


@pytest.mark.parametrize("steps", [1, 10 * STEPS])
async def test_finish_returns_when_the_work_is_done(steps: int) -> None:
    world = World()
    slices = Slices()
    await slices.finish("a", "x", world.work("x", steps))
    assert len(world.done) == steps + 1
    await asyncio.sleep(0)
    assert slices.waiting == 0
