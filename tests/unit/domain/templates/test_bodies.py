"""Any input as a template or as parameters raises only errors of the domain."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.domain.templates.helpers import CERTIFICATE, ID, resolve, template, thing, value
from thingmint.domain.errors import Invalid, InvalidParameters, InvalidTemplate
from thingmint.domain.templates import CERTIFICATE_ID, MAX_LENGTH, Kind, parse_template

_START = json.dumps({"Resources": {"certificate": CERTIFICATE}})[:-1]


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("", "It is not JSON"),
        ("{", "It is not JSON"),
        ("{}x", "It is not JSON"),
        ("{'a': 1}", "It is not JSON"),
        ("[" * 10_000, "It is not JSON"),
        ('{"a":NaN}', "It is not JSON"),
        ('{"a":-Infinity}', "It is not JSON"),
        (f'{{"a":{"1" * 5000}}}', "It is not JSON"),
        ("null", "It must be a JSON object"),
        ("[]", "It must be a JSON object"),
        ('"a"', "It must be a JSON object"),
        ('{"a":1,"a":1}', "It has an element twice in one object"),
        ('{"a":[{"b":1,"\\u0062":2}]}', "It has an element twice in one object"),
        ('{"a":1e999}', "It has a character or a number that cannot be stored"),
        ('{"a":"\\u0000"}', "It has a character or a number that cannot be stored"),
        ('{"a":["\\ud800"]}', "It has a character or a number that cannot be stored"),
        ('{"a":{"\\udfff":1}}', "It has a character or a number that cannot be stored"),
        ('{"a":' + "[" * 32 + "]" * 32 + "}", "It is nested too deeply"),
        ('{"a":' + '{"a":' * 400 + "1" + "}" * 401, "It is nested too deeply"),
        ("{}" + " " * MAX_LENGTH, f"It must have at most {MAX_LENGTH} characters"),
    ],
)
def test_invalid_bodies_are_refused(text: str, flaw: str) -> None:
    for kind in Kind:
        with pytest.raises(InvalidTemplate) as caught:
            parse_template(text, kind)
        assert caught.value.flaw == flaw


def test_the_longest_body_is_accepted() -> None:
    body = _START + "}"
    parse_template(body + " " * (MAX_LENGTH - len(body)), Kind.FLEET)


def test_unknown_sections_are_ignored() -> None:
    parse_template(_START + ',"Version":"1","Description":[{}]}', Kind.FLEET)


@pytest.mark.parametrize("name", ["x" * 10_000, "x" * 257, "", "a\tb", "\u202e"])
def test_invalid_names_are_refused_and_not_quoted(name: str) -> None:
    hostile: list[dict[str, Any]] = [
        {"Parameters": {name: {"Type": "String"}}},
        {"Mappings": {name: {}}},
        {"DeviceConfiguration": {name: "x"}},
        {"DeviceConfiguration": {"x": {"Ref": name}}},
        {"Resources": {"certificate": CERTIFICATE, name: thing()}},
        {"Resources": {"certificate": CERTIFICATE, "t": thing(AttributePayload={name: "x"})}},
    ]
    for sections in hostile:
        with pytest.raises(InvalidTemplate) as caught:
            parse_template(json.dumps({"Resources": {"certificate": CERTIFICATE}} | sections), Kind.FLEET)
        assert name[:4] not in caught.value.flaw or not name


@pytest.mark.parametrize("bad", [1, True, [], {}, b"x", "\0", "a\ud800"])
def test_values_that_are_not_text_are_refused(bad: Any) -> None:
    with pytest.raises(InvalidParameters, match="The value of SerialNumber must be text"):
        value({"Ref": "SerialNumber"}, {"SerialNumber": bad})
    with pytest.raises(InvalidParameters, match=f"The value of {CERTIFICATE_ID} must be text"):
        template().resolve({}, {CERTIFICATE_ID: bad})


def test_devices_cannot_override_values_of_the_certificate() -> None:
    body = {
        "Parameters": {CERTIFICATE_ID: {"Type": "String", "Default": "0" * 64}},
        "Resources": {"certificate": CERTIFICATE},
    }
    hostile = {CERTIFICATE_ID: "0" * 64}
    for kind in (Kind.FLEET, Kind.JITP):
        made = parse_template(json.dumps(body), kind)
        plan = made.resolve(hostile, {CERTIFICATE_ID: ID})
        assert plan.certificate is not None
        assert plan.certificate.name == ID
        with pytest.raises(InvalidParameters, match=f"Cannot resolve reference value: {CERTIFICATE_ID}"):
            made.resolve(hostile, {})
    # A caller of RegisterThing can name any certificate of the account.
    plan = parse_template(json.dumps(body), Kind.BULK).resolve(hostile, {})
    assert plan.certificate is not None
    assert plan.certificate.name == "0" * 64


def test_an_empty_value_counts_and_null_means_the_default() -> None:
    made = template(
        parameters={"Location": {"Type": "String", "Default": "WA"}}, DeviceConfiguration={"it": {"Ref": "Location"}}
    )
    for given_value, expected in (("", ""), (None, "WA")):
        assert resolve(made, {"Location": given_value}).device_configuration["it"] == expected


# -- arbitrary bodies ---------------------------------------------------------------------------------------------

_WORDS = st.sampled_from(
    [
        *("Parameters", "Mappings", "Resources", "DeviceConfiguration", "Type", "Properties", "OverrideSettings"),
        *("DependsOn", "ThingName", "AttributePayload", "ThingGroups", "CertificateId", "Status", "PolicyDocument"),
        *("Ref", "Fn::Join", "Fn::Select", "Fn::Split", "Fn::Sub", "Fn::FindInMap", "Default", "a", "b", ""),
        *(
            "AWS::IoT::Thing",
            "AWS::IoT::Certificate",
            "AWS::IoT::Policy",
            CERTIFICATE_ID,
            "String",
            "${a}${b}",
            "MERGE",
        ),
    ]
)
_LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | _WORDS | st.text(max_size=5)
_JSON = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_WORDS, inner, max_size=4), max_leaves=30
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.builds(
            lambda name, argument: {name: argument},
            st.sampled_from(["Ref", "Fn::Join", "Fn::Select", "Fn::Split", "Fn::Sub", "Fn::FindInMap"]),
            inner | st.tuples(_WORDS, inner) | st.tuples(st.integers(0, 2), inner),
        )
    ),
    max_leaves=12,
)
_DECLARATIONS = st.fixed_dictionaries({"Type": st.just("String")}, optional={"Default": _LEAVES})


def _resources(kind: str, **properties: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(lambda **made: {"Type": f"AWS::IoT::{kind}", "Properties": made}, **properties)


_BODIES = st.fixed_dictionaries(
    {
        "Parameters": st.dictionaries(_WORDS, _DECLARATIONS, max_size=3),
        "Resources": st.fixed_dictionaries(
            {"a": st.just(CERTIFICATE) | _JSON},
            optional={
                "b": _resources("Thing", ThingName=_VALUES, ThingGroups=_VALUES),
                "Ref": _resources("Policy", PolicyDocument=_VALUES | _JSON),
                "String": _resources("Policy", PolicyName=_VALUES),
            },
        ),
        "DeviceConfiguration": st.dictionaries(_WORDS, _VALUES, max_size=4),
        "Mappings": st.dictionaries(_WORDS, st.dictionaries(_WORDS, st.dictionaries(_WORDS, _LEAVES)), max_size=2),
    }
)


@given(body=_BODIES | _JSON, values=st.dictionaries(_WORDS, _LEAVES), kind=st.sampled_from(Kind))
def test_arbitrary_bodies_raise_only_domain_errors(body: Any, values: dict[str, Any], kind: Kind) -> None:
    try:
        made = parse_template(json.dumps(body), kind)
    except InvalidTemplate:
        return
    with contextlib.suppress(Invalid):
        plan = made.resolve(values, {CERTIFICATE_ID: ID})
        assert all(isinstance(item, str) for item in plan.device_configuration.values())
        for policy in plan.policies:
            assert policy.document is None or isinstance(policy.document, str)


@given(text=st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_arbitrary_text_raises_only_domain_errors(text: str) -> None:
    with contextlib.suppress(InvalidTemplate):
        parse_template(text, Kind.FLEET)
