"""Every condition operator, with its prefixes and its suffix."""

import base64
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import ip_address
from typing import Any

import pytest

from tests.tables import each_row
from thingmint.domain.policies import Kind, Request, evaluate
from thingmint.domain.policies.decisions import Allow

from .helpers import holds, policy, statement

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ROLE = "arn:aws:iam::123456789012:role/a/b:c"

# operator, the policy's values, the request's value, whether a positive match is found
MATCHES: list[tuple[str, Any, Any, bool]] = [
    ("StringEquals", "a", "a", True),
    ("StringEquals", "a", "A", False),
    ("StringEquals", ["b", "a"], "a", True),
    ("StringEquals", "a*", "ab", False),
    ("StringEquals", "a*", "a*", True),
    ("StringEquals", "a?", "ab", False),
    ("StringEquals", "true", True, True),
    ("StringEquals", True, "true", True),
    ("StringEquals", 7, "7", True),
    ("StringEquals", "7", 7, True),
    ("StringEquals", "192.0.2.1", ip_address("192.0.2.1"), True),
    ("StringEquals", "2026-11-21T12:00:00Z", NOON, True),
    ("StringEquals", "2026-11-21T12:00:00Z", NOON.replace(tzinfo=None), True),
    ("StringEquals", "AQI=", b"\x01\x02", True),
    ("StringEquals", "", "", True),
    ("StringEqualsIgnoreCase", "Straße", "STRASSE", True),
    ("StringEqualsIgnoreCase", "a", "b", False),
    ("StringEqualsIgnoreCase", "a*", "AB", False),
    ("StringLike", "a*", "ab/c", True),
    ("StringLike", "a?", "ab", True),
    ("StringLike", "a?", "a", False),
    ("StringLike", "A*", "ab", False),
    ("StringLike", ["x", "*b*"], "abc", True),
    ("ArnLike", "arn:aws:iam::*:role/*", ROLE, True),
    ("ArnLike", "arn:aws:iam::123456789012:role/a/?:c", ROLE, True),
    ("ArnLike", "arn:aws:*:y:role/a/b:c", "arn:aws:iam:x:y:role/a/b:c", False),
    ("ArnLike", "arn:*:*:*:*:*", ROLE, True),
    ("ArnLike", "*", ROLE, True),
    ("ArnLike", "*", "no arn", False),
    ("ArnLike", "*:*:*:*:*:*", "urn:1:2:3:4:5", False),
    ("ArnLike", "arn:aws:iam::123456789012:ROLE/a/b:c", ROLE, False),
    ("ArnLike", "arn:aws:iam::123456789012:role/a", "arn:aws:iam::123456789012:role", False),
    ("ArnLike", ["arn:aws:iam::1:x", ROLE], ROLE, True),
    ("ArnEquals", "arn:aws:iam::*:role/*", ROLE, True),
    ("ArnEquals", "arn:aws:iam:*:role/a/b:c", ROLE, False),
    ("ArnEquals", "arn:aws:iam::12?456789012:*", ROLE, True),
    ("Bool", "true", True, True),
    ("Bool", True, "true", True),
    ("Bool", "FALSE", "False", True),
    ("Bool", "true", False, False),
    ("Bool", ["true", "false"], False, True),
    ("Bool", "true", 1, False),
    ("Bool", "true", "yes", False),
    ("IpAddress", "10.0.0.0/8", "10.255.255.255", True),
    ("IpAddress", "10.0.0.0/8", "11.0.0.0", False),
    ("IpAddress", "10.0.0.1", ip_address("10.0.0.1"), True),
    ("IpAddress", "10.0.0.1", "10.0.0.2", False),
    ("IpAddress", "10.0.0.9/8", "10.1.1.1", True),
    ("IpAddress", "0.0.0.0/0", "203.0.113.9", True),
    ("IpAddress", "0.0.0.0/0", "2001:db8::1", False),
    ("IpAddress", "::/0", "10.0.0.1", False),
    ("IpAddress", "2001:DB8::/32", "2001:db8:0:1::", True),
    ("IpAddress", "2001:db8::/32", "2001:db9::", False),
    ("IpAddress", "10.0.0.0/8", "::ffff:10.1.2.3", True),
    ("IpAddress", "10.0.0.0/8", ip_address("::ffff:10.1.2.3"), True),
    ("IpAddress", "::ffff:10.0.0.0/104", "10.1.2.3", True),
    ("IpAddress", "::ffff:10.0.0.0/104", "11.1.2.3", False),
    ("IpAddress", ["192.0.2.0/24", "10.0.0.0/8"], "10.0.0.1", True),
    ("IpAddress", "10.0.0.0/8", "nowhere", False),
    ("IpAddress", "10.0.0.0/8", "1" * 100, False),
    ("IpAddress", "10.0.0.0/8", 167772161, False),
    ("BinaryEquals", base64.b64encode(b"\x00\xff").decode(), b"\x00\xff", True),
    ("BinaryEquals", base64.b64encode(b"\x00\xff").decode(), "AP8=", True),
    ("BinaryEquals", "AP8=", b"\x00", False),
    ("BinaryEquals", "AP8=", "!", False),
    ("BinaryEquals", "AP8=", 3, False),
    ("NumericEquals", "5", 5, True),
    ("NumericEquals", 5, "5.0", True),
    ("NumericEquals", "1e2", 100.0, True),
    ("NumericEquals", "5", True, False),
    ("NumericEquals", "1", True, False),
    ("NumericEquals", str(2**53), 2**53 + 1, False),
    ("NumericEquals", "5", "five", False),
    ("NumericEquals", "5", float("nan"), False),
    ("NumericEquals", "5", "5" * 100, False),
    ("NumericEquals", "5", b"5", False),
    ("NumericEquals", ["4", "5"], 5, True),
    ("NumericLessThan", "5", 4.9, True),
    ("NumericLessThan", "5", 5, False),
    ("NumericLessThan", "5", "none", False),
    ("NumericLessThanEquals", "5", 5, True),
    ("NumericLessThanEquals", "5", 6, False),
    ("NumericGreaterThan", "-5", -4, True),
    ("NumericGreaterThan", "5", 5, False),
    ("NumericGreaterThanEquals", "5", 5, True),
    ("NumericGreaterThanEquals", "5", 4, False),
    ("DateEquals", "2026-11-21T12:00:00Z", NOON, True),
    ("DateEquals", "2026-11-21T15:00+03:00", NOON, True),
    ("DateEquals", "2026-11-21T09:30:00-02:30", NOON, True),
    ("DateEquals", "2026-11-21T12:00:00.000Z", NOON, True),
    ("DateEquals", "2026-11-21T12:00:00.000001Z", NOON, False),
    ("DateEquals", "2026-11-21T12:00:00.0000019Z", NOON + timedelta(microseconds=1), True),
    ("DateEquals", "2026-11-21", NOON.replace(hour=0), True),
    ("DateEquals", "2026-11", datetime(2026, 11, 1, tzinfo=UTC), True),
    ("DateEquals", "2026", datetime(2026, 1, 1, tzinfo=UTC), True),
    ("DateEquals", str(int(NOON.timestamp())), NOON, True),
    ("DateEquals", NOON.timestamp(), "2026-11-21T12:00:00Z", True),
    ("DateEquals", "2026-11-21T12:00:00Z", NOON.astimezone(timezone(timedelta(hours=5))), True),
    ("DateEquals", "2026-11-21T12:00:00Z", NOON.replace(tzinfo=None), True),
    ("DateEquals", "2026-11-21T12:00:00Z", int(NOON.timestamp()), True),
    ("DateEquals", "2026-11-21T12:00:00Z", "noon", False),
    ("DateEquals", "2026-11-21T12:00:00Z", 1e300, False),
    ("DateLessThan", "2026-11-21T12:00:00Z", NOON - timedelta(seconds=1), True),
    ("DateLessThan", "2026-11-21T12:00:00Z", NOON, False),
    ("DateLessThanEquals", "2026-11-21T12:00:00Z", NOON, True),
    ("DateLessThanEquals", "2026-11-21T12:00:00Z", NOON + timedelta(seconds=1), False),
    ("DateGreaterThan", "2026-11-21T12:00:00Z", NOON + timedelta(microseconds=1), True),
    ("DateGreaterThan", "2026-11-21T12:00:00Z", NOON, False),
    ("DateGreaterThanEquals", "2026-11-21T12:00:00Z", NOON, True),
    ("DateGreaterThanEquals", "2026-11-21T12:00:00Z", NOON - timedelta(microseconds=1), False),
]
NEGATIONS = {
    "StringEquals": "StringNotEquals",
    "StringEqualsIgnoreCase": "StringNotEqualsIgnoreCase",
    "StringLike": "StringNotLike",
    "ArnLike": "ArnNotLike",
    "ArnEquals": "ArnNotEquals",
    "IpAddress": "NotIpAddress",
    "NumericEquals": "NumericNotEquals",
    "DateEquals": "DateNotEquals",
}
POSITIVE = sorted({operator for operator, *_ in MATCHES})


@each_row(("operator", "wanted", "actual", "expected"), MATCHES)
def test_operators_match_as_the_table_says(operator: str, wanted: Any, actual: Any, expected: bool) -> None:
    context = {"aws:Thing": actual}
    assert holds(operator, {"aws:Thing": wanted}, context) is expected
    assert holds(f"{operator}IfExists", {"aws:Thing": wanted}, context) is expected
    if operator in NEGATIONS:
        assert holds(NEGATIONS[operator], {"aws:Thing": wanted}, context) is not expected
        assert holds(f"{NEGATIONS[operator]}IfExists", {"aws:Thing": wanted}, context) is not expected


SAMPLES = {operator: wanted for operator, wanted, _, _ in MATCHES}


@each_row("context", [{}, {"k": None}, {"k": []}, {"K": ()}, {"k": frozenset()}])
@each_row("operator", POSITIVE)
def test_missing_keys(operator: str, context: dict[str, Any]) -> None:
    values = {"k": SAMPLES[operator]}
    assert not holds(operator, values, context)
    assert holds(f"{operator}IfExists", values, context)
    assert holds(f"ForAllValues:{operator}", values, context)
    assert holds(f"ForAllValues:{operator}IfExists", values, context)
    assert not holds(f"ForAnyValue:{operator}", values, context)
    assert holds(f"ForAnyValue:{operator}IfExists", values, context)
    if operator in NEGATIONS:
        negation = NEGATIONS[operator]
        assert holds(negation, values, context)
        assert holds(f"{negation}IfExists", values, context)
        assert holds(f"ForAllValues:{negation}", values, context)
        assert not holds(f"ForAnyValue:{negation}", values, context)
        assert holds(f"ForAnyValue:{negation}IfExists", values, context)


# values of the request, and the result of each form of StringEquals / StringNotEquals ["a", "b"]
MULTIVALUED: list[tuple[Any, dict[str, bool]]] = [
    (["a"], {"": True, "ForAllValues:": True, "ForAnyValue:": True}),
    (["a", "b"], {"": True, "ForAllValues:": True, "ForAnyValue:": True}),
    (["a", "x"], {"": True, "ForAllValues:": False, "ForAnyValue:": True}),
    (("x", "y"), {"": False, "ForAllValues:": False, "ForAnyValue:": False}),
    ({"x"}, {"": False, "ForAllValues:": False, "ForAnyValue:": False}),
    ("", {"": False, "ForAllValues:": True, "ForAnyValue:": False}),
    (["", ""], {"": False, "ForAllValues:": True, "ForAnyValue:": False}),
    (["", "a"], {"": True, "ForAllValues:": False, "ForAnyValue:": True}),
]
MULTIVALUED_NOT: list[tuple[Any, dict[str, bool]]] = [
    (["a"], {"": False, "ForAllValues:": False, "ForAnyValue:": False}),
    (["a", "x"], {"": False, "ForAllValues:": False, "ForAnyValue:": True}),
    (["x", "y"], {"": True, "ForAllValues:": True, "ForAnyValue:": True}),
    ("", {"": True, "ForAllValues:": True, "ForAnyValue:": False}),
]


@pytest.mark.parametrize(
    ("operator", "actual", "expected"),
    [("StringEquals", *row) for row in MULTIVALUED] + [("StringNotEquals", *row) for row in MULTIVALUED_NOT],
)
def test_multivalued_keys(operator: str, actual: Any, expected: dict[str, bool]) -> None:
    values = {"k": ["a", "b"]}
    assert {prefix: holds(prefix + operator, values, {"k": actual}) for prefix in expected} == expected
    assert {prefix: holds(f"{prefix}{operator}IfExists", values, {"k": actual}) for prefix in expected} == expected


@pytest.mark.parametrize(
    ("wanted", "present", "absent"),
    [("true", False, True), ("false", True, False), (True, False, True), (["true", "false"], True, True)],
)
def test_the_null_operator(wanted: Any, present: bool, absent: bool) -> None:
    assert holds("Null", {"k": wanted}, {"K": "x"}) is present
    assert holds("Null", {"k": wanted}, {"k": False}) is present
    assert holds("Null", {"k": wanted}, {}) is absent
    assert holds("Null", {"k": wanted}, {"k": []}) is absent


def test_all_keys_and_operators_must_match() -> None:
    block = {"StringEquals": {"a": "1", "b": "2"}, "Bool": {"c": "true"}}
    full: dict[str, Any] = {"a": "1", "b": "2", "c": True}
    document = policy(statement(Condition=block))
    assert isinstance(evaluate([document], Request("x:Y", "r", full)), Allow)
    for key in full:
        assert not isinstance(evaluate([document], Request("x:Y", "r", full | {key: "other"})), Allow)


def test_keys_are_case_insensitive_on_both_sides() -> None:
    assert holds("StringEquals", {"AWS:sourceVPC": "v"}, {"aws:SourceVpc": "v"})
    assert holds("StringEquals", {"aws:RequestTag/Team": "v"}, {"aws:requesttag/team": "v"})


def test_the_same_key_in_two_spellings_is_two_conditions() -> None:
    assert not holds("StringEquals", {"a:k": "1", "A:K": "2"}, {"a:k": "1"})


@pytest.mark.parametrize("block", [{}, {"StringEquals": {}}])
def test_empty_condition_blocks_are_met(block: dict[str, Any]) -> None:
    assert isinstance(evaluate([policy(statement(Condition=block))], Request("x:Y", "r")), Allow)


@pytest.mark.parametrize("kind", [Kind.IDENTITY, Kind.SESSION, Kind.DEVICE])
def test_conditions_work_in_every_kind(kind: Kind) -> None:
    values = {"iot:ConnectAttributes": ["PersistentConnect", "LastWill"]}
    assert holds("ForAllValues:StringEquals", values, {"iot:ConnectAttributes": ["LastWill"]}, kind=kind)
    assert not holds("ForAllValues:StringEquals", values, {"iot:ConnectAttributes": ["Other"]}, kind=kind)
