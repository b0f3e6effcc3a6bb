"""Provisioning templates with unmodified boto3 and the aws command, and the exact texts of errors."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.aws_input import in_awss_words
from tests.e2e.commands import AWS, bare_environment
from tests.e2e.conftest import iot_client, registered
from tests.e2e.material import fingerprint
from tests.e2e.test_aws_operations import refusal
from thingmint import admin
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.signing import Signer
    from thingmint.testing import RunningServer

LAMBDA = "arn:aws:lambda:us-east-1:123456789012:function:ask"
CERTIFICATE = {
    "Type": "AWS::IoT::Certificate",
    "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"},
}
# From the example on the developer guide's page about fleet provisioning.
BODY = json.dumps(
    {
        "Parameters": {"SerialNumber": {"Type": "String"}, "DeviceLocation": {"Type": "String"}},
        "Mappings": {"LocationTable": {"Seattle": {"LocationUrl": "https://example.aws"}}},
        "Resources": {
            "thing": {
                "Type": "AWS::IoT::Thing",
                "Properties": {
                    "ThingName": {"Fn::Join": ["", ["lamp_", {"Ref": "SerialNumber"}]]},
                    "AttributePayload": {"version": "v1"},
                    "ThingGroups": ["v1-lamps", "WA"],
                },
                "OverrideSettings": {"AttributePayload": "MERGE", "ThingGroups": "DO_NOTHING"},
            },
            "certificate": CERTIFICATE,
            "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "lamps"}},
        },
        "DeviceConfiguration": {
            "LocationUrl": {"Fn::FindInMap": ["LocationTable", {"Ref": "DeviceLocation"}, "LocationUrl"]}
        },
    }
)


@functools.cache
def role(iot: Any) -> str:
    """Return the ARN of a role in the client's account. The role need not exist."""
    account = iot.create_thing(thingName=f"n-{uuid4().hex[:12]}")["thingArn"].split(":")[4]
    return f"arn:aws:iam::{account}:role/provisioning"


def new(iot: Any, **arguments: Any) -> str:
    name: str = arguments.pop("templateName", f"t-{uuid4().hex[:12]}")
    iot.create_provisioning_template(
        **{"templateName": name, "templateBody": BODY, "provisioningRoleArn": role(iot)} | arguments
    )
    return name


def shown(iot: Any, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = iot.describe_provisioning_template(templateName=name)
    del answer["ResponseMetadata"]
    return answer


def test_a_template_is_described_as_created(iot: Any) -> None:
    name = f"t-{uuid4().hex[:12]}"
    created = iot.create_provisioning_template(
        templateName=name,
        description="für Lampen",
        templateBody=BODY,
        enabled=True,
        provisioningRoleArn=role(iot),
        preProvisioningHook={"targetArn": LAMBDA},
        tags=[{"Key": "team", "Value": "lamps"}, {"Key": "empty"}],
        type="FLEET_PROVISIONING",
    )
    del created["ResponseMetadata"]
    assert re.fullmatch(rf"arn:aws:iot:us-east-1:\d{{12}}:provisioningtemplate/{name}", created["templateArn"])
    assert created == {"templateArn": created["templateArn"], "templateName": name, "defaultVersionId": 1}
    found = shown(iot, name)
    times = found.pop("creationDate"), found.pop("lastModifiedDate")
    assert times[0] == times[1]
    assert abs(datetime.now(UTC) - times[0]) < timedelta(seconds=30)
    assert found == {
        **created,
        "description": "für Lampen",
        "templateBody": BODY,
        "enabled": True,
        "provisioningRoleArn": role(iot),
        "preProvisioningHook": {"payloadVersion": "2020-04-01", "targetArn": LAMBDA},
        "type": "FLEET_PROVISIONING",
    }


def test_omitted_members_are_absent_or_have_defaults(iot: Any) -> None:
    found = shown(iot, new(iot))
    assert "description" not in found
    assert "preProvisioningHook" not in found
    assert found["enabled"] is False
    assert found["type"] == "FLEET_PROVISIONING"
    assert shown(iot, new(iot, type="JITP"))["type"] == "JITP"


def test_creating_a_template_twice_conflicts(iot: Any) -> None:
    name = new(iot, description="first")
    with pytest.raises(iot.exceptions.ResourceAlreadyExistsException) as caught:
        new(iot, templateName=name)
    answer = caught.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 409
    assert answer["Error"]["Message"] == f"Template with name {name} already exists"
    assert (answer["resourceId"], answer["resourceArn"]) == (name, shown(iot, name)["templateArn"])
    assert shown(iot, name)["description"] == "first"


def test_an_update_changes_only_the_given_members(iot: Any) -> None:
    name = new(iot)
    iot.create_provisioning_template_version(templateName=name, templateBody=BODY + " ")
    before = shown(iot, name)
    hook = {"targetArn": LAMBDA, "payloadVersion": "2021-12-31"}
    answer = iot.update_provisioning_template(
        templateName=name,
        description="new",
        enabled=True,
        defaultVersionId=2,
        provisioningRoleArn=f"{role(iot)}2",
        preProvisioningHook=hook,
    )
    assert (answer.pop("ResponseMetadata")["HTTPStatusCode"], answer) == (200, {})
    after = shown(iot, name)
    assert after["lastModifiedDate"] > before["lastModifiedDate"]
    assert after == before | {
        "description": "new",
        "enabled": True,
        "defaultVersionId": 2,
        "templateBody": BODY + " ",
        "provisioningRoleArn": f"{role(iot)}2",
        "preProvisioningHook": hook,
        "lastModifiedDate": after["lastModifiedDate"],
    }
    iot.update_provisioning_template(templateName=name, removePreProvisioningHook=True)
    assert "preProvisioningHook" not in shown(iot, name)


def test_versions_are_created_listed_and_deleted(iot: Any) -> None:
    name = new(iot)
    create = iot.create_provisioning_template_version
    second = create(templateName=name, templateBody=BODY)
    del second["ResponseMetadata"]
    assert second == {
        "templateArn": shown(iot, name)["templateArn"],
        "templateName": name,
        "versionId": 2,
        "isDefaultVersion": False,
    }
    third = create(templateName=name, templateBody=BODY, setAsDefault=True)
    assert (third["versionId"], third["isDefaultVersion"]) == (3, True)
    for _ in range(2):
        create(templateName=name, templateBody=BODY)
    assert refusal(create, templateName=name, templateBody=BODY) == (
        409,
        "VersionsLimitExceededException",
        f"Template {name} has 5 versions already",
    )
    pages = iot.get_paginator("list_provisioning_template_versions").paginate(
        templateName=name, PaginationConfig={"PageSize": 2}
    )
    listed = [version for page in pages for version in page["versions"]]
    assert [(version["versionId"], version["isDefaultVersion"]) for version in listed] == [
        (5, False),
        (4, False),
        (3, True),
        (2, False),
        (1, False),
    ]
    one = iot.describe_provisioning_template_version(templateName=name, versionId=3)
    del one["ResponseMetadata"]
    assert one == {**listed[2], "templateBody": BODY}
    iot.delete_provisioning_template_version(templateName=name, versionId=1)
    status, code, _ = refusal(iot.describe_provisioning_template_version, templateName=name, versionId=1)
    assert (status, code) == (404, "ResourceNotFoundException")


def test_invalid_bodies_are_refused_in_the_words_of_aws(iot: Any) -> None:
    flaw = "Template must have certificate resource."
    expected = (400, "InvalidRequestException", f"The template body is invalid: {flaw}")
    assert refusal(new, iot=iot, templateBody="{}") == expected


def test_unknown_templates_are_refused_in_the_words_of_aws(iot: Any) -> None:
    expected = (404, "ResourceNotFoundException", "Unable to find template named nowhere")
    assert refusal(iot.describe_provisioning_template, templateName="nowhere") == expected


@pytest.fixture(scope="module")
def catalogue() -> Iterator[tuple[Any, list[str]]]:
    """A separate server with 27 templates."""
    with running_server() as server, contextlib.closing(iot_client(server)) as iot:
        yield iot, sorted(new(iot, description=f"number {n}", enabled=n % 2 == 0) for n in range(27))


@pytest.mark.parametrize("page_size", [None, 9])
def test_lists_have_every_template_once_in_order(catalogue: tuple[Any, list[str]], page_size: int | None) -> None:
    iot, names = catalogue
    config = {} if page_size is None else {"PageSize": page_size}
    pages = list(iot.get_paginator("list_provisioning_templates").paginate(PaginationConfig=config))
    assert [template["templateName"] for page in pages for template in page["templates"]] == names
    size = page_size or 25
    assert [len(page["templates"]) for page in pages] == [size] * (27 // size) + [27 % size] * (27 % size > 0)
    assert "nextToken" not in pages[-1]


@pytest.mark.parametrize(
    ("method", "target", "body", "message"),
    [
        ("POST", "/provisioning-templates", {}, "templateName is required"),
        ("POST", "/provisioning-templates", {"templateName": "a" * 37}, "templateName must have length"),
        ("POST", "/provisioning-templates", {"templateBody": "x" * 10241}, "templateBody must have length"),
        ("POST", "/provisioning-templates", {"type": "BULK"}, "type must be one of FLEET_PROVISIONING, JITP"),
        ("GET", "/provisioning-templates?maxResults=251", None, "maxResults must have value less than or equal to 250"),
        ("GET", "/provisioning-templates/a%20b", None, "templateName must satisfy"),
        ("GET", "/provisioning-templates/a/versions/x", None, "versionId must be an integer"),
    ],
)
def test_input_that_the_model_forbids_is_refused(
    signer: Signer, method: str, target: str, body: dict[str, object] | None, message: str
) -> None:
    complete = {
        "templateName": "never-made",
        "templateBody": BODY,
        "provisioningRoleArn": "arn:aws:iam::123456789012:role/r",
    }
    given = {} if body is None else complete | body if body and target == "/provisioning-templates" else body
    answer = signer.send(method, target, body=json.dumps(given).encode() if body is not None else b"")
    assert (answer.status, answer.aws_code) == (400, "InvalidRequestException")
    # Templates lack several members here, of which the message names all.
    assert in_awss_words(message).removeprefix("1 validation error detected: ") in answer.json()["message"]


# -- claims -------------------------------------------------------------------------------------------------------


def test_a_claim_is_a_certificate_for_five_minutes_with_its_keys(iot: Any, server: RunningServer) -> None:
    name = new(iot)
    before = registered(iot)
    answer = iot.create_provisioning_claim(templateName=name)
    del answer["ResponseMetadata"]
    assert set(answer) == {"certificateId", "certificatePem", "keyPair", "expiration"}
    assert answer["certificateId"] == fingerprint(answer["certificatePem"])
    certificate = x509.load_pem_x509_certificate(answer["certificatePem"].encode())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(server.device_ca.read_bytes()))
    assert certificate.not_valid_after_utc == answer["expiration"]
    left = answer["expiration"] - datetime.now(UTC)
    assert timedelta(minutes=4) < left <= timedelta(minutes=5)
    private_key: Any = load_pem_private_key(answer["keyPair"]["PrivateKey"].encode(), None)
    assert private_key.public_key() == certificate.public_key()
    assert answer["keyPair"]["PublicKey"].startswith("-----BEGIN PUBLIC KEY-----\n")
    # The claim certificate is not registered in the account.
    assert registered(iot) == before
    assert refusal(iot.describe_certificate, certificateId=answer["certificateId"])[0] == 404
    assert iot.create_provisioning_claim(templateName=name)["certificateId"] != answer["certificateId"]


# -- authorization ----------------------------------------------------------------------------------------------------


def test_templates_are_authorized_by_name_and_the_role_is_passed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    allowed = "arn:aws:iot:us-east-1:*:provisioningtemplate/lamps"
    with running_server(data) as server, contextlib.closing(iot_client(server)) as iot:
        new(iot, templateName="other")
        document = {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": "iot:*", "Resource": allowed},
                {"Effect": "Allow", "Action": "iam:PassRole", "Resource": role(iot)},
            ],
        }
        for command, given in (
            ("policy.put", {"name": "lesser", "document": json.dumps(document)}),
            ("policy.attach", {"policy": "lesser", "principal": "administrator"}),
            ("policy.detach", {"policy": "thingmint/Administrator", "principal": "administrator"}),
        ):
            admin.call(data / "admin.sock", "access", name=command, given=given)
        new(iot, templateName="lamps")
        iot.create_provisioning_claim(templateName="lamps")
        iot.update_provisioning_template(templateName="lamps", provisioningRoleArn=role(iot))
        passed = refusal(iot.update_provisioning_template, templateName="lamps", provisioningRoleArn=f"{role(iot)}2")
        assert (passed[:2], "iam:PassRole" in passed[2]) == ((403, "AccessDeniedException"), True)
        assert shown(iot, "lamps")["provisioningRoleArn"] == role(iot)
        for operation, arguments in (
            ("describe_provisioning_template", {"templateName": "other"}),
            ("delete_provisioning_template", {"templateName": "other"}),
            ("create_provisioning_claim", {"templateName": "other"}),
            ("create_provisioning_claim", {"templateName": "nowhere"}),
            ("list_provisioning_templates", {}),
        ):
            assert refusal(getattr(iot, operation), **arguments)[:2] == (403, "AccessDeniedException"), operation


# -- the aws command ----------------------------------------------------------------------------------------------


def test_the_aws_command_creates_updates_and_deletes_templates(server: RunningServer, iot: Any, tmp_path: Path) -> None:
    env = bare_environment(HOME=str(tmp_path), **server.environment())

    def aws(*arguments: str) -> dict[str, Any]:
        run = subprocess.run(
            [AWS, "iot", *arguments], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert run.returncode == 0, run.stderr
        answer: dict[str, Any] = json.loads(run.stdout or "{}")
        return answer

    (tmp_path / "body.json").write_text(BODY)
    name = f"--template-name=t-{uuid4().hex[:12]}"
    aws(
        "create-provisioning-template",
        name,
        "--template-body=file://body.json",
        f"--provisioning-role-arn={role(iot)}",
        f"--pre-provisioning-hook=targetArn={LAMBDA}",
        "--enabled",
        "--tags=Key=a,Value=b",
    )
    assert aws("update-provisioning-template", name, "--no-enabled") == {}
    found = aws("describe-provisioning-template", name)
    assert (found["templateBody"], found["enabled"]) == (BODY, False)
    aws("delete-provisioning-template", name)
