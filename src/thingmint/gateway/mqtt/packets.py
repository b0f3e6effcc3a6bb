"""What MQTT's control packets hold."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NO_PROPERTIES", "MessageProperties"]


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
    user_properties: tuple[tuple[str, str], ...] = ()


NO_PROPERTIES = MessageProperties()
