"""The outbound half of a server's connection: packets in, bytes out, within what the client takes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from thingmint.mqtt.protocol.encoder import encode, encode_publish
from thingmint.mqtt.protocol.packets import Auth, ConnAck, Disconnect, PubAck, SubAck, UnsubAck
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.protocol.topics import OutboundAliases
from thingmint.mqtt.protocol.wire import ALLOWED, MAX_REMAINING_LENGTH, TO_RETURN_CODE, PacketType

if TYPE_CHECKING:
    from thingmint.domain.messages import MessageProperties
    from thingmint.mqtt.protocol.packets import Connect, Packet, Version


_NO_ALIASES = OutboundAliases(0)  # it never keeps any
_EXPLAINED = (Auth, ConnAck, Disconnect, PubAck, SubAck, UnsubAck)

# MQTT-3.1.2-2, and MQTT-3.1.3-8 and -9: 3.1.1's server has to send CONNACK 0x01 and 0x02.
_ALWAYS_ANSWERED = frozenset({Reason.UNSUPPORTED_PROTOCOL_VERSION, Reason.CLIENT_IDENTIFIER_NOT_VALID})


class Sender:
    """Until CONNECT is known the client is told no more than it must be."""

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
        """A packet of a few bytes that every client takes."""
        self._out.append(data)

    def send(self, packet: Packet, version: Version | None = None) -> None:
        """Leaves out the reason string if the client did not ask for it or the packet were too large with it.

        A packet that is too large even so is not sent (MQTT-3.1.2-24, -25).
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
        """Answers CONNECT. ``in_old``: 3.1.1 is answered too, and not only what MQTT leaves no choice about."""
        if version == 5:
            self.send(ConnAck(_sayable(PacketType.CONNACK, reason), reason_string=reason_string), 5)
        elif version == 4 and (reason in _ALWAYS_ANSWERED or (in_old and reason in TO_RETURN_CODE)):
            self.send(ConnAck(reason), 4)

    def disconnect(self, reason: Reason, reason_string: str | None) -> None:
        self.send(Disconnect(_sayable(PacketType.DISCONNECT, reason), reason_string=reason_string))

    def publish(
        self,
        topic: str,
        payload: bytes,
        packet_id: int | None,
        retain: bool,
        dup: bool,
        properties: MessageProperties,
    ) -> bool:
        """False if it is too large."""
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


def _sayable(kind: PacketType, reason: Reason) -> Reason:
    """Some reasons have no place in some packets (2.4)."""
    return ALLOWED[kind].get(reason, Reason.UNSPECIFIED_ERROR)
