"""Fleet provisioning's topics (AWS IoT: "Device provisioning MQTT API"): which they are, and who answers them."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import structlog

from thingmint.access.audit import CURRENT
from thingmint.access.context import Outcome
from thingmint.domain.arns import arn
from thingmint.domain.errors import Unavailable
from thingmint.mqtt.connection_log import context_of
from thingmint.mqtt.payloads import Format, read_optional_text, read_payload, read_text, read_texts, write_payload
from thingmint.mqtt.rejections import rejection_of, why
from thingmint.services.provisioning import ThingRequest

if TYPE_CHECKING:
    from thingmint.access.context import RequestContext
    from thingmint.access.roles import Roles
    from thingmint.access.throttle import Throttle
    from thingmint.domain.registration import Scope
    from thingmint.mqtt.admission import Admitted
    from thingmint.mqtt.connection_log import ConnectionLog
    from thingmint.mqtt.peer import Peer
    from thingmint.services.ownership import OwnedCertificate, OwnershipRegistry
    from thingmint.services.provisioning import ProvisioningRegistry

__all__ = ["ProvisioningRequest", "ProvisioningTopics", "provisioning_request"]

Operation = Literal["CreateKeysAndCertificate", "CreateCertificateFromCsr", "RegisterThing"]

_TOPIC = re.compile(
    r"\$aws/(?:certificates/(create|create-from-csr)|provisioning-templates/([0-9A-Za-z_-]{1,36})/provision)/(json|cbor)"
)
_OPERATIONS: dict[str | None, Operation] = {
    "create": "CreateKeysAndCertificate",
    "create-from-csr": "CreateCertificateFromCsr",
    None: "RegisterThing",
}

_TOPICS = "mqtt:"  # in front of an operation's name: AWS counts these apart from the control plane's calls
_FAULT = 500  # from this status on the fault is ours

_log = structlog.get_logger("thingmint.gateway")


@dataclass(frozen=True, slots=True)
class ProvisioningRequest:
    """``template`` is the name in the topic of RegisterThing, else None."""

    topic: str
    operation: Operation
    template: str | None
    format: Format

    @property
    def bare(self) -> bool:
        """Whether the payload need not say anything."""
        return self.operation == "CreateKeysAndCertificate"

    def resource(self, scope: Scope) -> str | None:
        """The ARN of what it is about."""
        return arn(scope, f"provisioningtemplate/{self.template}") if self.template is not None else None

    @property
    def replies(self) -> tuple[str, str]:
        """The topics of what may be answered: accepted, and rejected."""
        return f"{self.topic}/accepted", f"{self.topic}/rejected"


def provisioning_request(topic: str) -> ProvisioningRequest | None:
    """What a message to ``topic`` asks for; None if that is no request."""
    match = _TOPIC.fullmatch(topic)
    if match is None:
        return None
    create, template, format = match.groups()
    return ProvisioningRequest(topic, _OPERATIONS[create], template, format)  # type: ignore[arg-type]


class ProvisioningTopics:
    """Answers what devices ask on the topics; the session sees to it that nobody else reads the answer."""

    def __init__(
        self,
        ownership: OwnershipRegistry,
        provisioning: ProvisioningRegistry,
        roles: Roles,
        throttle: Throttle,
        connection_log: ConnectionLog,
    ) -> None:
        self._ownership = ownership
        self._provisioning = provisioning
        self._roles = roles
        self._throttle = throttle
        self._connection_log = connection_log

    async def answer(
        self, request: ProvisioningRequest, payload: bytes, peer: Peer, client_id: str, admitted: Admitted
    ) -> tuple[str, bytes]:
        """Topic and payload of the reply. Never raises but for cancellation."""
        context = context_of(peer, admitted.caller, request.operation, self._connection_log.now())
        outcome = Outcome(resource=request.resource(admitted.scope), details={"clientId": client_id})
        current = CURRENT.set((context, outcome))
        accepted, rejected = request.replies
        try:
            reply = await self._serve(context, request, payload, client_id, admitted)
            outcome.status = 200
            return accepted, write_payload(reply, request.format)
        except Exception as error:  # noqa: BLE001 - a device is told something, whatever happens
            rejection = rejection_of(error, context.id)
            if rejection.status >= _FAULT and not isinstance(error, Unavailable):
                _log.exception("a device could not be answered", operation=request.operation, request_id=context.id)
            outcome.status, outcome.code = rejection.status, rejection.code
            outcome.details = {**outcome.details, "reason": why(error)}
            return rejected, write_payload(rejection.document(), request.format)
        finally:
            CURRENT.reset(current)
            self._connection_log.provisioned(context, outcome, template=request.template)

    async def _serve(
        self, context: RequestContext, request: ProvisioningRequest, payload: bytes, client_id: str, admitted: Admitted
    ) -> dict[str, object]:
        scope, claim = admitted.scope, admitted.caller.credential
        self._throttle.take(scope.account, f"{_TOPICS}{request.operation}")
        # Devices send nothing, or an empty map, where there is nothing to say.
        document = {} if not payload and request.bare else read_payload(payload, request.format)
        match request.operation:
            case "CreateKeysAndCertificate":
                owned, keys = await self._ownership.create_keys(scope, claim)
                return {**_owned(owned), "privateKey": keys.private_pem}
            case "CreateCertificateFromCsr":
                csr = read_text(document, "certificateSigningRequest")
                return _owned(await self._ownership.create_from_csr(scope, claim, csr))
            case "RegisterThing":
                assert request.template is not None, "the topic names it"
                wanted = ThingRequest(
                    scope=scope,
                    claim=claim,
                    client_id=client_id,
                    template=request.template,
                    token=read_optional_text(document, "certificateOwnershipToken"),
                    parameters=read_texts(document, "parameters"),
                )
                as_role = functools.partial(self._roles.effects, context, scope)
                thing = await self._provisioning.register_thing(wanted, as_role)
                named = {"thingName": thing.name} if thing.name is not None else {}
                return {"deviceConfiguration": dict(thing.device_configuration), **named}


def _owned(owned: OwnedCertificate) -> dict[str, object]:
    return {
        "certificateId": owned.certificate.fingerprint,
        "certificatePem": owned.certificate.pem,
        "certificateOwnershipToken": owned.token,
    }
