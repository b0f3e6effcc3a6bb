"""What would cure a refusal: changes after which the same decisions would allow what the device asked for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from thingmint.access.authorization import is_allowed
from thingmint.console.yandex_owners import allows_yandex, registries_of
from thingmint.domain.arns import arn, arn_of
from thingmint.domain.errors import InvalidState
from thingmint.domain.policies import Allow, Deny, Reason
from thingmint.domain.status import Status, check_update
from thingmint.domain.yandex_topics import TopicOwner
from thingmint.services.device_authentication import certificate_flaw
from thingmint.services.device_decisions import (
    Question,
    answer,
    compiled,
    find_device,
    find_documents,
    policies_of_certificate,
    policies_of_groups,
)
from thingmint.services.device_facts import AttachedThing, BoundTo
from thingmint.services.device_permissions import DeviceContext, DevicePermissions
from thingmint.services.device_policies import list_policies
from thingmint.services.device_registry import list_devices
from thingmint.services.owners import Named
from thingmint.services.pages import Cursor
from thingmint.services.things import THINGS, thing_arn

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from thingmint.console.explanations import Explanation
    from thingmint.console.page import Call
    from thingmint.services.device_explanations import Asked
    from thingmint.services.device_facts import DeviceFacts
    from thingmint.services.device_registry import Device
    from thingmint.store.engine import Transaction

_MAX_CHOICES = 100  # devices in a menu
_WILD = frozenset("*?$")
_MAX_TRIED = 20  # policies: each may take milliseconds


@dataclass(frozen=True, slots=True)
class Cures:
    """What one click can change: each is empty or False if it would not help, or the caller may not do it.

    ``thing`` is the name of the thing to attach, ``policies`` allow what was refused, ``edited`` are policies whose
    statement decided or came close. ``allow`` are the actions and resources that a new policy has to allow. ``renew``:
    no change makes this certificate work again. ``client_ids`` are those that work for the device as it is: the page
    shows them, and the device changes. ``first`` is the name of the field that decides.
    """

    activate: bool = False
    thing: str = ""
    policies: Sequence[str] = ()
    edited: Sequence[str] = ()
    devices: Sequence[tuple[str, str]] = ()
    likely_device: str = ""
    renew: bool = False
    client_ids: Sequence[str] = ()
    allow: Sequence[str] = ()

    @property
    def first(self) -> str:
        order = ("activate", "likely_device", "thing", "client_ids", "policies", "edited", "allow", "renew", "devices")
        return next((name for name in order if getattr(self, name)), "")


@dataclass(frozen=True, slots=True)
class _Trial:
    """Decides what a device would be answered if its facts were others."""

    call: Call
    asked: Asked

    async def allows(self, device: DeviceFacts, added: Collection[str] = ()) -> bool:
        """True if its policies, with those that are added, allow all that was asked."""
        call, asked = self.call, self.asked
        documents = await call.read(partial(find_documents, device=device, added=added))
        policies = await compiled(call.scope, documents)
        der = device.certificate.der if device.certificate is not None else None
        context = DeviceContext(device.thing, asked.client_id, der, asked.address)
        permissions = DevicePermissions(policies, context.variables(policies.mentions), lambda: call.change.now)
        await asyncio.sleep(0)  # each may take milliseconds
        return all(isinstance(answer(permissions, each, context).decision, Allow) for each in self.questions)

    @property
    def questions(self) -> list[Question]:
        asked = self.asked
        return [Question("Connect", asked.client_id), *asked.questions] if asked.client_id else [*asked.questions]

    def works(self, device: DeviceFacts) -> bool:
        """True if nothing is wrong with the certificate itself."""
        return certificate_flaw(device, self.call.change.now)[0] is None


async def cures_of(call: Call, asked: Asked, why: Explanation) -> Cures:
    """The cures for the certificate ``asked.subject``, which the account must have."""
    trial, resource = _Trial(call, asked), arn_of(call.scope, asked.subject)
    device = await call.read(lambda tx: find_device(tx, call.scope, asked.subject, asked.client_id, call.change.now))
    assert device.registration is not None, "find_device finds no others"
    active = replace(device, registration=device.registration._replace(status=Status.ACTIVE))
    needs_activation, can = not trial.works(device), _can_activate(call, device)
    mended = active if can else device
    activate = needs_activation and can and trial.works(active)
    if why.report["rules"] != "aws":
        return Cures(activate=activate and call.allows("iot:UpdateCertificate", resource), renew=_ended(trial, mended))
    devices = await _devices_that_help(trial, mended)
    likely = _likely_device(asked, devices)
    if not trial.works(mended):
        return Cures(devices=devices, likely_device=likely, renew=_ended(trial, mended))
    thing, policies, edited = "", list[str](), list[str]()
    if not await trial.allows(mended):
        thing, policies = await _additions(trial, mended, resource)
        edited = [each.name for each in why.policies if _may_edit(call, each.name)]
    may_activate = activate and call.allows("iot:UpdateCertificate", resource)
    client_ids = why.report["connection"].get("working_client_ids", ())
    allow = [] if thing or policies or client_ids else _to_allow(call, why, resource)
    return Cures(may_activate, thing, policies, edited, devices, likely, client_ids=client_ids, allow=allow)


def _to_allow(call: Call, why: Explanation, resource: str) -> list[str]:
    """What a new policy for this certificate has to allow. Empty if that does not help, or the caller may not make it.

    A policy that names a resource with a character of wildcards or variables would allow more than what was refused.
    """
    refused = [each for each in why.report["answers"] if each["decision"] != "ALLOWED"]
    if not all(each["why"] == Reason.IMPLICIT.value and is_plain(each["resource"]) for each in refused):
        return []
    may_make = call.allows("iot:CreatePolicy", arn(call.scope, "policy/*")) and call.allows(
        "iot:AttachPolicy", resource
    )
    return [f"{each['action']} {each['resource']}" for each in refused] if may_make else []


def is_plain(resource: str) -> bool:
    """True if the resource of a policy statement means this one resource only."""
    return _WILD.isdisjoint(resource)


def _can_activate(call: Call, device: DeviceFacts) -> bool:
    assert device.registration is not None, "find_device finds no others"
    reinstate = call.change.environment.reinstate_revoked
    try:
        check_update(device.fingerprint, device.registration.status, Status.ACTIVE, reinstate=reinstate)
    except InvalidState:
        return False
    return True


def _ended(trial: _Trial, device: DeviceFacts) -> bool:
    """True if the certificate is revoked or has ended, so that only another one helps."""
    assert device.registration is not None, "find_device finds no others"
    if device.registration.status is Status.REVOKED:
        return True
    content = device.certificate
    return not trial.works(device) and content is not None and content.not_after < trial.call.change.now


def _may_edit(call: Call, policy: str) -> bool:
    resource = arn(call.scope, f"policy/{policy}")
    return call.allows("iot:CreatePolicyVersion", resource) and call.allows("iot:GetPolicy", resource)


async def _additions(trial: _Trial, device: DeviceFacts, resource: str) -> tuple[str, list[str]]:
    """The thing that the client id names, if attaching it helps, and the policies that help.

    If neither helps alone, both are returned if they help together.
    """
    call = trial.call
    names: list[str] = []
    if call.allows("iot:AttachPolicy", resource) and call.allows("iot:ListPolicies"):
        attached = await call.read(lambda tx: policies_of_certificate(tx, call.scope, device.fingerprint))
        cursor = Cursor(_MAX_CHOICES)
        listed = (await call.read(lambda tx: list_policies(tx, call.change, cursor, ascending=True))).items
        names = [name for name in listed if name not in attached][:_MAX_TRIED]
    policies = [name for name in names if await trial.allows(device, [name])]
    found = await call.read(lambda tx: _with_thing(tx, trial, device))
    if found is None:
        return "", policies
    with_thing, of_groups = found
    thing = str(trial.asked.client_id)
    if await trial.allows(with_thing, of_groups):
        return thing, policies
    if policies:
        return "", policies
    both = [name for name in names if await trial.allows(with_thing, {*of_groups, name})]
    return thing if both else "", both


async def _with_thing(tx: Transaction, trial: _Trial, device: DeviceFacts) -> tuple[DeviceFacts, set[str]] | None:
    """The device as if it had the thing that its client id names, and the policies of that thing's groups.

    None if there is no such thing, or it cannot be attached.
    """
    call, name = trial.call, trial.asked.client_id
    if not name or (device.thing is not None and (device.thing.exclusive or device.thing.name == name)):
        return None
    thing = await THINGS.find(tx, *call.scope, name)
    if thing is None or not may_attach_thing(call, device.fingerprint, name):
        return None
    policies = {policy for policy, _, _ in await policies_of_groups(tx, call.scope, thing=name)}
    return replace(device, thing=AttachedThing(name, thing.type, thing.attributes)), policies


def may_attach_thing(call: Call, id: str, thing: str) -> bool:
    context = {"iot:thingArn": thing_arn(call.scope, thing)}
    resources = (arn_of(call.scope, id),)
    return is_allowed(call.context, "iot:AttachThingPrincipal", resources, call.scope, context)


async def _devices_that_help(trial: _Trial, device: DeviceFacts) -> list[tuple[str, str]]:
    """Ids and names of Yandex devices whose topic rules allow what was asked."""
    if device.bound_to is not None:
        return []
    found = await trial.call.read(lambda tx: _devices(tx, trial.call))
    return [(each.id, each.name or each.id) for each in found if _helps(trial, device, each)]


def _helps(trial: _Trial, device: DeviceFacts, yandex: Device) -> bool:
    if not allows_yandex(trial.call, "DeviceService.AddCertificate", *yandex.resources):
        return False
    if not trial.works(replace(device, bound_to=BoundTo("device", yandex.id, yandex.registry))):
        return False
    topics = TopicOwner("device", yandex.id, yandex.registry, yandex.topic_aliases)
    for action, name, _ in trial.asked.questions:
        answered = topics.publishes(name) if action == "Publish" else topics.reads(name)
        if action != "Connect" and isinstance(answered, Deny):
            return False
    return True


def _likely_device(asked: Asked, devices: Sequence[tuple[str, str]]) -> str:
    """The Yandex device that was probably meant: one with that client id, or any for topics that only they have."""
    named = next((id for id, name in devices if asked.client_id in (id, name)), "")
    is_theirs = any(each.name.startswith("$") and not each.name.startswith("$aws/") for each in asked.questions)
    return named or (devices[0][0] if is_theirs and devices else "")


async def _devices(tx: Transaction, call: Call) -> list[Device]:
    """The first devices of the registries that the caller may list, up to the menu's length."""
    found: list[Device] = []
    for registry in await registries_of(tx, call):
        room = len(found) < _MAX_CHOICES and not registry.disabled
        if room and allows_yandex(call, "DeviceService.List", *registry.resources):
            parent, cursor = Named("registry", registry.id, registry), Cursor(_MAX_CHOICES - len(found))
            found += (await list_devices(tx, call.yandex_change, parent, cursor)).items
    return found
