"""Events: requests of a client, after its packets were checked against the protocol's rules.

Publish and PubAck are events too. The topic alias of a Publish is already resolved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.mqtt.protocol.packets import Connect, PubAck, Publish, SubscriptionRequest

if TYPE_CHECKING:
    from thingmint.mqtt.protocol.reasons import Reason


@dataclass(frozen=True, slots=True)
class ConnectRequested:
    """Answer with ``accept`` or ``refuse``. There is no other event before that.

    ``assigned``: the client sent no id, and the id in ``packet`` is the one that the server assigns.
    """

    packet: Connect
    assigned: bool


@dataclass(frozen=True, slots=True)
class SubscribeRequested:
    """Answer with ``suback``. ``refusals`` has a reason for each request that the limits forbid, else None.

    The quality of service is already reduced to the maximum.
    """

    packet_id: int
    requests: tuple[SubscriptionRequest, ...]
    refusals: tuple[Reason | None, ...]


@dataclass(frozen=True, slots=True)
class UnsubscribeRequested:
    """Answer with ``unsuback``. ``refusals`` as for SubscribeRequested."""

    packet_id: int
    filters: tuple[str, ...]
    refusals: tuple[Reason | None, ...]


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The client sent DISCONNECT. ``will``: publish its will.

    ``session_expiry`` is in seconds, within the limits; None: unchanged (MQTT 5, 3.14.2.2.2).
    """

    reason: Reason
    will: bool
    session_expiry: int | None


@dataclass(frozen=True, slots=True)
class Failed:
    """The client broke the protocol or a limit. Send ``outgoing``, then close.

    If CONNECT was accepted, publish the will. ``text`` is safe to log.
    """

    reason: Reason
    text: str


Event = (
    ConnectRequested | Publish | PubAck | SubscribeRequested | UnsubscribeRequested | Disconnected | Failed
)  # fmt: skip
