"""Messages from and to devices, published over MQTT or through an API."""

from __future__ import annotations

from dataclasses import dataclass, replace
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

    def adding(self, added: UserProperties) -> MessageProperties:
        """Return these properties with ``added`` at the end. Others with the same keys are left out.

        So no device can forge what is added to its messages.
        """
        keys = {key for key, _ in added}
        own = tuple(each for each in self.user_properties if each[0] not in keys)
        return replace(self, user_properties=own + added)


NO_PROPERTIES = MessageProperties()


@dataclass(frozen=True, slots=True)
class Message:
    """A message. ``retain`` is the publisher's flag or, in a message to a subscriber, the flag to send to it."""

    topic: str
    payload: bytes
    qos: QoS = 0
    retain: bool = False
    properties: MessageProperties = NO_PROPERTIES
