"""What the answers of AWS IoT's operations leave out, over every container in the model's outputs.

Terraform takes an empty structure for a difference from none, and plans a change for ever.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from botocore.loaders import Loader
from botocore.model import ServiceModel

from tests.issuers import new_issuer
from tests.unit.vectors import NOW
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
# AWS's guide shows these empty, for things that have no attributes.
EMPTY_AT_AWS = {"DescribeThing .attributes", "ListThings .things[].attributes"}


def containers(shape: Any, path: str = "") -> Iterator[str]:
    """The paths of all structures, lists and maps in an output, but for the items of a list operation."""
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
    """Something of each kind with nothing but what is required, and how operations are asked for it."""
    await world.aws("CreateThing", thingName="thing")
    await world.aws("CreateThingType", thingTypeName="type")
    await world.aws("CreateThingGroup", thingGroupName="group")
    template = {"templateName": "template", "templateBody": json.dumps(TEMPLATE), "provisioningRoleArn": ROLE}
    await world.aws("CreateProvisioningTemplate", **template)
    ca = new_issuer("Root", now=NOW)
    registered = await world.aws("RegisterCACertificate", caCertificate=ca.pem, certificateMode="SNI_ONLY")
    thing = {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": "another"}}
    return {
        "CreateKeysAndCertificate": {},
        "CreateProvisioningClaim": {"templateName": "template"},
        "DescribeCACertificate": {"certificateId": registered["certificateId"]},
        "DescribeCertificate": {"certificateId": await world.certificate()},
        "DescribeProvisioningTemplate": {"templateName": "template"},
        "DescribeThing": {"thingName": "thing"},
        "DescribeThingGroup": {"thingGroupName": "group"},
        "DescribeThingType": {"thingTypeName": "type"},
        "ListThings": {},
        "ListThingTypes": {},
        "RegisterThing": {"templateBody": json.dumps({"Resources": {"thing": thing}})},
    }


async def test_no_answer_holds_an_empty_container_within_another(world: World) -> None:
    model = ServiceModel(Loader().load_service_model("iot", "service-2"), "iot")
    asked = await minimal(world)
    outputs = {name: model.operation_model(name).output_shape for name in OPERATIONS}
    assert {name for name, shape in outputs.items() if shape is not None and any(containers(shape))} == set(asked)
    contract, empty = load_contract(), set()
    for name, members in asked.items():
        answer = json.loads(contract.operations[name].encode(await world.aws(name, **members)))
        empty |= {f"{name} {path}" for path, container in answered(answer) if not container}
    # What a thing group and a thing type are described by is there, and empty: the case in which nothing was said.
    described = {
        "DescribeThingGroup .thingGroupProperties",
        "DescribeThingType .thingTypeProperties",
        "ListThingTypes .thingTypes[].thingTypeProperties",
    }
    assert empty == EMPTY_AT_AWS | described
