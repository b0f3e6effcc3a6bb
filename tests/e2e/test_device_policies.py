"""Device policies with unmodified boto3: every operation, AWS's codes, two accounts, and the audit log."""

from __future__ import annotations

import contextlib
import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.aws_input import in_awss_words
from tests.e2e.access.local_admin import LocalAdmin, allow, document, refusal
from tests.e2e.commands import in_process
from tests.e2e.conftest import iot_client
from tests.e2e.material import csr_pem
from thingmint.testing import running_server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.signing import Signer
    from thingmint.testing import RunningServer

_ID = "a" * 64
_TEXT = (
    ' {"Version": "2012-10-17",\r\n\t"Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"}]}\n'
)
_MISSING = (404, "ResourceNotFoundException")


def new_name() -> str:
    """A new name with every kind of character that a policy's name can have."""
    return f"p_+=,.@-{secrets.token_hex(8)}"


def new_policy(iot: Any) -> str:
    name = new_name()
    iot.create_policy(policyName=name, policyDocument=_TEXT)
    return name


def new_certificate(iot: Any) -> tuple[str, str]:
    """Id and ARN of a new, inactive certificate."""
    made = iot.create_certificate_from_csr(certificateSigningRequest=csr_pem())
    return made["certificateId"], made["certificateArn"]


def policy_arn(certificate_arn: str, name: str) -> str:
    return f"{certificate_arn.rpartition(':')[0]}:policy/{name}"


# -- documents and versions ---------------------------------------------------------------------------------------


def test_a_policy_is_created_versioned_and_deleted(iot: Any) -> None:
    name = new_name()
    created = iot.create_policy(policyName=name, policyDocument=_TEXT, tags=[{"Key": "team", "Value": "door"}])
    arn = created["policyArn"]
    assert arn.startswith("arn:aws:iot:us-east-1:")
    assert arn.endswith(f":policy/{name}")
    assert created["ResponseMetadata"]["HTTPStatusCode"] == 200
    del created["ResponseMetadata"]
    assert created == {"policyName": name, "policyArn": arn, "policyDocument": _TEXT, "policyVersionId": "1"}

    shown = iot.get_policy(policyName=name)
    assert (shown["policyName"], shown["policyArn"], shown["policyDocument"]) == (name, arn, _TEXT)
    assert shown["defaultVersionId"] == "1"
    assert shown["creationDate"] == shown["lastModifiedDate"]
    assert abs(datetime.now(UTC) - shown["creationDate"]) < timedelta(seconds=30)
    assert len(shown["generationId"]) == 36

    second = iot.create_policy_version(policyName=name, policyDocument=document(allow("iot:Publish")))
    assert (second["policyArn"], second["policyVersionId"], second["isDefaultVersion"]) == (arn, "2", False)
    assert second["policyDocument"] == document(allow("iot:Publish"))
    third = iot.create_policy_version(policyName=name, policyDocument=document(allow("iot:*")), setAsDefault=True)
    assert (third["policyVersionId"], third["isDefaultVersion"]) == ("3", True)
    shown = iot.get_policy(policyName=name)
    assert (shown["defaultVersionId"], shown["policyDocument"]) == ("3", document(allow("iot:*")))
    assert shown["lastModifiedDate"] > shown["creationDate"]

    version = iot.get_policy_version(policyName=name, policyVersionId="2")
    assert (version["policyName"], version["policyArn"], version["policyVersionId"]) == (name, arn, "2")
    assert (version["policyDocument"], version["isDefaultVersion"]) == (second["policyDocument"], False)
    assert shown["creationDate"] < version["creationDate"] == version["lastModifiedDate"]
    assert version["generationId"] != shown["generationId"]
    versions = iot.list_policy_versions(policyName=name)["policyVersions"]
    assert [(v["versionId"], v["isDefaultVersion"]) for v in versions] == [("3", True), ("2", False), ("1", False)]
    assert versions[1]["createDate"] == version["creationDate"]

    iot.set_default_policy_version(policyName=name, policyVersionId="1")
    assert iot.get_policy(policyName=name)["policyDocument"] == _TEXT
    for number in ("2", "3"):
        iot.delete_policy_version(policyName=name, policyVersionId=number)
    assert iot.create_policy_version(policyName=name, policyDocument=_TEXT)["policyVersionId"] == "4"
    iot.delete_policy_version(policyName=name, policyVersionId="4")
    iot.delete_policy(policyName=name)
    assert refusal(iot.get_policy, policyName=name) == (*_MISSING, "Policy not found")


def test_creating_a_policy_twice_conflicts(iot: Any) -> None:
    name = new_policy(iot)
    with pytest.raises(iot.exceptions.ResourceAlreadyExistsException) as caught:
        iot.create_policy(policyName=name, policyDocument=document(allow("iot:*")))
    answer: Any = caught.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 409
    assert answer["Error"]["Message"] == f"Policy cannot be created - name already exists (name={name})"
    assert (answer["resourceId"], answer["resourceArn"]) == (name, iot.get_policy(policyName=name)["policyArn"])
    assert iot.get_policy(policyName=name)["policyDocument"] == _TEXT


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "document is not JSON"),
        (_TEXT.replace('"Action"', '"Aktion"'), "Statement[0] has an unknown element"),
    ],
)
def test_malformed_documents_are_refused(iot: Any, text: str, message: str) -> None:
    expected = (400, "MalformedPolicyException", f"Policy document is Malformed: {message}")
    assert refusal(iot.create_policy, policyName=new_name(), policyDocument=text) == expected
    name = new_policy(iot)
    assert refusal(iot.create_policy_version, policyName=name, policyDocument=text, setAsDefault=True) == expected


def test_white_space_does_not_count_for_the_size_of_a_document(iot: Any) -> None:
    counted = len("".join(_TEXT.split()))
    text = _TEXT.replace('"*"', f'"arn:{"x" * (2048 - counted - 3)}"').replace("\t", "\t" * 5000)
    name = new_name()
    iot.create_policy(policyName=name, policyDocument=text)
    assert iot.get_policy(policyName=name)["policyDocument"] == text


def test_wrong_versions_are_refused(iot: Any) -> None:
    name = new_policy(iot)
    for _ in range(4):
        iot.create_policy_version(policyName=name, policyDocument=_TEXT)
    assert refusal(iot.create_policy_version, policyName=name, policyDocument=_TEXT) == (
        409,
        "VersionsLimitExceededException",
        f"A policy can have at most 5 versions (name={name})",
    )
    assert refusal(iot.delete_policy_version, policyName=name, policyVersionId="1") == (
        400,
        "InvalidRequestException",
        "Cannot delete the default version of a policy",
    )
    assert refusal(iot.delete_policy, policyName=name) == (
        409,
        "DeleteConflictException",
        f"Cannot delete the policy because it has one or more policy versions attached to it (name={name})",
    )
    expected = (*_MISSING, f"policy version {name}/6 does not exist")
    assert refusal(iot.get_policy_version, policyName=name, policyVersionId="6") == expected


def test_wrong_tags_are_refused(iot: Any) -> None:
    name, tags = new_name(), [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]
    refused = refusal(iot.create_policy, policyName=name, policyDocument=_TEXT, tags=tags)
    assert refused == (400, "InvalidRequestException", "tags must not have a key twice")
    assert refusal(iot.get_policy, policyName=name)[:2] == _MISSING


# -- attaching ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("principal", [False, True])
def test_attaching_and_detaching_twice_changes_nothing(iot: Any, principal: bool) -> None:
    """The second call changes nothing and raises no error. The deprecated operations use the same attachments."""
    name, (_, arn) = new_policy(iot), new_certificate(iot)
    given = {"policyName": name, "principal" if principal else "target": arn}
    attach, detach = (
        (iot.attach_principal_policy, iot.detach_principal_policy)
        if principal
        else (iot.attach_policy, iot.detach_policy)
    )
    listed = [{"policyName": name, "policyArn": policy_arn(arn, name)}]
    detach(**given)
    for _ in range(2):
        assert attach(**given)["ResponseMetadata"]["HTTPStatusCode"] == 200
        assert iot.list_attached_policies(target=arn)["policies"] == listed
        assert iot.list_principal_policies(principal=arn)["policies"] == listed
        assert iot.list_targets_for_policy(policyName=name)["targets"] == [arn]
        assert iot.list_policy_principals(policyName=name)["principals"] == [arn]
    assert refusal(iot.delete_policy, policyName=name) == (
        409,
        "DeleteConflictException",
        f"The policy cannot be deleted as the policy is attached to one or more principals (name={name})",
    )
    for _ in range(2):
        assert detach(**given)["ResponseMetadata"]["HTTPStatusCode"] == 200
        assert iot.list_attached_policies(target=arn)["policies"] == []
        assert iot.list_targets_for_policy(policyName=name)["targets"] == []
    iot.delete_policy(policyName=name)


def test_wrong_targets_are_refused(iot: Any) -> None:
    name, (_, arn) = new_policy(iot), new_certificate(iot)
    scope = arn.rpartition(":")[0]
    for prefix in (scope, scope.rpartition(":")[0] + ":999999999999", scope.replace("us-east-1", "eu-north-1")):
        expected = (*_MISSING, f"certificate {_ID} does not exist")
        target = f"{prefix}:cert/{_ID.upper()}"
        assert refusal(iot.attach_policy, policyName=name, target=target) == expected
        assert refusal(iot.list_attached_policies, target=target) == expected
        assert refusal(iot.attach_principal_policy, policyName=name, principal=target) == expected
        iot.detach_policy(policyName=name, target=target)
    expected = (400, "InvalidRequestException", "target must be the ARN of a certificate or a thing group")
    assert refusal(iot.attach_policy, policyName=name, target=f"{scope}:thing/t") == expected
    expected = (400, "InvalidRequestException", "x-amzn-iot-principal must be the ARN of a certificate")
    assert refusal(iot.attach_principal_policy, policyName=name, principal=f"{scope}:thinggroup/g") == expected


def test_missing_headers_are_refused(signer: Signer) -> None:
    for method, path, member in (
        ("GET", "/principal-policies", "principal"),
        ("PUT", "/principal-policies/p", "principal"),
        ("DELETE", "/principal-policies/p", "principal"),
        ("GET", "/policy-principals", "policyName"),
    ):
        answer = signer.send(method, path)
        assert (answer.status, answer.aws_code) == (400, "InvalidRequestException")
        assert answer.json() == {"message": in_awss_words(f"{member} is required")}


def test_a_certificate_has_at_most_ten_policies(iot: Any) -> None:
    (_, arn), names = new_certificate(iot), [new_policy(iot) for _ in range(11)]
    for name in names[:10]:
        iot.attach_policy(policyName=name, target=arn)
    expected = (410, "LimitExceededException", "A certificate can have at most 10 policies")
    assert refusal(iot.attach_policy, policyName=names[10], target=arn) == expected
    assert refusal(iot.attach_principal_policy, policyName=names[10], principal=arn) == expected


# -- deleting certificates ----------------------------------------------------------------------------------------


def test_a_certificate_with_policies_cannot_be_deleted(iot: Any) -> None:
    name, (id, arn) = new_policy(iot), new_certificate(iot)
    iot.attach_policy(policyName=name, target=arn)
    for arguments in ({}, {"forceDelete": False}):
        assert refusal(iot.delete_certificate, certificateId=id, **arguments) == (
            409,
            "DeleteConflictException",
            f"Certificate policies must be detached before deletion (arn: {arn})",
        )
    iot.update_certificate(certificateId=id, newStatus="ACTIVE")
    refused = refusal(iot.delete_certificate, certificateId=id, forceDelete=True)
    assert refused[:2] == (406, "CertificateStateException")
    assert iot.list_targets_for_policy(policyName=name)["targets"] == [arn]
    iot.update_certificate(certificateId=id, newStatus="REVOKED")
    iot.delete_certificate(certificateId=id, forceDelete=True)
    assert iot.list_targets_for_policy(policyName=name)["targets"] == []
    iot.delete_policy(policyName=name)


# -- pages, groups and accounts -----------------------------------------------------------------------------------


def test_policies_are_attached_to_thing_groups(iot: Any) -> None:
    (id, arn), word = new_certificate(iot), secrets.token_hex(4)
    upper = iot.create_thing_group(thingGroupName=f"upper-{word}")["thingGroupArn"]
    lower = iot.create_thing_group(thingGroupName=f"lower-{word}", parentGroupName=f"upper-{word}")["thingGroupArn"]
    of_upper, of_lower = new_policy(iot), new_policy(iot)
    iot.attach_policy(policyName=of_upper, target=upper)
    iot.attach_policy(policyName=of_lower, target=lower)

    def attached(target: str, **arguments: Any) -> list[str]:
        return [policy["policyName"] for policy in iot.list_attached_policies(target=target, **arguments)["policies"]]

    assert attached(lower) == [of_lower]
    assert attached(lower, recursive=True) == [of_upper, of_lower]
    iot.create_thing(thingName=f"thing-{word}")
    iot.add_thing_to_thing_group(thingName=f"thing-{word}", thingGroupName=f"lower-{word}")
    iot.attach_thing_principal(thingName=f"thing-{word}", principal=arn)
    assert (attached(arn), attached(arn, recursive=True)) == ([], [of_upper, of_lower])
    for force in (True, False):
        assert refusal(iot.delete_certificate, certificateId=id, forceDelete=force) == (
            409,
            "DeleteConflictException",
            f"Things must be detached before deletion (arn: {arn})",
        )


def test_pages_with_boto3s_own_paginators(iot: Any) -> None:
    (_, arn), names = new_certificate(iot), [new_policy(iot) for _ in range(5)]
    for name in names:
        iot.attach_policy(policyName=name, target=arn)
    for operation, given in (
        ("list_attached_policies", {"target": arn}),
        ("list_principal_policies", {"principal": arn, "ascendingOrder": True}),
    ):
        pages = iot.get_paginator(operation).paginate(**given, PaginationConfig={"PageSize": 2})
        listed = [[policy["policyName"] for policy in page["policies"]] for page in pages]
        assert listed == [names[:2], names[2:4], names[4:]]
    marker = iot.list_attached_policies(target=arn, pageSize=1)["nextMarker"]
    expected = (400, "InvalidRequestException", "marker is not one that this list returned")
    assert refusal(iot.list_policies, marker=marker) == expected


def test_policies_of_two_accounts_are_separate(server: RunningServer, iot: Any) -> None:
    new = LocalAdmin(server).ask("account.create", name=f"other-{secrets.token_hex(4)}")
    with LocalAdmin(server, new["account"]).iot(new) as theirs:
        name, (id, arn) = new_policy(iot), new_certificate(iot)
        iot.attach_policy(policyName=name, target=arn)
        assert theirs.list_policies()["policies"] == []
        assert refusal(theirs.get_policy, policyName=name) == (*_MISSING, "Policy not found")
        assert refusal(theirs.list_attached_policies, target=arn) == (*_MISSING, f"certificate {id} does not exist")
        theirs.create_policy(policyName=name, policyDocument=document(allow("iot:*")))
        assert refusal(theirs.attach_policy, policyName=name, target=arn)[:2] == _MISSING
        marker = iot.list_policies(pageSize=1)["nextMarker"]
        assert refusal(theirs.list_policies, marker=marker)[:2] == (400, "InvalidRequestException")
        theirs.detach_policy(policyName=name, target=arn)
        theirs.delete_policy(policyName=name)
    assert iot.get_policy(policyName=name)["policyDocument"] == _TEXT
    assert iot.list_targets_for_policy(policyName=name)["targets"] == [arn]


def test_attaching_is_allowed_by_target(iot: Any, server: RunningServer) -> None:
    """AWS's Service Authorization Reference: the resource of AttachPolicy is the certificate or the group."""
    name, (_, arn), (_, other) = new_policy(iot), new_certificate(iot), new_certificate(iot)
    with LocalAdmin(server).iot_of(allow(["iot:AttachPolicy", "iot:DetachPolicy"], arn)) as limited:
        limited.attach_policy(policyName=name, target=arn)
        limited.detach_policy(policyName=name, target=arn)
        for call in (limited.attach_policy, limited.detach_policy):
            status, code, text = refusal(call, policyName=name, target=other)
            assert (status, code) == (403, "AccessDeniedException")
            assert f"on resource: {other} because" in text
        assert refusal(limited.get_policy, policyName=name)[:2] == (403, "AccessDeniedException")


def test_the_audit_log_names_the_changed_resources(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_server(data) as server, contextlib.closing(iot_client(server)) as iot:
        _, cert = new_certificate(iot)
        arn = policy_arn(cert, "p")
        iot.create_policy(policyName="p", policyDocument=_TEXT)
        for _ in range(2):
            iot.attach_policy(policyName="p", target=cert)
        refusal(iot.delete_policy, policyName="p")
    done = in_process("audit", "export", "--data-dir", data)
    lines = [json.loads(line)["record"] for line in reversed(done.stdout.splitlines())]
    found = [(line["event"], line["outcome"], line.get("resources")) for line in lines if line["source"] != "thingmint"]
    assert found[1:] == [
        ("CreatePolicy", "success", [arn]),
        ("AttachPolicy", "success", [arn, cert]),
        ("AttachPolicy", "success", []),
        ("DeletePolicy", "refused", None),
    ]
    assert _TEXT.strip() not in done.stdout


def test_arns_in_paths_are_percent_encoded(signer: Signer, iot: Any) -> None:
    _, arn = new_certificate(iot)
    answer = signer.send("POST", f"/attached-policies/{quote(arn, safe='')}")
    assert (answer.status, answer.json()) == (200, {"policies": []})


@pytest.mark.parametrize("name", [".", ".."])
def test_a_policys_name_can_be_dots(iot: Any, name: str) -> None:
    """botocore sends dot segments, and signs the path without them."""
    policy = iot.create_policy(policyName=name, policyDocument=_TEXT)
    assert policy["policyArn"].endswith(f":policy/{name}")
    assert iot.create_policy_version(policyName=name, policyDocument=_TEXT)["policyVersionId"] == "2"
    assert [each["versionId"] for each in iot.list_policy_versions(policyName=name)["policyVersions"]] == ["2", "1"]
    iot.set_default_policy_version(policyName=name, policyVersionId="2")
    iot.delete_policy_version(policyName=name, policyVersionId="1")
    target = iot.create_keys_and_certificate()["certificateArn"]
    iot.attach_policy(policyName=name, target=target)
    assert iot.list_targets_for_policy(policyName=name)["targets"] == [target]
    iot.detach_policy(policyName=name, target=target)
    assert iot.get_policy(policyName=name)["defaultVersionId"] == "2"
    iot.delete_policy(policyName=name)
    assert refusal(iot.get_policy, policyName=name) == (*_MISSING, "Policy not found")
