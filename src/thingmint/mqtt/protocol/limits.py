"""The limits of a server for packets of a client. CONNACK tells them to MQTT 5 clients.

Raises ProtocolError if the connection must end. In MQTT 5, topic filters are refused one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from thingmint.domain.mqtt_topics import TOPIC_BYTES, TOPIC_SLASHES, is_topic_filter, parse_shared, within
from thingmint.domain.yandex_topics import MAX_TOPIC
from thingmint.mqtt.protocol.events import SubscribeRequested, UnsubscribeRequested
from thingmint.mqtt.protocol.packets import ConnAck
from thingmint.mqtt.protocol.reasons import ProtocolError, Reason

if TYPE_CHECKING:
    from thingmint.mqtt.protocol.packets import (
        Connect,
        Publish,
        Subscribe,
        SubscriptionRequest,
        Unsubscribe,
        Version,
        Will,
    )


_KIB = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """The defaults are AWS IoT's. Times are in seconds, sizes in bytes.

    ``receive_maximum`` limits the QoS 1 messages of an MQTT 5 client that wait for PUBACK. Subscription identifiers are
    always refused. ``topic_*`` also apply to topic filters (see ``topics.within``).
    """

    session_expiry: int = 3600
    keep_alive_min: int = 30
    keep_alive_max: int = 1200
    receive_maximum: int = 100
    maximum_packet_size: int = 149_504
    topic_alias_maximum: int = 8
    maximum_qos: Literal[0, 1] = 1
    retain_available: bool = True
    wildcard_available: bool = True
    shared_available: bool = True
    filters_per_subscribe: int = 8
    payload_bytes: int = 128 * _KIB
    client_id_bytes: int = 128
    topic_bytes: int = TOPIC_BYTES
    topic_slashes: int = TOPIC_SLASHES

    def keep_alive_for(self, connect: Connect) -> int:
        """Returns the keep-alive to use: the client's within the limits; the longest if the client asks for none."""
        asked = connect.keep_alive or self.keep_alive_max
        return min(max(asked, self.keep_alive_min), self.keep_alive_max)

    def session_expiry_for(self, connect: Connect) -> int:
        """Returns how long the session outlives the connection. MQTT 3.1.1: the maximum, or 0 for a clean session."""
        if connect.version == 4:
            return 0 if connect.clean_start else self.session_expiry
        return min(connect.session_expiry, self.session_expiry)

    def connack(
        self, session_present: bool, session_expiry: int, keep_alive: int, assigned_client_id: str | None
    ) -> ConnAck:
        """Returns the CONNACK for an accepted client."""
        return ConnAck(
            session_present=session_present,
            session_expiry=session_expiry,
            receive_maximum=self.receive_maximum,
            maximum_qos=self.maximum_qos,
            retain_available=self.retain_available,
            maximum_packet_size=self.maximum_packet_size,
            assigned_client_id=assigned_client_id,
            topic_alias_maximum=self.topic_alias_maximum,
            wildcard_available=self.wildcard_available,
            subscription_ids_available=False,
            shared_available=self.shared_available,
            server_keep_alive=keep_alive,
        )

    def takes_topic(self, topic: str) -> bool:
        return within(topic, max_bytes=self.topic_bytes, max_slashes=self.topic_slashes)


AWS_LIMITS = Limits()

YANDEX_LIMITS = Limits(
    session_expiry=0,  # Yandex has no persistent sessions
    maximum_packet_size=256 * 1024 + 4096,
    retain_available=True,  # the flag is accepted and ignored
    shared_available=False,
    payload_bytes=256 * 1024,
    topic_bytes=MAX_TOPIC,
    topic_slashes=MAX_TOPIC,
    filters_per_subscribe=100,
)
"""Yandex: "Limits in Yandex IoT Core"; what it does not publish is as for AWS."""

_RESERVED = "$"
_ASSIGNED = "$GEN/"  # prefix of client ids that AWS assigns: a client may reconnect with such an id


def check_connect(packet: Connect, limits: Limits) -> None:
    if packet.authentication_method is not None:
        raise ProtocolError(Reason.BAD_AUTHENTICATION_METHOD, "enhanced authentication is not supported")
    client_id = packet.client_id
    if not client_id and packet.version == 4 and not packet.clean_start:
        raise ProtocolError(Reason.CLIENT_IDENTIFIER_NOT_VALID, "a lasting session needs a client id")  # MQTT-3.1.3-8
    if len(client_id.encode()) > limits.client_id_bytes:
        raise ProtocolError(Reason.CLIENT_IDENTIFIER_NOT_VALID, "the client id is too long")
    if client_id.startswith(_RESERVED) and not client_id.startswith(_ASSIGNED):
        raise ProtocolError(Reason.CLIENT_IDENTIFIER_NOT_VALID, "the client id is reserved")
    if packet.will is not None:
        _check_message(packet.will, limits)
        if not limits.takes_topic(packet.will.topic):
            raise ProtocolError(Reason.TOPIC_NAME_INVALID, "the topic of the will is too long or has too many levels")


def check_publish(packet: Publish, limits: Limits) -> None:
    """Checks everything except the limits of the topic, which can be refused without ending the connection."""
    _check_message(packet, limits)
    if packet.subscription_ids:
        raise ProtocolError(Reason.PROTOCOL_ERROR, "a client's PUBLISH has a subscription identifier")  # MQTT-3.3.4-6


def _check_message(message: Publish | Will, limits: Limits) -> None:
    if message.qos > limits.maximum_qos:
        raise ProtocolError(Reason.QOS_NOT_SUPPORTED, "the quality of service is above the maximum")  # MQTT-3.2.2-12
    if message.retain and not limits.retain_available:
        raise ProtocolError(Reason.RETAIN_NOT_SUPPORTED, "retained messages are not supported")  # MQTT-3.2.2-13
    if len(message.payload) > limits.payload_bytes:
        raise ProtocolError(Reason.PACKET_TOO_LARGE, "a payload is larger than the maximum")


def request_subscribe(packet: Subscribe, limits: Limits, version: Version) -> SubscribeRequested:
    if packet.subscription_id is not None:
        raise ProtocolError(
            Reason.SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED, "subscription identifiers are not supported"
        )  # 3.2.2.3.12
    requests = tuple(_lowered(request, limits) for request in packet.requests)
    refusals = tuple(_refusal(request, limits) for request in requests)
    if len(requests) > limits.filters_per_subscribe:
        refusals = (Reason.QUOTA_EXCEEDED,) * len(requests)
    _close_old(refusals, version)
    return SubscribeRequested(packet.packet_id, requests, refusals)


def request_unsubscribe(packet: Unsubscribe, limits: Limits, version: Version) -> UnsubscribeRequested:
    refusals = tuple(
        None if is_topic_filter(filter) and limits.takes_topic(filter) else Reason.TOPIC_FILTER_INVALID
        for filter in packet.filters
    )
    _close_old(refusals, version)
    return UnsubscribeRequested(packet.packet_id, packet.filters, refusals)


def _lowered(request: SubscriptionRequest, limits: Limits) -> SubscriptionRequest:
    """Reduces the quality of service to the maximum: the server must not refuse the request (MQTT-3.2.2-10)."""
    return replace(request, qos=limits.maximum_qos) if request.qos > limits.maximum_qos else request


def _refusal(request: SubscriptionRequest, limits: Limits) -> Reason | None:
    filter = request.filter
    if not is_topic_filter(filter) or not limits.takes_topic(filter):
        return Reason.TOPIC_FILTER_INVALID
    if parse_shared(filter) is not None:
        if request.no_local:
            raise ProtocolError(Reason.PROTOCOL_ERROR, "a shared subscription with No Local")  # MQTT-3.8.3-4
        if not limits.shared_available:
            return Reason.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
    if not limits.wildcard_available and ("+" in filter or "#" in filter):
        return Reason.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED
    return None


def _close_old(refusals: tuple[Reason | None, ...], version: Version) -> None:
    """Ends the connection of an MQTT 3.1.1 client if a filter is refused, as AWS does."""
    if version == 4:
        for reason in refusals:
            if reason is not None:
                raise ProtocolError(reason, "a topic filter is not valid, or there are too many")
