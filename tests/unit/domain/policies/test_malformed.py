"""Malformed policy documents are refused with the path of the element, and without quoting them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tables import each_row
from thingmint.domain.errors import Invalid, MalformedPolicy
from thingmint.domain.policies import MAX_LENGTH, Kind, Policy, compile_policy, document_size

from .helpers import document, statement

IDENTITY = [Kind.IDENTITY, Kind.SESSION, Kind.DEVICE]
MARK = "zqzq"  # represents the caller's text, which no error must quote


def refused(text: str | bytes, kind: Kind = Kind.IDENTITY, **options: Any) -> tuple[str, str]:
    with pytest.raises(MalformedPolicy) as caught:
        compile_policy(text, kind=kind, **options)
    assert isinstance(caught.value, Invalid)
    assert MARK not in str(caught.value)
    return caught.value.field, caught.value.reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not JSON"),
        (MARK, "is not JSON"),
        ("{", "is not JSON"),
        ("\ufeff{}", "is not JSON"),
        ('{"Version": NaN}', "is not JSON"),
        ('{"Version": Infinity}', "is not JSON"),
        ("9" * 5000, "is not JSON"),
        ("[" * 200_000, "is not JSON"),
        ('{"a":' * 60_000, "is not JSON"),
        (b"\xff\xfe", "is not UTF-8"),
        ("[]", "must be a JSON object"),
        ('"x"', "must be a JSON object"),
        ("null", "must be a JSON object"),
        ('{"Version": "2012-10-17", "Version": "2012-10-17"}', "has an element twice in one object"),
        (document(statement()).replace('"Effect"', '"Effect": "Deny", "Effect"'), "has an element twice in one object"),
        (document(statement()) + " " * MAX_LENGTH, "must have at most 404600 characters"),
        (json.dumps({"Statement": [statement()], MARK: 1}), "has an unknown element"),
        (json.dumps({"statement": [statement()]}), "has an unknown element"),
    ],
)
def test_malformed_documents_are_refused(text: str | bytes, reason: str) -> None:
    assert refused(text) == ("document", reason)


@pytest.mark.parametrize(
    ("outer", "field"),
    [
        ({"Version": MARK}, "Version"),
        ({"Version": None}, "Version"),
        ({"Version": 2012}, "Version"),
        ({"Version": ["2012-10-17"]}, "Version"),
        ({"Id": 5}, "Id"),
        ({"Id": None}, "Id"),
        ({"Id": "\ud800"}, "Id"),
        ({"Id": "x" * 257}, "Id"),
        ({"Statement": None}, "Statement"),
        ({"Statement": MARK}, "Statement"),
        ({"Statement": []}, "Statement"),
        ({"Statement": [statement()] * 501}, "Statement"),
        ({"Statement": [statement(), MARK]}, "Statement[1]"),
        ({"Statement": [statement(Sid="a"), statement(Sid="a")]}, "Statement[1].Sid"),
        ({"Statement": statement(Effect=MARK)}, "Statement.Effect"),
    ],
)
def test_malformed_outer_elements_are_refused(outer: dict[str, Any], field: str) -> None:
    given = {"Version": "2012-10-17", "Statement": [statement()]} | outer
    assert refused(json.dumps(given))[0] == field


def test_a_document_must_have_a_statement() -> None:
    assert refused('{"Version": "2012-10-17"}')[0] == "Statement"


LONG = "a:" + "x" * 4095
S = "Statement[0]"


@each_row("kind", IDENTITY)
@each_row(
    ("elements", "field"),
    [
        ({MARK: "x"}, S),
        ({"sid": "x"}, S),
        ({"Sid": 5}, f"{S}.Sid"),
        ({"Sid": "line\nbreak"}, f"{S}.Sid"),
        ({"Effect": None}, f"{S}.Effect"),
        ({"Effect": "allow"}, f"{S}.Effect"),
        ({"Effect": ["Allow"]}, f"{S}.Effect"),
        ({"Effect": {}}, f"{S}.Effect"),
        ({"Action": None}, S),
        ({"NotAction": "x:Y"}, S),
        ({"Action": ""}, f"{S}.Action"),
        ({"Action": []}, f"{S}.Action"),
        ({"Action": {}}, f"{S}.Action"),
        ({"Action": 5}, f"{S}.Action"),
        ({"Action": ["iot:Publish", None]}, f"{S}.Action"),
        ({"Action": ["iot:Publish", ["iot:Publish"]]}, f"{S}.Action"),
        ({"Action": MARK}, f"{S}.Action"),
        ({"Action": "iot:"}, f"{S}.Action"),
        ({"Action": ":Publish"}, f"{S}.Action"),
        ({"Action": "iot:Publish\n"}, f"{S}.Action"),
        ({"Action": "iot:${a}"}, f"{S}.Action"),
        ({"Action": "iot:P b"}, f"{S}.Action"),
        ({"Action": "iot:P:b"}, f"{S}.Action"),
        ({"Action": None, "NotAction": MARK}, f"{S}.NotAction"),
        ({"Action": ["iot:Publish"] * 501}, f"{S}.Action"),
        ({"Resource": None}, S),
        ({"NotResource": "*"}, S),
        ({"Resource": ""}, f"{S}.Resource"),
        ({"Resource": []}, f"{S}.Resource"),
        ({"Resource": True}, f"{S}.Resource"),
        ({"Resource": MARK}, f"{S}.Resource"),
        ({"Resource": "client/x"}, f"{S}.Resource"),
        ({"Resource": LONG}, f"{S}.Resource"),
        ({"Resource": ["*", "a:${"]}, f"{S}.Resource"),
        ({"Resource": "a:${}"}, f"{S}.Resource"),
        ({"Resource": "a:${ }"}, f"{S}.Resource"),
        ({"Resource": "a:${${b}}"}, f"{S}.Resource"),
        ({"Resource": "a:${b, c}"}, f"{S}.Resource"),
        ({"Resource": "a:${b, 'c}"}, f"{S}.Resource"),
        ({"Resource": "a:${b, '}"}, f"{S}.Resource"),
        ({"Resource": "a:${b, ''c''}"}, f"{S}.Resource"),
        ({"Resource": "a:${**}"}, f"{S}.Resource"),
        ({"Resource": "a:${b\t\x01c}"}, f"{S}.Resource"),
        ({"Resource": None, "NotResource": MARK}, f"{S}.NotResource"),
        ({"Principal": "*"}, f"{S}.Principal"),
        ({"NotPrincipal": "*"}, f"{S}.NotPrincipal"),
        ({"Condition": []}, f"{S}.Condition"),
        ({"Condition": MARK}, f"{S}.Condition"),
        ({"Condition": {MARK: {"k": "v"}}}, f"{S}.Condition"),
        ({"Condition": {"stringequals": {"k": "v"}}}, f"{S}.Condition"),
        ({"Condition": {"": {"k": "v"}}}, f"{S}.Condition"),
        ({"Condition": {"IfExists": {"k": "v"}}}, f"{S}.Condition"),
        ({"Condition": {"StringEqualsIfExistsIfExists": {"k": "v"}}}, f"{S}.Condition"),
        ({"Condition": {"ForAnyValue:ForAllValues:StringEquals": {"k": "v"}}}, f"{S}.Condition"),
        ({"Condition": {"ForSomeValues:StringEquals": {"k": "v"}}}, f"{S}.Condition"),
        ({"Condition": {"NullIfExists": {"k": "true"}}}, f"{S}.Condition"),
        ({"Condition": {"ForAnyValue:Null": {"k": "true"}}}, f"{S}.Condition"),
        ({"Condition": {"BoolNot": {"k": "true"}}}, f"{S}.Condition"),
        ({"Condition": {"StringEquals": {str(i): "v" for i in range(501)}}}, f"{S}.Condition"),
        ({"Condition": {"StringEquals": MARK}}, f"{S}.Condition.StringEquals"),
        ({"Condition": {"StringEquals": {"": "v"}}}, f"{S}.Condition.StringEquals"),
        ({"Condition": {"StringEquals": {"k\n": "v"}}}, f"{S}.Condition.StringEquals"),
        ({"Condition": {"StringEquals": {"k": None}}}, f"{S}.Condition.StringEquals"),
        ({"Condition": {"StringEquals": {"k": {}}}}, f"{S}.Condition.StringEquals"),
        ({"Condition": {"StringEquals": {"k": [["v"]]}}}, f"{S}.Condition.StringEquals"),
        ({"Condition": {"StringEquals": {"k": ["v"] * 501}}}, f"{S}.Condition.StringEquals"),
        ({"Condition": {"StringEquals": {"k": LONG}}}, f"{S}.Condition.StringEquals"),
        ({"Condition": {"StringEquals": {"k": "${"}}}, f"{S}.Condition.StringEquals"),
        ({"Condition": {"StringLikeIfExists": {"k": "${}"}}}, f"{S}.Condition.StringLikeIfExists"),
        ({"Condition": {"ArnLike": {"k": MARK}}}, f"{S}.Condition.ArnLike"),
        ({"Condition": {"ArnLike": {"k": "**"}}}, f"{S}.Condition.ArnLike"),
        ({"Condition": {"ArnEquals": {"k": "arn:aws:iot:*"}}}, f"{S}.Condition.ArnEquals"),
        ({"Condition": {"Bool": {"k": MARK}}}, f"{S}.Condition.Bool"),
        ({"Condition": {"Bool": {"k": 1}}}, f"{S}.Condition.Bool"),
        ({"Condition": {"Bool": {"k": "x${y}"}}}, f"{S}.Condition.Bool"),
        ({"Condition": {"Null": {"k": MARK}}}, f"{S}.Condition.Null"),
        ({"Condition": {"Null": {"k": "${u}"}}}, f"{S}.Condition.Null"),
        ({"Condition": {"IpAddress": {"k": MARK}}}, f"{S}.Condition.IpAddress"),
        ({"Condition": {"IpAddress": {"k": 167772161}}}, f"{S}.Condition.IpAddress"),
        ({"Condition": {"IpAddress": {"k": "10.0.0.0/33"}}}, f"{S}.Condition.IpAddress"),
        ({"Condition": {"IpAddress": {"k": "10.0.0.0/8/8"}}}, f"{S}.Condition.IpAddress"),
        ({"Condition": {"IpAddress": {"k": "fe80::1%eth0"}}}, f"{S}.Condition.IpAddress"),
        ({"Condition": {"IpAddress": {"k": "1" * 100}}}, f"{S}.Condition.IpAddress"),
        ({"Condition": {"NumericEquals": {"k": MARK}}}, f"{S}.Condition.NumericEquals"),
        ({"Condition": {"NumericEquals": {"k": True}}}, f"{S}.Condition.NumericEquals"),
        ({"Condition": {"NumericEquals": {"k": "1e999"}}}, f"{S}.Condition.NumericEquals"),
        ({"Condition": {"NumericEquals": {"k": "inf"}}}, f"{S}.Condition.NumericEquals"),
        ({"Condition": {"NumericEquals": {"k": "1_0"}}}, f"{S}.Condition.NumericEquals"),
        ({"Condition": {"NumericEquals": {"k": "\u0665"}}}, f"{S}.Condition.NumericEquals"),
        ({"Condition": {"DateEquals": {"k": MARK}}}, f"{S}.Condition.DateEquals"),
        ({"Condition": {"DateEquals": {"k": "2026-13-01"}}}, f"{S}.Condition.DateEquals"),
        ({"Condition": {"DateEquals": {"k": "2026-02-30T00:00Z"}}}, f"{S}.Condition.DateEquals"),
        ({"Condition": {"DateEquals": {"k": "2026-01-01T00:00"}}}, f"{S}.Condition.DateEquals"),
        ({"Condition": {"DateEquals": {"k": "2026-01-01T00:00+99:00"}}}, f"{S}.Condition.DateEquals"),
        ({"Condition": {"DateEquals": {"k": "0000"}}}, f"{S}.Condition.DateEquals"),
        ({"Condition": {"DateEquals": {"k": 10**16}}}, f"{S}.Condition.DateEquals"),
        ({"Condition": {"BinaryEquals": {"k": "!"}}}, f"{S}.Condition.BinaryEquals"),
        ({"Condition": {"BinaryEquals": {"k": "\u00e9"}}}, f"{S}.Condition.BinaryEquals"),
        ({"Condition": {"BinaryEquals": {"k": 5}}}, f"{S}.Condition.BinaryEquals"),
    ],
)
def test_malformed_statement_elements_are_refused(kind: Kind, elements: dict[str, Any], field: str) -> None:
    assert refused(document(statement(**elements)), kind)[0] == field


def test_null_elements_are_refused() -> None:
    for element in ("Sid", "Effect", "Action", "Resource", "Condition"):
        assert refused(document(statement() | {element: None}))[0] == f"{S}.{element}"


@pytest.mark.parametrize("kind", [Kind.IDENTITY, Kind.SESSION])
def test_iam_limits_the_characters_of_sids(kind: Kind) -> None:
    for sid in ("with space", "under_score", "ä"):
        assert refused(document(statement(Sid=sid)), kind)[0] == f"{S}.Sid"
        compile_policy(document(statement(Sid=sid)), kind=Kind.DEVICE)
    compile_policy(document(statement(Sid=""), statement(Sid="")), kind=kind)


TRUSTED: dict[str, Any] = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "123456789012"}}


@pytest.mark.parametrize(
    ("elements", "field"),
    [
        ({"Resource": "*"}, f"{S}.Resource"),
        ({"NotResource": "*"}, f"{S}.NotResource"),
        ({"Principal": None}, f"{S}.Principal"),
        ({"Principal": MARK}, f"{S}.Principal"),
        ({"Principal": []}, f"{S}.Principal"),
        ({"Principal": {}}, f"{S}.Principal"),
        ({"Principal": {MARK: "*"}}, f"{S}.Principal"),
        ({"Principal": {"AWS": []}}, f"{S}.Principal.AWS"),
        ({"Principal": {"AWS": {}}}, f"{S}.Principal.AWS"),
        ({"Principal": {"AWS": MARK}}, f"{S}.Principal"),
        ({"Principal": {"AWS": "1234"}}, f"{S}.Principal"),
        ({"Principal": {"AWS": "arn:aws:iam::123456789012:user/*"}}, f"{S}.Principal"),
        ({"Principal": {"AWS": "arn:aws:iam::123456789012:user/a?"}}, f"{S}.Principal"),
        ({"Principal": {"AWS": "arn:aws:iam::123456789012:user/${aws:username}"}}, f"{S}.Principal"),
        ({"Principal": {"Service": "*"}}, f"{S}.Principal"),
        ({"Principal": {"Federated": "*"}}, f"{S}.Principal"),
        ({"NotPrincipal": "*"}, S),
    ],
)
def test_malformed_trust_policies_are_refused(elements: dict[str, Any], field: str) -> None:
    assert refused(document(TRUSTED | elements), Kind.TRUST)[0] == field


def test_trust_policies_must_name_a_principal() -> None:
    assert refused(document({"Effect": "Allow", "Action": "sts:AssumeRole"}), Kind.TRUST)[0] == S
    denying = {"Effect": "Deny", "Action": "sts:AssumeRole", "NotPrincipal": {"AWS": "123456789012"}}
    compile_policy(document(denying), kind=Kind.TRUST)
    assert refused(document(denying | {"Effect": "Allow"}), Kind.TRUST)[0] == f"{S}.NotPrincipal"


def test_size_is_counted_without_white_space() -> None:
    text = document(statement(), version="2012-10-17")
    size = document_size(text)
    assert size == sum(not character.isspace() for character in text)
    compile_policy(text.replace(":", ": \n\t") + " " * 50, kind=Kind.DEVICE, max_size=size)
    assert refused(text, Kind.DEVICE, max_size=size - 1)[0] == "document"


def test_fields_of_a_compiled_policy() -> None:
    policy = compile_policy(
        b'{"Id": "x", "Statement": {"Effect": "Allow", "Action": ["iot:*", "*"], "Resource": "arn:aws:iot:*"}}',
        kind=Kind.IDENTITY,
        name="n",
    )
    assert (policy.name, policy.kind, policy.version, policy.id) == ("n", Kind.IDENTITY, "2008-10-17", "x")
    assert [s.ref.index for s in policy.statements] == [0]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["*", "Allow", "${a}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=10,
)
OPERATORS = st.sampled_from(["StringLike", "ArnLike", "Bool", "Null", "IpAddress", "DateEquals", "NumericEquals", "X"])
CONDITION = st.dictionaries(
    OPERATORS.flatmap(lambda o: st.sampled_from([o, f"{o}IfExists", f"ForAnyValue:{o}", f"ForAllValues:{o}"])),
    st.dictionaries(st.text(max_size=4), JSON, max_size=2) | JSON,
    max_size=2,
)
ELEMENTS = st.fixed_dictionaries(
    {},
    optional={
        "Sid": JSON,
        "Effect": st.sampled_from(["Allow", "Deny"]) | JSON,
        "Action": st.just("*") | JSON,
        "NotAction": JSON,
        "Resource": st.just("*") | JSON,
        "NotResource": JSON,
        "Principal": st.fixed_dictionaries({"AWS": JSON}) | JSON,
        "Condition": CONDITION | JSON,
        "Other": JSON,
    },
)
DOCUMENTS = st.fixed_dictionaries(
    {"Statement": st.lists(ELEMENTS, min_size=1, max_size=2) | ELEMENTS | JSON},
    optional={"Version": st.sampled_from(["2012-10-17", "2008-10-17"]) | JSON, "Id": JSON},
)


@given(DOCUMENTS.map(json.dumps) | JSON.map(json.dumps) | st.text() | st.binary(), st.sampled_from(Kind))
def test_only_malformed_policy_is_raised(text: str | bytes, kind: Kind) -> None:
    try:
        assert isinstance(compile_policy(text, kind=kind), Policy)
    except MalformedPolicy as error:
        assert error.field and error.reason  # noqa: PT017, PT018
