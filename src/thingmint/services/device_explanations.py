"""Explains to the operator what a device may do, and whether it may connect at all: ``thingmint why``.

The decisions are those of ``device_authentication`` and ``device_decisions``, which the MQTT gateway and
TestAuthorization use; the topic rules of Yandex IoT Core are those of ``domain/yandex_topics``. Nothing is changed: a
certificate is not registered just in time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from thingmint.domain.arns import Scope, arn, arn_of
from thingmint.domain.errors import Invalid, LimitExceeded, NotFound
from thingmint.domain.yandex_topics import TopicOwner
from thingmint.services.authentication_decisions import AuthenticationRequest, Rejected, parts_of_session_name
from thingmint.services.certificates import REGISTRATIONS
from thingmint.services.claims import claim_policy
from thingmint.services.client_ids import names_of_sessions
from thingmint.services.device_authentication import context_of
from thingmint.services.device_decisions import (
    Question,
    answer,
    compiled,
    find_documents,
    policies_of_certificate,
    policies_of_groups,
)
from thingmint.services.device_permissions import DevicePermissions
from thingmint.services.explained_answers import explained, explained_connection, explained_topic
from thingmint.services.thing_principals import certificates_of_thing, things_of_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from thingmint.services.device_authentication import DeviceAuthenticator
    from thingmint.services.device_facts import DeviceFacts
    from thingmint.services.owner_authentication import OwnerAuthenticator, OwnerFacts
    from thingmint.store.engine import Store, Transaction

_CERTIFICATE = re.compile(r"(?:arn:aws:iot:([a-z0-9-]+):([0-9]{12}):cert/)?([0-9a-fA-F]{64})", re.ASCII)
_PAIRS = re.compile(r"[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){31}", re.ASCII)  # as openssl x509 -fingerprint prints it
_MAX_REPORTS = 10


class LiveConnection(NamedTuple):
    """What is known of a connected device by its connection.

    ``fingerprint`` is empty without a certificate. ``session`` is the name of its session.
    """

    fingerprint: str
    address: str
    host_name: str | None
    session: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """``subject`` is a client id, the name of a thing, a Yandex id, or a certificate's ARN or fingerprint.

    CLIENT_ID#ID is the client id of one Yandex device, registry or broker, as the API's lists of connections have it.

    The facts of a connection are None if they are not known.
    """

    subject: str
    questions: Sequence[Question]
    client_id: str | None = None
    address: str | None = None
    host_name: str | None = None
    will_topic: str | None = None
    persistent: bool = False

    @property
    def connecting(self) -> tuple[str, ...]:
        persistent = ("PersistentConnect",) if self.persistent else ()
        return persistent if self.will_topic is None else (*persistent, "LastWill")


@dataclass(frozen=True, slots=True)
class _Subject:
    """A certificate, or an owner of Yandex IoT Core. ``scope`` is None if only the gateway's rules choose it."""

    found_by: str
    scope: Scope | None = None
    fingerprint: str = ""
    client_id: str | None = None
    connection: LiveConnection | None = None
    owner: OwnerFacts | None = None


class _Policies(NamedTuple):
    """Documents by name, and what each policy is attached to."""

    documents: Mapping[str, str]
    attached: Mapping[str, Sequence[str]]


class Explainer:
    def __init__(
        self,
        store: Store,
        authenticator: DeviceAuthenticator,
        owners: OwnerAuthenticator,
        clock: Callable[[], datetime],
        connections_of: Callable[[Scope, str, int], Sequence[LiveConnection]] = lambda _scope, _client_id, _limit: (),
        *,
        reinstate_revoked: bool = False,
    ) -> None:
        self._store = store
        self._authenticator = authenticator
        self._owners = owners
        self._clock = clock
        self._connections_of = connections_of
        self._reinstate = reinstate_revoked

    async def explain(self, asked: Asked, scopes: Sequence[Scope], *, is_limited: bool) -> list[dict[str, Any]]:
        """Return a report for each certificate or owner that the subject means.

        ``is_limited``: the operator chose the ``scopes``, so that the gateway's choice of an account does not matter.
        Raises Invalid, NotFound and Unavailable.
        """
        subjects = await self._subjects(asked, scopes, is_limited=is_limited)
        if len(subjects) > _MAX_REPORTS:
            advice = "choose an --account, a certificate, or CLIENT_ID#ID with the id of a Yandex device or registry"
            raise Invalid("the name", f"means more than {_MAX_REPORTS} devices: {advice}")
        return [
            await (self._of_owner if await self._is_owner(asked, each) else self._of_certificate)(asked, each)
            for each in subjects
        ]

    # Who is meant.

    async def _subjects(self, asked: Asked, scopes: Sequence[Scope], *, is_limited: bool) -> list[_Subject]:
        text = asked.subject
        match = _CERTIFICATE.fullmatch(text.replace(":", "") if _PAIRS.fullmatch(text) else text)
        if match is not None:
            region, account, fingerprint = match[1], match[2], match[3].lower()
            if account is not None:
                if Scope(account, region) not in scopes:
                    raise NotFound("account or region", f"{account}, {region}")
                return [_Subject("the certificate's ARN", Scope(account, region), fingerprint)]
            if not is_limited:
                return [_Subject("the certificate", None, fingerprint)]
            known = [scope for scope in scopes if await self._is_registered(scope, fingerprint)]
            return [_Subject("the certificate", scope, fingerprint) for scope in known or scopes[:1]]
        client_id, owner_id = parts_of_session_name(text)
        found: dict[tuple[Scope | None, str], _Subject] = {}
        for scope in scopes:
            for subject in await self._connected(scope, text):
                found[scope, subject.owner.id if subject.owner is not None else subject.fingerprint] = subject
            for fingerprint in await self._store.read(self._attached_to(scope, asked.subject)):
                subject = _Subject("the thing of that name", scope, fingerprint, asked.subject)
                found.setdefault((scope, fingerprint), subject)
        for account in dict.fromkeys(scope.account for scope in scopes):
            owner = await self._owners.find(account, owner_id or text)
            if owner is not None:
                named = client_id if owner_id is not None else None
                found.setdefault((owner.scope, owner.id), _Subject("its id", owner.scope, "", named, owner=owner))
        if not found:
            reason = (
                "is neither a certificate, a client id that is connected here, a thing with a certificate, "
                "nor the id of a Yandex device, registry or broker"
            )
            raise Invalid(repr(asked.subject), reason)
        return list(found.values())

    async def _connected(self, scope: Scope, client_id: str) -> list[_Subject]:
        """Return the devices that are connected with that client id, also to other processes if they are Yandex's."""
        limit = _MAX_REPORTS + 1
        here = {each.session: each for each in self._connections_of(scope, client_id, limit)}
        others = await self._store.read(lambda tx: names_of_sessions(tx, scope, client_id, limit))
        found_by = "the connection of that client id"
        found = []
        for name in dict.fromkeys((*here, *others)):
            own_id, owner_id = parts_of_session_name(name)
            owner = await self._owners.find(scope.account, owner_id) if owner_id is not None else None
            fingerprint = here[name].fingerprint if name in here else ""
            if fingerprint or owner is not None:
                found.append(_Subject(found_by, scope, fingerprint, own_id, here.get(name), owner))
        return found

    async def _is_owner(self, asked: Asked, subject: _Subject) -> bool:
        """False for a certificate, also that of a connected owner if it is bound to the owner."""
        if subject.owner is None or not subject.fingerprint:
            return subject.owner is not None
        # A device with a password may present any certificate: only the password counts then.
        request = self._request(asked, subject, asked.client_id or subject.client_id)
        device = (await self._authenticator.preview(request, subject.scope))[0].device
        return device is None or device.bound_to is None or device.bound_to.owner != subject.owner.id

    @staticmethod
    def _attached_to(scope: Scope, thing: str) -> Callable[[Transaction], Any]:
        return lambda tx: certificates_of_thing(tx, scope, thing, _MAX_REPORTS + 1)

    async def _is_registered(self, scope: Scope, fingerprint: str) -> bool:
        return await self._store.read(lambda tx: REGISTRATIONS.find(tx, *scope, fingerprint)) is not None

    # A certificate.

    async def _of_certificate(self, asked: Asked, subject: _Subject) -> dict[str, Any]:
        client_id, guessed = asked.client_id or subject.client_id, False
        request = self._request(asked, subject, client_id)
        found, decision = await self._authenticator.preview(request, subject.scope)
        device = found.device
        if device is None and found.elsewhere:
            elsewhere = found.elsewhere[0]  # what it may do there, if it sent the host name that the reason advises
            device = (await self._authenticator.preview(request, elsewhere))[0].device
        if client_id is None and device is not None:
            things = await self._things(device)
            if len(things) == 1:
                client_id, guessed = things[0], True
                request = self._request(asked, subject, client_id)
                scope = device.scope
                found, decision = await self._authenticator.preview(request, subject.scope)
                device = (await self._authenticator.preview(request, scope))[0].device or device
        working = await self._working(request, device) if isinstance(decision, Rejected) else []
        report: dict[str, Any] = {
            "found_by": subject.found_by,
            "certificate": request.fingerprint,
            "connected": subject.connection is not None,
            "client_id": client_id,
            "client_id_is_guessed": guessed,
            "host_name": request.host_name,
            "address": request.address or None,
            **_who(device),
            "connection": explained_connection(
                device, decision, found, client_id, self._clock(), working=working, reinstate=self._reinstate
            ),
        }
        if device is None:
            return {**report, "rules": None, "answers": []}
        if device.bound_to is not None and self._authenticator.may_be_owner(request):
            bound = device.bound_to
            topics = TopicOwner(bound.kind, bound.owner, bound.registry or "", orjson.loads(bound.aliases))
            return {**report, "rules": "yandex", "answers": await self._by_topics(device.scope, topics, asked)}
        return {**report, "rules": "aws", "answers": await self._by_policies(asked, request, device)}

    def _request(self, asked: Asked, subject: _Subject, client_id: str | None) -> AuthenticationRequest:
        connection = subject.connection or LiveConnection(subject.fingerprint, "", None, "")
        return AuthenticationRequest(
            subject.fingerprint,
            None,
            asked.host_name or connection.host_name,
            asked.address or connection.address,
            client_id,
            asked.connecting if client_id is not None else None,
            asked.will_topic,
        )

    async def _things(self, device: DeviceFacts) -> list[str]:
        return await self._store.read(lambda tx: things_of_certificate(tx, device.scope, device.fingerprint, 2))

    async def _working(self, request: AuthenticationRequest, device: DeviceFacts | None) -> list[str]:
        """Return the names of the certificate's things that the device may use as its client id, at most two."""
        if device is None or request.client_id is None:
            return []
        names = [name for name in await self._things(device) if name != request.client_id]
        tried = [
            (name, await self._authenticator.preview(replace(request, client_id=name), device.scope)) for name in names
        ]
        return [name for name, (_, decision) in tried if not isinstance(decision, Rejected)]

    async def _by_policies(
        self, asked: Asked, request: AuthenticationRequest, device: DeviceFacts
    ) -> list[dict[str, Any]]:
        policies = await self._store.read(lambda tx: _policies_of(tx, device))
        compiled_set = await compiled(device.scope, policies.documents)
        context = context_of(request, device)
        permissions = DevicePermissions(compiled_set, context.variables(compiled_set.mentions), self._clock)
        questions = list(asked.questions)
        if request.client_id is not None and not any(each.action == "Connect" for each in questions):
            questions.insert(0, Question("Connect", request.client_id))
        documents, attached = policies
        return [
            explained(permissions, answer(permissions, question, context), context, documents, attached)
            for question in questions
        ]

    # An owner of Yandex IoT Core.

    async def _of_owner(self, asked: Asked, subject: _Subject) -> dict[str, Any]:
        owner, connection = subject.owner, subject.connection
        assert owner is not None, "the caller has looked"
        flaw = owner.flaw
        advice = [f"enable registry {owner.registry}"] if flaw is not None else []
        return {
            "found_by": subject.found_by,
            "certificate": None,
            "connected": connection is not None,
            "client_id": asked.client_id or subject.client_id,
            "client_id_is_guessed": False,
            "host_name": asked.host_name or (connection.host_name if connection is not None else None),
            "address": asked.address or (connection.address if connection is not None else None),
            "account": owner.account,
            "region": owner.region,
            "status": None,
            "not_after": None,
            "thing": None,
            "owner": {"kind": owner.kind, "id": owner.id, "registry": owner.registry or None},
            "connection": {
                "allowed": flaw is None,
                "why": flaw or "a client with one of its certificates, or its id and a password of it, may connect",
                "advice": advice,
            },
            "rules": "yandex",
            "answers": await self._by_topics(owner.scope, owner.topics, asked),
        }

    async def _by_topics(self, scope: Scope, topics: TopicOwner, asked: Asked) -> list[dict[str, Any]]:
        if topics.kind == "registry" and any(not each.name.startswith("$") for each in asked.questions):
            try:
                topics = topics.with_aliases(await self._owners.aliases_of(topics.id))
            except LimitExceeded as error:
                raise Invalid("the registry's aliases", str(error)) from None
        return [
            await explained_topic(self._owners, scope.account, topics, question)
            for question in asked.questions
            if question.action != "Connect"
        ]


async def _policies_of(tx: Transaction, device: DeviceFacts) -> _Policies:
    if device.registration is None:
        assert device.claim is not None
        name, document = claim_policy(device.scope, device.claim.template)
        return _Policies({name: document}, {name: ["the claim certificate"]})
    documents = await find_documents(tx, device)
    attached: dict[str, list[str]] = {name: [] for name in documents}
    for name in await policies_of_certificate(tx, device.scope, device.fingerprint):
        attached[name].append(arn_of(device.scope, device.fingerprint))
    if device.thing is not None:
        for name, _, group in await policies_of_groups(tx, device.scope, thing=device.thing.name):
            attached[name].append(arn(device.scope, f"thinggroup/{group}"))
    return _Policies(documents, attached)


def _who(device: DeviceFacts | None) -> dict[str, Any]:
    if device is None:
        return dict.fromkeys(("account", "region", "status", "not_after", "thing", "owner"))
    registration, bound = device.registration, device.bound_to
    certificate = device.certificate
    return {
        "account": device.scope.account,
        "region": device.scope.region,
        "status": registration.status.value if registration is not None else "claim certificate",
        "not_after": certificate.not_after.isoformat() if certificate is not None else None,
        "thing": device.thing.name if device.thing is not None else None,
        "owner": {"kind": bound.kind, "id": bound.owner, "registry": bound.registry} if bound is not None else None,
    }
