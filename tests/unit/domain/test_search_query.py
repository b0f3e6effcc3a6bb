"""The query language of fleet indexing: what queries match, and which are refused."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thingmint.domain.errors import InvalidQuery
from thingmint.domain.search_conditions import Pattern, fold
from thingmint.domain.search_query import MAX_DEPTH, MAX_LENGTH, MAX_TERMS, parse_query

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAMES = {"thingName": "thingName", "thingType": "thingTypeName", "thingTypeName": "thingTypeName", "note": "note"}


@dataclass
class Example:
    fields: Mapping[str, str]

    def values(self, field: str | None) -> Sequence[str]:
        if field is None:
            return [fold(value) for value in self.fields.values()]
        return [fold(self.fields[field])] if field in self.fields else []


LAMP = Example(
    {
        "thingName": "Lamp-1",
        "thingTypeName": "lamp",
        "attributes.level": "75",
        "attributes.serial": "abce",
        "attributes.path": "eu/berlin:7",
        "attributes.Big": "x",
        "note": "Großes  Licht im Hof",
    }
)

MATCHES = """
    *
    lamp
    LAMP-1
    "lamp-1"
    thingName:lamp-1
    thingName: lamp-1
    thingType:Lamp
    thingName:la*
    thingName:l*p-?
    thingName:l*m*1
    thingName:lamp-?
    thingName:*
    thingName:l?mp*
    note:licht
    note:"licht im"
    note:GROSSES
    note:ho*
    lamp level OR lamp
    lamp -thingName:tv
    thingName:(lam* AND -plasma)
    thingName:(tv OR lamp\\-1)
    thingName:(NOT tv)
    NOT NOT lamp
    --lamp
    (((lamp)))
    lamp OR lamp nothing
    nothing lamp OR lamp
    attributes.level:75
    attributes.level:[75 TO 80]
    attributes.level:{74 TO 75]
    attributes.level:[8 TO 100]
    attributes.level:[* TO 75]
    attributes.level:{74.5 TO *}
    attributes.level:>=75
    attributes.level>74 attributes.level<7.6e1 NOT attributes.level>75
    attributes.level:(>70 AND <80)
    attributes.level:> 70
    attributes.serial:["abcd" TO "abcf"]
    attributes.serial:{abcd TO abcf}
    attributes.serial:a*e
    attributes.path:"EU/Berlin:7"
    attributes.path:eu\\/berlin\\:7
    attributes.Big:X
    attributes.missing:x OR lamp
    -attributes.missing:*
"""

DOES_NOT_MATCH = """
    nothing
    -*
    lam
    thingName:lamp-
    thingName:lamp-??
    thingName:l*q*1
    thingName:lamp-1*1
    thingName:"la*"
    thingName:la\\*
    lamp nothing
    lamp AND NOT lamp-1
    attributes.big:x
    attributes.level:{75 TO 80]
    attributes.level:[70 TO 75}
    attributes.level:[70 TO 8]
    attributes.level>75
    attributes.serial:{abce TO abcf]
    note:"licht hof"
    attributes.missing:*
"""

# With the number of the character at fault.
INVALID = {
    "": 1,
    "  ": 3,
    "AND": 1,
    "a AND": 6,
    "a OR OR b": 6,
    "NOT": 4,
    "-": 2,
    "(a": 1,
    "a)": 2,
    "()": 2,
    "a ]": 3,
    '"a': 1,
    '""': 1,
    '" "': 1,
    "a\\": 2,
    "*a": 1,
    "?a": 1,
    "thingName:*a": 11,
    "a*b*c*": 1,
    "a??????": 1,
    "a,b": 2,
    "eu/berlin": 3,
    "a@b": 2,
    "a;b": 2,
    "a~2": 2,
    "a^2": 2,
    "+a": 1,
    "!a": 1,
    "thingname:a": 1,
    "nothing:a": 1,
    "thing*:a": 1,
    "attributes.:a": 1,
    "attributes.a*:a": 1,
    "shadow.reported.on:true": 1,
    "deviceDefender.violationCount>0": 1,
    ":a": 1,
    "thingName:": 11,
    "thingName:a:b": 12,
    "thingName:(a OR thingType:b)": 26,
    "[1 TO 2]": 1,
    ">1": 1,
    "thingName:[1 TO 2": 11,
    "thingName:[1 2]": 14,
    "thingName:[1 TO]": 16,
    "thingName:[a* TO b]": 12,
    "thingName:>*": 13,
    "thingName:>": 12,
    "a\0b": 2,
    "a\x01": 2,
    "a\ud800": 2,
    "a " * MAX_TERMS + "b": 2 * MAX_TERMS + 1,
    "(" * (MAX_DEPTH + 1) + "a" + ")" * (MAX_DEPTH + 1): MAX_DEPTH + 1,
    "x" * (MAX_LENGTH + 1): MAX_LENGTH + 1,
    "(" * 1_000_000: MAX_LENGTH + 1,
}


def queries(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def test_queries_match() -> None:
    for text in queries(MATCHES):
        assert parse_query(text, NAMES).matches(LAMP), text
    for text in queries(DOES_NOT_MATCH):
        assert not parse_query(text, NAMES).matches(LAMP), text


def test_invalid_queries_are_refused_with_the_place() -> None:
    for text, place in INVALID.items():
        with pytest.raises(InvalidQuery) as caught:
            parse_query(text, NAMES)
        assert (text[:40], caught.value.place) == (text[:40], place)


def test_limits_are_inclusive() -> None:
    for text in ("a " * MAX_TERMS, "(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH, "x" * MAX_LENGTH, "a*?*?????"[:-1]):
        parse_query(text, NAMES)


def test_text_and_numbers_are_not_mixed() -> None:
    """A number as a bound finds texts in the order of text, and numbers by value."""
    condition = parse_query("attributes.n:[2 TO 10]", NAMES)
    values = ["1", "2", "3", "10", "11", "-5", "2.5", "10x", "1x", "2e0", "1e1", "9" * 800]
    assert [value for value in values if condition.matches(Example({"attributes.n": value}))] == [
        "2",
        "3",
        "10",
        "2.5",
        "2e0",
        "1e1",
    ]


_PIECES = st.sampled_from(
    [*'a-()[]{}":><=*?\\ é\0~,1', "\ud800", "AND", "OR", "NOT", "TO", "thingName:", "attributes.a:"]
)


@given(st.lists(_PIECES, max_size=40).map("".join) | st.text(max_size=60))
@example("\x1c")
def test_a_query_is_parsed_or_refused(text: str) -> None:
    place = 1
    try:
        parse_query(text, NAMES).matches(LAMP)
    except InvalidQuery as error:
        place = error.place
    assert 1 <= place <= len(text) + 1


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20))
def test_escaped_and_quoted_values_find_themselves(value: str) -> None:
    found = Example({"thingName": value})
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    for text in ("".join(f"\\{character}" for character in value), f'"{quoted}"'):
        assert parse_query(f"thingName:{text}", NAMES).matches(found)
        assert not parse_query(f"thingName:{text}", NAMES).matches(Example({"thingName": value + "x"}))


@example("ba", "*a*?*")
@given(st.text("ab", max_size=8), st.text("ab*?", min_size=1, max_size=6).filter(lambda text: "**" not in text))
def test_wildcards_match_as_in_file_names(value: str, pattern: str) -> None:
    if "*" in pattern or "?" in pattern:
        matcher = Pattern([piece.replace("?", "\x02") for piece in pattern.split("*")])
        assert matcher.matches(value) == fnmatch.fnmatchcase(value, pattern)


def test_wildcards_do_not_backtrack() -> None:
    """With backtracking, this test would not end."""
    matcher = parse_query("thingName:a*a?a?a?a?a?ab*c", NAMES)
    for _ in range(100):
        assert not matcher.matches(Example({"thingName": "a" * 800}))
