"""The policies of devices, as AWS IoT has them: the list, one policy with its versions and targets, and its editor."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.console.certificate_names import names_of
from thingmint.console.cures import is_plain
from thingmint.console.page import action, links_of, page, url
from thingmint.console.pages.access import tabs_of
from thingmint.console.policy_editor import check_base, drafted, pretty, sent_document
from thingmint.domain.arns import arn
from thingmint.domain.errors import Invalid
from thingmint.domain.names import POLICY_NAME
from thingmint.domain.policies import Kind
from thingmint.services import device_policies as policies
from thingmint.services.device_policies import DEVICE_POLICIES, VERSIONS, Target, parse_target
from thingmint.services.pages import Cursor, page_by_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.console.page import Call
    from thingmint.console.policy_editor import Draft
    from thingmint.http.messages import Answer
    from thingmint.services.device_policies import DevicePolicy, PolicyVersion
    from thingmint.services.pages import Page
    from thingmint.store.engine import Transaction

_ROWS = 50
_LONGEST_NAME = 128
_ENTRY = "/access"
_NAME = re.compile(POLICY_NAME)
_ACTIONS = frozenset(f"iot:{each}" for each in ("Connect", "Publish", "RetainPublish", "Subscribe", "Receive"))


@dataclass(frozen=True, slots=True)
class _Found:
    """``versions`` are the newest first. ``targets`` is None if the caller may not list them.

    ``names`` are those of the certificates among them.
    """

    policy: DevicePolicy
    shown: PolicyVersion
    versions: Sequence[PolicyVersion]
    targets: Page[Target] | None
    names: dict[str, str]


@page("/policies", "ListPolicies", entry=_ENTRY)
async def device_policies(call: Call) -> Answer:
    call.may("iot:ListPolicies")
    cursor = call.cursor(_ROWS)

    async def body(tx: Transaction) -> Page[DevicePolicy]:
        async def fetch(after: str, limit: int) -> list[DevicePolicy]:
            return await DEVICE_POLICIES.page(tx, *call.scope, after=after, limit=limit)

        return await page_by_text(call.change, cursor, "console device policies", fetch, lambda each: each.name)

    found = await call.read(body)
    return call.render(
        "device_policies.html",
        policies=found.items,
        tabs=tabs_of(call, "/policies"),
        may_make=call.allows("iot:CreatePolicy", _arn(call, "*")),
        **links_of("/policies", cursor, found.next_token),
    )


@page("/policies/one", "GetPolicy", entry=_ENTRY)
async def device_policy(call: Call) -> Answer:
    """The name is in the query: in a path, the names "." and ".." would be another path."""
    name, resource = _named(call)
    call.may("iot:GetPolicy", resource)
    number = call.query.text("version")
    if number:
        call.may("iot:GetPolicyVersion", resource)
    cursor = call.cursor(_ROWS)
    found = await call.read(lambda tx: _read(tx, call, name, number, cursor))
    return call.render(
        "device_policy.html",
        found=found,
        names=found.names,
        policy=found.policy,
        name=name,
        draft=await drafted(call, Kind.DEVICE, found.shown.document),
        may={
            "list_versions": call.allows("iot:ListPolicyVersions", resource),
            "add": call.allows("iot:CreatePolicyVersion", resource),
            "default": call.allows("iot:SetDefaultPolicyVersion", resource),
            "delete_version": call.allows("iot:DeletePolicyVersion", resource),
            "delete": call.allows("iot:DeletePolicy", resource),
            "attach": call.allows("iot:AttachPolicy", arn(call.scope, "cert/*")),
            "detach": call.allows("iot:DetachPolicy", arn(call.scope, "cert/*")),
        },
        **links_of("/policies/one", cursor, found.targets.next_token if found.targets else None, name=name),
    )


@page("/policies/edit", "GetPolicy", entry=_ENTRY)
async def edit(call: Call) -> Answer:
    """The editor of a new policy, or with a name of a new version of that policy."""
    if not call.query.text("name", _LONGEST_NAME):
        call.may("iot:CreatePolicy", _arn(call, "*"))
        return _editor(call, await _drafted(call, _allowing(call) or _example(call)), "")
    name, resource = _named(call)
    call.may("iot:CreatePolicyVersion", resource)
    call.may("iot:GetPolicy", resource)

    async def body(tx: Transaction) -> PolicyVersion:
        policy = await DEVICE_POLICIES.get(tx, *call.scope, name)
        return await VERSIONS.get(tx, *call.scope, name, policy.default_version)

    version = await call.read(body)
    return _editor(call, await _drafted(call, pretty(version.document)), name, of=version.number)


@action("/policies/check", "GetPolicy", entry=_ENTRY, is_recorded=False)
async def check(call: Call) -> Answer:
    """The editor with what the linter says. Nothing is read or changed."""
    name, is_version = call.form.text("name", _LONGEST_NAME), bool(call.form.text("is_version"))
    call.may("iot:CreatePolicyVersion" if is_version else "iot:CreatePolicy", _arn(call, name or "*"))
    return _editor(call, await _drafted(call, sent_document(call)), name, of=_base(call) if is_version else None)


@action("/policies/save", "CreatePolicy", entry=_ENTRY, form=check)
async def save(call: Call) -> Answer:
    name, resource = _named_in_form(call)
    call.may("iot:CreatePolicy", resource)
    document = sent_document(call)
    draft = await _drafted(call, document)
    if not draft.may_be_saved:
        return _editor(call, draft, name, status=400)
    policies.check_document(call.scope, name, document)
    certificate, refusal, now = *_after(call).values(), call.change.now
    target = Target("cert", certificate) if certificate else None
    if target is not None:
        call.may("iot:AttachPolicy", target.arn(call.scope))

    async def body(tx: Transaction) -> None:
        await policies.create_policy(tx, call.change, name, document, {})
        if target is not None:
            await policies.attach_policy(tx, call.scope, name, target, now)

    await call.write(body, policyName=name, **({} if target is None else {"target": target.arn(call.scope)}))
    if target is None:
        return call.done("/policies/one", f"The policy {name} is made. Attach it to devices.", name=name)
    said = f"The policy {name} is made, and attached to the certificate."
    return call.done(f"/refusals/{refusal}", said) if refusal else call.done("/policies/one", said, name=name)


@action("/policies/save-version", "CreatePolicyVersion", entry=_ENTRY, form=check)
async def save_version(call: Call) -> Answer:
    name, resource = _named_in_form(call)
    call.may("iot:CreatePolicyVersion", resource)
    document, is_default = sent_document(call), bool(call.form.text("is_default"))
    draft = await _drafted(call, document)
    if not draft.may_be_saved:
        return _editor(call, draft, name, of=_base(call), status=400)
    policies.check_document(call.scope, name, document)

    async def body(tx: Transaction) -> PolicyVersion:
        policy = await DEVICE_POLICIES.get(tx, *call.scope, name)
        if is_default:
            check_base(call.form, "policy", name, policy.default_version)
        return (await policies.create_version(tx, call.change, name, document, default=is_default))[1]

    version = await call.write(body, policyName=name)
    effect = "It is in force at once." if is_default else "Set it as the default to put it in force."
    return call.done("/policies/one", f"Version {version.number} of {name} is made. {effect}", name=name)


@action("/policies/default", "SetDefaultPolicyVersion", entry=_ENTRY)
async def set_default(call: Call) -> Answer:
    name, resource = _named_in_form(call)
    number = call.form.text("version", 32)
    call.may("iot:SetDefaultPolicyVersion", resource)
    await call.write(
        lambda tx: policies.set_default_version(tx, call.change, name, number), policyName=name, policyVersionId=number
    )
    return call.done("/policies/one", f"Version {number} of {name} is in force.", name=name)


@page("/policies/delete-version", "GetPolicyVersion", entry=_ENTRY)
async def confirm_version_deletion(call: Call) -> Answer:
    name, resource = _named(call)
    number = call.query.text("version", 32)
    call.may("iot:DeletePolicyVersion", resource)
    await call.read(lambda tx: policies.get_version(tx, call.change, name, number))
    return call.render(
        "confirm.html",
        title=f"Delete version {number} of {name}?",
        consequence="Its document cannot be restored. The version in force cannot be deleted.",
        address=url("/policies/version-deleted"),
        fields={"name": name, "version": number},
        button="Delete",
        back=url("/policies/one", name=name),
        command=f"aws iot delete-policy-version --policy-name {name} --policy-version-id {number}",
    )


@action("/policies/version-deleted", "DeletePolicyVersion", entry=_ENTRY)
async def delete_version(call: Call) -> Answer:
    name, resource = _named_in_form(call)
    number = call.form.text("version", 32)
    call.may("iot:DeletePolicyVersion", resource)
    await call.write(
        lambda tx: policies.delete_version(tx, call.change, name, number), policyName=name, policyVersionId=number
    )
    return call.done("/policies/one", f"Version {number} of {name} is deleted.", name=name)


@page("/policies/delete", "GetPolicy", entry=_ENTRY)
async def confirm_deletion(call: Call) -> Answer:
    name, resource = _named(call)
    call.may("iot:DeletePolicy", resource)
    await call.read(lambda tx: DEVICE_POLICIES.get(tx, *call.scope, name))
    return call.render(
        "confirm.html",
        title=f"Delete the policy {name}?",
        consequence="It can be deleted while it has one version, and is attached to nothing. It cannot be restored.",
        address=url("/policies/deleted"),
        fields={"name": name},
        button="Delete",
        back=url("/policies/one", name=name),
        command=f"aws iot delete-policy --policy-name {name}",
    )


@action("/policies/deleted", "DeletePolicy", entry=_ENTRY)
async def delete(call: Call) -> Answer:
    name, resource = _named_in_form(call)
    call.may("iot:DeletePolicy", resource)
    await call.write(lambda tx: policies.delete_policy(tx, call.change, name), policyName=name)
    return call.done("/policies", f"The policy {name} is deleted.")


@action("/policies/attach", "AttachPolicy", entry=_ENTRY)
async def attach(call: Call) -> Answer:
    name, target, resource = _target(call)
    call.may("iot:AttachPolicy", resource)
    now = call.change.now
    await call.write(
        lambda tx: policies.attach_policy(tx, call.scope, name, target, now), policyName=name, target=resource
    )
    return call.done("/policies/one", f"The policy {name} is attached to the {target.noun}.", name=name)


@action("/policies/detach", "DetachPolicy", entry=_ENTRY)
async def detach(call: Call) -> Answer:
    name, target, resource = _target(call)
    call.may("iot:DetachPolicy", resource)
    await call.write(lambda tx: policies.detach_policy(tx, call.change, name, target), policyName=name, target=resource)
    return call.done("/policies/one", f"The policy {name} is detached from the {target.noun}.", name=name)


async def _read(tx: Transaction, call: Call, name: str, number: str, cursor: Cursor) -> _Found:
    if number:
        policy, shown = await policies.get_version(tx, call.change, name, number)
    else:
        policy = await DEVICE_POLICIES.get(tx, *call.scope, name)
        shown = await VERSIONS.get(tx, *call.scope, name, policy.default_version)
    targets, names = None, {}
    if call.allows("iot:ListTargetsForPolicy", policy.arn):
        targets = await policies.list_targets(tx, call.change, name, cursor, ascending=False)
        names = await names_of(tx, call, [each.name for each in targets.items if each.kind == "cert"])
    return _Found(policy, shown, await policies.list_versions(tx, policy), targets, names)


def _named(call: Call) -> tuple[str, str]:
    """The policy's name in the query, and its ARN."""
    name = call.query.text("name", _LONGEST_NAME)
    return name, _arn(call, name)


def _named_in_form(call: Call) -> tuple[str, str]:
    """The policy's name in the form, and its ARN. Raises Invalid."""
    name = call.form.text("name", _LONGEST_NAME)
    if not _NAME.fullmatch(name):
        raise Invalid("name", "must be 1 to 128 letters, digits or any of _+=,.@-")
    return name, _arn(call, name)


def _target(call: Call) -> tuple[str, Target, str]:
    """The policy's name, and the target that a person named: by its ARN, a certificate's id or a group's name."""
    name, _ = _named_in_form(call)
    text = call.form.text("target", 2048)
    if not text.startswith("arn:"):
        kind = "cert" if re.fullmatch("[0-9a-fA-F]{64}", text) else "thinggroup"
        text = arn(call.scope, f"{kind}/{text.lower() if kind == 'cert' else text}")
    target = parse_target(text, call.scope, "target", "cert", "thinggroup")
    return name, target, target.arn(call.scope)


def _arn(call: Call, name: str) -> str:
    return arn(call.scope, f"policy/{name}")


async def _drafted(call: Call, text: str) -> Draft:
    return await drafted(call, Kind.DEVICE, text, url("/policies/check"))


def _base(call: Call) -> int:
    """The version that the new one is made of. 0 if the form does not say it."""
    return call.form.number("of") or 0


def _editor(call: Call, draft: Draft, name: str, *, of: int | None = None, status: int = 200) -> Answer:
    """``of`` is the version that a new one is made of; None for a new policy."""
    is_version = of is not None
    return call.render(
        "device_policy_edit.html",
        status=status,
        after=_after(call),
        draft=draft,
        name=name,
        of=of,
        is_version=is_version,
    )


def _after(call: Call) -> dict[str, str]:
    """What is done with a new policy: the certificate to attach it to, and the refusals that it cures; or empty."""
    given = call.form if call.form.pairs else call.query
    certificate, refusal = given.text("attach_to", 64).lower(), given.text("refusal", 20)
    if certificate and not re.fullmatch("[0-9a-f]{64}", certificate):
        raise Invalid("attach_to", "must be the id of a certificate")
    if refusal and not re.fullmatch("-?[0-9]+", refusal):
        raise Invalid("refusal", "must be a number")
    return {"attach_to": certificate, "refusal": refusal}


def _allowing(call: Call) -> str:
    """A policy that allows the actions and resources in the query: a draft. Empty if the query has none."""
    statements = []
    for each in call.query.all("allow"):
        action_name, _, resource = each.partition(" ")
        if action_name not in _ACTIONS or not (resource.startswith(arn(call.scope, "")) and is_plain(resource)):
            raise Invalid("allow", "must be an action of devices and a resource of this account, without wildcards")
        statements.append({"Effect": "Allow", "Action": action_name, "Resource": resource})
    document = {"Version": "2012-10-17", "Statement": statements}
    return pretty(json.dumps(document)) if statements else ""


def _example(call: Call) -> str:
    """A policy under which a thing may connect, and use the topics below its own name."""
    own = "${iot:Connection.Thing.ThingName}"
    client, topic, filter = (arn(call.scope, kind) for kind in ("client", "topic", "topicfilter"))
    return f"""{{
  "Version": "2012-10-17",
  "Statement": [
    {{
      "Effect": "Allow",
      "Action": "iot:Connect",
      "Resource": "{client}/{own}"
    }},
    {{
      "Effect": "Allow",
      "Action": ["iot:Publish", "iot:Receive"],
      "Resource": "{topic}/devices/{own}/*"
    }},
    {{
      "Effect": "Allow",
      "Action": "iot:Subscribe",
      "Resource": "{filter}/devices/{own}/*"
    }}
  ]
}}"""
