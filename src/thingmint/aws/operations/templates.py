"""Provisioning templates, their versions, claim certificates, and RegisterThing (eleven operations)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.aws.operations.declaring import Members, Result, cursor, new_tags, reads, writes
from thingmint.domain.errors import Denied, Invalid
from thingmint.domain.ids import new_uuid
from thingmint.domain.templates import Kind, parse_template
from thingmint.services.claims import create_claim
from thingmint.services.hooks import PAYLOAD_VERSION, Hook
from thingmint.services.issuing import discard, issue_with_keys
from thingmint.services.template_execution import discard_plan, execute_plan, prepare_plan, provisioning_failures
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

    from thingmint.services.certificates import NewCertificate
    from thingmint.services.change import Change, Query
    from thingmint.services.template_execution import PreparedPlan
    from thingmint.services.templates import TemplateVersion
    from thingmint.store.engine import Transaction

    _NewTemplate = tuple[ProvisioningTemplate, Mapping[str, str]]

_FIELDS = {
    "description": "description",
    "enabled": "enabled",
    "defaultVersionId": "default_version",
    "provisioningRoleArn": "role_arn",
}

DEVIATIONS = {
    "CreateProvisioningTemplate": (
        "The function of a pre-provisioning hook is one of the operator's table, as there is no Lambda here."
    ),
    "RegisterThing": (
        "A used-up quota is a ResourceRegistrationFailureException: the model has no other error for it."
    ),
}


async def _new_template(change: Change, members: Members) -> _NewTemplate:
    fields, tags, kind = _fields(members), new_tags(members), Kind(members.get("type", Kind.FLEET))
    name, now = members["templateName"], change.now
    template = ProvisioningTemplate(
        change.scope, name, kind, created_at=now, modified_at=now, generation=new_uuid(), **fields
    )
    check_template(template, members["templateBody"])
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
    fields = _fields(members)
    if members.get("removePreProvisioningHook", False):
        if "hook_arn" in fields:
            raise Invalid("removePreProvisioningHook", "must not be given together with preProvisioningHook")
        fields |= {"hook_arn": None, "hook_payload_version": None}
    await update_template(tx, change, members["templateName"], fields)
    return {}


@writes("DeleteProvisioningTemplate")
async def delete(tx: Transaction, change: Change, members: Members) -> Result:
    await delete_template(tx, change, members["templateName"])
    return {}


async def _template(tx: Transaction, change: Change, members: Members) -> ProvisioningTemplate:
    return await TEMPLATES.get(tx, *change.scope, members["templateName"])


async def _parse_body(_change: Change, members: Members, template: ProvisioningTemplate) -> None:
    parse_template(members["templateBody"], template.kind)


@writes("CreateProvisioningTemplateVersion", find=_template, prepare=_parse_body)
async def create_version_(
    tx: Transaction, change: Change, members: Members, template: ProvisioningTemplate, _: None
) -> Result:
    default = members.get("setAsDefault", False)
    template = await create_version(tx, change, template, members["templateBody"], default=default)
    number = template.last_version
    return {**_identified(template), "versionId": number, "isDefaultVersion": number == template.default_version}


@reads("DescribeProvisioningTemplateVersion")
async def describe_version(tx: Transaction, query: Query, members: Members) -> Result:
    template = await TEMPLATES.get(tx, *query.scope, members["templateName"])
    version = await get_version(tx, template, members["versionId"])
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


@writes("CreateProvisioningClaim", find=_template, prepare=_issue_claim, discard=discard, secret=True)
async def create_claim_(
    tx: Transaction, change: Change, _members: Members, template: ProvisioningTemplate, new: NewCertificate
) -> Result:
    certificate, keys = new.certificate, new.keys
    assert keys is not None, "it was made with keys"
    await create_claim(tx, change, template.name, template.generation, certificate)
    return {
        "certificateId": certificate.fingerprint,
        "certificatePem": certificate.pem,
        "keyPair": {"PublicKey": keys.public_pem, "PrivateKey": keys.private_pem},
        "expiration": certificate.not_after,
    }


def _fields(members: Members) -> dict[str, Any]:
    """The fields of the record that the input sets."""
    fields = {field: members[name] for name, field in _FIELDS.items() if members.get(name) is not None}
    given = members.get("preProvisioningHook")
    if given is not None:
        hook = Hook(given["targetArn"], given.get("payloadVersion", PAYLOAD_VERSION))
        fields |= {"hook_arn": hook.target_arn, "hook_payload_version": hook.payload_version}
    return fields


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


async def _prepare(change: Change, members: Members) -> PreparedPlan:
    template = parse_template(members["templateBody"], Kind.BULK)
    with provisioning_failures(Denied):
        return await prepare_plan(change, template.resolve(members.get("parameters", {}), {}))


@writes("RegisterThing", prepare=_prepare, discard=discard_plan)
async def register_thing(tx: Transaction, change: Change, _members: Members, prepared: PreparedPlan) -> Result:
    with provisioning_failures(Denied):
        executed = await execute_plan(tx, change, prepared)
    certificate = executed.certificate
    return {"certificatePem": certificate.pem if certificate is not None else None, "resourceArns": executed.arns}
