"""Provisioning templates, their versions, and claims for them (ten operations)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.aws.operations.attributes import new_tags
from thingmint.aws.operations.declaring import Members, Result, cursor, reads, writes
from thingmint.domain.errors import Invalid
from thingmint.domain.templates import Kind, parse_template
from thingmint.services.certificates import NewCertificate, discard, issue_with_keys
from thingmint.services.claims import create_claim
from thingmint.services.hooks import PAYLOAD_VERSION, Hook
from thingmint.services.templates import (
    TEMPLATES,
    ProvisioningTemplate,
    check_template,
    create_template,
    create_version,
    delete_template,
    delete_version,
    get_template,
    get_version,
    list_templates,
    list_versions,
    update_template,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.services.change import Change, Query
    from thingmint.services.templates import TemplateVersion
    from thingmint.store.engine import Transaction

    _NewTemplate = tuple[ProvisioningTemplate, Mapping[str, str]]


async def _new_template(change: Change, members: Members) -> _NewTemplate:
    hook, tags, kind = _hook(members), new_tags(members), Kind(members.get("type", Kind.FLEET))
    check_template(kind, hook, members["templateBody"])
    template = ProvisioningTemplate(
        scope=change.scope,
        name=members["templateName"],
        kind=kind,
        description=members.get("description"),
        enabled=members.get("enabled", False),
        role_arn=members["provisioningRoleArn"],
        hook_arn=hook.target_arn if hook else None,
        hook_payload_version=hook.payload_version if hook else None,
        default_version=1,
        last_version=1,
        created_at=change.now,
        modified_at=change.now,
    )
    return template, tags


@writes("CreateProvisioningTemplate", prepare=_new_template)
async def create(tx: Transaction, _change: Change, members: Members, new: _NewTemplate) -> Result:
    template, tags = new
    await create_template(tx, template, members["templateBody"], tags)
    return {**_identified(template), "defaultVersionId": template.default_version}


@reads("DescribeProvisioningTemplate")
async def describe(tx: Transaction, query: Query, members: Members) -> Result:
    template, version = await get_template(tx, query.scope, members["templateName"])
    hook = template.hook
    return {
        **_summary(template),
        "defaultVersionId": template.default_version,
        "templateBody": version.body,
        "provisioningRoleArn": template.role_arn,
        "preProvisioningHook": hook and {"payloadVersion": hook.payload_version, "targetArn": hook.target_arn},
    }


@reads("ListProvisioningTemplates")
async def list_(tx: Transaction, query: Query, members: Members) -> Result:
    page = await list_templates(tx, query, cursor(members))
    return {"templates": [_summary(template) for template in page.items], "nextToken": page.next_token}


@writes("UpdateProvisioningTemplate")
async def update(tx: Transaction, change: Change, members: Members) -> Result:
    hook, remove_hook = _hook(members), members.get("removePreProvisioningHook", False)
    if hook is not None and remove_hook:
        raise Invalid("removePreProvisioningHook", "must not be given together with preProvisioningHook")
    await update_template(
        tx,
        change,
        members["templateName"],
        description=members.get("description"),
        enabled=members.get("enabled"),
        default_version=members.get("defaultVersionId"),
        role_arn=members.get("provisioningRoleArn"),
        hook=hook,
        remove_hook=remove_hook,
    )
    return {}


@writes("DeleteProvisioningTemplate")
async def delete(tx: Transaction, change: Change, members: Members) -> Result:
    await delete_template(tx, change, members["templateName"])
    return {}


async def _template(tx: Transaction, change: Change, members: Members) -> ProvisioningTemplate:
    return await TEMPLATES.get(tx, *change.scope, members["templateName"])


async def _parse_body(_change: Change, members: Members, template: ProvisioningTemplate) -> None:
    parse_template(members["templateBody"], template.kind)


@writes("CreateProvisioningTemplateVersion", look=_template, prepare=_parse_body)
async def create_version_(
    tx: Transaction, change: Change, members: Members, template: ProvisioningTemplate, _: None
) -> Result:
    default = members.get("setAsDefault", False)
    template, version = await create_version(tx, change, template, members["templateBody"], default=default)
    return {
        **_identified(template),
        "versionId": version.version,
        "isDefaultVersion": version.version == template.default_version,
    }


@reads("DescribeProvisioningTemplateVersion")
async def describe_version(tx: Transaction, query: Query, members: Members) -> Result:
    template, version = await get_version(tx, query.scope, members["templateName"], members["versionId"])
    return {**_version_summary(template, version), "templateBody": version.body}


@reads("ListProvisioningTemplateVersions")
async def list_versions_(tx: Transaction, query: Query, members: Members) -> Result:
    template, page = await list_versions(tx, query, members["templateName"], cursor(members))
    return {"versions": [_version_summary(template, version) for version in page.items], "nextToken": page.next_token}


@writes("DeleteProvisioningTemplateVersion")
async def delete_version_(tx: Transaction, change: Change, members: Members) -> Result:
    await delete_version(tx, change, members["templateName"], members["versionId"])
    return {}


async def _issue_claim(change: Change, _members: Members, _template: ProvisioningTemplate) -> NewCertificate:
    return await issue_with_keys(change, change.environment.claim_ca)


@writes("CreateProvisioningClaim", look=_template, prepare=_issue_claim, discard=discard, secret=True)
async def create_claim_(
    tx: Transaction, change: Change, _members: Members, template: ProvisioningTemplate, new: NewCertificate
) -> Result:
    certificate, keys = new.certificate, new.keys
    assert keys is not None, "it was made with keys"
    await create_claim(tx, change, template, certificate)
    return {
        "certificateId": certificate.fingerprint,
        "certificatePem": certificate.pem,
        "keyPair": {"PublicKey": keys.public_pem, "PrivateKey": keys.private_pem},
        "expiration": certificate.not_after,
    }


def _hook(members: Members) -> Hook | None:
    hook = members.get("preProvisioningHook")
    if hook is None:
        return None
    return Hook(hook["targetArn"], hook.get("payloadVersion", PAYLOAD_VERSION))


def _identified(template: ProvisioningTemplate) -> Result:
    return {"templateArn": template.arn, "templateName": template.name}


def _summary(template: ProvisioningTemplate) -> Result:
    return {
        **_identified(template),
        "description": template.description,
        "creationDate": template.created_at,
        "lastModifiedDate": template.modified_at,
        "enabled": template.enabled,
        "type": template.kind.value,
    }


def _version_summary(template: ProvisioningTemplate, version: TemplateVersion) -> Result:
    return {
        "versionId": version.version,
        "creationDate": version.created_at,
        "isDefaultVersion": version.version == template.default_version,
    }
