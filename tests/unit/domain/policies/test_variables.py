"""Policy variables: where they expand, which values are substituted, and the result without a value."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.tables import each_row
from thingmint.domain.policies import Allow, Kind, Request, evaluate

from .helpers import ARN, holds, policy, statement


def allowed(kind: Kind, resource: str, context: dict[str, Any], **elements: Any) -> bool:
    given = policy(statement(**elements), kind=kind)
    return isinstance(evaluate([given], Request("iot:Publish", resource, context)), Allow)


@each_row(
    ("pattern", "resource", "context", "expected"),
    [
        ("a:${aws:username}", "a:ann", {"aws:username": "ann"}, True),
        ("a:${AWS:userName}", "a:ann", {"aws:USERNAME": "ann"}, True),
        ("a:${aws:username}", "a:bob", {"aws:username": "ann"}, False),
        ("a:${aws:username}", "a:${aws:username}", {}, False),
        ("a:${aws:username}", "a:", {}, False),
        ("a:${aws:username}", "a:", {"aws:username": ""}, True),
        ("a:${ aws:username }", "a:ann", {"aws:username": "ann"}, True),
        ("a:${aws:username, 'none'}", "a:none", {}, True),
        ("a:${aws:username,'none'}", "a:ann", {"aws:username": "ann"}, True),
        ("a:${aws:username, 'none'}", "a:none", {"aws:username": "ann"}, False),
        ("a:${aws:username, ''}", "a:", {}, True),
        ("a:${aws:username, '*'}", "a:x", {}, False),
        ("a:${u}/*", "a:ann/x/y", {"u": "ann"}, True),
        ("a:${u}/*", "a:annx", {"u": "ann"}, False),
        ("a:*/${u}", "a:x/ann", {"u": "ann"}, True),
        ("a:?/${u}", "a:x/ann", {"u": "ann"}, True),
        ("a:?/${u}", "a:xx/ann", {"u": "ann"}, False),
        ("a:?/${u}", "a:x/ann", {}, False),
        ("a:${u}${v}", "a:annbob", {"u": "ann", "v": "bob"}, True),
        ("a:${u}", "a:anything", {"u": "*"}, False),
        ("a:${u}", "a:*", {"u": "*"}, True),
        ("a:?${u}", "a:x?", {"u": "?"}, True),
        ("a:?${u}", "a:xy", {"u": "?"}, False),
        ("a:${u}*", "a:xyz", {"u": "*y"}, False),
        ("a:${u}", "a:${v}", {"u": "${v}", "v": "x"}, True),
        ("a:${u}", "a:7", {"u": 7}, True),
        ("a:${u}", "a:true", {"u": True}, True),
        ("a:${u}", "a:2026-01-01T00:00:00Z", {"u": datetime(2026, 1, 1, tzinfo=UTC)}, True),
        ("a:${u}", "a:x", {"u": ["x"]}, True),
        ("a:${u}", "a:x", {"u": ["x", "y"]}, False),
        ("a:${u, 'd'}", "a:d", {"u": ["x", "y"]}, False),
        ("a:${*}", "a:*", {}, True),
        ("a:${*}", "a:x", {}, False),
        ("a:${?}", "a:?", {}, True),
        ("a:${?}", "a:x", {}, False),
        ("a:${$}{u}", "a:${u}", {"u": "x"}, True),
        ("a:$u$", "a:$u$", {}, True),
        ("${u}:x", "a:x", {"u": "a"}, True),
        ("a:${iot:Connection.Thing.Attributes[model]}", "a:m1", {"iot:Connection.Thing.Attributes[model]": "m1"}, True),
    ],
)
def test_variables_in_resources(pattern: str, resource: str, context: dict[str, Any], expected: bool) -> None:
    assert allowed(Kind.IDENTITY, resource, context, Resource=pattern) is expected
    assert allowed(Kind.IDENTITY, resource, context, Resource=None, NotResource=pattern) is not expected


def test_version_2008_10_17_has_no_variables() -> None:
    for version, resource in (("2008-10-17", "a:${u}"), ("2012-10-17", "a:ann")):
        given = policy(statement(Resource="a:${u}"), version=version)
        for text in ("a:${u}", "a:ann"):
            decision = evaluate([given], Request("x:Y", text, {"u": "ann"}))
            assert isinstance(decision, Allow) is (text == resource)
    given = policy(statement(Condition={"StringEquals": {"k": "${*}"}}), version="2008-10-17")
    assert isinstance(evaluate([given], Request("x:Y", "r", {"k": "${*}"})), Allow)
    assert not isinstance(evaluate([given], Request("x:Y", "r", {"k": "*"})), Allow)


@pytest.mark.parametrize(
    ("operator", "wanted", "context", "expected"),
    [
        ("StringEquals", "${u}", {"k": "ann", "u": "ann"}, True),
        ("StringEquals", "x-${u}-*", {"k": "x-ann-*", "u": "ann"}, True),
        ("StringEquals", "${*}", {"k": "*"}, True),
        ("StringEquals", "${u}", {"k": "ann"}, False),
        ("StringEqualsIgnoreCase", "X-${u}", {"k": "x-ANN", "u": "Ann"}, True),
        ("StringLike", "${u}/*", {"k": "ann/x", "u": "ann"}, True),
        ("StringLike", "${u}/*", {"k": "ann/x", "u": "*"}, False),
        ("StringLike", "${*}x*", {"k": "*xy"}, True),
        ("StringLike", "${*}x*", {"k": "axy"}, False),
        ("ArnLike", "${arn}", {"k": f"{ARN}thing/x", "arn": f"{ARN}thing/x"}, True),
        ("ArnLike", "${arn}", {"k": f"{ARN}thing/x", "arn": "thing"}, False),
        ("ArnLike", "${arn}", {"k": f"{ARN}thing/x"}, False),
        ("ArnLike", "arn:aws:iot:*:*:thing/${u}", {"k": f"{ARN}thing/x", "u": "x"}, True),
        ("ArnLike", "arn:aws:iot:*:*:thing/${u}", {"k": f"{ARN}thing/x", "u": "*"}, False),
        ("ArnEquals", "arn:aws:iot:${r}:*:thing/*", {"k": f"{ARN}thing/x", "r": "eu-west-1"}, True),
        ("Bool", "${b}", {"k": True, "b": "true"}, True),
        ("Bool", "${b}", {"k": True, "b": False}, False),
        ("Bool", "${b}", {"k": True}, False),
        ("Bool", "${b}", {"k": "x", "b": "x"}, False),
        ("Bool", ["false", "${b}"], {"k": True, "b": True}, True),
    ],
)
def test_variables_in_conditions(operator: str, wanted: str, context: dict[str, Any], expected: bool) -> None:
    assert holds(operator, {"k": wanted}, context) is expected


@pytest.mark.parametrize("operator", ["StringNotEquals", "StringNotLike", "ArnNotLike", "StringNotEqualsIgnoreCase"])
def test_negated_operators_match_a_variable_without_value(operator: str) -> None:
    assert holds(operator, {"k": "${u}"}, {"k": f"{ARN}thing/x"})


TAINTED = ["*", "a*b", "$", "a+b", "?", "#", "x" * 1025]


@pytest.mark.parametrize("value", TAINTED)
def test_special_characters_of_devices_are_not_substituted(value: str) -> None:
    context = {"iot:ClientId": value}
    for pattern in ("topic/${iot:ClientId}", "topic/${iot:ClientId}*", "topic/?${iot:ClientId}"):
        arn = (ARN + pattern).replace("${iot:ClientId}", value).replace("?$", "x$")
        assert not allowed(Kind.DEVICE, arn, context, Resource=ARN + pattern)
    assert not allowed(Kind.DEVICE, f"{ARN}topic/{value}", context, Resource=f"{ARN}topic/${{iot:ClientId, 'x'}}")
    assert allowed(Kind.IDENTITY, f"{ARN}topic/{value}", context, Resource=f"{ARN}topic/${{iot:ClientId}}")


@pytest.mark.parametrize("context", [{}, *({"u": value} for value in TAINTED)])
def test_negated_device_statements_with_an_unusable_value(context: dict[str, Any]) -> None:
    """An Allow with a negation allows nothing, and a Deny with a negation denies."""
    negative: list[dict[str, Any]] = [
        {"Resource": None, "NotResource": "a:${u}"},
        {"Resource": None, "NotResource": ["a:y", "a:${u}"]},
        {"Condition": {"StringNotEquals": {"k": "${u}"}}},
        {"Condition": {"StringNotEquals": {"k": ["y", "${u}"]}}},
        {"Condition": {"ForAnyValue:StringNotLike": {"k": "${u}"}}},
    ]
    for elements in negative:
        assert not allowed(Kind.DEVICE, "a:x", context | {"k": "x"}, **elements)
        assert allowed(Kind.DEVICE, "a:x", {"u": "fine", "k": "x"}, **elements)
        barred = policy(statement(), statement("Deny", **elements), kind=Kind.DEVICE)
        assert not isinstance(evaluate([barred], Request("iot:Publish", "a:x", context | {"k": "x"})), Allow)


def test_the_longest_usable_value() -> None:
    value = "x" * 1024
    assert allowed(Kind.DEVICE, f"{ARN}topic/{value}", {"u": value}, Resource=f"{ARN}topic/${{u}}")


def test_other_resources_of_a_device_statement_still_match() -> None:
    assert allowed(Kind.DEVICE, "a:y", {"u": "*"}, Resource=["a:${u}", "a:y"])
