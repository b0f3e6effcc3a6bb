"""Reads what describes the devices of an account: thing types, policies, provisioning templates, CA certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.importing.sources.aws.calls import Denied, NotServed, NotThere
from thingmint.importing.sources.aws.listing import Listing
from thingmint.importing.sources.aws.reading import GONE, Made, Region, micros
from thingmint.services.imports import Result

if TYPE_CHECKING:
    from thingmint.importing.sources.aws.listing import Entry

THING_TYPES = Listing("ListThingTypes", "thingTypes", "thingTypeName")
POLICIES = Listing("ListPolicies", "policies", "policyName")
TEMPLATES = Listing("ListProvisioningTemplates", "templates", "templateName")
CA_CERTIFICATES = Listing("ListCACertificates", "certificates", "certificateId", {"ascendingOrder": True})


def thing_type(region: Region, entry: Entry) -> Made:
    properties, about = entry.members.get("thingTypeProperties", {}), entry.members.get("thingTypeMetadata", {})
    tags, results = region.tags(entry.members["thingTypeArn"])
    deprecated_at = (
        micros(about.get("deprecationDate") or about.get("creationDate")) if about.get("deprecated") else None
    )
    item = region.item(
        "thing_type",
        name=entry.name,
        description=properties.get("thingTypeDescription"),
        searchable_attributes=properties.get("searchableAttributes") or [],
        propagating_attributes=properties.get("mqtt5Configuration", {}).get("propagatingAttributes") or [],
        deprecated_at=deprecated_at,
        created_at=micros(about.get("creationDate")),
        tags=tags,
    )
    return Made([item], results)


def policy(region: Region, entry: Entry) -> Made:
    """Read a policy with all of its versions."""
    calls, name = region.calls, entry.name
    policy = calls.call("GetPolicy", policyName=name)
    default = policy["defaultVersionId"]
    versions, results = [], []
    for version in calls.call("ListPolicyVersions", policyName=name)["policyVersions"]:
        id = version["versionId"]
        try:
            document = (
                policy["policyDocument"]
                if id == default
                else calls.call("GetPolicyVersion", policyName=name, policyVersionId=id)["policyDocument"]
            )
        except NotThere:
            results.append(Result("policy", "noted", region.subject(f"{name}, version {id}"), GONE))
            continue
        versions.append({"id": id, "document": document, "created_at": micros(version.get("createDate"))})
    if all(version["id"] != default for version in versions):
        # Another version became the default between the two calls, and this one was deleted.
        versions.append({"id": default, "document": policy["policyDocument"], "created_at": None})
    results += _other_targets(region, name)
    tags, of_tags = region.tags(policy["policyArn"])
    item = region.item(
        "policy",
        name=name,
        versions=sorted(versions, key=lambda version: int(version["id"])),
        default=default,
        created_at=micros(policy.get("creationDate")),
        modified_at=micros(policy.get("lastModifiedDate")),
        tags=tags,
    )
    return Made([item], [*results, *of_tags])


def _other_targets(region: Region, name: str) -> list[Result]:
    """Return results about Amazon Cognito identities. Certificates and groups are asked for their policies later."""
    try:
        targets, _ = region.calls.page("ListTargetsForPolicy", "targets", policyName=name)
    except (Denied, NotServed) as error:
        return region.once(error, "targets of policies")
    others = [target for target in targets if ":cert/" not in target and ":thinggroup/" not in target]
    reason = "it is not a certificate or a thing group, and Amazon Cognito identities are not served here"
    return [Result("attachment", "refused", region.subject(f"{name}: {other[:200]}"), reason) for other in others]


def template(region: Region, entry: Entry) -> Made:
    """Read a provisioning template with all of its versions."""
    calls, name = region.calls, entry.name
    template = calls.call("DescribeProvisioningTemplate", templateName=name)
    default = template["defaultVersionId"]
    versions, results = [], []
    for version in calls.all("ListProvisioningTemplateVersions", "versions", templateName=name):
        id = version["versionId"]
        try:
            body = (
                template["templateBody"]
                if id == default
                else calls.call("DescribeProvisioningTemplateVersion", templateName=name, versionId=id)["templateBody"]
            )
        except NotThere:
            results.append(Result("template", "noted", region.subject(f"{name}, version {id}"), GONE))
            continue
        versions.append({"id": id, "body": body, "created_at": micros(version.get("creationDate"))})
    if all(version["id"] != default for version in versions):
        versions.append({"id": default, "body": template["templateBody"], "created_at": None})
    tags, of_tags = region.tags(template["templateArn"])
    hook = template.get("preProvisioningHook")
    item = region.item(
        "template",
        name=name,
        description=template.get("description"),
        type=template.get("type", "FLEET_PROVISIONING"),
        enabled=bool(template.get("enabled")),
        role_arn=template["provisioningRoleArn"],
        hook=hook and {"payload_version": hook.get("payloadVersion"), "target_arn": hook["targetArn"]},
        versions=sorted(versions, key=lambda version: int(version["id"])),
        default=default,
        created_at=micros(template.get("creationDate")),
        modified_at=micros(template.get("lastModifiedDate")),
        tags=tags,
    )
    return Made([item], [*results, *of_tags])


def ca_certificate(region: Region, entry: Entry) -> Made:
    found = region.calls.call("DescribeCACertificate", certificateId=entry.name)
    about, config = found["certificateDescription"], found.get("registrationConfig") or {}
    tags, results = region.tags(about["certificateArn"])
    config = {
        "template_name": config.get("templateName"),
        "template_body": config.get("templateBody"),
        "role_arn": config.get("roleArn"),
    }
    item = region.item(
        "ca",
        id=entry.name,
        pem=about["certificatePem"],
        status=about["status"],
        auto_registration=about.get("autoRegistrationStatus") == "ENABLE",
        mode=about.get("certificateMode", "DEFAULT"),
        registration_config=config if any(config.values()) else None,
        created_at=micros(about.get("creationDate")),
        modified_at=micros(about.get("lastModifiedDate")),
        tags=tags,
    )
    return Made([item], results)
