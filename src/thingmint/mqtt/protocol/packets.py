"""MQTT's control packets, one class per packet for both versions.

Fields that MQTT 3.1.1 lacks have their default there, and are not encoded. ``repr`` does not show secrets and payloads:
a provisioning reply has a private key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from thingmint.domain.messages import NO_PROPERTIES, MessageProperties, UserProperties
from thingmint.mqtt.protocol.reasons import Reason

Version = Literal[4, 5]
"""The protocol level: 4 is MQTT 3.1.1."""

QoS = Literal[0, 1, 2]
RetainHandling = Literal[0, 1, 2]


@dataclass(frozen=True, slots=True)
class Will:
    """``delay`` is in seconds after the connection's end (MQTT 5, 3.1.3.2.2)."""

    topic: str
    payload: bytes = field(repr=False)
    qos: QoS = 0
    retain: bool = False
    delay: int = 0
    properties: MessageProperties = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class Connect:
    """``keep_alive`` and ``session_expiry`` are in seconds; 0 means none.

    ``clean_start`` is also MQTT 3.1.1's "clean session", which means in addition that the session ends with the
    connection: check ``version``.
    """

    version: Version
    client_id: str
    clean_start: bool = True
    keep_alive: int = 0
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    will: Will | None = None
    session_expiry: int = 0
    receive_maximum: int = 65_535
    maximum_packet_size: int | None = None
    topic_alias_maximum: int = 0
    request_response_information: bool = False
    request_problem_information: bool = True
    authentication_method: str | None = None
    authentication_data: bytes | None = field(default=None, repr=False)
    user_properties: UserProperties = ()


@dataclass(frozen=True, slots=True)
class ConnAck:
    """``session_expiry`` and ``server_keep_alive`` are in seconds; None means the value that the client asked for."""

    reason: Reason = Reason.SUCCESS
    session_present: bool = False
    session_expiry: int | None = None
    receive_maximum: int = 65_535
    maximum_qos: QoS = 2
    retain_available: bool = True
    maximum_packet_size: int | None = None
    assigned_client_id: str | None = None
    topic_alias_maximum: int = 0
    reason_string: str | None = None
    wildcard_available: bool = True
    subscription_ids_available: bool = True
    shared_available: bool = True
    server_keep_alive: int | None = None
    response_information: str | None = None
    server_reference: str | None = None
    authentication_method: str | None = None
    authentication_data: bytes | None = field(default=None, repr=False)
    user_properties: UserProperties = ()


@dataclass(frozen=True, slots=True)
class Publish:
    """``packet_id`` is None at QoS 0. ``topic`` is empty if ``topic_alias`` replaces it."""

    topic: str
    payload: bytes = field(repr=False)
    qos: QoS = 0
    retain: bool = False
    dup: bool = False
    packet_id: int | None = None
    properties: MessageProperties = NO_PROPERTIES
    topic_alias: int | None = None
    subscription_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _PublishAnswer:
    packet_id: int
    reason: Reason = Reason.SUCCESS
    reason_string: str | None = None
    user_properties: UserProperties = ()


@dataclass(frozen=True, slots=True)
class PubAck(_PublishAnswer):
    """The answer to QoS 1."""


@dataclass(frozen=True, slots=True)
class PubRec(_PublishAnswer):
    """The first answer to QoS 2."""


@dataclass(frozen=True, slots=True)
class PubRel(_PublishAnswer):
    """The answer to PUBREC."""


@dataclass(frozen=True, slots=True)
class PubComp(_PublishAnswer):
    """The answer to PUBREL."""


@dataclass(frozen=True, slots=True)
class SubscriptionRequest:
    """``filter`` as it was sent. The fields after ``qos`` are only in MQTT 5 (3.8.3.1)."""

    filter: str
    qos: QoS = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: RetainHandling = 0


@dataclass(frozen=True, slots=True)
class Subscribe:
    packet_id: int
    requests: tuple[SubscriptionRequest, ...]
    subscription_id: int | None = None
    user_properties: UserProperties = ()


@dataclass(frozen=True, slots=True)
class SubAck:
    packet_id: int
    reasons: tuple[Reason, ...]
    reason_string: str | None = None
    user_properties: UserProperties = ()


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    packet_id: int
    filters: tuple[str, ...]
    user_properties: UserProperties = ()


@dataclass(frozen=True, slots=True)
class UnsubAck:
    """``reasons`` is empty in MQTT 3.1.1."""

    packet_id: int
    reasons: tuple[Reason, ...] = ()
    reason_string: str | None = None
    user_properties: UserProperties = ()


@dataclass(frozen=True, slots=True)
class PingReq:
    pass


@dataclass(frozen=True, slots=True)
class PingResp:
    pass


@dataclass(frozen=True, slots=True)
class Disconnect:
    """``session_expiry`` is in seconds; None: unchanged."""

    reason: Reason = Reason.SUCCESS
    session_expiry: int | None = None
    reason_string: str | None = None
    server_reference: str | None = None
    user_properties: UserProperties = ()


@dataclass(frozen=True, slots=True)
class Auth:
    """MQTT 5 only."""

    reason: Reason = Reason.SUCCESS
    authentication_method: str | None = None
    authentication_data: bytes | None = field(default=None, repr=False)
    reason_string: str | None = None
    user_properties: UserProperties = ()


Packet = (
    Connect
    | ConnAck
    | Publish
    | PubAck
    | PubRec
    | PubRel
    | PubComp
    | Subscribe
    | SubAck
    | Unsubscribe
    | UnsubAck
    | PingReq
    | PingResp
    | Disconnect
    | Auth
)
