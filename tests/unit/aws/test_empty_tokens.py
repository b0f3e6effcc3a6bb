"""An empty nextToken means the first page, in every served operation with pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.loaders import Loader
from botocore.model import ServiceModel

from tests.unit.aws.test_optional_members import ROLE, minimal
from tests.world import OURS
from thingmint.aws.contract import load_contract
from thingmint.aws.operations import OPERATIONS
from thingmint.domain.arns import arn_of
from thingmint.services.bulk_buckets import Bucket, Folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.world import World

ARN = "arn:aws:iot:us-east-1:111111111111:"


async def registration_task(world: World) -> str:
    """The id of a new task."""
    folder = world.folder / "bucket"
    folder.mkdir()
    (folder / "empty.jsonl").touch()
    world.environment.endpoints[OURS] = "iot.example.org"
    world.environment.buckets.replace({"fleet": Bucket((OURS.account,), Folder(folder))})
    file = {"inputFileBucket": "fleet", "inputFileKey": "empty.jsonl"}
    body = '{"Resources": {"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": "t"}}}}'
    made = await world.aws("StartThingRegistrationTask", templateBody=body, roleArn=ROLE, **file)
    return str(made["taskId"])


async def inputs_of_lists(world: World) -> Mapping[str, Mapping[str, Any]]:
    """The input of each operation with pages, without the token."""
    principal = {"principal": arn_of(OURS, (await minimal(world))["DescribeCertificate"]["certificateId"])}
    thing = {"thingName": "thing"}
    return {
        "ListBillingGroups": {},
        "ListCertificateProviders": {},
        "ListIndices": {},
        "ListPrincipalThings": principal,
        "ListPrincipalThingsV2": principal,
        "ListProvisioningTemplateVersions": {"templateName": "template"},
        "ListProvisioningTemplates": {},
        "ListTagsForResource": {"resourceArn": f"{ARN}thinggroup/group"},
        "ListThingGroups": {},
        "ListThingGroupsForThing": thing,
        "ListThingPrincipals": thing,
        "ListThingPrincipalsV2": thing,
        "ListThingRegistrationTaskReports": {"taskId": await registration_task(world), "reportType": "RESULTS"},
        "ListThingRegistrationTasks": {},
        "ListThingTypes": {},
        "ListThings": {},
        "ListThingsInBillingGroup": {"billingGroupName": "bills"},
        "ListThingsInThingGroup": {"thingGroupName": "group"},
        "SearchIndex": {"queryString": "*"},
    }


async def test_an_empty_token_returns_the_first_page(world: World) -> None:
    model = ServiceModel(Loader().load_service_model("iot", "service-2"), "iot")
    inputs = {name: model.operation_model(name).input_shape for name in OPERATIONS}
    calls = await inputs_of_lists(world)
    assert {name for name, shape in inputs.items() if shape is not None and "nextToken" in shape.members} == set(calls)
    for name, members in calls.items():
        assert await world.aws(name, **members, nextToken="") == await world.aws(name, **members), name


async def test_the_contract_accepts_an_empty_token() -> None:
    operation = load_contract().operations["ListThings"]
    assert operation.parse((), b"nextToken=", {}, b"") == {"nextToken": ""}
