"""The condition keys and variables of device policies that have values, as AWS's guide writes them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tables import each_row
from tests.unit.domain.policies.helpers import document, holds, statement
from thingmint.domain.policies import Kind, compile_policy
from thingmint.domain.policies.device_keys import unknown_keys

ARN = "arn:aws:iot:us-east-1:123456789012:"


def unknown_in(**elements: Any) -> list[str]:
    return unknown_keys(compile_policy(document(statement(**elements)), kind=Kind.DEVICE))


# The conditions of AWS IoT's guide, "Connect policy examples", "Thing policy variables", "Certificate policy variables"
# and "Publish/Subscribe policy examples", each operator and each key at least once.
@each_row(
    "condition",
    [
        {"ForAllValues:StringEquals": {"iot:ConnectAttributes": []}},
        {"ForAllValues:StringEquals": {"iot:ConnectAttributes": ["PersistentConnect", "LastWill"]}},
        {"ForAnyValue:StringEquals": {"iot:ConnectAttributes": ["PersistentConnect"]}},
        {"ForAllValues:StringNotEquals": {"iot:ConnectAttributes": ["PersistentConnect"]}},
        {"ArnEquals": {"iot:LastWillTopic": f"{ARN}topic/my/lastwill/topicName"}},
        {"ArnEquals": {"iot:LastWillTopic": [f"{ARN}topic/open/s/${{iot:ClientId}}"]}},
        {"ArnLike": {"iot:LastWillTopic": f"{ARN}topic/*"}},
        {"Bool": {"iot:Connection.Thing.IsAttached": ["true"]}},
        {"Bool": {"iot:Connection.Thing.IsAttached": "false"}},
        {"Bool": {"iot:Connection.Thing.IsAttached": True}},
        {"StringEquals": {"iot:ClientId": ["${iot:Connection.Thing.ThingName}"]}},
        {"StringEquals": {"iot:Connection.Thing.ThingTypeName": "Thermostat"}},
        {"StringLike": {"iot:Connection.Thing.Attributes[envType]": "*prod*"}},
        {"StringEquals": {"iot:DomainName": "iot.example.com"}},
        {"StringEquals": {"iot:Certificate.Subject.CommonName": "a"}},
        {"ForAllValues:StringEquals": {"iot:Certificate.Subject.Organization.List": ["Example Corp", "AnyCompany"]}},
        {"ForAnyValue:StringEquals": {"iot:Certificate.Subject.Country.1": ["US"]}},
        {"StringEquals": {"iot:Certificate.Issuer.AlternativeName.DNSName": "a.example"}},
        {"StringLike": {"iot:Certificate.AvailableKeys": "Certificate.*"}},
        {"StringEquals": {"iot:Certificate.SerialNumber": "abc"}},
        {"StringEquals": {"iot:CertificateId": "a" * 64}},
        {"IpAddress": {"aws:SourceIp": "123.45.167.89"}},
        {"NotIpAddress": {"aws:SourceIp": ["10.0.0.0/8", "::1"]}},
        {"DateGreaterThan": {"aws:CurrentTime": "2026-01-01T00:00:00Z"}},
        {"NumericLessThan": {"aws:EpochTime": "1800000000"}},
        {"Null": {"iot:LastWillTopic": "true"}},
        {"StringEqualsIfExists": {"iot:Connection.Thing.ThingName": "a"}},
        {},
        {"StringEquals": {}},
    ],
)
def test_conditions_from_aws_guide_are_known(condition: dict[str, Any]) -> None:
    assert unknown_in(Condition=condition) == []


@each_row(
    ("elements", "expected"),
    [
        ({"Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}}, ["aws:MultiFactorAuthPresent"]),
        (
            {"Condition": {"StringEquals": {"iot:Certificate.Subject.Country.x": "a"}}},
            ["iot:Certificate.Subject.Country.x"],
        ),
        ({"Condition": {"StringEquals": {"iot:ClientId": "${cognito:sub}"}}}, ["cognito:sub"]),
        ({"Resource": f"{ARN}topic/${{iot:Thing.Name}}/${{IOT:clientid}}"}, ["iot:Thing.Name"]),
        ({"NotResource": f"{ARN}topic/${{aws:username}}", "Resource": None}, ["aws:username"]),
        ({"Condition": {"Null": {"a:b": "true"}, "StringLike": {"a:b": "*"}}}, ["a:b"]),
    ],
)
def test_unknown_keys_are_accepted_and_reported(elements: dict[str, Any], expected: list[str]) -> None:
    assert unknown_in(**elements) == expected


@each_row(("attributes", "matches"), [([], True), (["LastWill"], False), (["PersistentConnect", "LastWill"], False)])
def test_an_empty_list_matches_only_an_empty_list(attributes: list[str], matches: bool) -> None:
    key, context = "iot:ConnectAttributes", {"iot:ConnectAttributes": attributes}
    assert holds("ForAllValues:StringEquals", {key: []}, context, kind=Kind.DEVICE) is matches


@pytest.mark.parametrize("operator", ["StringEquals", "StringLike", "ArnLike", "Bool", "IpAddress", "NumericEquals"])
def test_an_empty_list_matches_no_value(operator: str) -> None:
    assert not holds(operator, {"k": []}, {"k": "a"})
    assert not holds(f"ForAnyValue:{operator}", {"k": []}, {"k": "a"})


@each_row("written", ['Example Corp\\, "Inc"', 'Example Corp, "Inc"', 'Example Corp\\, \\"Inc\\"'])
def test_special_characters_of_a_certificate_are_written_with_a_backslash(written: str) -> None:
    key = "iot:Certificate.Subject.Organization"
    assert holds("StringEquals", {key: written}, {key: 'Example Corp, "Inc"'}, kind=Kind.DEVICE)
