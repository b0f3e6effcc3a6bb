"""The parts of an explanation of what a device may do, as plain JSON values, with what to do about a refusal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson

from thingmint.domain.mqtt_topics import is_topic_filter, is_topic_name
from thingmint.domain.policies import Allow, Deny
from thingmint.domain.policies.decisions import Reason, text_of
from thingmint.domain.policies.device_keys import named_keys
from thingmint.domain.status import Status
from thingmint.domain.yandex_topics import MAX_TOPIC
from thingmint.services.authentication_decisions import AcceptedOwner, Rejected
from thingmint.services.ca_certificates import CaStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from thingmint.domain.certificates import Certificate
    from thingmint.domain.policies import Request, StatementRef
    from thingmint.domain.yandex_topics import TopicOwner
    from thingmint.services.authentication_decisions import Decision
    from thingmint.services.ca_certificates import CaState
    from thingmint.services.device_decisions import Answer, Question
    from thingmint.services.device_facts import DeviceFacts, LookUp
    from thingmint.services.device_permissions import DeviceContext, DevicePermissions
    from thingmint.services.owner_authentication import OwnerAuthenticator

_THING = "iot:connection.thing."
_OF_CONNECTIONS = {
    "aws:sourceip": "--address",
    "iot:domainname": "--host-name",
    "iot:lastwilltopic": "--will",
    "iot:clientid": "--client-id",
    "iot:connectattributes": "--persistent or --will",
}


# Connecting.


def explained_connection(
    device: DeviceFacts | None,
    decision: Decision,
    found: LookUp,
    client_id: str | None,
    now: datetime,
    *,
    working: Sequence[str],
    reinstate: bool,
) -> dict[str, Any]:
    """``working`` are the names of its things with which the device may connect, although not with ``client_id``."""
    if isinstance(decision, Rejected):
        advice = [f"the certificate is that of the thing {name}: use {name} as the client id" for name in working]
        advice += _advice_to_connect(device, found, now, reinstate=reinstate)
        return {"allowed": False, "why": decision.why, "advice": advice, "working_client_ids": working}
    if isinstance(decision, AcceptedOwner):
        why = f"the certificate is bound to {decision.topics.kind} {decision.topics.id}, so Yandex's topic rules hold"
    elif client_id is None:
        why = "the certificate is accepted; whether the policies allow to connect depends on the client id"
    else:
        why = "the certificate is accepted, and the policies allow to connect with that client id"
    return {"allowed": True, "why": why, "advice": []}


def _advice_to_connect(device: DeviceFacts | None, found: LookUp, now: datetime, *, reinstate: bool) -> list[str]:
    if device is None:
        return [
            "register the certificate (aws iot register-certificate-without-ca), or its CA with automatic registration"
        ]
    if found.device is None:
        return []  # the reason says which host name the device must send
    registration = device.registration
    if registration is None:
        return ["make a new claim certificate: aws iot create-provisioning-claim"]
    if registration.status is Status.REVOKED and not reinstate:
        return ["a revoked certificate stays revoked: make a new one (aws iot create-keys-and-certificate)"]
    if registration.status is Status.PENDING_TRANSFER:
        return ["end the transfer first: aws iot accept-certificate-transfer, or cancel-certificate-transfer"]
    if registration.status is not Status.ACTIVE:
        return [f"aws iot update-certificate --certificate-id {device.fingerprint} --new-status ACTIVE"]
    if device.bound_to is not None and device.bound_to.disabled:
        return [f"enable registry {device.bound_to.registry}"]
    return _advice_on_certificate(device, now)


def _advice_on_certificate(device: DeviceFacts, now: datetime) -> list[str]:
    """What to do about the certificate of an active registration, or about its CA certificate."""
    registration, ca_state, settings = device.registration, device.ca_state, device.settings
    assert registration is not None, "the caller has looked"
    advice = []
    if device.bound_to is None and settings.check_validity and _has_ended(device.certificate, now):
        advice.append("the certificate has ended: make a new one (aws iot create-keys-and-certificate)")
    if registration.ca is not None and settings.ca_status_gates_devices:
        if ca_state is None:
            advice.append("register the CA certificate again (aws iot register-ca-certificate), or make a new one")
        elif ca_state.status is not CaStatus.ACTIVE:
            advice.append(f"aws iot update-ca-certificate --certificate-id {registration.ca} --new-status ACTIVE")
        elif settings.check_validity and device.bound_to is None and _has_ended(ca_state, now):
            advice.append("the CA certificate has ended: make a new certificate under another one")
    return advice


def _has_ended(of: Certificate | CaState | None, now: datetime) -> bool:
    return of is not None and of.not_after < now


# What the policies allow.


def explained(
    permissions: DevicePermissions,
    answer: Answer,
    context: DeviceContext,
    documents: Mapping[str, str],
    attached: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """``attached`` are the ARNs to which each policy is attached."""
    decision = answer.decision
    further = context.of_connect(permissions.policies) if answer.action == "Connect" else None
    request = permissions.request(answer.action, answer.name, further)
    findings = [] if answer.reserved else permissions.findings(answer.action, answer.name, further)
    reference, lacks = decision.statement, None
    if reference is None and findings and not findings[0].applies:
        reference = findings[0].statement
        lacks = str(findings[0]).partition("but ")[2]
    return {
        "action": f"iot:{answer.action}",
        "resource": request.resource,
        "decision": _label(decision),
        "why": "allowed" if isinstance(decision, Allow) else str(decision),
        "statement": _statement(permissions, reference, request, documents, attached, lacks) if reference else None,
        "policies": {"allow": answer.allowing, "deny": answer.denying, "other": answer.silent},
        "missing": answer.missing,
        "advice": _advice(answer, request, reference, attached),
    }


def _label(decision: Allow | Deny) -> str:
    if isinstance(decision, Allow):
        return "ALLOWED"
    return "EXPLICIT_DENY" if decision.explicit else "IMPLICIT_DENY"


def _statement(
    permissions: DevicePermissions,
    reference: StatementRef,
    request: Request,
    documents: Mapping[str, str],
    attached: Mapping[str, Sequence[str]],
    lacks: str | None,
) -> dict[str, Any]:
    """The statement that decided; with ``lacks``, the one that came closest to allowing it."""
    policy = next(each for each in permissions.policies.policies if each.name == reference.policy)
    values = {}
    for key in named_keys(policy.statements[reference.index]):
        found = [text_of(value) for value in request.values(key.lower())]
        values[key] = found[0] if len(found) == 1 else found or None
    return {
        "policy": reference.policy,
        "attached_to": list(attached.get(reference.policy, ())),
        "number": reference.index + 1,
        "sid": reference.sid,
        "text": _text(documents[reference.policy], reference.index),
        "values": values,
        "decides": lacks is None,
        "lacks": lacks,
    }


def _text(document: str, index: int) -> Any:
    """The statement as it was written; its JSON as text if it has half a surrogate pair, which no answer can have."""
    written = json.loads(document)["Statement"]
    statement = written[index] if isinstance(written, list) else written
    text = json.dumps(statement)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _advice(
    answer: Answer,
    request: Request,
    reference: StatementRef | None,
    attached: Mapping[str, Sequence[str]],
) -> list[str]:
    decision = answer.decision
    if isinstance(decision, Allow):
        return []
    advice = []
    if decision.explicit and reference is not None:
        where = " and ".join(attached.get(reference.policy, ()))
        advice.append(f"change {reference}, or detach the policy from {where}")
    elif decision.reason is Reason.IMPLICIT:
        if not attached:
            advice.append("attach a policy to the certificate: aws iot attach-policy")
        advice.append(f"allow {request.action} on {request.resource} in a policy of the device")
    elif decision.reason is Reason.COST:
        advice.append("write the policies with fewer statements, wildcards and variables")
    elif answer.reserved:
        advice.append("use another name: no policy can allow this one")
    if any(key.lower().startswith(_THING) for key in answer.missing):
        advice.append(
            "no thing of the certificate gives that variable a value: attach the thing that the client id names, or "
            "attach one exclusively"
        )
    options = {_OF_CONNECTIONS[key.lower()] for key in answer.missing if key.lower() in _OF_CONNECTIONS}
    if options:
        advice.append(f"the policies depend on the connection: ask again with {', '.join(sorted(options))}")
    return advice


# What Yandex's topic rules allow.

_PUBLISHES = {
    "device": "a device publishes to the topics events and state, its own and its registry's",
    "registry": "a registry publishes to the topics commands and config, its own and its devices'",
    "broker": "clients of a broker publish to all topics that do not begin with $",
}
_READS = {
    "device": "a device reads the topics commands and config, its own and its registry's, and $monitoring",
    "registry": "a registry reads the topics events and state, its own and its devices', and $monitoring",
    "broker": "clients of a broker read all topics that do not begin with $",
}


async def explained_topic(
    owners: OwnerAuthenticator, account: str, topics: TopicOwner, question: Question
) -> dict[str, Any]:
    """The registry's aliases must be in ``topics``."""
    publishes, name = question.action == "Publish", question.name
    rule = (_PUBLISHES if publishes else _READS)[topics.kind]
    canonical: list[str] = []
    refusal = _flaw_of_topic(question)
    if refusal is None:
        found = topics.publishes(name) if publishes else topics.reads(name)
        if isinstance(found, Deny):
            refusal = found
        else:
            canonical = [found] if isinstance(found, str) else list(found.filters)
            for each in canonical:
                id = topics.device_named(each)
                refusal = refusal or (await owners.foreign(account, topics, id) if id is not None else None)
    return {
        "action": question.action.lower(),
        "name": name,
        "decision": "ALLOWED" if refusal is None else "DENIED",
        "why": rule if refusal is None else str(refusal),
        "rule": rule,
        "topics": canonical if refusal is None else [],
        "advice": [] if refusal is None else [rule],
    }


def _flaw_of_topic(question: Question) -> Deny | None:
    action, name, _ = question
    if len(name.encode()) > MAX_TOPIC:
        return Deny(f"it has more than {MAX_TOPIC} bytes")
    if action == "Subscribe":
        return None if is_topic_filter(name) else Deny("the topic filter is not well-formed")
    return None if is_topic_name(name) else Deny("a topic is not empty, and has none of the characters + and #")
