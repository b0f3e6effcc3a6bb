from __future__ import annotations

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from thingmint.mqtt.broker.embedded.deadlines import Deadlines

KEYS = st.sampled_from("abcdefgh")
STEPS = st.lists(
    st.tuples(st.just("set"), KEYS, st.integers(0, 20))
    | st.tuples(st.just("set"), KEYS, st.integers(0, 20))
    | st.tuples(st.just("clear"), KEYS, st.just(0))
    | st.tuples(st.just("due"), st.just(""), st.integers(0, 20)),
    max_size=40,
)


@given(STEPS)
def test_deadlines_agree_with_a_naive_list(steps: list[tuple[str, str, int]]) -> None:
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


def test_moving_a_deadline_repeatedly_leaves_no_entries() -> None:
    deadlines = Deadlines()
    done: list[int] = []
    deadlines.set("other", 7, partial(done.append, -1))
    for at in range(10_000, 0, -1):
        deadlines.set("key", at, partial(done.append, at))
        assert len(deadlines._seconds) <= 2
    for action in deadlines.due(10_000):
        action()
    assert done == [1, -1]


def test_an_action_may_set_a_deadline() -> None:
    deadlines = Deadlines()
    done: list[str] = []
    deadlines.set("a", 1, lambda: deadlines.set("b", 2, partial(done.append, "b")))
    for action in deadlines.due(2):
        action()
    assert done == ["b"]


def test_due_rounds_up_to_seconds_but_is_due_does_not() -> None:
    deadlines = Deadlines()
    done: list[str] = []
    deadlines.set("a", 1.5, partial(done.append, "a"))
    assert not deadlines.is_due("a", 1.4)
    assert deadlines.is_due("a", 1.5)
    assert list(deadlines.due(1.9)) == []
    for action in deadlines.due(2):
        action()
    assert done == ["a"]
    assert not deadlines.is_due("a", 2)
