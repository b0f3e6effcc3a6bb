"""Compares the matcher with a naive one, and limits the work for hostile patterns."""

import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thingmint.domain.policies import patterns
from thingmint.domain.policies.decisions import Request
from thingmint.domain.policies.patterns import Dialect, PatternSet, read_tokens

PLAIN = Dialect(variables=False, guarded=False)


class Patterns:
    """One pattern or several."""

    def __init__(self, *patterns: str) -> None:
        self._set = PatternSet(read_tokens(pattern, PLAIN, wildcards=True) for pattern in patterns)

    def matches(self, text: str, steps: int = 10**9) -> bool:
        return self._set.matches(text, Request("a", "r", steps=steps))


def naive(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return naive(pattern[1:], text) or (bool(text) and naive(pattern, text[1:]))
    return bool(text) and pattern[0] in ("?", text[0]) and naive(pattern[1:], text[1:])


@given(st.text("ab*?", max_size=9), st.text("ab*?", max_size=9))
def test_the_matcher_agrees_with_the_naive_one(pattern: str, text: str) -> None:
    assert Patterns(pattern).matches(text) is naive(pattern, text)


@given(st.lists(st.text("ab*?", max_size=5), min_size=1, max_size=6), st.text("ab?\0", max_size=6))
def test_one_of_several_patterns_must_match(patterns: list[str], text: str) -> None:
    assert Patterns(*patterns).matches(text) is any(naive(pattern, text) for pattern in patterns)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("*", "a/b:c", True),
        ("?", "", False),
        ("?", "/", True),
        ("??", "a", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("ab*bc", "abc", False),
        ("*ab*b", "ab", False),
        ("*ab*ab*", "abab", True),
        ("*ab*ab*", "aba", False),
        ("*b?", "abab\n", True),
        ("a/+/#", "a/+/#", True),
        ("a/+/#", "a/b/c", False),
        ("a.c", "abc", False),
        ("[ab]", "a", False),
        ("A", "a", False),
        ("\N{GRINNING FACE}?", "\N{GRINNING FACE}\N{GRINNING FACE}", True),
    ],
)
def test_wildcards_match_as_documented(pattern: str, text: str, expected: bool) -> None:
    assert Patterns(pattern).matches(text) is expected


HOSTILE = [
    ("*a" * 1000 + "*b", "a" * 2000),
    ("*a?" * 600 + "b", "a" * 2000),
    ("*?" * 1000 + "b", "a" * 2000),
    ("?" * 2000 + "*" * 2000 + "b", "a" * 3000),
    ("*" * 4000, "a" * 4000),
    ("a*" * 2000, "a" * 1999 + "b"),
]


@pytest.mark.parametrize(("pattern", "text"), HOSTILE)
def test_work_grows_with_the_sum_of_the_lengths(pattern: str, text: str) -> None:
    compiled = Patterns(pattern)
    steps = 0

    def count(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal steps
        if frame.f_code.co_filename != patterns.__file__:
            return None
        steps += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        compiled.matches(text)
    finally:
        sys.settrace(before)
    assert steps <= 6 * (len(pattern) + len(text))
