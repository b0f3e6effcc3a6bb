"""Fleet provisioning's topics (AWS IoT: "Device provisioning MQTT API"): which they are, and who answers them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from thingmint.gateway.admission import Admitted
    from thingmint.gateway.peer import Peer

__all__ = ["ProvisioningRequest", "ProvisioningTopics", "provisioning_request"]

Format = Literal["json", "cbor"]
Operation = Literal["CreateKeysAndCertificate", "CreateCertificateFromCsr", "RegisterThing"]

_TOPIC = re.compile(
    r"\$aws/(?:certificates/(create|create-from-csr)|provisioning-templates/([0-9A-Za-z_-]{1,36})/provision)/(json|cbor)"
)
_OPERATIONS: dict[str | None, Operation] = {
    "create": "CreateKeysAndCertificate",
    "create-from-csr": "CreateCertificateFromCsr",
    None: "RegisterThing",
}


@dataclass(frozen=True, slots=True)
class ProvisioningRequest:
    """``template`` is the name in the topic of RegisterThing, else None."""

    topic: str
    operation: Operation
    template: str | None
    format: Format

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


class ProvisioningTopics(Protocol):
    async def answer(
        self, request: ProvisioningRequest, payload: bytes, peer: Peer, client_id: str, admitted: Admitted
    ) -> tuple[str, bytes]:
        """Topic and payload of the reply. Never raises but for cancellation."""
        ...
