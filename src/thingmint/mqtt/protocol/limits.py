"""What a server takes, and tells a client of MQTT 5 in CONNACK."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from thingmint.mqtt.protocol.packets import ConnAck
from thingmint.mqtt.protocol.topics import within

if TYPE_CHECKING:
    from thingmint.mqtt.protocol.packets import Connect


_KIB = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """The defaults are AWS IoT's. Times are in seconds, sizes in bytes.

    ``receive_maximum`` bounds the QoS 1 messages of a client of MQTT 5 that wait for their PUBACK. Subscription
    identifiers are never taken. ``topic_*`` hold for topic filters too (see ``topics.within``).
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
    topic_bytes: int = 256
    topic_slashes: int = 7

    def keep_alive_for(self, connect: Connect) -> int:
        """The interval that holds. A client that asks for none gets the longest there is."""
        asked = connect.keep_alive or self.keep_alive_max
        return min(max(asked, self.keep_alive_min), self.keep_alive_max)

    def session_expiry_for(self, connect: Connect) -> int:
        """How long the session outlives the connection: in 3.1.1 as long as can be, unless it is a clean one."""
        if connect.version == 4:
            return 0 if connect.clean_start else self.session_expiry
        return min(connect.session_expiry, self.session_expiry)

    def connack(
        self, session_present: bool, session_expiry: int, keep_alive: int, assigned_client_id: str | None
    ) -> ConnAck:
        """The one that lets a client in."""
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
