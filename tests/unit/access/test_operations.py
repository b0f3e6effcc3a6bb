"""The order in which the parts of an operation run, and when prepared work is discarded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from thingmint.access.operations import Operation, run
from thingmint.domain.errors import Conflict, Denied

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.services.change import Change
    from thingmint.store.engine import Body, Transaction


class Parts:
    """The parts of an operation, which note when they run. ``denied`` look-ups and ``failing`` changes raise errors."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.denied = self.failing = False
        self.ids: list[list[str]] = []
        self.discarded: list[Any] = []

    async def find(self, _tx: Transaction, _change: Change, _given: object) -> str:
        self.steps.append("find")
        if self.denied:
            raise Denied("caller", "iot:Do", "*", explicit=False)
        return "found"

    async def prepare(self, _change: Change, given: str, *found: str) -> str:
        self.steps.append("prepare")
        return " ".join((given, *found, "prepared"))

    async def apply(self, tx: Transaction, change: Change, given: str, *further: str) -> str:
        self.steps.append("apply")
        self.ids.append([change.new_id(), change.new_id()])
        await tx.execute("INSERT INTO hostnames (name, position) VALUES ($1, 9)", given)
        if self.failing:
            raise Conflict("thing", "t", "is in use")
        return " | ".join((given, *further))

    def discard(self, _change: Change, prepared: str, error: BaseException | None) -> None:
        self.discarded.append((prepared, error))

    def operation(self, *names: str) -> Operation:
        return Operation(name="Do", writes=True, apply=self.apply, **{name: getattr(self, name) for name in names})


class Repeats:
    """A Recorder that has an earlier answer from the ``since``th time that it is asked."""

    def __init__(self, since: int) -> None:
        self._since = since
        self._asked = 0
        self.kept: list[str] = []

    async def earlier(self, _tx: Transaction, *_found: object) -> str | None:
        self._asked += 1
        return "earlier answer" if self._asked >= self._since else None

    reserve = earlier

    async def record(self, _tx: Transaction, result: str, *found: str) -> str:
        self.kept.append(result)
        return " / ".join((result, *found))


class Rerunning:
    """A Store that runs each change twice, as an engine does after a conflict."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.read = world.store.read

    async def write(self, body: Body[Any], *, urgent: bool = False, once: bool = False) -> Any:
        async def first_in_vain(tx: Transaction) -> None:
            await body(tx)
            raise Conflict("engine", "", "serialization failure")

        with pytest.raises(Conflict):
            await self._world.store.write(first_in_vain)
        return await self._world.store.write(body, urgent=urgent, once=once)


async def test_a_change_is_gated_prepared_gated_again_and_applied(world: World) -> None:
    parts, recorder = Parts(), Repeats(since=9)
    operation = parts.operation("find", "prepare", "discard")
    answer = await run(operation, world.store, world.change(), "input", recorder)
    assert parts.steps == ["find", "prepare", "find", "apply"]
    assert answer == "input | found | input found prepared / found"
    assert recorder.kept == ["input | found | input found prepared"]
    assert parts.discarded == []


async def test_nothing_is_prepared_for_an_unauthorized_caller(world: World) -> None:
    parts = Parts()
    parts.denied = True
    with pytest.raises(Denied):
        await run(parts.operation("find", "prepare", "discard"), world.store, world.change(), "input")
    assert (parts.steps, parts.discarded) == (["find"], [])


async def test_a_change_that_runs_again_reuses_prepared_work_and_ids(world: World) -> None:
    parts = Parts()
    store: Any = Rerunning(world)
    await run(parts.operation("find", "prepare"), store, world.change(), "input")
    assert parts.steps == ["find", "prepare", "find", "apply", "find", "apply"]
    first, second = parts.ids
    assert first == second
    assert len(set(first)) == 2


@pytest.mark.parametrize("names", [("prepare", "discard"), ("find", "prepare", "discard")])
async def test_prepared_work_of_a_failed_change_is_discarded(world: World, names: tuple[str, ...]) -> None:
    parts = Parts()
    parts.failing = True
    with pytest.raises(Conflict) as refused:
        await run(parts.operation(*names), world.store, world.change(), "input")
    [(prepared, error)] = parts.discarded
    assert (prepared.startswith("input"), error) == (True, refused.value)


async def test_a_repeated_call_is_answered_without_preparing_again(world: World) -> None:
    parts, recorder = Parts(), Repeats(since=1)
    operation = parts.operation("find", "prepare", "discard")
    assert await run(operation, world.store, world.change(), "input", recorder) == "earlier answer"
    assert (parts.steps, parts.discarded, recorder.kept) == (["find"], [], [])


async def test_prepared_work_is_discarded_if_an_identical_call_was_faster(world: World) -> None:
    parts, recorder = Parts(), Repeats(since=2)
    operation = parts.operation("find", "prepare", "discard")
    assert await run(operation, world.store, world.change(), "input", recorder) == "earlier answer"
    assert parts.steps == ["find", "prepare", "find"]
    assert parts.discarded == [("input found prepared", None)]
