"""Size, expiry, QoS and retain flag of messages in a broker."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from thingmint.domain.messages import NO_PROPERTIES, Message

if TYPE_CHECKING:
    from thingmint.domain.messages import QoS
    from thingmint.mqtt.broker.interface import Subscription


_OVERHEAD = 300  # bytes, roughly: the objects of a message and its place in a queue


def size_of(message: Message) -> int:
    """Returns the bytes of memory that are counted for a message."""
    size = _OVERHEAD + len(message.topic) + len(message.payload)
    properties = message.properties
    if properties is not NO_PROPERTIES:
        size += _OVERHEAD + len(properties.content_type or "") + len(properties.response_topic or "")
        size += len(properties.correlation_data or b"")
        size += sum(len(name) + len(value) + _OVERHEAD for name, value in properties.user_properties)
    return size


def shown(message: Message, subscription: Subscription) -> Message:
    """Returns a message, which is not from the retained ones, as a subscription gets it."""
    if message.qos <= subscription.qos and not message.retain:
        return message  # the usual case
    return shown_as(
        message, min(message.qos, subscription.qos), retain=message.retain and subscription.retain_as_published
    )


def shown_as(message: Message, qos: QoS, *, retain: bool) -> Message:
    if qos == message.qos and retain == message.retain:
        return message
    return Message(message.topic, message.payload, qos, retain, message.properties)


def expires_at(message: Message, now: float) -> float | None:
    lifetime = message.properties.message_expiry
    return None if lifetime is None else now + lifetime


def with_remaining_expiry(message: Message, at: float | None, now: float) -> Message:
    """Subtracts the waiting time from the expiry (MQTT 5, 3.3.2.3.3). Rounds up, so 0 means that it has expired."""
    if at is None:
        return message
    remaining = max(0, math.ceil(at - now))
    if remaining == message.properties.message_expiry:
        return message
    return replace(message, properties=replace(message.properties, message_expiry=remaining))
