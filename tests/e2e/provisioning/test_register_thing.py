"""RegisterThing over REST: the template is in the request, and the caller's permissions apply."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.access.local_admin import allow, deny, document, keys_of, refusal
from tests.e2e.conftest import iot_client
from tests.e2e.material import csr_pem, fingerprint, self_signed_pem
from tests.e2e.provisioning.support import serial

if TYPE_CHECKING:
    from tests.e2e.provisioning.support import Fleet

FAILED = (400, "ResourceRegistrationFailureException")
THING = {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "Name"}}}


def body(certificate: dict[str, Any] | None, *, thing: dict[str, Any] | None = None, **policies: Any) -> str:
    resources: dict[str, Any] = {"a-thing": thing or THING}
    if certificate is not None:
        resources["a-certificate"] = {"Type": "AWS::IoT::Certificate", "Properties": certificate}
    for name, properties in policies.items():
        resources[name] = {"Type": "AWS::IoT::Policy", "Properties": properties}
    return json.dumps({"Parameters": {"Name": {"Type": "String"}}, "Resources": resources})


def arn(fleet: Fleet, resource: str) -> str:
    return f"arn:aws:iot:us-east-1:{fleet.account}:{resource}"


def things(fleet: Fleet) -> set[str]:
    pages = fleet.iot.get_paginator("list_things").paginate()
    return {thing["thingName"] for page in pages for thing in page["things"]}


def test_a_csr_and_a_policy_document_are_registered(fleet: Fleet) -> None:
    name = f"rest-{serial()}"
    written = {"Version": "2012-10-17", "Statement": [allow("iot:Connect", f"arn:aws:iot:*:*:client/{name}")]}
    made = fleet.iot.register_thing(
        templateBody=body(
            {"CertificateSigningRequest": csr_pem()},
            known={"PolicyName": "fleet-device"},
            new={"PolicyDocument": written},
        ),
        parameters={"Name": name},
    )
    id = fingerprint(made["certificatePem"])
    new = made["resourceArns"].pop("new")
    assert made["resourceArns"] == {
        "a-thing": arn(fleet, f"thing/{name}"),
        "a-certificate": arn(fleet, f"cert/{id}"),
        "known": arn(fleet, "policy/fleet-device"),
    }
    assert fleet.status(id) == "ACTIVE"
    policy = fleet.iot.get_policy(policyName=new.rpartition("/")[2])
    assert json.loads(policy["policyDocument"]) == written
    attached = fleet.iot.list_attached_policies(target=arn(fleet, f"cert/{id}"))["policies"]
    assert {each["policyArn"] for each in attached} == {new, arn(fleet, "policy/fleet-device")}
    assert fleet.iot.list_thing_principals(thingName=name)["principals"] == [arn(fleet, f"cert/{id}")]
    with fleet.device(fleet.identity({"certificateId": id, **made}), name):
        pass
    # The same policy document has the same name: the existing policy is attached to another certificate too.
    again = fleet.iot.register_thing(
        templateBody=body({"CertificateSigningRequest": csr_pem()}, new={"PolicyDocument": written}),
        parameters={"Name": name},
    )
    assert again["resourceArns"]["new"] == new


def test_an_existing_certificate_is_registered(fleet: Fleet) -> None:
    text, name = self_signed_pem(), f"rest-{serial()}"
    given = {"CertificatePem": text, "Status": "INACTIVE", "ThingPrincipalType": "EXCLUSIVE_THING"}
    made = fleet.iot.register_thing(templateBody=body(given), parameters={"Name": name})
    id = fingerprint(text)
    assert (made["certificatePem"], fleet.status(id)) == (text, "INACTIVE")
    described = fleet.iot.describe_certificate(certificateId=id)["certificateDescription"]
    assert described["certificateMode"] == "SNI_ONLY"
    (principal,) = fleet.iot.list_thing_principals_v2(thingName=name)["thingPrincipalObjects"]
    assert principal["thingPrincipalType"] == "EXCLUSIVE_THING"
    # The certificate is registered now, and the template does not change its status.
    fleet.iot.register_thing(templateBody=body({"CertificateId": id}), parameters={"Name": name})
    assert fleet.status(id) == "INACTIVE"
    error = refusal(fleet.iot.register_thing, templateBody=body(given), parameters={"Name": f"{name}-2"})
    assert error[:2] == FAILED
    assert "exclusive" in error[2]
    assert f"{name}-2" not in things(fleet)


def test_a_thing_without_certificate_is_registered(fleet: Fleet) -> None:
    name = f"rest-{serial()}"
    made = fleet.iot.register_thing(templateBody=body(None), parameters={"Name": name})
    assert "certificatePem" not in made
    assert made["resourceArns"] == {"a-thing": arn(fleet, f"thing/{name}")}


UNREGISTRABLE: list[tuple[str, dict[str, str], str, str]] = [
    ("{", {}, "InvalidRequestException", "The template body is invalid: It is not JSON"),
    (body(None), {}, "InvalidRequestException", "Cannot resolve reference value: Name"),
    (body(None), {"Name": "a b"}, FAILED[1], "ThingName must be 1 to 128 of the characters a-z A-Z 0-9 : _ -"),
    (body({"CertificateId": "0" * 64}), {"Name": "x"}, FAILED[1], f"certificate {'0' * 64} does not exist"),
    (body(None, policy={"PolicyName": "not-there"}), {"Name": "x"}, FAILED[1], "Policy default version not found"),
]


@pytest.mark.parametrize(
    ("template", "parameters", "code", "message"), UNREGISTRABLE, ids=map(str, range(len(UNREGISTRABLE)))
)
def test_failed_registrations_leave_no_thing(
    fleet: Fleet, template: str, parameters: dict[str, str], code: str, message: str
) -> None:
    before = things(fleet)
    error = refusal(fleet.iot.register_thing, templateBody=template, parameters=parameters)
    assert error == (400, code, message)
    assert things(fleet) == before


EFFECTS = [
    ("CreateCertificateFromCsr", "*"),
    ("AttachPolicy", "cert/*"),
    ("AddThingToThingGroup", "thinggroup/{group}"),
]


@pytest.mark.parametrize(("action", "resource"), EFFECTS)
def test_effects_need_permissions_of_the_caller(fleet: Fleet, action: str, resource: str) -> None:
    user, name, group = fleet.local_admin.user("thingmint/FullAccess"), f"rest-{serial()}", f"g-{serial()}"
    fleet.iot.create_thing_group(thingGroupName=group)
    kind = resource.format(name=name, group=group)
    refused = kind if kind == "*" else arn(fleet, kind)
    fleet.local_admin.ask("policy.put", name=name, document=document(deny(f"iot:{action}", refused)))
    fleet.local_admin.ask("policy.attach", principal=user, policy=name)
    key = fleet.local_admin.ask("key.create", principal=user)
    client = iot_client(fleet.server, **keys_of(key))
    written = {"Version": "2012-10-17", "Statement": [allow("iot:Connect", f"arn:aws:iot:*:*:client/{name}")]}
    given = body(
        {"CertificateSigningRequest": csr_pem()},
        thing={**THING, "Properties": {**THING["Properties"], "ThingGroups": [group]}},  # type: ignore[dict-item]
        new={"PolicyDocument": written},
    )
    status, code, message = refusal(client.register_thing, templateBody=given, parameters={"Name": name})
    assert (status, code) == (403, "AccessDeniedException")
    assert f"is not authorized to perform: iot:{action} on resource: {refused.removesuffix('*') or '*'}" in message
    assert name not in things(fleet)
    fleet.local_admin.ask("policy.detach", principal=user, policy=name)
    assert client.register_thing(templateBody=given, parameters={"Name": name})["resourceArns"]
    client.close()


def test_register_thing_alone_allows_nothing(fleet: Fleet) -> None:
    name = f"rest-{serial()}"
    fleet.local_admin.ask("policy.put", name=name, document=document(allow("iot:RegisterThing")))
    user = fleet.local_admin.user(name)
    client = iot_client(fleet.server, **keys_of(fleet.local_admin.ask("key.create", principal=user)))
    error = refusal(client.register_thing, templateBody=body(None), parameters={"Name": name})
    assert error[1] == "AccessDeniedException"
    assert "iot:CreateThing" in error[2]
    client.close()
