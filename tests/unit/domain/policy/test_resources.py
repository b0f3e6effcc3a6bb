"""The table of operations against the service model, and the ARNs it gives."""

from typing import Any

import botocore.session
import pytest

from thingmint.domain.errors import Invalid
from thingmint.domain.policy.resources import DOOR, OPERATIONS, passed_role, request_context, resource_arns

ACCOUNT, REGION = "123456789012", "eu-west-1"
BASE = f"arn:aws:iot:{REGION}:{ACCOUNT}:"
HEX = "aB" * 32
LOW = HEX.lower()


def test_members_are_the_models() -> None:
    model = botocore.session.get_session().get_service_model("iot")
    for name, operation in OPERATIONS.items():
        shape = model.operation_model(name).input_shape
        members = dict(shape.members) if shape is not None else {}
        for target in operation.targets:
            assert set(target.names + target.arns) <= set(members), name
        for member in operation.role:
            assert member in members, name
            members = dict(getattr(members[member], "members", {}))


def test_numbers_by_access_level() -> None:
    counts: dict[str, int] = {}
    for operation in OPERATIONS.values():
        counts[operation.access] = counts.get(operation.access, 0) + 1
    assert counts == {"List": 27, "Read": 23, "Write": 52, "Permissions management": 10, "Tagging": 2}
    assert len(DOOR) == 8


@pytest.mark.parametrize(
    ("operation", "members", "expected"),
    [
        ("CreateKeysAndCertificate", {}, ["*"]),
        ("ListThings", {"thingTypeName": "t"}, ["*"]),
        ("DescribeCertificate", {"certificateId": HEX}, [f"{BASE}cert/{LOW}"]),
        ("DescribeCACertificate", {"certificateId": HEX}, [f"{BASE}cacert/{LOW}"]),
        ("GetPolicy", {"policyName": "P"}, [f"{BASE}policy/P"]),
        ("AttachPolicy", {"policyName": "P", "target": f"{BASE}cert/{HEX}"}, [f"{BASE}cert/{LOW}"]),
        ("AttachPolicy", {"policyName": "P", "target": f"{BASE}thinggroup/G"}, [f"{BASE}thinggroup/G"]),
        ("AttachPolicy", {"policyName": "P", "target": "eu-west-1:some-cognito-id"}, ["*"]),
        ("DetachPolicy", {"policyName": "P", "target": f"{BASE}thing/T"}, ["*"]),
        ("AttachPolicy", {"policyName": "P", "target": f"arn:aws:sns:::cert/{HEX}"}, ["*"]),
        ("GetEffectivePolicies", {}, ["*"]),
        ("GetEffectivePolicies", {"principal": f"{BASE}cert/{HEX}"}, [f"{BASE}cert/{LOW}"]),
        ("AttachThingPrincipal", {"thingName": "T", "principal": f"{BASE}cert/{LOW}"}, [f"{BASE}cert/{LOW}"]),
        ("CreateThing", {"thingName": "T"}, [f"{BASE}thing/T"]),
        ("CreateThing", {"thingName": "T", "billingGroupName": "B"}, [f"{BASE}thing/T", f"{BASE}billinggroup/B"]),
        (
            "AddThingToThingGroup",
            {"thingName": "T", "thingGroupArn": f"{BASE}thinggroup/G"},
            [f"{BASE}thing/T", f"{BASE}thinggroup/G"],
        ),
        (
            "AddThingToThingGroup",
            {"thingName": "T", "thingArn": f"{BASE}thing/U", "thingGroupName": "G"},
            [f"{BASE}thing/T", f"{BASE}thing/U", f"{BASE}thinggroup/G"],
        ),
        (
            "UpdateThingGroupsForThing",
            {"thingName": "T", "thingGroupsToAdd": ["A", "B"], "thingGroupsToRemove": ["A", "C"]},
            [f"{BASE}thing/T", *(f"{BASE}thinggroup/{g}" for g in "ABC")],
        ),
        ("UpdateThingGroupsForThing", {"thingName": "T"}, [f"{BASE}thing/T"]),
        ("CreateDomainConfiguration", {"domainConfigurationName": "D"}, [f"{BASE}domainconfiguration/D/*"]),
        (
            "DescribeDomainConfiguration",
            {"domainConfigurationName": "D", "domainConfigurationId": "i1"},
            [f"{BASE}domainconfiguration/D/i1"],
        ),
        ("CreateProvisioningClaim", {"templateName": "t"}, [f"{BASE}provisioningtemplate/t"]),
        ("SetDefaultAuthorizer", {"authorizerName": "a"}, [f"{BASE}authorizer/a"]),
        ("TagResource", {"resourceArn": f"{BASE}policy/P", "tags": []}, [f"{BASE}policy/P"]),
        ("UntagResource", {"resourceArn": f"{BASE}cert/{HEX}"}, [f"{BASE}cert/{LOW}"]),
        ("Connect", {"clientId": "c"}, [f"{BASE}client/c"]),
        ("Publish", {"topic": "a/b"}, [f"{BASE}topic/a/b"]),
        ("Subscribe", {"topicFilter": "a/+/#"}, [f"{BASE}topicfilter/a/+/#"]),
        ("AssumeRoleWithCertificate", {"roleAlias": "r"}, [f"{BASE}rolealias/r"]),
    ],
)
def test_arns(operation: str, members: dict[str, Any], expected: list[str]) -> None:
    assert list(resource_arns(operation, members, ACCOUNT, REGION)) == expected
    china = resource_arns(operation, members, ACCOUNT, REGION, partition="aws-cn")
    assert len(china) == len(expected)


@pytest.mark.parametrize(
    ("operation", "members", "field"),
    [
        ("DescribeCertificate", {}, "certificateId"),
        ("DescribeThing", {"thingName": ""}, "thingName"),
        ("AddThingToThingGroup", {"thingName": "T"}, "thingGroupName"),
        ("TagResource", {}, "resourceArn"),
        ("TagResource", {"resourceArn": ""}, "resourceArn"),
    ],
)
def test_a_required_name_is_missing(operation: str, members: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        resource_arns(operation, members, ACCOUNT, REGION)
    assert caught.value.field == field


def test_unknown_operation() -> None:
    with pytest.raises(KeyError):
        resource_arns("FormatDisk", {}, ACCOUNT, REGION)


def test_context_of_the_input() -> None:
    tags = [{"Key": "Team", "Value": "x"}, {"Key": "Bare"}]
    assert request_context("CreatePolicy", {"tags": tags}, ACCOUNT, REGION) == {
        "aws:TagKeys": ["Team", "Bare"],
        "aws:RequestTag/Team": "x",
        "aws:RequestTag/Bare": "",
    }
    assert request_context("UntagResource", {"tagKeys": ["a"]}, ACCOUNT, REGION) == {"aws:TagKeys": ["a"]}
    thing = {"iot:thingArn": f"{BASE}thing/T"}
    for operation in ("AttachThingPrincipal", "DetachThingPrincipal"):
        assert request_context(operation, {"thingName": "T"}, ACCOUNT, REGION) == thing
    assert request_context("DescribeThing", {"thingName": "T"}, ACCOUNT, REGION) == {}
    domain = request_context("CreateDomainConfiguration", {"domainName": "d.example"}, ACCOUNT, REGION)
    assert domain == {"iot:DomainName": "d.example"}


@pytest.mark.parametrize(
    ("operation", "members", "expected"),
    [
        ("CreateRoleAlias", {"roleArn": "R"}, "R"),
        ("UpdateRoleAlias", {}, None),
        ("CreateProvisioningTemplate", {"provisioningRoleArn": "R"}, "R"),
        ("UpdateProvisioningTemplate", {"provisioningRoleArn": "R"}, "R"),
        ("RegisterCACertificate", {"registrationConfig": {"roleArn": "R"}}, "R"),
        ("UpdateCACertificate", {"registrationConfig": {}}, None),
        ("UpdateCACertificate", {}, None),
        ("StartThingRegistrationTask", {"roleArn": "R"}, "R"),
        ("CreateThing", {"roleArn": "R"}, None),
    ],
)
def test_passed_role(operation: str, members: dict[str, Any], expected: str | None) -> None:
    assert passed_role(operation, members) == expected
