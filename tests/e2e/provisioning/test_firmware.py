"""Fleets that come from AWS: AWS's example template with the managed policy, and firmware with deviations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cbor2
import pytest

from tests.e2e.provisioning.support import CERTIFICATE, CREATE, TRUST, serial, template, wait_until
from thingmint.domain.policies.managed import PROVISIONING_ONLY

if TYPE_CHECKING:
    from tests.e2e.provisioning.support import Fleet

# As in AWS IoT's guide, "Fleet provisioning template example"; its groups, type and billing group are left out.
AWS_TEMPLATE = {
    "Parameters": {
        "ThingName": {"Type": "String"},
        "SerialNumber": {"Type": "String"},
        "DeviceLocation": {"Type": "String"},
    },
    "Mappings": {"LocationTable": {"Seattle": {"LocationUrl": "https://example.aws"}}},
    "Resources": {
        "thing": {
            "Type": "AWS::IoT::Thing",
            "Properties": {
                "AttributePayload": {"version": "v1", "serialNumber": "serialNumber"},
                "ThingName": {"Ref": "ThingName"},
            },
            "OverrideSettings": {"AttributePayload": "MERGE", "ThingTypeName": "REPLACE", "ThingGroups": "DO_NOTHING"},
        },
        "certificate": CERTIFICATE,
        "policy": {
            "Type": "AWS::IoT::Policy",
            "Properties": {
                "PolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Action": ["iot:Publish"],
                            "Resource": ["arn:aws:iot:us-east-1:123456789012:topic/foo/bar"],
                        }
                    ],
                }
            },
        },
    },
    "DeviceConfiguration": {
        "FallbackUrl": "https://www.example.com/test-site",
        "LocationUrl": {"Fn::FindInMap": ["LocationTable", {"Ref": "DeviceLocation"}, "LocationUrl"]},
    },
}


def test_the_managed_policy_allows_the_template_of_aws(fleet: Fleet) -> None:
    role = f"r-{serial()}"
    fleet.local_admin.ask("role.create", name=role, trust_policy=TRUST)
    fleet.local_admin.ask("policy.attach", principal=f"role/{role}", policy="thingmint/ProvisioningOnly")
    arn = f"arn:aws:iam::{fleet.account}:role/{role}"
    name, thing = fleet.new_template(json.dumps(AWS_TEMPLATE), provisioningRoleArn=arn), f"lamp-{serial()}"
    with fleet.device() as device:
        made = device.certificate()
        given = {"ThingName": thing, "SerialNumber": serial(), "DeviceLocation": "Seattle"}
        accepted, reply = device.register(name, made["certificateOwnershipToken"], **given)
    assert accepted, reply
    assert reply == {
        "thingName": thing,
        "deviceConfiguration": {
            "FallbackUrl": "https://www.example.com/test-site",
            "LocationUrl": "https://example.aws",
        },
    }
    target = fleet.iot.describe_certificate(certificateId=made["certificateId"])["certificateDescription"]
    (policy,) = fleet.iot.list_attached_policies(target=target["certificateArn"])["policies"]
    document = json.loads(fleet.iot.get_policy(policyName=policy["policyName"])["policyDocument"])
    assert document == AWS_TEMPLATE["Resources"]["policy"]["Properties"]["PolicyDocument"]  # type: ignore[index]
    assert '"iot:CreatePolicy"' in PROVISIONING_ONLY


@pytest.mark.parametrize("format", ["json", "cbor"])
def test_numeric_parameters_become_text(fleet: Fleet, format: str) -> None:
    number, name = int(serial(), 16) % 10**9, fleet.new_template()
    size = fleet.server.output.stat().st_size
    with fleet.device() as device:
        token = device.certificate()["certificateOwnershipToken"]
        asked: Any = {"parameters": {"SerialNumber": number, "Site": True}, "certificateOwnershipToken": token}
        payload = json.dumps(asked).encode() if format == "json" else cbor2.dumps(asked)
        accepted, reply = device.ask(f"$aws/provisioning-templates/{name}/provision/{format}", payload)
    assert accepted, reply
    assert reply["thingName"] == f"lamp-{number}"
    assert fleet.iot.describe_thing(thingName=reply["thingName"])["attributes"] == {"site": "true"}
    wait_until(
        lambda: any(line.get("parameters_as_text") == "SerialNumber, Site" for line in fleet.log_since(size)),
        "the log tells of it",
    )


def test_other_parameters_are_refused_with_their_name(fleet: Fleet) -> None:
    name = fleet.new_template()
    with fleet.device() as device:
        token = device.certificate()["certificateOwnershipToken"]
        asked = {"parameters": {"SerialNumber": ["1"]}, "certificateOwnershipToken": token}
        accepted, reply = device.ask(f"$aws/provisioning-templates/{name}/provision/json", json.dumps(asked).encode())
    assert not accepted
    assert reply["errorMessage"] == "The value of SerialNumber must be text, a number or a boolean"


def test_a_trailing_nul_is_ignored(fleet: Fleet) -> None:
    name = fleet.new_template(template())
    size = fleet.server.output.stat().st_size
    with fleet.device() as device:
        token = device.certificate()["certificateOwnershipToken"]
        asked = {"parameters": {"SerialNumber": serial()}, "certificateOwnershipToken": token}
        topic = f"$aws/provisioning-templates/{name}/provision/json"
        assert not device.ask(topic, json.dumps(asked).encode() + b"\0\0")[0]
        assert device.ask(topic, json.dumps(asked).encode() + b"\0")[0]
        assert device.ask(f"{CREATE}/json", b"\0")[0]
        assert device.ask(f"{CREATE}/json", b"{}\0")[0]
    notes = [line["note"] for line in fleet.log_since(size) if "note" in line]
    assert notes == ["a NUL after the payload was ignored"] * 4
