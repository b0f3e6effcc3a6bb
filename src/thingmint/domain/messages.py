"""Messages of devices and to devices, whichever way they are published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

QoS = Literal[0, 1]
"""The qualities of service that there are; 2 is MQTT's alone, and AWS IoT has none either."""

UserProperties = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class MessageProperties:
    """The properties of a message that travel with it (MQTT 5, 3.3.2.3); none of them in 3.1.1.

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
    """``retain`` as the publisher set it, or, towards a subscriber, as the subscription asked for it to be shown."""

    topic: str
    payload: bytes
    qos: QoS = 0
    retain: bool = False
    properties: MessageProperties = NO_PROPERTIES
