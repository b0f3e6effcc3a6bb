"""What devices were refused, in groups; and one group: why, what would cure it, and whether it would be refused now."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import timedelta
from shlex import quote
from typing import TYPE_CHECKING

from thingmint.console.cures import Cures, cures_of
from thingmint.console.explanations import Check, Explanation, asked_of, explained, template_of, verb
from thingmint.console.page import action, page, url
from thingmint.console.pages.unknown_devices import may_see_unknown, tabs
from thingmint.console.sentences import sentence_of
from thingmint.console.yandex_owners import SERVICES, allows_yandex, find_owner, may_yandex
from thingmint.domain.arns import arn, arn_of
from thingmint.domain.errors import Denied, DomainError, Invalid, NotFound, Unavailable
from thingmint.domain.status import Status
from thingmint.services.authentication_decisions import is_password_flaw
from thingmint.services.bindings import bind, parse_submitted
from thingmint.services.certificates import update_status
from thingmint.services.device_decisions import Question
from thingmint.services.device_explanations import Asked
from thingmint.services.device_policies import Target, attach_policy
from thingmint.services.passwords import list_passwords
from thingmint.services.refusals import count_refusals, find_refusal, list_refusals
from thingmint.services.thing_principals import attach_principal
from thingmint.services.things import thing_arn
from thingmint.services.transfers import get_visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.console.page import Call
    from thingmint.http.messages import Answer
    from thingmint.services.owners import Owner
    from thingmint.services.refusals import RefusalGroup
    from thingmint.store.engine import Transaction

_ROWS = 25
_MAX_CHOICES = 100  # policies or devices in a menu
_MAX_TRIED = 20  # policies of the menu for which the page says that they would help
_MAX_ID = 2**63
_DIGITS = re.compile(r"[0-9a-f]{4,64}")
_SINCE = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
_CAN_ACTIVATE = frozenset({Status.INACTIVE, Status.PENDING_ACTIVATION, Status.REGISTER_INACTIVE})
_MAY_NOT = "You may see the refusals, but not what the device may do: that needs iot:TestAuthorization."
_BY_TEMPLATE = "Provisioning refused it. A dry run shows what the template does, and what its role may not do."
_SIMULATED = {
    "connect": "Connect",
    "publish": "Publish",
    "retain": "Publish a retained message",
    "subscribe": "Subscribe",
    "receive": "Receive",
}


@dataclass(frozen=True, slots=True)
class _Why:
    """``trouble`` is why there is no explanation. ``password_of`` is the owner whose password was wrong."""

    explanations: Sequence[Explanation] = ()
    trouble: str = ""
    cures: Cures = field(default_factory=Cures)
    password_of: Owner | None = None


@page("/refusals", "ListRefusals")
async def refusals(call: Call) -> Answer:
    call.may("thingmint:ListRefusals")
    certificate, client_id = _digits(call.query.text("certificate")), call.query.text("client_id", 512)
    since, cursor = call.query.choice("since", _SINCE), call.cursor(_ROWS)
    fields = {"certificate": certificate, "client_id": client_id, "since": since}
    # The list continues from the time of its first page: an age that is counted from now is another one on each page.
    at = call.query.number("at") or int(call.change.now.timestamp())
    beginning = None
    if since:
        if abs(call.change.now.timestamp() - at) > timedelta(days=1).total_seconds():
            raise Invalid("at", "is of a list that is too old; begin again at the first page")
        beginning = call.change.now.fromtimestamp(at, call.change.now.tzinfo) - _SINCE[since]
    found = await call.read(
        lambda tx: list_refusals(
            tx,
            call.change,
            cursor,
            certificate=certificate or None,
            client_id=client_id or None,
            since=beginning,
        )
    )
    counts = await call.read(lambda tx: count_refusals(tx, call.scope, call.change.now))
    options = [f" --{name.replace('_', '-')} {quote(value)}" for name, value in list(fields.items())[:2] if value]
    options += [f" --since=-{_SINCE[since] // timedelta(hours=1)}h"] if since else []
    return call.render(
        "refusals.html",
        groups=found.items,
        counts=counts,
        tabs=tabs("/refusals") if await may_see_unknown(call) else [],
        fields=fields,
        verb=verb,
        spans=[("", "Last 7 days"), ("day", "Last day"), ("hour", "Last hour")],
        is_filtered=any(fields.values()),
        first=url("/refusals", **fields) if cursor.token else None,
        next=url("/refusals", **fields, at=at, page=found.next_token) if found.next_token else None,
        command=f"thingmint refusal list{''.join(options)}\nthingmint refusal counts",
    )


def _digits(text: str) -> str:
    """The first digits of a certificate's id, as a person writes them: also with colons, or with the dots of short ids.

    Raises Invalid.
    """
    digits = text.strip().lower().removeprefix("0x").replace(":", "").rstrip("\N{HORIZONTAL ELLIPSIS}.")
    if digits and not _DIGITS.fullmatch(digits):
        raise Invalid("certificate", "must be the first 4 or more digits of a certificate's id")
    return digits


@page("/refusals/simulator", "TestAuthorization")
async def simulator(call: Call) -> Answer:
    """Answers whether a device might do something. Nothing happens."""
    call.may("thingmint:ListRefusals")
    device, client_id = call.query.text("device", 512), next(iter(call.query.all("client_id")), "")
    asked_for = call.query.choice("action", _SIMULATED, "connect")
    name = next(iter(call.query.all("name")), "")
    why = None
    if device:
        why = await _simulated(call, device, client_id, asked_for, name)
    return call.render(
        "simulator.html",
        why=why,
        fields={"device": device, "client_id": client_id, "action": asked_for, "name": name},
        actions=list(_SIMULATED.items()),
        command=_command(device or "DEVICE", client_id, asked_for, name),
    )


async def _simulated(call: Call, device: str, client_id: str, asked_for: str, name: str) -> _Why:
    questions: list[Question] = []
    if asked_for != "connect":
        if not name:
            return _Why(trouble="Write the topic, or the topic filter, that you ask for.")
        action_name = "Publish" if asked_for == "retain" else asked_for.capitalize()
        questions = [Question(action_name, name, asked_for == "retain")]  # type: ignore[arg-type]
    try:
        return _Why(await explained(call, Asked(subject=device, questions=questions, client_id=client_id or None)))
    except Invalid as error:
        return _Why(trouble=sentence_of(error))


@page("/refusals/{id}", "ListRefusals")
async def refusal(call: Call) -> Answer:
    call.may("thingmint:ListRefusals")
    group = await _group(call)
    asked = asked_of(group, arn(call.scope, ""))
    template = template_of(group, arn(call.scope, ""))
    why = _Why(trouble=_BY_TEMPLATE) if template else await _why(call, group, asked)
    question = next(iter(asked.questions), None) if asked else None
    asked_for = "connect" if question is None else "retain" if question.retain else question.action.lower()
    name = question.name if question else ""
    subject = asked.subject if asked else ""
    return call.render(
        "refusal.html",
        group=group,
        verb=verb(group.action),
        why=why,
        of_template=template,
        may_try=call.allows("thingmint:TestProvisioning", group.resource),
        base=url(f"/refusals/{group.id}"),
        simulator=url("/refusals/simulator", device=subject, client_id=group.client_id, action=asked_for, name=name),
        command=f"thingmint provisioning dry-run {quote(template)} --parameter NAME=VALUE"
        if template
        else _command(subject or "DEVICE", group.client_id, asked_for, name),
    )


@action("/refusals/{id}/activate", "UpdateCertificate")
async def activate(call: Call) -> Answer:
    group, id = await _certificate(call)
    call.may("iot:UpdateCertificate", arn_of(call.scope, id))
    await call.write(lambda tx: update_status(tx, call.change, id, Status.ACTIVE), certificateId=id, newStatus="ACTIVE")
    return call.done(f"/refusals/{group.id}", "The certificate is activated.")


@action("/refusals/{id}/attach", "AttachPolicy")
async def attach(call: Call) -> Answer:
    group, id = await _certificate(call)
    call.may("iot:AttachPolicy", arn_of(call.scope, id))
    name, now, target = call.form.text("policy"), call.change.now, Target("cert", id)
    given = {"policyName": name, "target": arn_of(call.scope, id)}
    await call.write(lambda tx: attach_policy(tx, call.scope, name, target, now), **given)
    return call.done(f"/refusals/{group.id}", f"The policy {name} is attached.")


@action("/refusals/{id}/attach-thing", "AttachThingPrincipal")
async def attach_thing(call: Call) -> Answer:
    """Attaches the certificate to the thing that the client id names."""
    group, id = await _certificate(call)
    name, resource = group.client_id, arn_of(call.scope, id)
    call.change.may("iot:AttachThingPrincipal", resource, context={"iot:thingArn": thing_arn(call.scope, name)})
    given = {"thingName": name, "principal": resource}
    await call.write(lambda tx: attach_principal(tx, call.scope, name, id, call.change.now), **given)
    return call.done(f"/refusals/{group.id}", f"The thing {name} is attached to the certificate.")


@action("/refusals/{id}/bind", "DeviceService.AddCertificate")
async def bind_to_device(call: Call) -> Answer:
    group, id = await _certificate(call)
    wanted = call.form.text("device", 50)
    owner = await call.read(lambda tx: find_owner(tx, call.scope.account, wanted))
    resources = owner.resources if owner is not None else (f"yandex:device/{wanted}",)
    may_yandex(call, f"{SERVICES[owner.kind] if owner else 'DeviceService'}.AddCertificate", *resources)
    if owner is None:
        raise NotFound("device", wanted)
    _, content = await call.read(lambda tx: get_visible(tx, call.scope, id))
    change = call.yandex_change
    submitted = parse_submitted(change, content.pem, "certificate_data")

    async def bound(tx: Transaction) -> None:
        current = await find_owner(tx, call.scope.account, wanted)
        if current is None:
            raise NotFound("device", wanted)
        tx.audit_resources.append(current.resource)
        await bind(tx, change, current, submitted)

    await call.write(bound, deviceId=wanted, certificateId=id)
    return call.done(f"/refusals/{group.id}", f"The certificate is bound to {owner.kind} {owner.name or owner.id}.")


async def _group(call: Call) -> RefusalGroup:
    """The group of the path. Raises NotFound."""
    text = call.path["id"]
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(text) < 21 and abs(int(text)) < _MAX_ID:
        found = await call.read(lambda tx: find_refusal(tx, call.scope, int(text)))
        if found is not None:
            return found
    raise NotFound("group of refusals", text[:80])


async def _certificate(call: Call) -> tuple[RefusalGroup, str]:
    """The group, and its certificate, which the account must have. Raises Denied and NotFound."""
    call.may("thingmint:ListRefusals")
    group = await _group(call)
    if not group.certificate:
        raise NotFound("certificate of these refusals", str(group.id))
    return group, group.certificate


async def _why(call: Call, group: RefusalGroup, asked: Asked | None) -> _Why:
    if asked is None:
        return _Why(trouble="These are refusals of several devices, or of one that is not known.")
    if group.certificate and not call.allows("iot:TestAuthorization", arn_of(call.scope, group.certificate)):
        return _Why(trouble=_MAY_NOT)
    try:
        explanations = await explained(call, asked)
    except Unavailable:
        raise
    except Denied:
        return _Why(trouble=_MAY_NOT)
    except DomainError:
        return _Why(trouble="The device is not known any more: its certificate, thing or device was deleted.")
    if is_password_flaw(group.reason) and not group.certificate:
        return await _why_password(call, group.reason, explanations, asked.subject)
    cures = Cures()
    if group.certificate and not all(each.allowed for each in explanations):
        cures = await cures_of(call, asked, explanations[0])
    return _Why(explanations, "", cures)


async def _why_password(call: Call, reason: str, explanations: Sequence[Explanation], id: str) -> _Why:
    """Whether the owner has passwords. The server cannot know which one its device would send now."""
    owner = await call.read(lambda tx: find_owner(tx, call.scope.account, id))
    if owner is None or not all(each.allowed for each in explanations):
        return _Why(explanations)
    checks = [Check(False, "It sent one of its passwords", reason)]
    if allows_yandex(call, f"{SERVICES[owner.kind]}.ListPasswords", *owner.resources):
        checks.insert(0, await _has_password(call, id))
    return _Why([replace(each, checks=checks) for each in explanations], password_of=owner)


async def _has_password(call: Call, id: str) -> Check:
    count = len(await call.read(lambda tx: list_passwords(tx, id)))
    note = f"it has {count}; clients send its id as the user name" if count else "only certificates sign it in"
    return Check(bool(count), "It has a password", note)


def _command(subject: str, client_id: str, asked_for: str, name: str) -> str:
    """The command that tells the same."""
    client = f" --client-id {quote(client_id)}" if client_id and client_id != subject else ""
    option = {"connect": "", "retain": " --retain --publish"}.get(asked_for, f" --{asked_for}")
    return f"thingmint why {quote(subject)}{client}{f'{option} {quote(name)}' if option else ''}"
