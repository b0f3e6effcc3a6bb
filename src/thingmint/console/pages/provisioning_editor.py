"""The editor of provisioning templates: a new template, and a new version of one."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

from thingmint.access.administration.principals import principals_after
from thingmint.console.page import action, page, url
from thingmint.console.pages.provisioning import KINDS, named, readable
from thingmint.console.policy_editor import check_base, checked, sent_document
from thingmint.domain.arns import arn, parse_role_arn
from thingmint.domain.errors import CrossAccountRole, Invalid
from thingmint.domain.ids import new_uuid
from thingmint.domain.linting import lint_template
from thingmint.domain.templates import CERTIFICATE_ID, Kind
from thingmint.services.templates import (
    TEMPLATES,
    ProvisioningTemplate,
    check_name,
    check_template,
    create_template,
    create_version,
    get_template,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.console.page import Call
    from thingmint.console.policy_editor import Draft
    from thingmint.http.messages import Answer
    from thingmint.store.engine import Transaction

_KINDS = {Kind(value): words for value, words in KINDS.items()}
_MAX_ROLES = 100
_LONGEST_ARN = 2048
_LONGEST_TEXT = 500
_COMMON_NAME = "AWS::IoT::Certificate::CommonName"


@page("/provisioning/new", "CreateProvisioningTemplate")
async def new(call: Call) -> Answer:
    call.may("iot:CreateProvisioningTemplate", arn(call.scope, "provisioningtemplate/*"))
    kind = Kind(call.query.choice("type", list(_KINDS), Kind.FLEET))
    draft = await _drafted(call, _example(kind), kind, "/provisioning/check")
    return await _new(call, draft, {"type": kind})


@action("/provisioning/check", "CreateProvisioningTemplate", is_recorded=False)
async def check(call: Call) -> Answer:
    """The editor with what the linter says. Nothing is changed."""
    call.may("iot:CreateProvisioningTemplate", arn(call.scope, "provisioningtemplate/*"))
    return await _new(call, await _sent(call), dict(call.form.pairs))


@action("/provisioning/new", "CreateProvisioningTemplate", form=check)
async def create(call: Call) -> Answer:
    name, role = call.form.text("name"), call.form.text("role", _LONGEST_ARN)
    call.may("iot:CreateProvisioningTemplate", arn(call.scope, f"provisioningtemplate/{name}"))
    call.may("iam:PassRole", role)
    draft, given = await _sent(call), dict(call.form.pairs)
    if not draft.may_be_saved:
        return await _new(call, draft, given, status=400)
    template = _template(call, name, role)
    check_template(template, draft.text)
    recorded = {"templateName": name, "provisioningRoleArn": role}
    await call.write(lambda tx: create_template(tx, template, draft.text, {}), **recorded)
    return call.done(f"/provisioning/templates/{name}", f"{name} is made. Do a dry run to see what a device gets.")


def _template(call: Call, name: str, role: str) -> ProvisioningTemplate:
    """The template that the form describes. Raises Invalid and CrossAccountRole."""
    check_name(name)
    account, _ = parse_role_arn(role, "role")
    if account != call.scope.account:
        raise CrossAccountRole(role)
    description, now = call.form.text("description", _LONGEST_TEXT), call.change.now
    if not description.isprintable():
        raise Invalid("description", "must be printable text")
    return ProvisioningTemplate(
        call.scope,
        name,
        Kind(call.form.choice("type", list(_KINDS), Kind.FLEET)),
        role_arn=role,
        created_at=now,
        modified_at=now,
        description=description or None,
        enabled=bool(call.form.text("enabled")),
        generation=new_uuid(),
    )


@page("/provisioning/templates/{name}/new-version", "DescribeProvisioningTemplate")
async def new_version(call: Call) -> Answer:
    name = _to_add(call)
    call.may("iot:DescribeProvisioningTemplate", named(call)[1])
    template, version = await call.read(lambda tx: get_template(tx, call.scope, name))
    draft = await _drafted(call, readable(version.body), template.kind, _check_path(name))
    return _version(call, template, draft, version.version)


@action("/provisioning/templates/{name}/check", "CreateProvisioningTemplateVersion", is_recorded=False)
async def check_version(call: Call) -> Answer:
    name = _to_add(call)
    template = await call.read(lambda tx: TEMPLATES.get(tx, *call.scope, name))
    draft = await _drafted(call, sent_document(call), template.kind, _check_path(name))
    return _version(call, template, draft, call.form.number("of"))


@action("/provisioning/templates/{name}/new-version", "CreateProvisioningTemplateVersion", form=check_version)
async def add_version(call: Call) -> Answer:
    name, is_default = _to_add(call), bool(call.form.text("is_default"))
    template = await call.read(lambda tx: TEMPLATES.get(tx, *call.scope, name))
    draft = await _drafted(call, sent_document(call), template.kind, _check_path(name))
    if not draft.may_be_saved:
        return _version(call, template, draft, call.form.number("of"), status=400)

    async def body(tx: Transaction) -> ProvisioningTemplate:
        current = await TEMPLATES.get(tx, *call.scope, name)
        if is_default:
            check_base(call.form, "template", name, current.default_version)
        return await create_version(tx, call.change, current, draft.text, default=is_default)

    made = (await call.write(body, templateName=name, setAsDefault=str(is_default).lower())).last_version
    effect = "Devices are provisioned with it now." if is_default else "Do a dry run before you make it the default."
    return call.done(f"/provisioning/templates/{name}", f"Version {made} is made. {effect}")


def _to_add(call: Call) -> str:
    name, resource = named(call)
    call.may("iot:CreateProvisioningTemplateVersion", resource)
    return name


def _check_path(name: str) -> str:
    return f"/provisioning/templates/{name}/check"


async def _drafted(call: Call, text: str, kind: Kind, check: str) -> Draft:
    return await checked(call, text, partial(lint_template, text, kind), url(check))


async def _sent(call: Call) -> Draft:
    kind = Kind(call.form.choice("type", list(_KINDS), Kind.FLEET))
    return await _drafted(call, sent_document(call), kind, "/provisioning/check")


async def _new(call: Call, draft: Draft, given: Mapping[str, str], status: int = 200) -> Answer:
    roles: Sequence[str] = ()
    if call.allows("thingmint:ListRoles"):
        found = await call.read(lambda tx: principals_after(tx, call.caller.account, "role", "", _MAX_ROLES))
        roles = [each.name for each in found]
    return call.render(
        "provisioning_new.html",
        status=status,
        draft=draft,
        given={"name": "", "description": "", "role": "", "enabled": "", "type": Kind.FLEET, **given},
        kinds=list(_KINDS.items()),
        roles=[f"arn:aws:iam::{call.scope.account}:role/{name}" for name in roles],
    )


def _version(call: Call, template: ProvisioningTemplate, draft: Draft, base: int | None, status: int = 200) -> Answer:
    """``base`` is the version that the new one is made of."""
    return call.render("provisioning_new_version.html", status=status, of=template, draft=draft, base_version=base)


def _example(kind: Kind) -> str:
    """A template that makes a thing with a policy, for a person to change."""
    name = "SerialNumber" if kind is Kind.FLEET else _COMMON_NAME
    certificate = {"CertificateId": {"Ref": CERTIFICATE_ID}, "Status": "ACTIVE"}
    thing = {"ThingName": {"Ref": name}, "AttributePayload": {"madeBy": "provisioning"}}
    resources = {
        "certificate": {"Type": "AWS::IoT::Certificate", "Properties": certificate},
        "thing": {"Type": "AWS::IoT::Thing", "Properties": thing},
        "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "ConnectedThing"}},
    }
    parameters = {name: {"Type": "String"}, CERTIFICATE_ID: {"Type": "String"}}
    return json.dumps({"Parameters": parameters, "Resources": resources}, indent=2)
