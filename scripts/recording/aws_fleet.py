"""Examples of AWS IoT: things, types and groups, provisioning, search, and what else the account has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from recording.aws_certificates import ACCOUNT, CONNECT, document
from recording.certificates import Key
from recording.recorder import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from recording.recorder import Json, Recorder

ROLE = f"arn:aws:iam::{ACCOUNT}:role/provisioning"
_FUNCTION = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:issue"
_THING: dict[str, Any] = {
    "Type": "AWS::IoT::Thing",
    "Properties": {"ThingName": {"Ref": "SerialNumber"}, "AttributePayload": {"site": {"Ref": "Site"}}},
}
_CERTIFICATE = {
    "Type": "AWS::IoT::Certificate",
    "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"},
}
_PARAMETERS = {"SerialNumber": {"Type": "String"}, "Site": {"Type": "String", "Default": "berlin"}}


def _template(**resources: Any) -> str:
    return json.dumps({"Parameters": _PARAMETERS, "Resources": resources})


FLEET = _template(
    thing=_THING,
    certificate=_CERTIFICATE,
    policy={"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "lamp"}},
)
_BULK = _template(thing=_THING)


def record(aws: Recorder, certificate: str) -> None:
    """``certificate`` is the ARN of the certificate that the thing lamp-17 gets."""
    things(aws, certificate)
    groups(aws, certificate)
    billing_groups(aws)
    provisioning(aws)
    others(aws)


def things(aws: Recorder, certificate: str) -> None:
    properties = {"thingTypeDescription": "Street lamps", "searchableAttributes": ["site"]}
    aws("CreateThingType", "A type of lamps", thingTypeName="lamp", thingTypeProperties=properties)
    properties = {**properties, "searchableAttributes": ["site", "model"]}
    aws("UpdateThingType", "A further searchable attribute", thingTypeName="lamp", thingTypeProperties=properties)
    attributes = {"site": "berlin", "model": "L2"}
    new: Json = {"thingTypeName": "lamp", "attributePayload": {"attributes": attributes}}
    aws("CreateThing", "A lamp with attributes", thingName="lamp-17", **new)
    other: Json = {"attributePayload": {"attributes": {"site": "paris"}}}
    aws("CreateThing", "The same name with other attributes", 409, thingName="lamp-17", **other)
    aws("CreateThing", thingName="lamp-18", **new)
    principal = {"x-amzn-principal": certificate}
    aws("AttachThingPrincipal", "The certificate of a lamp", thingName="lamp-17", **principal)
    aws("DescribeThing", "One thing", thingName="lamp-17")
    aws("DescribeThing", "A name that no thing has", 404, thingName="lamp-0")
    aws("ListThings", "All things of a site", attributeName="site", attributeValue="berlin")
    aws("ListThings", "All things of a type, the first page", thingTypeName="lamp", maxResults=1)
    merged = {"attributes": {"pole": "12a"}, "merge": True}
    aws("UpdateThing", "A further attribute", thingName="lamp-17", attributePayload=merged, expectedVersion=1)
    aws("UpdateThing", "After another change", 409, thingName="lamp-17", expectedVersion=1)
    topic = f"arn:aws:iot:us-east-1:{ACCOUNT}:topic/lamps/lamp-17/state"
    wanted: Json = {"principal": certificate, "authInfos": [{"actionType": "PUBLISH", "resources": [topic]}]}
    aws("TestAuthorization", "May the device publish?", **wanted, clientId="lamp-17")
    aws("ListThingPrincipals", "The certificates of a thing", thingName="lamp-17")
    aws("ListThingPrincipalsV2", "The certificates of a thing", thingName="lamp-17")
    aws("ListPrincipalThings", "The things of a certificate", **principal)
    aws("ListPrincipalThingsV2", "The things of a certificate", **principal)
    aws("DescribeThingType", "One type", thingTypeName="lamp")
    aws("ListThingTypes", "All types")
    aws("CreateThingType", thingTypeName="bench")
    aws("DeprecateThingType", "No further things", thingTypeName="bench")
    aws("DeleteThingType", "A deprecated type", thingTypeName="bench")
    aws("CreateThing", thingName="lamp-16")
    aws("DeleteThing", "A thing without certificates", thingName="lamp-16")
    aws("DeleteThing", "A thing with a certificate", 400, thingName="lamp-17")


def groups(aws: Recorder, certificate: str) -> None:
    properties = {"thingGroupDescription": "All of Europe", "attributePayload": {"attributes": {"hours": "night"}}}
    aws("CreateThingGroup", "A group at the top", thingGroupName="europe", thingGroupProperties=properties)
    below = aws("CreateThingGroup", "A group below another", thingGroupName="berlin", parentGroupName="europe")
    aws("CreateThingGroup", thingGroupName="repairs")
    changed = {"thingGroupDescription": "Lamps in Europe"}
    aws("UpdateThingGroup", "Another description", thingGroupName="europe", thingGroupProperties=changed)
    aws("DescribeThingGroup", "One group", thingGroupName="berlin")
    aws("ListThingGroups", "The groups below a group", parentGroup="europe")
    aws("AddThingToThingGroup", "A lamp in Berlin", thingGroupName="berlin", thingName="lamp-17")
    moved: Json = {"thingGroupsToAdd": ["repairs"], "thingGroupsToRemove": ["berlin"]}
    aws("UpdateThingGroupsForThing", "From one group to another", thingName="lamp-17", **moved)
    aws("RemoveThingFromThingGroup", "Out of a group", thingGroupName="repairs", thingName="lamp-17")
    aws("AddThingToThingGroup", thingGroupName="berlin", thingName="lamp-17")
    aws("ListThingsInThingGroup", "Also in the groups below", thingGroupName="europe", recursive=True)
    aws("ListThingGroupsForThing", "The groups of a thing", thingName="lamp-17")
    aws("CreatePolicy", policyName="berlin", policyDocument=document(CONNECT))
    aws("AttachPolicy", "To a thing group", policyName="berlin", target=below["thingGroupArn"])
    aws("GetEffectivePolicies", "With those of its groups", principal=certificate, thingName="lamp-17")
    aws("DetachPolicy", "From a thing group", policyName="berlin", target=below["thingGroupArn"])
    aws("DeleteThingGroup", "A group without groups below", thingGroupName="repairs")
    aws("DeleteThingGroup", "A group that has groups below", 400, thingGroupName="europe")
    arn = below["thingGroupArn"]
    aws("TagResource", "A tag for a group", resourceArn=arn, tags=[{"Key": "cost-center", "Value": "4711"}])
    aws("ListTagsForResource", "The tags of a group", resourceArn=arn)
    aws("UntagResource", "Remove a tag", resourceArn=arn, tagKeys=["cost-center"])


def billing_groups(aws: Recorder) -> None:
    name = {"billingGroupName": "street-lighting"}
    properties = {"billingGroupDescription": "Paid by the city"}
    aws("CreateBillingGroup", "A billing group", **name, billingGroupProperties=properties)
    aws("UpdateBillingGroup", "Another description", **name,
        billingGroupProperties={"billingGroupDescription": "Paid by the city of Berlin"})  # fmt: skip
    aws("AddThingToBillingGroup", "A lamp", **name, thingName="lamp-18")
    aws("ListThingsInBillingGroup", "The things of a group", **name)
    aws("DescribeBillingGroup", "One group", **name)
    aws("ListBillingGroups", "All groups")
    aws("RemoveThingFromBillingGroup", "A lamp", **name, thingName="lamp-18")
    aws("DeleteBillingGroup", "A group", **name)


def provisioning(aws: Recorder) -> None:
    name = {"templateName": "lamps"}
    aws(
        "CreateProvisioningTemplate",
        "A thing, a certificate and a policy for each device",
        **name,
        description="Street lamps",
        templateBody=FLEET,
        enabled=True,
        provisioningRoleArn=ROLE,
    )
    aws("CreateProvisioningTemplate", "A template that is no JSON", 400, templateName="broken",
        templateBody="{", provisioningRoleArn=ROLE)  # fmt: skip
    without_policy = _template(thing=_THING, certificate=_CERTIFICATE)
    aws("CreateProvisioningTemplateVersion", "A version without a policy", **name, templateBody=without_policy)
    aws("DescribeProvisioningTemplate", "The version that is in force", **name)
    aws("DescribeProvisioningTemplateVersion", "Another version", **name, versionId=2)
    aws("ListProvisioningTemplateVersions", "Both versions", **name)
    aws("ListProvisioningTemplates", "All templates")
    aws("UpdateProvisioningTemplate", "Another version in force", **name, defaultVersionId=2)
    aws("UpdateProvisioningTemplate", **name, defaultVersionId=1)
    aws("DeleteProvisioningTemplateVersion", "A version that is not in force", **name, versionId=2)
    aws("CreateProvisioningClaim", "A claim certificate for five minutes", **name)
    csr = {
        "thing": _THING,
        "certificate": {
            "Type": "AWS::IoT::Certificate",
            "Properties": {"CertificateSigningRequest": {"Ref": "CSR"}, "Status": "ACTIVE"},
        },
    }
    body = json.dumps({"Parameters": {**_PARAMETERS, "CSR": {"Type": "String"}}, "Resources": csr})
    parameters = {"SerialNumber": "lamp-40", "CSR": Key("lamp-40").csr()}
    aws("RegisterThing", "A lamp with its own key", templateBody=body, parameters=parameters)
    provider = {"certificateProviderName": "own-ca"}
    operations: Json = {"accountDefaultForOperations": ["CreateCertificateFromCsr"]}
    aws("CreateCertificateProvider", "A function that issues", **provider, lambdaFunctionArn=_FUNCTION, **operations)
    aws("DescribeCertificateProvider", "One provider", **provider)
    aws("ListCertificateProviders", "All providers")
    aws("UpdateCertificateProvider", "Another function", **provider, lambdaFunctionArn=f"{_FUNCTION}-2")
    aws("DeleteCertificateProvider", "A provider", **provider)


def others(aws: Recorder) -> None:
    alias = {"roleAlias": "lamp-storage"}
    role = f"arn:aws:iam::{ACCOUNT}:role/storage"
    aws("CreateRoleAlias", "Credentials for 30 minutes", **alias, roleArn=role, credentialDurationSeconds=1800)
    aws("DescribeRoleAlias", "One role alias", **alias)
    aws("ListRoleAliases", "All role aliases")
    aws("UpdateRoleAlias", "A longer lifetime", **alias, credentialDurationSeconds=3600)
    aws("DeleteRoleAlias", "A role alias", **alias)
    aws("DescribeEndpoint", "The name for devices", endpointType="iot:Data-ATS")
    aws("DescribeEventConfigurations", "What is switched on")
    configurations = {"THING": {"Enabled": True}, "CERTIFICATE": {"Enabled": True}}
    aws("UpdateEventConfigurations", "Events of things", eventConfigurations=configurations)
    indexing = {"thingIndexingMode": "REGISTRY", "thingConnectivityIndexingMode": "STATUS"}
    aws("UpdateIndexingConfiguration", "Things with their connectivity", thingIndexingConfiguration=indexing)
    aws("GetIndexingConfiguration", "What was given")
    aws("ListIndices", "Both indexes")
    aws("DescribeIndex", "The index of things", indexName="AWS_Things")
    aws("SearchIndex", "Lamps in Berlin", queryString="thingTypeName:lamp AND attributes.site:berlin")
    aws("SearchIndex", "Groups by name", indexName="AWS_ThingGroups", queryString="thingGroupName:ber*")


def bulk(aws: Recorder, bucket: Path) -> None:
    lines = [{"SerialNumber": f"bench-{number}", "Site": "berlin"} for number in (1, 2)]
    _write(bucket / "benches.jsonl", lines)
    task = {"templateBody": _BULK, "inputFileBucket": "fleet", "roleArn": ROLE}
    started = aws("StartThingRegistrationTask", "A file with two lines", **task, inputFileKey="benches.jsonl")
    id = {"taskId": started["taskId"]}
    _wait(aws, id, "Completed")
    aws("DescribeThingRegistrationTask", "A task that is done", **id)
    aws("ListThingRegistrationTasks", "The tasks that are done", status="Completed")
    aws("ListThingRegistrationTaskReports", "What was made", **id, reportType="RESULTS")
    aws("DeleteProvisioningTemplate", "A template", templateName="lamps")
    _write(bucket / "many.jsonl", [{"SerialNumber": f"bin-{number}"} for number in range(20_000)])
    started = aws("StartThingRegistrationTask", **task, inputFileKey="many.jsonl")
    id = {"taskId": started["taskId"]}
    aws("StopThingRegistrationTask", "A task that runs", **id)
    _wait(aws, id, "Cancelled")


def _write(file: Path, lines: list[dict[str, str]]) -> None:
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def _wait(aws: Recorder, id: dict[str, str], status: str) -> None:
    wait_until(lambda: aws.poll("DescribeThingRegistrationTask", **id)["status"] == status, f"task to be {status}")
