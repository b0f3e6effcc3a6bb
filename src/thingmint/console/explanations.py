"""Explanations of `thingmint why` for pages: checks with yes or no, and the policy that decides about each question."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from thingmint.console.rendering import exact
from thingmint.console.yandex_owners import SERVICES, find_owner, may_yandex
from thingmint.domain.arns import arn, arn_of
from thingmint.domain.errors import NotFound
from thingmint.services.device_decisions import Question
from thingmint.services.device_explanations import Asked
from thingmint.services.device_policies import DEVICE_POLICIES, get_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.console.page import Call
    from thingmint.services.refusals import RefusalGroup
    from thingmint.store.engine import Transaction

_ACTIONS = {"Publish": "topic", "RetainPublish": "topic", "Receive": "topic", "Subscribe": "topicfilter"}
"""By an action of policies: the kind of its resources in ARNs."""
_OF_YANDEX = re.compile(r"(?:publish|subscribe|receive) to (.+?) is not allowed: ", re.DOTALL)
_VERBS = {
    "RetainPublish": "publish retained messages",
    "LastWill": "have that will",
    "RegisterThing": "be provisioned",
    "CreateKeysAndCertificate": "get a certificate",
    "CreateCertificateFromCsr": "get a certificate",
}
_OF_PROVISIONING = ("iot:RegisterThing", "iot:CreateKeysAndCertificate", "iot:CreateCertificateFromCsr")


@dataclass(frozen=True, slots=True)
class Check:
    passed: bool
    title: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class PolicyShown:
    """A policy with the statement that decided, or came closest.

    ``statements`` are its statements as JSON, each with True if it is that one; empty if the caller may not read them.
    """

    name: str
    statements: Sequence[tuple[str, bool]]
    attached_to: Sequence[str]
    decides: bool
    lacks: str | None
    values: Sequence[tuple[str, str | None]]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What one certificate, or one owner of Yandex IoT Core, may do. ``report`` is that of `thingmint why`.

    ``policies`` are the policies behind the questions' answers. ``missing`` are variables and condition keys without a
    value.
    """

    report: Mapping[str, Any]
    checks: Sequence[Check]
    policies: Sequence[PolicyShown]
    missing: Sequence[str]
    advice: Sequence[str]

    @property
    def allowed(self) -> bool:
        return all(check.passed for check in self.checks)


def verb(action: str) -> str:
    """``subscribe`` for ``iot:Subscribe``."""
    name = action.rpartition(":")[2]
    return _VERBS.get(name, name.lower())


def asked_of(group: RefusalGroup, prefix: str) -> Asked | None:
    """The question whose answer was the refusal. None if no policy or topic rule of the device was asked.

    That is so in provisioning, and if the device is not known, or the refusals are of several.

    ``prefix`` is that of the account's ARNs.
    """
    if group.action in _OF_PROVISIONING:
        return None
    action, questions, owner = group.action.removeprefix("iot:"), [], ""
    if not group.action.startswith("iot:"):
        owner = group.resource.partition("/")[2]
        name = _OF_YANDEX.match(group.reason)
        if action in ("Publish", "Subscribe", "Receive") and name is not None:
            questions = [Question(action, name[1])]  # type: ignore[arg-type]
    elif (kind := _ACTIONS.get(action)) is not None and group.resource.startswith(f"{prefix}{kind}/"):
        name_in_arn = group.resource.removeprefix(f"{prefix}{kind}/")
        retain = action == "RetainPublish"
        questions = [Question("Publish" if retain else action, name_in_arn, retain)]  # type: ignore[arg-type]
    subject = group.certificate or owner or group.client_id
    if not subject:
        return None
    return Asked(subject=subject, questions=questions, client_id=group.client_id or None, address=group.address or None)


def template_of(group: RefusalGroup, prefix: str) -> str:
    """The name of the provisioning template that refused; empty if none did."""
    of_templates = f"{prefix}provisioningtemplate/"
    is_theirs = group.action == "iot:RegisterThing" and group.resource.startswith(of_templates)
    return group.resource.removeprefix(of_templates) if is_theirs else ""


async def explained(call: Call, asked: Asked) -> list[Explanation]:
    """The explanations for each certificate or owner that is meant. Raises Denied, Invalid and NotFound."""
    found = []
    for report in await call.parts.explain(asked, call.scope):
        owner = report["owner"]
        if report["account"] != call.scope.account:
            raise NotFound("certificate", report["certificate"] or asked.subject)
        if report["certificate"] is not None:
            if report["region"] != call.scope.region:
                raise NotFound("certificate", report["certificate"])
            call.may("iot:TestAuthorization", arn_of(call.scope, report["certificate"]))
        else:
            known = await call.read(partial(find_owner, account=call.scope.account, id=owner["id"]))
            if known is None:
                raise NotFound(owner["kind"], owner["id"])
            may_yandex(call, f"{SERVICES[known.kind]}.Get", *known.resources)
        found.append(await _explanation(call, report))
    return found


async def _explanation(call: Call, report: Mapping[str, Any]) -> Explanation:
    answers = report["answers"]
    checks = [*_checks(call, report)]
    # Whether a connection is allowed depends on the policies too, which the answer about Connect explains better.
    connection, of_answers = report["connection"], [_check_of(each) for each in answers]
    is_answered = any(each["action"] == "iot:Connect" for each in answers)
    if not is_answered or (not connection["allowed"] and all(check.passed for check in [*checks, *of_answers])):
        checks.append(Check(connection["allowed"], "It may connect", connection["why"]))
    checks += of_answers
    shown = [each for each in answers if each["decision"] != "ALLOWED"] or answers[-1:]
    statements = [each["statement"] for each in shown if each.get("statement") is not None]
    policies = [await call.read(partial(_policy, call, statement)) for statement in statements]
    missing = dict.fromkeys(key for each in answers for key in each.get("missing", ()))
    advice = dict.fromkeys(advice for each in (connection, *answers) for advice in each["advice"])
    return Explanation(report, checks, policies, list(missing), list(advice))


def _checks(call: Call, report: Mapping[str, Any]) -> list[Check]:
    """What must be so before any policy or topic rule counts."""
    owner, checks = report["owner"], []
    if report["certificate"] is not None:
        status = report["status"]
        note = f"its status is {status}" if status != "claim certificate" else "it is a claim certificate"
        checks.append(Check(status in ("ACTIVE", "claim certificate"), "The certificate is active", note))
    if report["not_after"] is not None:
        ends = datetime.fromisoformat(report["not_after"])
        note = f"it {'ends' if ends > call.change.now else 'ended'} on {exact(ends)}"
        if owner is None or ends > call.change.now:
            checks.append(Check(ends > call.change.now, "The certificate has not ended", note))
    if report["rules"] == "yandex":
        note = f"{owner['kind']} {owner['id']}, so Yandex's topic rules count"
        checks.append(Check(True, "It belongs to a Yandex owner", note))
    elif report["rules"] == "aws":
        parts = [each["policies"] for each in report["answers"]]
        names = sorted({name for part in parts for key in ("allow", "deny", "other") for name in part[key]})
        if parts:
            checks.append(Check(bool(names), "It has a policy", ", ".join(names) or "no policy is attached"))
    return checks


def _check_of(given: Mapping[str, Any]) -> Check:
    allowed = given["decision"] == "ALLOWED"
    name = given["resource"].split(":", 5)[-1].partition("/")[2] if "resource" in given else given["name"]
    action = verb(given["action"])
    title = f"It may connect as {name}" if action == "connect" else f"It may {action} to {name}"
    note = "a policy allows it" if given["why"] == "allowed" else given["why"]
    return Check(allowed, title.replace("receive to", "receive from"), note)


async def _policy(call: Call, statement: Mapping[str, Any], tx: Transaction) -> PolicyShown:
    name = statement["policy"]
    texts: list[tuple[str, bool]] = []
    if call.allows("iot:GetPolicy", arn(call.scope, f"policy/{name}")):
        policy = await DEVICE_POLICIES.find(tx, *call.scope, name)
        if policy is None:  # that of a claim certificate
            texts = [(_written(statement["text"]), True)]
        else:
            _, version = await get_version(tx, call.change, name, str(policy.default_version))
            written = json.loads(version.document)["Statement"]
            every = written if isinstance(written, list) else [written]
            texts = [(_written(each), number == statement["number"]) for number, each in enumerate(every, 1)]
    values = [
        (key, value if value is None or isinstance(value, str) else ", ".join(map(str, value)))
        for key, value in statement["values"].items()
    ]
    attached = [_target(each) for each in statement["attached_to"]]
    return PolicyShown(name, texts, attached, statement["decides"], statement["lacks"], values)


def _target(arn: str) -> str:
    """What a policy is attached to, in words."""
    kind, _, name = arn.rpartition(":")[2].partition("/")
    return f"the group {name}" if kind == "thinggroup" else "the certificate"


def _written(value: Any) -> str:
    """JSON for a page, which cannot have half a surrogate pair."""
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode()
