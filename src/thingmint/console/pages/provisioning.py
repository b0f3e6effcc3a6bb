"""Provisioning templates: the list, and one template with its versions, hook and claims."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thingmint.access.administration.principals import find_principal
from thingmint.console.administering import may_run
from thingmint.console.events import events_of
from thingmint.console.page import action, links_of, page, url
from thingmint.domain.arns import arn, parse_role_arn
from thingmint.domain.errors import Invalid
from thingmint.domain.templates import Kind, declared_parameters
from thingmint.services.ca_certificates import list_ca_certificates
from thingmint.services.claims import live_claims
from thingmint.services.hooks import PAYLOAD_VERSION, Hook
from thingmint.services.pages import Cursor
from thingmint.services.templates import (
    all_versions,
    count_versions,
    delete_template,
    delete_version,
    get_template,
    list_templates,
    update_template,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from thingmint.console.page import Call
    from thingmint.http.messages import Answer
    from thingmint.services.ca_certificates import CaRegistration
    from thingmint.services.claims import Claim
    from thingmint.services.templates import ProvisioningTemplate, TemplateVersion
    from thingmint.store.engine import Transaction

KINDS = {"FLEET_PROVISIONING": "Fleet provisioning", "JITP": "Just in time"}
_ROWS = 25
_EVENTS = 10
_SWITCHES = {"true": True, "false": False}
_LONGEST_ARN = 2048


@dataclass(frozen=True, slots=True)
class _Shown:
    """``versions`` are the newest first. ``parameters`` are those of each that may be read, with their defaults.

    ``versions`` has the default only, and ``claims`` and ``cas`` are empty, if the caller may not list them. ``cas``
    name the template: their devices are provisioned with it.
    """

    template: ProvisioningTemplate
    versions: Sequence[TemplateVersion]
    parameters: Mapping[int, Mapping[str, str | None]]
    claims: Sequence[Claim]
    cas: Sequence[CaRegistration]


@page("/provisioning", "ListProvisioningTemplates")
async def templates(call: Call) -> Answer:
    call.may("iot:ListProvisioningTemplates")
    cursor = call.cursor(_ROWS)

    async def body(tx: Transaction) -> tuple[Sequence[ProvisioningTemplate], str | None, Mapping[str, int]]:
        listed = await list_templates(tx, call.change, cursor)
        names = [each.name for each in listed.items]
        counts = await count_versions(tx, call.scope, names[0], names[-1]) if names else {}
        return listed.items, listed.next_token, counts

    found, token, counts = await call.read(body)
    return call.render(
        "provisioning.html",
        templates=found,
        versions=counts,
        kinds=KINDS,
        roles=await roles_of(call, [each.role_arn for each in found]),
        tabs=tabs_of(call, "/provisioning"),
        may_create=call.allows("iot:CreateProvisioningTemplate"),
        **links_of("/provisioning", cursor, token),
    )


@page("/provisioning/templates/{name}", "DescribeProvisioningTemplate")
async def template(call: Call) -> Answer:
    name, resource = named(call)
    call.may("iot:DescribeProvisioningTemplate", resource)
    found = await call.read(lambda tx: _read(tx, call, name))
    records: Sequence[Any] = ()
    if call.allows("thingmint:ListAudit"):
        records = await call.parts.audit.history(call.caller.account, resource, _EVENTS)
    return call.render(
        "provisioning_template.html",
        found=found,
        events=events_of(records),
        of=found.template,
        resource=resource,
        kinds=KINDS,
        role=await role_of(call, found.template.role_arn),
        readable=readable,
        payload_version=PAYLOAD_VERSION,
        may_change=call.allows("iot:UpdateProvisioningTemplate", resource),
        may_add=call.allows("iot:CreateProvisioningTemplateVersion", resource),
        may_delete=call.allows("iot:DeleteProvisioningTemplate", resource),
        may_delete_version=call.allows("iot:DeleteProvisioningTemplateVersion", resource),
        may_claim=call.allows("iot:CreateProvisioningClaim", resource),
        may_see_claims=call.allows("thingmint:ListProvisioningClaims", resource),
        may_try=call.allows("thingmint:TestProvisioning", resource),
    )


@action("/provisioning/templates/{name}/enabled", "UpdateProvisioningTemplate")
async def set_enabled(call: Call) -> Answer:
    name = _to_change(call)
    enabled = _SWITCHES[_chosen(call, "enabled", list(_SWITCHES))]
    await _update(call, name, {"enabled": enabled}, enabled=str(enabled).lower())
    return call.done(f"/provisioning/templates/{name}", f"{name} is {'enabled' if enabled else 'disabled'}.")


@action("/provisioning/templates/{name}/default", "UpdateProvisioningTemplate")
async def set_default(call: Call) -> Answer:
    name, version = _to_change(call), _version(call)
    await _update(call, name, {"default_version": version}, defaultVersionId=str(version))
    return call.done(f"/provisioning/templates/{name}", f"Devices are provisioned with version {version} now.")


@action("/provisioning/templates/{name}/hook", "UpdateProvisioningTemplate")
async def set_hook(call: Call) -> Answer:
    """Without a function, the hook is removed."""
    name, target = _to_change(call), call.form.text("target", _LONGEST_ARN)
    hook = Hook(target) if target else None
    fields = {
        "hook_arn": hook.target_arn if hook is not None else None,
        "hook_payload_version": hook.payload_version if hook is not None else None,
    }
    await _update(call, name, fields, preProvisioningHook=target)
    said = f"Before {name} provisions a device, it asks the hook." if target else f"{name} asks no hook any more."
    return call.done(f"/provisioning/templates/{name}", said)


@page("/provisioning/templates/{name}/delete", "DeleteProvisioningTemplate")
async def confirm_delete(call: Call) -> Answer:
    name, resource = named(call)
    call.may("iot:DeleteProvisioningTemplate", resource)
    await call.read(lambda tx: get_template(tx, call.scope, name))
    return call.render(
        "confirm.html",
        title=f"Delete the template {name}?",
        consequence="Devices cannot be provisioned with the template any more. Its versions are deleted, and its "
        "claims become invalid. Devices that were provisioned stay as they are.",
        address=url(f"/provisioning/templates/{name}/deleted"),
        fields={},
        button="Delete",
        back=url(f"/provisioning/templates/{name}"),
        command=f"aws iot delete-provisioning-template --template-name {name}",
    )


@action("/provisioning/templates/{name}/deleted", "DeleteProvisioningTemplate")
async def delete(call: Call) -> Answer:
    name, resource = named(call)
    call.may("iot:DeleteProvisioningTemplate", resource)
    await call.write(lambda tx: delete_template(tx, call.change, name), templateName=name)
    return call.done("/provisioning", f"{name} is deleted.")


@action("/provisioning/templates/{name}/delete-version", "DeleteProvisioningTemplateVersion")
async def remove_version(call: Call) -> Answer:
    name, resource = named(call)
    call.may("iot:DeleteProvisioningTemplateVersion", resource)
    version = _version(call)
    await call.write(
        lambda tx: delete_version(tx, call.change, name, version), templateName=name, versionId=str(version)
    )
    return call.done(f"/provisioning/templates/{name}", f"Version {version} is deleted.")


def named(call: Call) -> tuple[str, str]:
    """The name of the template in the path, and its ARN."""
    name = call.path["name"]
    return name, arn(call.scope, f"provisioningtemplate/{name}")


@dataclass(frozen=True, slots=True)
class RoleLink:
    """``name`` is empty for the ARN of another account. ``exists`` is None if the caller may not know it."""

    arn: str
    name: str
    exists: bool | None
    may_make: bool


async def roles_of(call: Call, role_arns: Iterable[str]) -> dict[str, RoleLink]:
    """The role of each ARN."""
    may_see, may_make = may_run(call, "policy.attached", "role"), may_run(call, "role.create")

    async def body(tx: Transaction) -> dict[str, RoleLink]:
        found = {}
        for each in dict.fromkeys(role_arns):
            name, exists = _role_name(call, each), None
            if name and may_see:
                exists = await find_principal(tx, call.caller.account, "role", name) is not None
            found[each] = RoleLink(each, name, exists, may_make)
        return found

    return await call.read(body)


async def role_of(call: Call, role_arn: str) -> RoleLink:
    return (await roles_of(call, [role_arn]))[role_arn]


def _role_name(call: Call, role_arn: str) -> str:
    try:
        account, name = parse_role_arn(role_arn, "role")
    except Invalid:
        return ""
    return name if account == call.scope.account else ""


def readable(text: str) -> str:
    """The document of a template with line breaks."""
    return json.dumps(json.loads(text), indent=2, ensure_ascii=False)


def tabs_of(call: Call, current: str) -> list[tuple[str, str, bool]]:
    """The views of provisioning, as far as the caller may open them."""
    views = (
        ("Templates", "/provisioning", "iot:ListProvisioningTemplates"),
        ("Bulk registration", "/provisioning/tasks", "iot:ListThingRegistrationTasks"),
        ("Imports", "/provisioning/imports", "thingmint:ListImports"),
    )
    return call.tabs(views, current)


def _to_change(call: Call) -> str:
    name, resource = named(call)
    call.may("iot:UpdateProvisioningTemplate", resource)
    return name


def _chosen(call: Call, field: str, choices: Sequence[str]) -> str:
    value = call.form.choice(field, choices)
    if not value:
        raise Invalid(field, "is missing")
    return value


def _version(call: Call) -> int:
    number = call.form.number("version")
    if number is None or number > 10**9:
        raise Invalid("version", "must be the number of a version")
    return number


async def _update(call: Call, name: str, fields: Mapping[str, object], **parameters: str) -> None:
    await call.write(lambda tx: update_template(tx, call.change, name, fields), templateName=name, **parameters)


async def _read(tx: Transaction, call: Call, name: str) -> _Shown:
    found, default = await get_template(tx, call.scope, name)
    versions: Sequence[TemplateVersion] = [default]
    if call.allows("iot:ListProvisioningTemplateVersions", found.arn):
        versions = await all_versions(tx, call.scope, name)
    may_read = call.allows("iot:DescribeProvisioningTemplateVersion", found.arn)
    shown = [each for each in versions if may_read or each.version == found.default_version]
    parameters = {each.version: declared_parameters(each.body) for each in shown}
    claims: Sequence[Claim] = ()
    if call.allows("thingmint:ListProvisioningClaims", found.arn):
        claims = await live_claims(tx, found, call.change.now)
    cas: Sequence[CaRegistration] = ()
    if found.kind is Kind.JITP and call.allows("iot:ListCACertificates"):
        cursor = Cursor(_ROWS, "", "page")
        cas = (await list_ca_certificates(tx, call.change, cursor, ascending=False, template=name)).items
    return _Shown(found, versions, parameters, claims, cas)
