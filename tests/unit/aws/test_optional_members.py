"""The empty members that answers of AWS IoT operations omit, for every container in the model's outputs.

Terraform reports an empty structure as a difference from a missing one, and then plans a change each time.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from botocore.loaders import Loader
from botocore.model import ServiceModel

from tests.issuers import new_issuer
from tests.unit.vectors import NOW
from tests.world import OURS
from thingmint.aws.contract import load_contract
from thingmint.aws.operations import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.world import World

ROLE = "arn:aws:iam::111111111111:role/fleet"
TEMPLATE = {
    "Resources": {
        "certificate": {
            "Type": "AWS::IoT::Certificate",
            "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}},
        }
    }
}
# In AWS's guide, these are present and empty for things without attributes.
EMPTY_AT_AWS = {"DescribeThing .attributes", "ListThings .things[].attributes"}
# In the answer of AWS's guide, "missingContextValues" is present and empty.
EMPTY_AT_AWS |= {
    f"TestAuthorization .authResults[].{path}"
    for path in (
        "allowed.policies",
        "denied.implicitDeny.policies",
        "denied.explicitDeny.policies",
        "missingContextValues",
    )
}


def containers(shape: Any, path: str = "") -> Iterator[str]:
    """The paths of all structures, lists and maps in an output, except the items of a list operation."""
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            if member.type_name in ("structure", "map") or (path and member.type_name == "list"):
                yield f"{path}.{name}"
            yield from containers(member, f"{path}.{name}")
    elif shape.type_name == "list":
        yield from containers(shape.member, f"{path}[]")


def answered(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, member in value.items():
            if isinstance(member, dict) or (path and isinstance(member, list)):
                yield f"{path}.{name}", member
            yield from answered(member, f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from answered(item, f"{path}[]")


async def minimal(world: World) -> Mapping[str, Mapping[str, Any]]:
    """Creates a resource of each kind with required members only; returns the inputs that read or create them."""
    await world.aws("CreateThing", thingName="thing")
    await world.aws("CreateThingType", thingTypeName="type")
    await world.aws("CreateThingGroup", thingGroupName="group")
    await world.aws("CreateBillingGroup", billingGroupName="bills")
    template = {"templateName": "template", "templateBody": json.dumps(TEMPLATE), "provisioningRoleArn": ROLE}
    await world.aws("CreateProvisioningTemplate", **template)
    await world.aws("CreateRoleAlias", roleAlias="alias", roleArn=ROLE)
    ca = new_issuer("Root", now=NOW)
    registered = await world.aws("RegisterCACertificate", caCertificate=ca.pem, certificateMode="SNI_ONLY")
    certificate = await world.certificate()
    base = f"arn:aws:iot:{OURS.region}:{OURS.account}:"
    asked = {"actionType": "PUBLISH", "resources": [f"{base}topic/a"]}
    thing = {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": "another"}}
    return {
        "CreateKeysAndCertificate": {},
        "CreateProvisioningClaim": {"templateName": "template"},
        "DescribeBillingGroup": {"billingGroupName": "bills"},
        "DescribeCACertificate": {"certificateId": registered["certificateId"]},
        "DescribeCertificate": {"certificateId": certificate},
        "DescribeEventConfigurations": {},
        "DescribeProvisioningTemplate": {"templateName": "template"},
        "DescribeRoleAlias": {"roleAlias": "alias"},
        "DescribeThing": {"thingName": "thing"},
        "DescribeThingGroup": {"thingGroupName": "group"},
        "DescribeThingType": {"thingTypeName": "type"},
        "GetIndexingConfiguration": {},
        "ListThings": {},
        "ListThingTypes": {},
        "RegisterThing": {"templateBody": json.dumps({"Resources": {"thing": thing}})},
        "SearchIndex": {"queryString": "*"},
        "TestAuthorization": {"principal": f"{base}cert/{certificate}", "authInfos": [asked]},
    }


async def test_answers_omit_empty_nested_containers(world: World) -> None:
    model = ServiceModel(Loader().load_service_model("iot", "service-2"), "iot")
    asked = await minimal(world)
    outputs = {name: model.operation_model(name).output_shape for name in OPERATIONS}
    assert {name for name, shape in outputs.items() if shape is not None and any(containers(shape))} == set(asked)
    contract, empty = load_contract(), set()
    for name, members in asked.items():
        answer = json.loads(contract.operations[name].encode(await world.aws(name, **members)))
        empty |= {f"{name} {path}" for path, container in answered(answer) if not container}
    # The properties of groups and thing types are present and empty if the resource has none.
    described = {
        "DescribeBillingGroup .billingGroupProperties",
        "DescribeThingGroup .thingGroupProperties",
        "DescribeThingType .thingTypeProperties",
        "ListThingTypes .thingTypes[].thingTypeProperties",
    }
    assert empty == EMPTY_AT_AWS | described
