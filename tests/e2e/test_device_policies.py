"""Device policies with unmodified boto3: every operation and refusal, two accounts, and the audit trail."""

from __future__ import annotations

import contextlib
import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.e2e.access.operator import Operator, allow, database, document, refusal
from tests.e2e.commands import own_server, thingmint
from tests.e2e.conftest import iot_client
from tests.e2e.material import csr_pem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.signing import Signer
    from thingmint.testing import RunningServer

_ID = "a" * 64
_TEXT = (
    ' {"Version": "2012-10-17",\r\n\t"Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"}]}\n'
)
_MISSING = (404, "ResourceNotFoundException")


def new_name() -> str:
    """With every kind of character that a policy's name may have."""
    return f"p_+=,.@-{secrets.token_hex(8)}"


def new_policy(iot: Any) -> str:
    name = new_name()
    iot.create_policy(policyName=name, policyDocument=_TEXT)
    return name


def new_certificate(iot: Any) -> tuple[str, str]:
    """Id and ARN of an inactive one."""
    made = iot.create_certificate_from_csr(certificateSigningRequest=csr_pem())
    return made["certificateId"], made["certificateArn"]


def policy_arn(certificate_arn: str, name: str) -> str:
    return f"{certificate_arn.rpartition(':')[0]}:policy/{name}"


# -- documents and versions ---------------------------------------------------------------------------------------


def test_a_policys_life(iot: Any) -> None:
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
    assert refusal(iot.get_policy, policyName=name) == (*_MISSING, f"policy {name} does not exist")


def test_a_name_that_is_taken(iot: Any) -> None:
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
        ("{", "document is not JSON"),
        ("[]", "document must be a JSON object"),
        ('{"Version": "2012-10-17"}', "Statement must be a statement or a list of them"),
        (_TEXT.replace("Allow", "allow"), "Statement[0].Effect must be Allow or Deny"),
        (_TEXT.replace('"Action"', '"Aktion"'), "Statement[0] has an unknown element"),
        (_TEXT.replace("iot:Connect", "Connect"), "Statement[0].Action must be of the form service:Operation, or *"),
        (
            _TEXT.replace("*", "arn:" + "x" * 2048),
            "document must have at most 2048 characters, white space not counted",
        ),
    ],
)
def test_documents_that_are_none(iot: Any, text: str, message: str) -> None:
    told = (400, "MalformedPolicyException", message)
    assert refusal(iot.create_policy, policyName=new_name(), policyDocument=text) == told
    name = new_policy(iot)
    assert refusal(iot.create_policy_version, policyName=name, policyDocument=text, setAsDefault=True) == told
    assert len(iot.list_policy_versions(policyName=name)["policyVersions"]) == 1


def test_the_longest_document(iot: Any) -> None:
    counted = len("".join(_TEXT.split()))
    text = _TEXT.replace('"*"', f'"arn:{"x" * (2048 - counted - 3)}"').replace("\t", "\t" * 5000)
    name = new_name()
    iot.create_policy(policyName=name, policyDocument=text)
    assert iot.get_policy(policyName=name)["policyDocument"] == text


def test_versions_and_their_refusals(iot: Any) -> None:
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
    for call in (iot.get_policy_version, iot.delete_policy_version, iot.set_default_policy_version):
        for number in ("6", "0", "01", "9" * 40):
            told = (*_MISSING, f"policy version {name}/{number} does not exist")
            assert refusal(call, policyName=name, policyVersionId=number) == told


def test_policies_that_are_not_there(iot: Any) -> None:
    name, (_, arn) = new_name(), new_certificate(iot)
    told = (*_MISSING, f"policy {name} does not exist")
    for call, arguments in (
        (iot.get_policy, {}),
        (iot.delete_policy, {}),
        (iot.create_policy_version, {"policyDocument": _TEXT}),
        (iot.get_policy_version, {"policyVersionId": "1"}),
        (iot.delete_policy_version, {"policyVersionId": "1"}),
        (iot.set_default_policy_version, {"policyVersionId": "1"}),
        (iot.list_policy_versions, {}),
        (iot.attach_policy, {"target": arn}),
        (iot.list_targets_for_policy, {}),
        (iot.attach_principal_policy, {"principal": arn}),
        (iot.detach_principal_policy, {"principal": arn}),
        (iot.list_policy_principals, {}),
    ):
        assert refusal(call, policyName=name, **arguments) == told
    iot.detach_policy(policyName=name, target=arn)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ([{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}], "tags must not have a key twice"),
        ([{"Key": f"k{n}", "Value": ""} for n in range(51)], "tags must be at most 50"),
    ],
)
def test_tags_that_are_refused(iot: Any, tags: list[dict[str, str]], message: str) -> None:
    name = new_name()
    told = refusal(iot.create_policy, policyName=name, policyDocument=_TEXT, tags=tags)
    assert told == (400, "InvalidRequestException", message)
    assert refusal(iot.get_policy, policyName=name)[:2] == _MISSING


# -- attaching ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("principal", [False, True])
def test_attaching_and_detaching(iot: Any, principal: bool) -> None:
    """Again is no change, and no error; the deprecated operations are about the same attachments."""
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


def test_targets_that_are_not_there(iot: Any) -> None:
    name, (_, arn) = new_policy(iot), new_certificate(iot)
    scope = arn.rpartition(":")[0]
    foreign = scope.rpartition(":")[0] + ":999999999999"
    abroad = scope.replace("us-east-1", "eu-north-1")
    for prefix in (scope, foreign, abroad):
        for resource, told in (
            (f"cert/{_ID.upper()}", f"certificate {_ID} does not exist"),
            ("thinggroup/nobody", "thing group nobody does not exist"),
        ):
            target = f"{prefix}:{resource}"
            assert refusal(iot.attach_policy, policyName=name, target=target) == (*_MISSING, told)
            for recursive in (True, False):
                assert refusal(iot.list_attached_policies, target=target, recursive=recursive) == (*_MISSING, told)
        missing = (*_MISSING, f"certificate {_ID} does not exist")
        principal = f"{prefix}:cert/{_ID}"
        for call in (iot.attach_principal_policy, iot.detach_principal_policy):
            assert refusal(call, policyName=name, principal=principal) == missing
        assert refusal(iot.list_principal_policies, principal=principal) == missing
        iot.detach_policy(policyName=name, target=f"{prefix}:cert/{_ID}")


def test_targets_that_are_none(iot: Any) -> None:
    name, (_, arn) = new_policy(iot), new_certificate(iot)
    scope = arn.rpartition(":")[0]
    for word in ("x", f"{scope}:thing/t", f"{scope}:policy/{name}", f"{scope}:thinggroup/a b", f"{arn}/x"):
        told = (400, "InvalidRequestException", "target must be the ARN of a certificate or a thing group")
        for call in (iot.attach_policy, iot.detach_policy):
            assert refusal(call, policyName=name, target=word) == told
        assert refusal(iot.list_attached_policies, target=word) == told
    for word in (f"{scope}:thinggroup/g", f"{scope}:thing/t"):
        told = (400, "InvalidRequestException", "x-amzn-iot-principal must be the ARN of a certificate")
        for call in (iot.attach_principal_policy, iot.detach_principal_policy):
            assert refusal(call, policyName=name, principal=word) == told
        assert refusal(iot.list_principal_policies, principal=word) == told


def test_headers_that_are_missing(signer: Signer) -> None:
    for method, path, header in (
        ("GET", "/principal-policies", "x-amzn-iot-principal"),
        ("PUT", "/principal-policies/p", "x-amzn-iot-principal"),
        ("DELETE", "/principal-policies/p", "x-amzn-iot-principal"),
        ("GET", "/policy-principals", "x-amzn-iot-policy"),
    ):
        answer = signer.send(method, path)
        assert (answer.status, answer.aws_code) == (400, "InvalidRequestException")
        assert answer.json() == {"message": f"{header} is required"}


def test_ten_policies_of_one_certificate(iot: Any) -> None:
    (_, arn), names = new_certificate(iot), [new_policy(iot) for _ in range(11)]
    for name in names[:10]:
        iot.attach_policy(policyName=name, target=arn)
    told = (410, "LimitExceededException", "A certificate can have at most 10 policies")
    assert refusal(iot.attach_policy, policyName=names[10], target=arn) == told
    assert refusal(iot.attach_principal_policy, policyName=names[10], principal=arn) == told
    iot.attach_policy(policyName=names[9], target=arn)
    assert len(iot.list_attached_policies(target=arn)["policies"]) == 10


# -- deleting certificates ----------------------------------------------------------------------------------------


def test_policies_go_before_their_certificate(iot: Any) -> None:
    name, (id, arn) = new_policy(iot), new_certificate(iot)
    iot.attach_policy(policyName=name, target=arn)
    for arguments in ({}, {"forceDelete": False}):
        assert refusal(iot.delete_certificate, certificateId=id, **arguments) == (
            409,
            "DeleteConflictException",
            f"Certificate policies must be detached before deletion (arn: {arn})",
        )
    iot.update_certificate(certificateId=id, newStatus="ACTIVE")
    told = refusal(iot.delete_certificate, certificateId=id, forceDelete=True)
    assert told[:2] == (406, "CertificateStateException")
    assert iot.list_targets_for_policy(policyName=name)["targets"] == [arn]
    iot.update_certificate(certificateId=id, newStatus="REVOKED")
    iot.delete_certificate(certificateId=id, forceDelete=True)
    assert iot.list_targets_for_policy(policyName=name)["targets"] == []
    iot.delete_policy(policyName=name)


# -- pages, groups and accounts -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, Any]]:
    """A server with two thing groups, one above the other, and a thing in the lower one."""
    data: Path = tmp_path_factory.mktemp("policies") / "data"
    with own_server(data):
        pass
    with database(data) as connection:
        [(account,)] = connection.execute("SELECT id FROM accounts")
        scope = (account, "us-east-1")
        for group, parent in (("upper", None), ("lower", "upper")):
            connection.execute(
                "INSERT INTO thing_groups (account, region, name, id, parent, path, attributes, version, created_at) "
                "VALUES (?, ?, ?, '', ?, ?, '{}', 1, 0)",
                (*scope, group, parent, f"{parent}/{group}" if parent else group),
            )
        connection.execute(
            "INSERT INTO things (account, region, name, id, attributes, version, created_at) "
            "VALUES (?, ?, 'thing', '', '{}', 1, 0)",
            scope,
        )
        connection.execute("INSERT INTO thing_group_members VALUES (?, ?, 'lower', 'thing', 0)", scope)
    with own_server(data) as server, contextlib.closing(iot_client(server)) as iot:
        yield server, iot


def test_policies_of_groups(house: tuple[RunningServer, Any]) -> None:
    _, iot = house
    _, arn = new_certificate(iot)
    scope = arn.rpartition(":")[0]
    lower, upper = f"{scope}:thinggroup/lower", f"{scope}:thinggroup/upper"
    of_upper, of_lower = new_policy(iot), new_policy(iot)
    iot.attach_policy(policyName=of_upper, target=upper)
    iot.attach_policy(policyName=of_lower, target=lower)
    iot.attach_policy(policyName=of_lower, target=arn)

    def attached(target: str, **arguments: Any) -> list[str]:
        return [policy["policyName"] for policy in iot.list_attached_policies(target=target, **arguments)["policies"]]

    assert attached(lower) == attached(lower, recursive=False) == [of_lower]
    assert attached(lower, recursive=True) == [of_upper, of_lower]
    assert attached(upper, recursive=True) == [of_upper]
    assert attached(arn, recursive=True) == [of_lower], "the certificate has no thing"
    assert iot.list_targets_for_policy(policyName=of_lower)["targets"] == [lower, arn]
    assert iot.list_policy_principals(policyName=of_lower)["principals"] == [arn], "groups are no principals"
    iot.detach_policy(policyName=of_upper, target=upper)
    assert (attached(lower, recursive=True), attached(upper)) == ([of_lower], [])


def test_a_certificate_with_a_thing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with own_server(data) as server, contextlib.closing(iot_client(server)) as iot:
        id, arn = new_certificate(iot)
    with database(data) as connection:
        scope = (arn.split(":")[4], "us-east-1")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(
            "INSERT INTO thing_groups VALUES (?, ?, 'group', '', NULL, 'group', NULL, '{}', 1, 0)", scope
        )
        connection.execute("INSERT INTO things VALUES (?, ?, 'thing', '', NULL, '{}', 1, 0)", scope)
        connection.execute("INSERT INTO thing_group_members VALUES (?, ?, 'group', 'thing', 0)", scope)
        connection.execute("INSERT INTO thing_principals VALUES (?, ?, 'thing', ?, 0, 0)", (*scope, id))
    with own_server(data) as server, contextlib.closing(iot_client(server)) as iot:
        name = new_policy(iot)
        iot.attach_policy(policyName=name, target=f"{arn.rpartition(':')[0]}:thinggroup/group")
        assert iot.list_attached_policies(target=arn)["policies"] == []
        assert [p["policyName"] for p in iot.list_attached_policies(target=arn, recursive=True)["policies"]] == [name]
        for force in (True, False):
            assert refusal(iot.delete_certificate, certificateId=id, forceDelete=force) == (
                409,
                "DeleteConflictException",
                f"Things must be detached before deletion (arn: {arn})",
            )


@pytest.mark.parametrize("size", [1, 2, 7, None])
def test_pages(house: tuple[RunningServer, Any], size: int | None) -> None:
    _, iot = house
    before = [policy["policyName"] for policy in iot.list_policies(ascendingOrder=True, pageSize=250)["policies"]]
    (_, arn), names = new_certificate(iot), [new_policy(iot) for _ in range(5)]
    arns = [arn]
    for name in names:
        iot.attach_policy(policyName=name, target=arn)
    for _ in range(4):
        arns.append(new_certificate(iot)[1])
        iot.attach_policy(policyName=names[0], target=arns[-1])
    sized = {} if size is None else {"pageSize": size}

    def everything(operation: str, member: str, **arguments: Any) -> list[Any]:
        found: list[Any] = []
        call = getattr(iot, operation)
        marker: dict[str, str] = {}
        while True:
            page = call(**arguments, **sized, **marker)
            found += page[member]
            assert len(page[member]) <= (size or 25)
            if "nextMarker" not in page:
                return [item["policyName"] if isinstance(item, dict) else item for item in found]
            marker = {"marker": page["nextMarker"]}

    for ascending in (True, False, None):
        order = {} if ascending is None else {"ascendingOrder": ascending}
        step = 1 if ascending else -1
        assert everything("list_policies", "policies", **order) == (before + names)[::step]
        assert everything("list_principal_policies", "policies", principal=arn, **order) == names[::step]
        assert everything("list_policy_principals", "principals", policyName=names[0], **order) == arns[::step]
    assert everything("list_attached_policies", "policies", target=arn, recursive=True) == names
    assert everything("list_targets_for_policy", "targets", policyName=names[0]) == arns
    # boto3's own paginators walk the same pages.
    pages = iot.get_paginator("list_attached_policies").paginate(target=arn, PaginationConfig={"PageSize": 2})
    assert [len(page["policies"]) for page in pages] == [2, 2, 1]
    marker = iot.list_policies(pageSize=1, ascendingOrder=True)["nextMarker"]
    told = (400, "InvalidRequestException", "marker is not one that this list returned")
    assert refusal(iot.list_policies, marker=marker) == told
    assert refusal(iot.list_attached_policies, target=arn, marker=marker) == told


def test_two_accounts(house: tuple[RunningServer, Any]) -> None:
    server, mine = house
    new = Operator(server).ask("account.create", name=f"other-{secrets.token_hex(4)}")
    with Operator(server, new["account"]).iot(new) as theirs:
        name, (_, arn) = new_policy(mine), new_certificate(mine)
        mine.attach_policy(policyName=name, target=arn)
        assert theirs.list_policies()["policies"] == []
        assert refusal(theirs.get_policy, policyName=name) == (*_MISSING, f"policy {name} does not exist")
        assert refusal(theirs.list_attached_policies, target=arn) == (
            *_MISSING,
            f"certificate {arn.rpartition('/')[2]} does not exist",
        )
        theirs.create_policy(policyName=name, policyDocument=document(allow("iot:*")))
        told = refusal(theirs.attach_policy, policyName=name, target=arn)
        assert told[:2] == _MISSING
        told = refusal(theirs.attach_policy, policyName=name, target=f"{arn.rpartition(':')[0]}:thinggroup/lower")
        assert told == (*_MISSING, "thing group lower does not exist")
        assert theirs.list_targets_for_policy(policyName=name)["targets"] == []
        marker = mine.list_policies(pageSize=1)["nextMarker"]
        assert refusal(theirs.list_policies, marker=marker)[:2] == (400, "InvalidRequestException")
        theirs.detach_policy(policyName=name, target=arn)
        theirs.delete_policy(policyName=name)
    assert mine.get_policy(policyName=name)["policyDocument"] == _TEXT
    assert mine.list_targets_for_policy(policyName=name)["targets"] == [arn]


def test_another_region_has_policies_of_its_own(house: tuple[RunningServer, Any]) -> None:
    server, iot = house
    name = new_policy(iot)
    assert thingmint("init", "--data-dir", server.data_dir, "--region", "eu-west-1").returncode == 0
    with contextlib.closing(iot_client(server, region_name="eu-west-1")) as abroad:
        assert refusal(abroad.get_policy, policyName=name)[:2] == _MISSING
        created = abroad.create_policy(policyName=name, policyDocument=_TEXT)
        assert created["policyArn"].startswith("arn:aws:iot:eu-west-1:")


def test_attaching_is_allowed_by_target(iot: Any, server: RunningServer) -> None:
    """AWS's authorization reference: AttachPolicy is about the certificate or the group."""
    name, (_, arn), (_, other) = new_policy(iot), new_certificate(iot), new_certificate(iot)
    with Operator(server).iot_of(allow(["iot:AttachPolicy", "iot:DetachPolicy"], arn)) as limited:
        limited.attach_policy(policyName=name, target=arn)
        limited.detach_policy(policyName=name, target=arn)
        for call in (limited.attach_policy, limited.detach_policy):
            status, code, text = refusal(call, policyName=name, target=other)
            assert (status, code) == (403, "AccessDeniedException")
            assert f"on resource: {other} because" in text
        assert refusal(limited.get_policy, policyName=name)[:2] == (403, "AccessDeniedException")


def test_the_audit_trail_names_what_was_changed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with own_server(data) as server, contextlib.closing(iot_client(server)) as iot:
        id, cert = new_certificate(iot)
        arn = policy_arn(cert, "p")
        iot.create_policy(policyName="p", policyDocument=_TEXT)
        iot.create_policy_version(policyName="p", policyDocument=_TEXT, setAsDefault=True)
        iot.set_default_policy_version(policyName="p", policyVersionId="1")
        iot.delete_policy_version(policyName="p", policyVersionId="2")
        iot.attach_policy(policyName="p", target=cert)
        iot.attach_policy(policyName="p", target=cert)
        iot.detach_policy(policyName="p", target=cert)
        iot.attach_principal_policy(policyName="p", principal=cert)
        iot.delete_certificate(certificateId=id, forceDelete=True)
        iot.delete_policy(policyName="p")
        refusal(iot.delete_policy, policyName="p")
    done = thingmint("audit", "export", "--data-dir", data)
    lines = [json.loads(line)["record"] for line in reversed(done.stdout.splitlines())]
    found = [(line["event"], line["outcome"], line.get("resources")) for line in lines if line["source"] != "thingmint"]
    assert found[1:] == [
        ("CreatePolicy", "success", [arn]),
        ("CreatePolicyVersion", "success", [arn]),
        ("SetDefaultPolicyVersion", "success", [arn]),
        ("DeletePolicyVersion", "success", [arn]),
        ("AttachPolicy", "success", [arn, cert]),
        ("AttachPolicy", "success", []),
        ("DetachPolicy", "success", [arn, cert]),
        ("AttachPrincipalPolicy", "success", [arn, cert]),
        ("DeleteCertificate", "success", [cert]),
        ("DeletePolicy", "success", [arn]),
        ("DeletePolicy", "refused", None),
    ]
    assert _TEXT.strip() not in done.stdout


def test_arns_travel_percent_encoded(signer: Signer, iot: Any) -> None:
    _, arn = new_certificate(iot)
    answer = signer.send("POST", f"/attached-policies/{quote(arn, safe='')}")
    assert (answer.status, answer.json()) == (200, {"policies": []})
