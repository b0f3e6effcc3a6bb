"""Provisioning templates: making, describing, changing them and their versions, and claims for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.aws.operations.attributes import new_tags
from thingmint.aws.operations.call import PAGE_SIZE
from thingmint.domain.provisioning import Hook
from thingmint.domain.template import Kind
from thingmint.services.templates import NewTemplate, TemplateChange

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.aws.operations.call import Call, Operations
    from thingmint.domain.provisioning import ProvisioningTemplate, TemplateVersion

__all__ = ["TEMPLATES"]


async def _create_template(call: Call) -> dict[str, Any]:
    given = call.members
    template = await call.registries.templates.create(
        call.scope,
        NewTemplate(
            name=given["templateName"],
            kind=Kind(given.get("type", Kind.FLEET)),
            description=given.get("description"),
            body=given["templateBody"],
            enabled=call.flag("enabled"),
            role_arn=given["provisioningRoleArn"],
            hook=_hook(given),
            tags=new_tags(given),
        ),
    )
    return {**_identified(template), "defaultVersionId": template.default_version}


async def _describe_template(call: Call) -> dict[str, Any]:
    template, version = await call.registries.templates.describe(call.scope, _name(call))
    hook = template.hook
    return {
        **_summary(template),
        "defaultVersionId": template.default_version,
        "templateBody": version.body,
        "provisioningRoleArn": template.role_arn,
        "preProvisioningHook": hook and {"payloadVersion": hook.payload_version, "targetArn": hook.target_arn},
    }


async def _update_template(call: Call) -> dict[str, Any]:
    given = call.members
    change = TemplateChange(
        description=given.get("description"),
        enabled=given.get("enabled"),
        default_version=given.get("defaultVersionId"),
        role_arn=given.get("provisioningRoleArn"),
        hook=_hook(given),
        remove_hook=call.flag("removePreProvisioningHook"),
    )
    await call.registries.templates.update(call.scope, _name(call), change)
    return {}


async def _delete_template(call: Call) -> dict[str, Any]:
    await call.registries.templates.delete(call.scope, _name(call))
    return {}


async def _list_templates(call: Call) -> dict[str, Any]:
    page, next_token = await call.registries.templates.list(
        call.scope, limit=call.members.get("maxResults", PAGE_SIZE), token=call.members.get("nextToken")
    )
    return {"templates": [_summary(template) for template in page], "nextToken": next_token}


async def _create_version(call: Call) -> dict[str, Any]:
    template, version = await call.registries.templates.create_version(
        call.scope, _name(call), call.members["templateBody"], default=call.flag("setAsDefault")
    )
    return {
        **_identified(template),
        "versionId": version.version,
        "isDefaultVersion": version.version == template.default_version,
    }


async def _describe_version(call: Call) -> dict[str, Any]:
    template, version = await call.registries.templates.describe_version(
        call.scope, _name(call), call.members["versionId"]
    )
    return {**_version_summary(template, version), "templateBody": version.body}


async def _delete_version(call: Call) -> dict[str, Any]:
    await call.registries.templates.delete_version(call.scope, _name(call), call.members["versionId"])
    return {}


async def _list_versions(call: Call) -> dict[str, Any]:
    template, page, next_token = await call.registries.templates.list_versions(
        call.scope, _name(call), limit=call.members.get("maxResults", PAGE_SIZE), token=call.members.get("nextToken")
    )
    return {"versions": [_version_summary(template, version) for version in page], "nextToken": next_token}


async def _create_claim(call: Call) -> dict[str, Any]:
    issued = await call.registries.claims.create(call.scope, _name(call))
    return {
        "certificateId": issued.claim.fingerprint,
        "certificatePem": issued.certificate.pem,
        "keyPair": {"PublicKey": issued.keys.public_pem, "PrivateKey": issued.keys.private_pem},
        "expiration": issued.claim.expires_at,
    }


def _name(call: Call) -> str:
    name: str = call.members["templateName"]
    return name


def _hook(given: Mapping[str, Any]) -> Hook | None:
    hook = given.get("preProvisioningHook")
    if hook is None:
        return None
    if "payloadVersion" in hook:
        return Hook(hook["targetArn"], hook["payloadVersion"])
    return Hook(hook["targetArn"])


def _identified(template: ProvisioningTemplate) -> dict[str, Any]:
    return {"templateArn": template.arn, "templateName": template.name}


def _summary(template: ProvisioningTemplate) -> dict[str, Any]:
    return {
        **_identified(template),
        "description": template.description,
        "creationDate": template.created_at,
        "lastModifiedDate": template.modified_at,
        "enabled": template.enabled,
        "type": template.kind.value,
    }


def _version_summary(template: ProvisioningTemplate, version: TemplateVersion) -> dict[str, Any]:
    return {
        "versionId": version.version,
        "creationDate": version.created_at,
        "isDefaultVersion": version.version == template.default_version,
    }


TEMPLATES: Operations = {
    "CreateProvisioningTemplate": _create_template,
    "DescribeProvisioningTemplate": _describe_template,
    "UpdateProvisioningTemplate": _update_template,
    "DeleteProvisioningTemplate": _delete_template,
    "ListProvisioningTemplates": _list_templates,
    "CreateProvisioningTemplateVersion": _create_version,
    "DescribeProvisioningTemplateVersion": _describe_version,
    "DeleteProvisioningTemplateVersion": _delete_version,
    "ListProvisioningTemplateVersions": _list_versions,
    "CreateProvisioningClaim": _create_claim,
}
