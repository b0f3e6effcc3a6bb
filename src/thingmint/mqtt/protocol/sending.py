"""The outbound half of a server's connection: encodes packets within the limits of the client."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from thingmint.mqtt.protocol.encoder import encode, encode_publish
from thingmint.mqtt.protocol.packets import Auth, ConnAck, Disconnect, PubAck, SubAck, UnsubAck
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.protocol.topic_aliases import OutboundAliases
from thingmint.mqtt.protocol.wire import ALLOWED, MAX_REMAINING_LENGTH, TO_RETURN_CODE, PacketType

if TYPE_CHECKING:
    from thingmint.domain.messages import MessageProperties
    from thingmint.mqtt.protocol.packets import Connect, Packet, Version


_NO_ALIASES = OutboundAliases(0)  # shared: it never stores any
_EXPLAINED = (Auth, ConnAck, Disconnect, PubAck, SubAck, UnsubAck)

# MQTT-3.1.2-2, and MQTT-3.1.3-8 and -9: in MQTT 3.1.1 a server must send CONNACK 0x01 and 0x02. AWS IoT refuses no
# passwords, so 0x04 is only sent under the rules of Yandex IoT Core.
_ALWAYS_ANSWERED = frozenset(
    {Reason.UNSUPPORTED_PROTOCOL_VERSION, Reason.CLIENT_IDENTIFIER_NOT_VALID, Reason.BAD_USER_NAME_OR_PASSWORD}
)


class Sender:
    """Before ``obey``, sends no reason strings: the limits of the client are unknown."""

    __slots__ = ("_aliases", "_limit", "_out", "_problem_information", "_version")

    def __init__(self) -> None:
        self._out: list[bytes] = []
        self._version: Version = 4
        self._limit = MAX_REMAINING_LENGTH + 5  # bytes of a packet
        self._problem_information = False
        self._aliases = _NO_ALIASES

    def obey(self, connect: Connect) -> None:
        self._version = connect.version
        self._limit = connect.maximum_packet_size or self._limit
        self._problem_information = connect.request_problem_information

    def use_aliases(self, maximum: int) -> None:
        self._aliases = OutboundAliases(maximum) if maximum else _NO_ALIASES

    def drain(self) -> bytes:
        out = self._out
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def raw(self, data: bytes) -> None:
        """Sends a packet of a few bytes, which is within the limits of all clients."""
        self._out.append(data)

    def send(self, packet: Packet, version: Version | None = None) -> None:
        """Sends a packet. Without the reason string if the client refuses it, or if the packet would be too large.

        A packet that is still too large is not sent (MQTT-3.1.2-24, -25).
        """
        version = version or self._version
        if isinstance(packet, _EXPLAINED) and packet.reason_string is not None:
            data = encode(packet, version)
            if self._problem_information and len(data) <= self._limit:
                self._out.append(data)
                return
            packet = replace(packet, reason_string=None)
        data = encode(packet, version)
        if len(data) <= self._limit:
            self._out.append(data)

    def refuse(self, version: Version | None, reason: Reason, reason_string: str | None, *, in_old: bool) -> None:
        """Answers CONNECT. ``in_old``: in MQTT 3.1.1 send CONNACK for all reasons, not only where it is mandatory."""
        if version == 5:
            self.send(ConnAck(_allowed(PacketType.CONNACK, reason), reason_string=reason_string), 5)
        elif version == 4 and (reason in _ALWAYS_ANSWERED or (in_old and reason in TO_RETURN_CODE)):
            self.send(ConnAck(reason), 4)

    def disconnect(self, reason: Reason, reason_string: str | None) -> None:
        self.send(Disconnect(_allowed(PacketType.DISCONNECT, reason), reason_string=reason_string))

    def publish(
        self,
        topic: str,
        payload: bytes,
        packet_id: int | None,
        retain: bool,
        dup: bool,
        properties: MessageProperties,
    ) -> bool:
        """Sends a message. False if it is too large for the client."""
        alias = self._aliases.known(topic)
        if alias is None:
            new = self._aliases.next()
            if new is not None and self._publish(topic, payload, packet_id, retain, dup, properties, new):
                self._aliases.keep(topic, new)
                return True
        name = topic if alias is None else ""
        return self._publish(name, payload, packet_id, retain, dup, properties, alias)

    def _publish(
        self,
        topic: str,
        payload: bytes,
        packet_id: int | None,
        retain: bool,
        dup: bool,
        properties: MessageProperties,
        alias: int | None,
    ) -> bool:
        data = encode_publish(
            self._version,
            topic,
            payload,
            qos=0 if packet_id is None else 1,
            retain=retain,
            dup=dup,
            packet_id=packet_id,
            properties=properties,
            topic_alias=alias,
        )
        if len(data) > self._limit:
            return False
        self._out.append(data)
        return True


def _allowed(kind: PacketType, reason: Reason) -> Reason:
    """Returns ``reason``, or UNSPECIFIED_ERROR if the packet may not have it (2.4)."""
    return ALLOWED[kind].get(reason, Reason.UNSPECIFIED_ERROR)
