"""Reads what describes the devices of an account: thing types, policies, provisioning templates, CA certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.importing.sources.aws.calls import Denied, NotServed, NotThere
from thingmint.importing.sources.aws.listing import Listing
from thingmint.importing.sources.aws.reading import GONE, Made, Region, micros
from thingmint.services.imports import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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

    def document_of(id: str) -> str:
        found: str = calls.call("GetPolicyVersion", policyName=name, policyVersionId=id)["policyDocument"]
        return found

    listed = calls.call("ListPolicyVersions", policyName=name)["policyVersions"]
    dates = [(version["versionId"], version.get("createDate")) for version in listed]
    about = ("policy", name, "document")
    versions, results = _versions(region, *about, (default, policy["policyDocument"]), dates, document_of)
    results += _other_targets(region, name)
    tags, of_tags = region.tags(policy["policyArn"])
    item = region.item(
        "policy",
        name=name,
        versions=versions,
        default=default,
        created_at=micros(policy.get("creationDate")),
        modified_at=micros(policy.get("lastModifiedDate")),
        tags=tags,
    )
    return Made([item], [*results, *of_tags])


def _versions(
    region: Region,
    kind: str,
    name: str,
    member: str,
    default: tuple[Any, str],
    dates: Iterable[tuple[Any, Any]],
    read: Callable[[Any], str],
) -> tuple[list[dict[str, Any]], list[Result]]:
    """Return the versions for an item, in order, with their texts as ``member``; ``read`` reads that of one.

    ``default`` is the id and the text of the default version, ``dates`` the ids and times of all.
    """
    versions, results = [], []
    for id, created_at in dates:
        try:
            text = default[1] if id == default[0] else read(id)
        except NotThere:
            results.append(Result(kind, "noted", region.subject(f"{name}, version {id}"), GONE))
            continue
        versions.append({"id": id, member: text, "created_at": micros(created_at)})
    if all(version["id"] != default[0] for version in versions):
        # Another version became the default between the two calls, and this one was deleted.
        versions.append({"id": default[0], member: default[1], "created_at": None})
    return sorted(versions, key=lambda version: int(version["id"])), results


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

    def body_of(id: int) -> str:
        found = calls.call("DescribeProvisioningTemplateVersion", templateName=name, versionId=id)
        body: str = found["templateBody"]
        return body

    listed = calls.all("ListProvisioningTemplateVersions", "versions", templateName=name)
    dates = [(version["versionId"], version.get("creationDate")) for version in listed]
    about = ("template", name, "body")
    versions, results = _versions(region, *about, (default, template["templateBody"]), dates, body_of)
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
        versions=versions,
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
