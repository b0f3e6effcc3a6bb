"""Messages from and to devices, published over MQTT or through an API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

QoS = Literal[0, 1]
"""The qualities of service that are supported. MQTT also has 2, which AWS IoT does not support either."""

UserProperties = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class MessageProperties:
    """The properties that are forwarded with a message (MQTT 5, 3.3.2.3). MQTT 3.1.1 has none of them.

    ``message_expiry`` is in seconds.
    """

    payload_is_utf8: bool | None = None
    message_expiry: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    user_properties: UserProperties = ()


NO_PROPERTIES = MessageProperties()


@dataclass(frozen=True, slots=True)
class Message:
    """A message. ``retain`` is the publisher's flag or, in a message to a subscriber, the flag to send to it."""

    topic: str
    payload: bytes
    qos: QoS = 0
    retain: bool = False
    properties: MessageProperties = NO_PROPERTIES
