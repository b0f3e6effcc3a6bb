"""Topic names and filters, and which filters match which names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tables import each_row
from thingmint.domain.mqtt_topics import (
    SharedFilter,
    count_slashes,
    is_topic_filter,
    is_topic_name,
    matches,
    parse_shared,
    within,
)


@pytest.mark.parametrize("name", ["a", "/", "a//b", " ", "$aws/things/x", "é", "a/$b"])
def test_valid_topic_names(name: str) -> None:
    assert is_topic_name(name)
    assert is_topic_filter(name)


@pytest.mark.parametrize("name", ["", "a/+", "#", "a#", "+a", "a\0"])
def test_invalid_topic_names(name: str) -> None:
    assert not is_topic_name(name)


@pytest.mark.parametrize(
    "filter",
    ["#", "+", "a/#", "+/#", "/+", "+/", "a/+/b", "$share/g/a", "$share/g/#", "$share/g//", "$shared", "$share2/x"],
)
def test_valid_topic_filters(filter: str) -> None:
    assert is_topic_filter(filter)


@pytest.mark.parametrize(
    "filter",
    [
        "", "a#", "#/a", "a/#/b", "##", "a+", "+a/b", "a/b+/c", "a\0", "a" * 65_536,
        "$share", "$share/", "$share/g", "$share/g/", "$share//a",
        "$share/+/a", "$share/#/a", "$share/g/a#", "$share/g/#/a",
    ],
)  # fmt: skip
def test_invalid_topic_filters(filter: str) -> None:
    assert not is_topic_filter(filter)


@pytest.mark.parametrize(
    ("filter", "shared"),
    [
        ("$share/g/a/b", SharedFilter("g", "a/b")),
        ("$share/g//", SharedFilter("g", "/")),
        ("$share/g/+/#", SharedFilter("g", "+/#")),
        ("share/g/a", None),
        ("$share/g", None),
        ("$share/g/", None),
        ("$share//a", None),
        ("$share/a+/a", None),
    ],
)
def test_shared_filters_are_parsed(filter: str, shared: SharedFilter | None) -> None:
    assert parse_shared(filter) == shared


MATCHES = [
    ("a", "a", True), ("a", "b", False), ("a", "a/", False), ("a/", "a", False), ("A", "a", False),
    ("+", "a", True), ("+", "/", False), ("+/+", "/", True), ("/+", "/a", True), ("+", "/a", False),
    ("a/+", "a/", True), ("a/+", "a", False), ("a/+/c", "a/b/c", True), ("a/+/c", "a/b/d", False),
    ("#", "a", True), ("#", "/a/b", True), ("a/#", "a/b/c", True), ("a/#", "a/", True), ("a/#", "ab", False),
    ("a/#", "a", False), ("+/#", "a", False), ("+/b/#", "a/b/c/d", True), ("+/b/#", "a/b", False),
    ("#", "$aws/a", False), ("+/a", "$aws/a", False), ("+/#", "$aws/a", False), ("$aws/#", "$aws/a", True),
    ("$aws/+", "$aws/a", True), ("a/#", "a/$b", True), ("a/+", "a/$b", True),
]  # fmt: skip


@each_row(("filter", "topic", "expected"), MATCHES)
def test_filters_match_topics(filter: str, topic: str, expected: bool) -> None:
    assert matches(filter, topic) is expected


@given(
    levels=st.lists(st.sampled_from(["a", "b", "", "$x", "+"]), min_size=1, max_size=5),
    rest=st.booleans(),
    topic=st.lists(st.sampled_from(["a", "b", "", "$x"]), min_size=1, max_size=6).map("/".join),
)
def test_matching_agrees_with_a_regular_expression(levels: list[str], rest: bool, topic: str) -> None:
    filter = "/".join(levels + ["#"] * rest)
    if not topic or not filter:
        return
    pattern = "/".join("[^/]*" if level == "+" else re.escape(level) for level in levels) + ("/.*" if rest else "")
    expected = re.fullmatch(pattern, topic, re.DOTALL) is not None
    if topic.startswith("$") and levels[0] == "+":
        expected = False
    assert matches(filter, topic) is expected


@pytest.mark.parametrize(
    ("topic", "slashes"),
    [
        ("a", 0),
        ("a/b/c", 2),
        ("/a/", 2),
        ("$aws/rules/r/a/b", 1),
        ("$aws/rules/r/a", 0),
        ("$aws/rules/r", 0),
        ("$aws/rules/r/" + "/".join("abcdefghi"), 8),
        ("$aws/things/t/shadow/name/n/update/documents", 0),
        ("$aws/provisioning-templates/t/provision/json/accepted", 0),
        ("$aws/certificates/create-from-csr/cbor/rejected", 0),
        ("$share/g/a/b", 1),
        ("$share/g/$aws/rules/r/a/b", 1),
        ("$awsx/rules/r/a/b", 4),
    ],
)
def test_slashes_are_counted_as_aws_does(topic: str, slashes: int) -> None:
    assert count_slashes(topic) == slashes


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("a/b/c/d/e/f/g/h", True),
        ("a/b/c/d/e/f/g/h/i", False),
        ("$aws/rules/r/a/b/c/d/e/f/g/h", True),
        ("$aws/rules/r/a/b/c/d/e/f/g/h/i", False),
        ("$aws/a/b/c/d/e/f/g/h/i", True),
        ("a" * 256, True),
        ("a" * 257, False),
        ("é" * 128, True),
        ("é" * 128 + "a", False),
        ("\U0001f600" * 64, True),
        ("\U0001f600" * 64 + "a", False),
        ("$aws/rules/r/" + "a" * 256, True),
        ("$aws/rules/r/" + "a" * 257, False),
        ("$share/group/" + "a" * 256, True),
        ("$share/group/" + "a" * 257, False),
    ],
)
def test_topic_limits_of_aws(topic: str, expected: bool) -> None:
    assert within(topic, max_bytes=256, max_slashes=7) is expected
