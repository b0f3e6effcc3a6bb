from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thingmint.domain.mqtt_topics import matches
from thingmint.mqtt.broker.topics import FilterTree

from .embedded.helpers import naive_match

CASES = [
    # filter, topics that it matches, topics that it does not
    ("a", ["a"], ["b", "a/", "/a", "a/b", "A", ""]),
    ("a/b", ["a/b"], ["a", "a/b/c", "a/b/", "a//b"]),
    ("+", ["a", "b"], ["a/b", "/a", "$a", "$SYS"]),
    ("/+", ["/a", "/"], ["a", "/a/b"]),
    ("+/+", ["a/b", "/a", "a/", "/"], ["a", "a/b/c", "$aws/b"]),
    ("a/+", ["a/b", "a/"], ["a", "a/b/c"]),
    ("a/+/c", ["a/b/c", "a//c", "a/$b/c"], ["a/b", "a/c", "a/b/d"]),
    ("#", ["a", "a/b", "/", "a/$b"], ["$a", "$aws/things"]),
    ("a/#", ["a/b", "a/", "a/b/c"], ["a", "ab", "b/a"]),  # AWS: not the parent level
    ("a/b/#", ["a/b/c"], ["a/b", "a", "a/c"]),
    ("+/#", ["a/b", "a/", "/"], ["a", "$a/b"]),
    ("+/b/#", ["a/b/c"], ["a/b", "$a/b/c"]),
    ("$aws/#", ["$aws/a", "$aws/things/x/get"], ["$aws", "$awsx/a", "aws/a"]),
    ("$aws/+/x", ["$aws/a/x"], ["$aws/a/b/x"]),
    ("$aws/+/$x", ["$aws/a/$x", "$aws/$a/$x"], ["$aws/a/x"]),
    ("gerät/+", ["gerät/ü"], ["gerat/u"]),
]


@pytest.mark.parametrize(("filter", "matching", "others"), CASES)
def test_filters_match_as_at_aws(filter: str, matching: list[str], others: list[str]) -> None:
    filters: FilterTree[str] = FilterTree()
    filters.put(filter, "found")
    for topic in matching + others:
        expected = ["found"] if topic in matching else []
        assert filters.matching(topic) == expected, topic
        assert matches(filter, topic) is bool(expected), topic
        assert naive_match(filter, topic) is (topic in matching), topic


LEVELS = st.sampled_from(["", "a", "b", "$a"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join)
FILTERS = st.builds(
    lambda levels, rest: "/".join(levels + rest),
    st.lists(LEVELS | st.just("+"), max_size=4),
    st.sampled_from([["#"], ["+"], ["a"]]),
)


@given(st.lists(FILTERS, max_size=12), st.lists(FILTERS, max_size=6), st.lists(TOPICS, min_size=1, max_size=6))
def test_matching_agrees_with_a_naive_search(kept: list[str], removed: list[str], topics: list[str]) -> None:
    tree: FilterTree[str] = FilterTree()
    for filter in kept + removed:
        tree.put(filter, filter)
    for filter in removed:
        tree.remove(filter)
        tree.remove(filter)  # removed already
    left = set(kept) - set(removed)
    for filter in kept + removed:
        assert tree.get(filter) == (filter if filter in left else None)
    for topic in topics:
        assert sorted(tree.matching(topic)) == sorted(filter for filter in left if naive_match(filter, topic))


@given(st.lists(FILTERS, unique=True).flatmap(lambda names: st.tuples(st.just(names), st.permutations(names))))
def test_removing_filters_removes_their_nodes(names: tuple[list[str], list[str]]) -> None:
    tree: FilterTree[str] = FilterTree()
    for filter in names[0]:
        tree.put(filter, filter)
    for filter in names[1]:
        tree.remove(filter)
    assert not tree._wild.root.children
    assert not tree._exact


def test_a_filter_may_be_a_prefix_of_another() -> None:
    tree: FilterTree[str] = FilterTree()
    for filter in ("+", "+/a", "+/a/+"):
        tree.put(filter, filter)
    tree.remove("+/a")
    assert tree.matching("x/a") == []
    assert tree.matching("x") == ["+"]
    assert tree.matching("x/a/y") == ["+/a/+"]


def test_deep_filters_do_not_recurse() -> None:
    tree: FilterTree[str] = FilterTree()
    topic = "/".join(["a"] * 20_000)
    tree.put(topic + "/#", "found")
    assert tree.matching(topic + "/b") == ["found"]
    tree.remove(topic + "/#")
    assert not tree._wild.root.children


def test_a_topic_visits_each_matching_node_once() -> None:
    """With all filters of 8 levels that can match: the walk visits each node once."""
    tree: FilterTree[str] = FilterTree()
    topic = "/".join("abcdefgh")
    for wild in itertools.product((False, True), repeat=8):
        levels = ["+" if each else level for each, level in zip(wild, topic.split("/"), strict=True)]
        for length in range(9):
            tree.put("/".join([*levels[:length], "#"] if length < 8 else levels), "found")
    assert len(tree.matching(topic)) == 2**9 - 1
