"""Answers requests on the topics of fleet provisioning (AWS IoT: "Device provisioning MQTT API")."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import structlog

from thingmint.access.authorization import authorize_nothing
from thingmint.access.context import Outcome
from thingmint.access.operations import Operation, run
from thingmint.domain.arns import arn
from thingmint.domain.errors import ProvisioningRefused, Unavailable
from thingmint.mqtt.connection_log import context_of
from thingmint.mqtt.payloads import (
    Format,
    read_optional_text,
    read_parameters,
    read_payload,
    read_text,
    rejection_of,
    why,
    write_payload,
)
from thingmint.services.accounts import get_settings
from thingmint.services.certificate_providers import (
    SigningRequestOfDevice,
    check_not_used,
    find_signing_provider,
    signed_by_provider,
)
from thingmint.services.change import Change
from thingmint.services.issuing import discard, issue_for_csr, issue_with_keys
from thingmint.services.ownership_tokens import register_with_token
from thingmint.services.provisioning import (
    EarlierAnswers,
    ThingRequest,
    look_up_thing,
    prepare_thing,
    register_thing,
)

if TYPE_CHECKING:
    from thingmint.access.audit import AuditedStore
    from thingmint.access.authorization import Roles
    from thingmint.access.context import Caller, RequestContext
    from thingmint.access.throttle import Throttle
    from thingmint.domain.arns import Scope
    from thingmint.mqtt.connection_log import ConnectionLog
    from thingmint.services.certificate_providers import CertificateProvider
    from thingmint.services.certificates import NewCertificate
    from thingmint.services.change import Environment
    from thingmint.services.provisioning import ProvisionedThing
    from thingmint.store.engine import Transaction


_TOPIC = re.compile(
    r"\$aws/(?:certificates/(create|create-from-csr)|provisioning-templates/([0-9A-Za-z_-]{1,36})/provision)/(json|cbor)"
)
_TOPICS = "mqtt:"  # prefix of an operation's name: AWS throttles these apart from the control plane's calls
_MAX_SHOWN = 256  # characters of parameters' names in the log
_FAULT = 500  # this status and higher ones are the server's errors

_log = structlog.get_logger("thingmint.gateway")


class NewCertificateRequest(NamedTuple):
    """``claim`` is the fingerprint of the certificate that the device connected with."""

    claim: str
    csr: str = ""
    client_id: str = ""


async def _check_keys_allowed(tx: Transaction, change: Change, _request: NewCertificateRequest) -> None:
    """Raises ProvisioningRefused."""
    if not (await get_settings(tx, change.account)).keys_over_mqtt:
        raise ProvisioningRefused("key", "This account makes no keys over MQTT: send a certificate signing request")


async def _with_keys(change: Change, _request: NewCertificateRequest, _: None) -> NewCertificate:
    return await issue_with_keys(change)


async def _create_with_keys(
    tx: Transaction, change: Change, request: NewCertificateRequest, _: None, new: NewCertificate
) -> dict[str, object]:
    assert new.keys is not None, "it was made with keys"
    return {**await _register(tx, change, request, new), "privateKey": new.keys.private_pem}


async def _find_provider(
    tx: Transaction, change: Change, _request: NewCertificateRequest
) -> CertificateProvider | None:
    """Raises ProvisioningRefused."""
    return await find_signing_provider(tx, change)


async def _for_csr(
    change: Change, request: NewCertificateRequest, provider: CertificateProvider | None
) -> NewCertificate:
    if provider is None:
        return issue_for_csr(change, request.csr, "certificateSigningRequest")
    asked = SigningRequestOfDevice(request.csr, request.claim, request.client_id)
    return await signed_by_provider(change, provider, asked, "certificateSigningRequest")


async def _create_from_csr(
    tx: Transaction,
    change: Change,
    request: NewCertificateRequest,
    provider: CertificateProvider | None,
    new: NewCertificate,
) -> dict[str, object]:
    if new.origin == "registered":
        await check_not_used(tx, change.scope, new)
        tx.audit_details["certificateProvider"] = provider.name if provider is not None else "deleted meanwhile"
    return await _register(tx, change, request, new)


async def _register(
    tx: Transaction, change: Change, request: NewCertificateRequest, new: NewCertificate
) -> dict[str, object]:
    token = await register_with_token(tx, change, request.claim, new)
    certificate = new.certificate
    return {
        "certificateId": certificate.fingerprint,
        "certificatePem": certificate.pem,
        "certificateOwnershipToken": token,
    }


CREATE_KEYS = Operation(
    name="CreateKeysAndCertificate",
    writes=True,
    find=_check_keys_allowed,
    prepare=_with_keys,
    apply=_create_with_keys,
    discard=discard,
    secret=True,
)
CREATE_FROM_CSR = Operation(
    name="CreateCertificateFromCsr",
    writes=True,
    find=_find_provider,
    prepare=_for_csr,
    apply=_create_from_csr,
    discard=discard,
    secret=True,
)
REGISTER_THING = Operation(
    name="RegisterThing", writes=True, find=look_up_thing, prepare=prepare_thing, apply=register_thing
)
_OPERATIONS = {"create": CREATE_KEYS, "create-from-csr": CREATE_FROM_CSR, None: REGISTER_THING}


@dataclass(frozen=True, slots=True)
class ProvisioningRequest:
    """``template`` is the name in the topic of RegisterThing, else None."""

    topic: str
    operation: Operation
    template: str | None
    format: Format

    @property
    def bare(self) -> bool:
        """True if the payload may be empty."""
        return self.operation is CREATE_KEYS

    def resource(self, scope: Scope) -> str | None:
        """The ARN of the provisioning template, if the request names one."""
        return arn(scope, f"provisioningtemplate/{self.template}") if self.template is not None else None

    @property
    def replies(self) -> tuple[str, str]:
        """The topics of the two possible replies: accepted, rejected."""
        return f"{self.topic}/accepted", f"{self.topic}/rejected"


def provisioning_request(topic: str) -> ProvisioningRequest | None:
    """Parses ``topic``; None if it is not a topic of a provisioning request."""
    match = _TOPIC.fullmatch(topic)
    if match is None:
        return None
    create, template, format = match.groups()
    return ProvisioningRequest(topic, _OPERATIONS[create], template, format)  # type: ignore[arg-type]


class ProvisioningTopics:
    """Answers provisioning requests. The caller sends the reply to the device that asked, and to no other."""

    def __init__(
        self,
        store: AuditedStore,
        environment: Environment,
        roles: Roles,
        throttle: Throttle,
        connection_log: ConnectionLog,
    ) -> None:
        self._store = store
        self._environment = environment
        self._roles = roles
        self._throttle = throttle
        self._connection_log = connection_log

    async def answer(
        self, request: ProvisioningRequest, payload: bytes, address: str, client_id: str, scope: Scope, caller: Caller
    ) -> tuple[str, bytes]:
        """Returns topic and payload of the reply. Raises nothing, except when cancelled."""
        name = request.operation.name
        context = context_of(address, caller, name, self._connection_log.now())
        outcome = Outcome(resource=request.resource(scope), details={"clientId": client_id})
        accepted, rejected = request.replies
        try:
            reply = await self._serve(context, outcome, request, payload, client_id, scope, caller)
            outcome.status = 200
            return accepted, write_payload(reply, request.format)
        except Exception as error:  # noqa: BLE001 - the device gets a reply for every error
            rejection = rejection_of(error, context.id)
            if rejection.status >= _FAULT and not isinstance(error, Unavailable):
                _log.exception("provisioning_not_answered", operation=name, request_id=context.id)
            outcome.status, outcome.code = rejection.status, rejection.code
            outcome.details = {**outcome.details, "reason": why(error)}
            return rejected, write_payload(rejection.document(), request.format)
        finally:
            self._connection_log.provisioned(context, outcome, template=request.template)

    async def _serve(
        self,
        context: RequestContext,
        outcome: Outcome,
        request: ProvisioningRequest,
        payload: bytes,
        client_id: str,
        scope: Scope,
        caller: Caller,
    ) -> dict[str, object]:
        claim = caller.credential
        self._throttle.take(scope.account, f"{_TOPICS}{request.operation.name}")
        if request.format == "json" and payload.endswith(b"\0"):  # some firmware sends a C string with its NUL
            payload = payload[:-1]
            outcome.details = {**outcome.details, "note": "a NUL after the payload was ignored"}
        # CreateKeysAndCertificate has no parameters: devices send no payload, or an empty map.
        document = {} if not payload and request.bare else read_payload(payload, request.format)
        change = Change(scope, context.now, self._environment, authorize_nothing(caller))
        store = self._store.of(context, outcome)
        if request.template is None:
            csr = "" if request.bare else read_text(document, "certificateSigningRequest")
            certificate: dict[str, object] = await run(
                request.operation, store, change, NewCertificateRequest(claim, csr, client_id)
            )
            return certificate

        parameters, converted = read_parameters(document)
        if converted:
            outcome.details = {**outcome.details, "parameters_as_text": ", ".join(converted)[:_MAX_SHOWN]}

        async def as_role(role: str, source: str) -> Change:
            authorize = await self._roles.effects(context, scope, role, source)
            return replace(change, now=self._connection_log.now(), authorize=authorize)

        wanted = ThingRequest(
            claim=claim,
            client_id=client_id,
            template=request.template,
            token=read_optional_text(document, "certificateOwnershipToken"),
            parameters=parameters,
            as_role=as_role,
        )
        thing: ProvisionedThing = await run(request.operation, store, change, wanted, EarlierAnswers(wanted))
        named = {"thingName": thing.name} if thing.name is not None else {}
        return {"deviceConfiguration": dict(thing.device_configuration), **named}
