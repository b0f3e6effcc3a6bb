"""Answers what a device may do, without a connection: for TestAuthorization and for ``thingmint why``.

The facts are read, and the decisions are made, by what the MQTT gateway uses too: ``device_facts`` and
``device_permissions``.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from thingmint.domain.errors import NotFound, Unavailable
from thingmint.domain.mqtt_topics import TOPIC_BYTES, TOPIC_SLASHES, is_topic_filter, is_topic_name, unshared, within
from thingmint.domain.policies import Allow, Deny, Kind, evaluate, naming
from thingmint.domain.policies.decisions import TooManySteps
from thingmint.domain.policies.device_keys import named_keys
from thingmint.services.authentication_decisions import client_id_flaw
from thingmint.services.compiled_policies import POLICIES, PolicyIdentity, PolicySet, read_documents
from thingmint.services.device_facts import look_up
from thingmint.services.device_permissions import Refusal
from thingmint.services.device_policies import DEVICE_POLICIES
from thingmint.store.queries import load_queries
from thingmint.store.table import fingerprint_bytes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from datetime import datetime

    from thingmint.domain.arns import Scope
    from thingmint.domain.policies import Decision, Request
    from thingmint.services.device_facts import DeviceFacts
    from thingmint.services.device_permissions import Action, DeviceContext, DevicePermissions
    from thingmint.store.engine import Transaction

_QUERIES = load_queries("device_policies")
_MAX_CLIENT_ID = 128  # bytes


class Question(NamedTuple):
    """What a device asks for. ``name`` is a client id, topic or filter."""

    action: Literal["Connect", "Publish", "Receive", "Subscribe"]
    name: str
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """The gateway's decision about ``action`` on ``name``: the first that is refused, or the last that is allowed.

    ``reserved``: no policy can allow it. ``allowing`` are the names of policies that allow the action, ``denying`` of
    those that deny it explicitly, ``silent`` of the others. ``missing`` are the condition keys and variables without a
    value, as the policies write them.
    """

    question: Question
    action: Action
    name: str
    decision: Decision
    reserved: bool
    allowing: tuple[str, ...]
    denying: tuple[str, ...]
    silent: tuple[str, ...]
    missing: tuple[str, ...]


def answer(permissions: DevicePermissions, question: Question, context: DeviceContext) -> Answer:
    """Return the answer with each policy's part in it."""
    refusal = _refusal(permissions, question, context)
    if refusal is not None:
        action, name = refusal.action, refusal.name
    else:
        action, name = "RetainPublish" if question.retain else question.action, question.name
        name = unshared(name) if action == "Subscribe" else name
    further = context.of_connect(permissions.policies) if action == "Connect" else None
    parts: dict[bool | None, list[str]] = {True: [], False: [], None: []}
    request = permissions.request(action, name, further)
    for policy in permissions.policies.policies:
        alone = evaluate((policy,), request)
        parts[True if isinstance(alone, Allow) else False if alone.explicit else None].append(policy.name)
    return Answer(
        question,
        action,
        name,
        permissions.decide(action, name, further) if refusal is None else refusal.decision,
        refusal is not None and refusal.reserved,
        tuple(parts[True]),
        tuple(parts[False]),
        tuple(parts[None]),
        tuple(dict.fromkeys(_missing(permissions, request))),
    )


def _refusal(permissions: DevicePermissions, question: Question, context: DeviceContext) -> Refusal | None:
    action, name, retain = question
    if (flaw := _flaw(question)) is not None:
        return Refusal(action, name, Deny(flaw), reserved=True)
    match action:
        case "Connect":
            return permissions.connect(name, context)
        case "Publish":
            return permissions.publish(name, retain=retain)
        case "Subscribe":
            return permissions.subscribe(name)
        case "Receive":
            return permissions.receive(name)


def _flaw(question: Question) -> str | None:
    """Return why the gateway refuses a packet with that name before it asks for permission, or None."""
    action, name, _ = question
    if action == "Connect":
        if not name or len(name.encode()) > _MAX_CLIENT_ID:
            return f"a client id has 1 to {_MAX_CLIENT_ID} bytes"
        flaw = client_id_flaw(name)
        return None if flaw is None else f"the client id {flaw}"
    if action == "Subscribe":
        if not is_topic_filter(name):
            return "the topic filter is not well-formed: + and # stand alone between slashes, and # is last"
    elif not is_topic_name(name):
        return "a topic is not empty, and has none of the characters + and #"
    if action != "Receive" and not within(name, max_bytes=TOPIC_BYTES, max_slashes=TOPIC_SLASHES):
        return f"it has more than {TOPIC_BYTES} bytes or {TOPIC_SLASHES} slashes"
    return None


def _missing(permissions: DevicePermissions, request: Request) -> Iterator[str]:
    with suppress(TooManySteps):
        for statement in naming(permissions.policies.policies, request):
            for key in named_keys(statement):
                if not request.values(key.lower()):
                    yield key


async def find_device(
    tx: Transaction, scope: Scope, fingerprint: str, client_id: str | None, now: datetime
) -> DeviceFacts:
    """Return the facts about a registered certificate, for that client id. Raises NotFound."""
    found = (await look_up(tx, fingerprint, scope, None, client_id, now)).device
    if found is None or found.registration is None:
        raise NotFound("certificate", fingerprint)
    return found


async def find_documents(
    tx: Transaction, device: DeviceFacts, added: Collection[str] = (), skipped: Collection[str] = ()
) -> dict[str, str]:
    """Return the documents of a device's policies by name, with those that are to be added or skipped.

    Raises NotFound.
    """
    identities = {policy.name: policy for policy in device.policies}
    for name in added:
        policy = await DEVICE_POLICIES.get(tx, *device.scope, name)
        identities[name] = PolicyIdentity(name, policy.generation, policy.default_version)
    for name in skipped:
        await DEVICE_POLICIES.get(tx, *device.scope, name)
        identities.pop(name, None)
    key = device.policy_key._replace(policies=tuple(identities[name] for name in sorted(identities)))
    documents = await read_documents(tx, key)
    if documents is None:
        raise Unavailable("A policy changed at the same time")
    return documents


async def compiled(scope: Scope, documents: Mapping[str, str]) -> PolicySet:
    """Return the policies. Raises MalformedPolicy."""
    await POLICIES.compile_ahead(Kind.DEVICE, documents.items())
    return PolicySet(scope, list(documents.items()))


async def policies_of_certificate(tx: Transaction, scope: Scope, fingerprint: str) -> list[str]:
    """Return the names of the policies that are attached to the certificate itself."""
    return [name for _, name in await tx.fetch_all(_QUERIES["attached"], *scope, fingerprint_bytes(fingerprint), "")]


async def policies_of_groups(
    tx: Transaction, scope: Scope, *, thing: str = "", group: str = ""
) -> Iterable[tuple[str, str, str]]:
    """Return policies of a group, or of a thing's groups, and of what contains them: name, document and group."""
    rows = await tx.fetch_all(_QUERIES["of_groups"], *scope, thing, group)
    return [(name, document, of) for name, document, of in rows]
