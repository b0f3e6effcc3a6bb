"""The linter of templates: all errors with their places, and what is valid but hardly meant."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thingmint.domain.errors import InvalidTemplate
from thingmint.domain.linting import lint_template, templates
from thingmint.domain.linting.reading import MAX_FLAWS
from thingmint.domain.templates import CERTIFICATE_ID, MAX_LENGTH, Kind, Template, parse_template

CERTIFICATE = {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": CERTIFICATE_ID}}}
POLICY = {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "telemetry"}}


def thing(**properties: Any) -> dict[str, Any]:
    return {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "Serial"}, **properties}}


def document(**changes: Any) -> dict[str, Any]:
    resources = {"certificate": CERTIFICATE, "thing": thing(), "policy": POLICY}
    return {"Parameters": {"Serial": {"Type": "String"}}, "Resources": resources} | changes


def flaws(value: Any, kind: Kind = Kind.FLEET) -> list[tuple[str, str, str]]:
    """The kind of each flaw, the text of its line, and the message."""
    text = value if isinstance(value, str) else json.dumps(value, indent=1)
    lines = text.splitlines() or [""]
    return [(each.kind, lines[each.line - 1].strip(), each.message) for each in lint_template(text, kind).flaws]


def test_a_good_template_has_no_flaw_and_is_told_in_sentences() -> None:
    groups = thing(ThingGroups=["lamps", {"Ref": "Serial"}], AttributePayload={"site": "a"}, ThingTypeName="lamp")
    resources = {"certificate": CERTIFICATE, "thing": groups, "policy": POLICY}
    report = lint_template(json.dumps(document(Resources=resources)), Kind.FLEET)
    assert report.flaws == []
    assert [each.text for each in report.sentences] == [
        "The device's certificate becomes active.",
        "A thing with the name <Serial>, of the type lamp, with the attributes site, in the groups lamps, <Serial>.",
        "The policy telemetry is attached to the certificate.",
    ]


def test_all_errors_are_told_with_their_lines() -> None:
    resources = {
        "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": "x"}},
        "thing": thing(ThingGroups="no list"),
        "first": {"Type": "AWS::IoT::Lamp", "Properties": {}},
        "second": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": {"Fn::Join": ["", "x"]}}},
    }
    parameters = {"Serial": {"Type": "Number"}, "Site": {"Type": "String", "Default": []}}
    found = flaws(document(Parameters=parameters, Resources=resources))
    assert [(kind, line) for kind, line, _ in found] == [
        ("error", '"Type": "Number"'),
        ("error", '"Default": []'),
        ("error", '"certificate": {'),
        ("error", '"ThingGroups": "no list"'),
        ("error", '"Type": "AWS::IoT::Lamp",'),
        ("error", '"x"'),
    ]
    assert found[0][2] == "Parameters.Serial.Type must be String."


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("", "", "is empty"),
        ("x" * (MAX_LENGTH + 1), "x" * (MAX_LENGTH + 1), "at most 10,240 characters"),
        ('{\n "Resources": {,}\n}', '"Resources": {,}', "in double quotes is missing"),
        ('{\n "Resources": {},\n "Resources": {}\n}', '"Resources": {}', "is in the same object twice"),
        ("[]", "[]", "must be a JSON object"),
        ('{"Resources": {}}', '{"Resources": {}}', "must have"),
        ('{\n "Resources": []\n}', '"Resources": []', "must be an object"),
    ],
)
def test_documents_that_are_no_templates(text: str, line: str, part: str) -> None:
    ((kind, shown, message),) = flaws(text)
    assert (kind, shown) == ("error", line)
    assert part in message


def test_errors_of_the_whole_template() -> None:
    """These are found when each resource alone is valid."""
    two = {"certificate": CERTIFICATE, "a": thing(), "b": thing()}
    assert flaws(document(Resources=two))[0][2] == "Only one thing resource can be defined."
    assert "must have certificate resource" in flaws(document(Resources={"thing": thing()}))[0][2]
    depends = {"certificate": CERTIFICATE, "thing": thing() | {"DependsOn": "none"}}
    assert flaws(document(Resources=depends))[0][1] == '"DependsOn": "none"'


@pytest.mark.parametrize(
    ("changes", "kind", "line", "message"),
    [
        (
            {"Outputs": {}},
            Kind.FLEET,
            '"Outputs": {}',
            "Outputs has no effect: a template has Parameters, Mappings, Resources, DeviceConfiguration.",
        ),
        (
            {"DeviceConfiguration": {"a": {"Ref": "Other"}}},
            Kind.FLEET,
            '"Ref": "Other"',
            "No device can be provisioned: there is no parameter and no resource Other.",
        ),
        (
            {"DeviceConfiguration": {"a": {"Fn::Sub": ["${Other}${own}", {"own": "x"}]}}},
            Kind.FLEET,
            '"Fn::Sub": [',
            "No device can be provisioned: there is no parameter and no resource Other.",
        ),
        (
            {"DeviceConfiguration": {"a": {"Ref": "AWS::IoT::Certificate::CommonName"}}},
            Kind.FLEET,
            '"Ref": "AWS::IoT::Certificate::CommonName"',
            "AWS::IoT::Certificate::CommonName has a value in templates of the type JITP only.",
        ),
        (
            {"Parameters": {"Serial": {"Type": "String"}, "Site": {"Type": "String"}}},
            Kind.FLEET,
            '"Site": {',
            "Nothing uses the parameter Site.",
        ),
        ({}, Kind.JITP, '"Serial": {', "Serial never has a value: devices of this type send no parameters."),
        (
            {"Resources": {"certificate": CERTIFICATE, "thing": thing()}},
            Kind.FLEET,
            '"Resources": {',
            "Devices get no policy and join no group, so they may do nothing after they are provisioned.",
        ),
        ({"Resources": {"certificate": CERTIFICATE, "policy": POLICY}}, Kind.FLEET, '"Resources": {', "makes no thing"),
        (
            {
                "Resources": {
                    "certificate": {**CERTIFICATE, "Properties": {**CERTIFICATE["Properties"], "Status": "INACTIVE"}},  # type: ignore[dict-item]
                    "thing": thing(),
                    "policy": POLICY,
                }
            },
            Kind.FLEET,
            '"Status": "INACTIVE"',
            "Devices cannot connect with an inactive certificate until it is activated.",
        ),
    ],
)
def test_what_is_hardly_meant(changes: dict[str, Any], kind: Kind, line: str, message: str) -> None:
    found = flaws(document(**changes), kind)
    assert all(each[0] == "warning" for each in found)
    assert any(each[1] == line and message in each[2] for each in found), found


TEXTS = st.sampled_from(["", "a", "Active", "String", "${a}", "AWS::IoT::Thing", "AWS::IoT::Policy"])
NAMES = st.sampled_from(["Ref", "Type", "Default", "a", "Properties", "ThingName", "Fn::Sub", "Fn::Join", "."])
SECTIONS = st.sampled_from(["Parameters", "Mappings", "Resources", "DeviceConfiguration"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(SECTIONS, JSON, max_size=2), st.sampled_from(Kind))
def test_the_linter_decides_as_the_parser_does(parts: dict[str, Any], kind: Kind) -> None:
    for value in (parts, document(**parts)):
        text = json.dumps(value)
        report = lint_template(text, kind)
        try:
            parse_template(text, kind)
        except InvalidTemplate:
            assert report.errors > 0, text
        else:
            assert report.errors == 0, text


@given(st.text(), st.sampled_from(Kind))
def test_any_text_has_a_report(text: str, kind: Kind) -> None:
    assert lint_template(text, kind).errors > 0


def test_a_full_report_ends_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = [0]

    def counted(text: str, kind: Kind) -> Template:
        parsed[0] += 1
        return parse_template(text, kind)

    monkeypatch.setattr(templates, "parse_template", counted)
    for section in ("Parameters", "Resources", "Mappings"):
        found = lint_template(json.dumps(document(**{section: {f"p{number}": 1 for number in range(900)}})), Kind.FLEET)
        assert len(found.flaws) == MAX_FLAWS
        assert found.more
    unknown = {"t": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Fn::Sub": "${a}" * 900}}}}
    assert len(lint_template(json.dumps(document(Resources=unknown)), Kind.FLEET).flaws) <= MAX_FLAWS
    assert parsed[0] <= 4 * MAX_FLAWS
