from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thingmint.mqtt.broker import deadlines as deadlines_module
from thingmint.mqtt.broker.deadlines import Deadlines

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = st.sampled_from("abcdefgh")
STEPS = st.lists(
    st.tuples(st.just("set"), KEYS, st.integers(0, 20))
    | st.tuples(st.just("set"), KEYS, st.integers(0, 20))
    | st.tuples(st.just("clear"), KEYS, st.just(0))
    | st.tuples(st.just("due"), st.just(""), st.integers(0, 20)),
    max_size=40,
)


@pytest.fixture(autouse=True, scope="module")
def heap_is_rebuilt_often() -> Iterator[None]:
    with mock.patch.object(deadlines_module, "_SLACK", 0):
        yield


@given(STEPS)
def test_against_naive(steps: list[tuple[str, str, int]]) -> None:
    deadlines = Deadlines()
    naive: dict[str, int] = {}
    done: list[str] = []
    for what, key, at in steps:
        if what == "set":
            deadlines.set(key, at, partial(done.append, key))
            naive.pop(key, None)
            naive[key] = at
        elif what == "clear":
            deadlines.clear(key)
            naive.pop(key, None)
        else:
            done.clear()
            for action in deadlines.due(at):
                action()
            expected = sorted((key for key in naive if naive[key] <= at), key=lambda key: naive[key])
            assert done == expected
            for gone in expected:
                del naive[gone]
        assert len(deadlines) == len(naive)


def test_moving_one_all_the_time_keeps_the_heap_small() -> None:
    deadlines = Deadlines()
    done: list[int] = []
    deadlines.set("other", 7, partial(done.append, -1))
    for at in range(10_000, 0, -1):
        deadlines.set("key", at, partial(done.append, at))
        assert len(deadlines._heap) <= 2 * 2 + 1
    for action in deadlines.due(10_000):
        action()
    assert done == [1, -1]


def test_an_action_may_set_another() -> None:
    deadlines = Deadlines()
    done: list[str] = []
    deadlines.set("a", 1, lambda: deadlines.set("b", 2, partial(done.append, "b")))
    for action in deadlines.due(2):
        action()
    assert done == ["b"]


def test_order_outlives_a_rebuilding() -> None:
    deadlines = Deadlines()
    done: list[int] = []
    times = [number * 37 % 101 for number in range(100)]
    for at in times:
        deadlines.set(at, at, partial(done.append, at))
    kept = [at for at in times if at % 3 == 1]
    for at in set(times) - set(kept):
        deadlines.clear(at)
    deadlines.set(102, 102, partial(done.append, 102))
    assert len(deadlines._heap) == len(kept) + 1
    for action in deadlines.due(102):
        action()
    assert done == [*sorted(kept), 102]
