"""Long work in slices: fair, in order, and never more in one turn than is allowed."""

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


class Workshop:
    """Writes down the steps of works, and counts them turn by turn."""

    def __init__(self, step: float = 0) -> None:
        self.turns = Turns()
        self.clock = FakeMonotonic()
        self.slices = Slices(self.turns, self.clock)
        self.step = step  # seconds that one takes
        self.done: list[str] = []

    def work(self, name: str, steps: int) -> Iterator[None]:
        for _ in range(steps):
            self.done.append(name)
            self.clock.now += self.step
            yield
        self.done.append(f"{name} ends")

    def each_turn(self) -> list[int]:
        """How many steps each took."""
        counts: list[int] = []
        while True:
            before = len(self.done)
            if not self.turns.one():
                return counts
            counts.append(len(self.done) - before)


def test_small_work_is_done_at_once() -> None:
    shop = Workshop()
    shop.slices.run("a", "x", shop.work("x", 3))
    assert shop.done == ["x", "x", "x", "x ends"]
    assert shop.slices.waiting == 0


def test_no_turn_takes_more_steps_than_allowed() -> None:
    shop = Workshop()
    shop.slices.run("a", "x", shop.work("x", 10_000))
    assert len(shop.done) == STEPS
    assert max(shop.each_turn()) <= STEPS
    assert shop.done[-1] == "x ends"
    assert shop.turns.all() == 0


def test_what_is_begun_in_one_turn_shares_its_steps() -> None:
    shop = Workshop()
    for number in range(1_000):
        shop.slices.run("a", number, shop.work(str(number), number % 3))
    assert len(shop.done) <= STEPS
    assert max(shop.each_turn()) <= STEPS
    assert sum(each.endswith("ends") for each in shop.done) == 1_000


def test_long_steps_end_a_turn_earlier() -> None:
    shop = Workshop(step=SECONDS / 4)
    shop.slices.run("a", "x", shop.work("x", 100))
    assert len(shop.done) == 4
    assert max(shop.each_turn()) <= 5


def test_the_works_of_one_owner_are_done_in_order() -> None:
    shop = Workshop()
    for name in ("1", "2", "3"):
        shop.slices.run("a", "x", shop.work(name, 1_000))
    shop.turns.all()
    assert shop.done == sorted(shop.done)
    assert len(shop.done) == 3 * 1_001


def test_work_that_its_owner_begins_meanwhile_comes_after() -> None:
    shop = Workshop()

    def outer() -> Iterator[None]:
        shop.slices.run("a", "x", shop.work("inner", 1))
        shop.slices.run("a", "y", shop.work("another's", 1))
        yield from shop.work("outer", 1)

    shop.slices.run("a", "x", outer())
    assert shop.slices.has_waiting("a", "x")
    shop.turns.all()
    assert shop.done == ["another's", "another's ends", "outer", "outer ends", "inner", "inner ends"]


def test_accounts_share_turns_and_so_do_the_owners_in_one() -> None:
    """An account with 100 busy owners gets as much as one with a single one."""
    shop = Workshop()
    for number in range(100):
        shop.slices.run("many", number, shop.work("many", 10_000))
    shop.slices.run("one", "x", shop.work("one", 10_000))
    del shop.done[:]
    for _ in range(50):
        shop.turns.one()
    many, one = shop.done.count("many"), shop.done.count("one")
    assert abs(many - one) <= STEPS
    assert many + one == 50 * STEPS


def test_other_callbacks_run_between_two_turns() -> None:
    shop = Workshop()
    shop.slices.run("a", "x", shop.work("x", 10 * STEPS))
    shop.turns(lambda: shop.done.append("other"))
    shop.turns.one()
    assert shop.done.index("other") <= 2 * STEPS
    assert shop.done[-1] != "x ends"


def test_a_failure_ends_its_own_work_only() -> None:
    shop = Workshop()

    def fails() -> Iterator[None]:
        yield
        raise KeyError("a bug")

    with capture_logs() as logs:
        shop.slices.run("a", "x", fails())
        shop.slices.run("a", "x", shop.work("x", 1))
    assert shop.done == ["x", "x ends"]
    assert [line["event"] for line in logs] == ["work_in_slices_failed"]


@pytest.mark.parametrize("steps", [1, 10 * STEPS])
async def test_finish_returns_when_it_is_done(steps: int) -> None:
    shop = Workshop()
    slices = Slices()
    await slices.finish("a", "x", shop.work("x", steps))
    assert len(shop.done) == steps + 1
    await asyncio.sleep(0)
    assert slices.waiting == 0
