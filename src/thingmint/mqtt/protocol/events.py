"""What a client wants of the server, once its packets have passed the protocol's own rules.

PUBLISH and PUBACK are events as they are: a topic alias in them is already resolved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.mqtt.protocol.packets import Connect, PubAck, Publish, SubscriptionRequest

if TYPE_CHECKING:
    from thingmint.mqtt.protocol.reasons import Reason


@dataclass(frozen=True, slots=True)
class ConnectRequested:
    """To be answered with ``accept`` or ``refuse``; nothing else happens before.

    ``assigned``: the client came without an id, and ``packet`` has the one that it gets.
    """

    packet: Connect
    assigned: bool


@dataclass(frozen=True, slots=True)
class SubscribeRequested:
    """To be answered with ``suback``. ``refusals`` has a reason where the request at that place can't be granted.

    The quality of service is one that there is.
    """

    packet_id: int
    requests: tuple[SubscriptionRequest, ...]
    refusals: tuple[Reason | None, ...]


@dataclass(frozen=True, slots=True)
class UnsubscribeRequested:
    """To be answered with ``unsuback``; ``refusals`` as for SubscribeRequested."""

    packet_id: int
    filters: tuple[str, ...]
    refusals: tuple[Reason | None, ...]


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The client has ended the connection properly. ``will``: its will is to be published.

    ``session_expiry`` in seconds, within the limits; None leaves it as it was (MQTT 5, 3.14.2.2.2).
    """

    reason: Reason
    will: bool
    session_expiry: int | None


@dataclass(frozen=True, slots=True)
class Failed:
    """The client broke the protocol or a limit. What it may be told of that is in ``outgoing``; then close.

    After CONNECT was accepted its will is to be published. ``text`` is safe to log.
    """

    reason: Reason
    text: str


Event = (
    ConnectRequested | Publish | PubAck | SubscribeRequested | UnsubscribeRequested | Disconnected | Failed
)  # fmt: skip
