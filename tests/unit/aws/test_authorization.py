"""The resources on which AWS IoT operations are authorized, checked against the service model."""

from typing import Any

import botocore.session
import pytest

from thingmint.aws.authorization import ROLES, TARGETS, is_own_role, passed_role, request_context, resource_arns
from thingmint.domain.arns import Scope
from thingmint.domain.errors import Invalid
from thingmint.domain.policies.actions import CONTROL_PLANE_ACTIONS

OURS = Scope("123456789012", "eu-west-1")
BASE = "arn:aws:iot:eu-west-1:123456789012:"
HEX = "aB" * 32
LOW = HEX.lower()
MODEL = botocore.session.get_session().get_service_model("iot")


def members_of(shape: Any) -> dict[str, Any]:
    return dict(shape.members) if shape is not None else {}


def test_targets_use_members_of_the_model() -> None:
    for name, targets in TARGETS.items():
        known = members_of(MODEL.operation_model(name).input_shape)
        for target in targets:
            assert {*target.names, *target.arns} <= known.keys(), name


def test_roles_use_members_of_the_model() -> None:
    for name, path in ROLES.items():
        shape = MODEL.operation_model(name).input_shape
        for member in path:
            assert member in members_of(shape), name
            shape = members_of(shape)[member]


def test_every_action_is_an_operation_of_the_model_with_one_access_level() -> None:
    assert CONTROL_PLANE_ACTIONS.keys() <= set(MODEL.operation_names)
    assert TARGETS.keys() | ROLES.keys() <= CONTROL_PLANE_ACTIONS.keys()
    levels = list(CONTROL_PLANE_ACTIONS.values())
    assert {level: levels.count(level) for level in levels} == {
        "List": 30,
        "Read": 27,
        "Write": 58,
        "Permissions management": 10,
        "Tagging": 2,
    }


@pytest.mark.parametrize(
    ("operation", "members", "expected"),
    [
        ("CreateKeysAndCertificate", {}, ["*"]),
        ("ListThings", {"thingTypeName": "t"}, ["*"]),
        ("SearchIndex", {"queryString": "*"}, [f"{BASE}index/AWS_Things"]),
        ("SearchIndex", {"queryString": "*", "indexName": "AWS_ThingGroups"}, [f"{BASE}index/AWS_ThingGroups"]),
        ("DescribeIndex", {"indexName": "AWS_Things"}, [f"{BASE}index/AWS_Things"]),
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
    ],
)
def test_resources_are_those_that_the_input_names(operation: str, members: dict[str, Any], expected: list[str]) -> None:
    assert list(resource_arns(operation, members, OURS)) == expected


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
def test_a_missing_required_name_is_refused(operation: str, members: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        resource_arns(operation, members, OURS)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("operation", "members", "expected"),
    [
        (
            "CreatePolicy",
            {"tags": [{"Key": "Team", "Value": "x"}, {"Key": "Bare"}]},
            {"aws:TagKeys": ["Team", "Bare"], "aws:RequestTag/Team": "x", "aws:RequestTag/Bare": ""},
        ),
        ("UntagResource", {"tagKeys": ["a"]}, {"aws:TagKeys": ["a"]}),
        ("AttachThingPrincipal", {"thingName": "T"}, {"iot:thingArn": f"{BASE}thing/T"}),
        ("DetachThingPrincipal", {"thingName": "T"}, {"iot:thingArn": f"{BASE}thing/T"}),
        ("DescribeThing", {"thingName": "T"}, {}),
        ("CreateDomainConfiguration", {"domainName": "d.example"}, {"iot:DomainName": "d.example"}),
    ],
)
def test_condition_keys_are_taken_from_the_input(
    operation: str, members: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert request_context(operation, members, OURS) == expected


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
def test_the_passed_role_comes_from_the_input(operation: str, members: dict[str, Any], expected: str | None) -> None:
    assert passed_role(operation, members) == expected


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (f"arn:aws:iam::{OURS.account}:role/r", True),
        ("arn:aws:iam::222222222222:role/r", False),
        ("arn:aws:iam::222222222222:role/path/r", False),
        ("arn:aws-cn:iam::222222222222:role/r", False),
        ("arn:aws:iam:us-east-1:222222222222:role/r", False),
        ("arn:AWS:IAM::222222222222:ROLE/r", False),
        (" arn:aws:iam::222222222222:role/r", False),
        ("arn:aws:iam::222222222222:user/u", False),
        ("arn:aws:sts::222222222222:assumed-role/r/session", False),
        # Not an ARN, so it cannot be assumed.
        ("r", True),
    ],
)
def test_only_an_arn_of_another_account_is_not_an_own_role(role: str, expected: bool) -> None:
    assert is_own_role(role, OURS) is expected
