"""Encodes packets.

Raises ValueError for what cannot be encoded, such as a text above 65,535 bytes. That is a mistake of the caller, never
of a peer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.domain.messages import NO_PROPERTIES, MessageProperties
from thingmint.mqtt.protocol import properties as tables
from thingmint.mqtt.protocol.bodies import FLAGS
from thingmint.mqtt.protocol.packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
)
from thingmint.mqtt.protocol.properties import write_properties
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.protocol.wire import TO_RETURN_CODE, PacketType, write_binary, write_text, write_u16, write_varint

if TYPE_CHECKING:
    from collections.abc import Callable

    from thingmint.mqtt.protocol.packets import Packet, Version


_NONE = b"\x00"  # the length 0: no properties
_FAILURE_3 = 0x80  # the only failure code of SUBACK in MQTT 3.1.1


def encode(packet: Packet, version: Version) -> bytes:
    """Encodes a packet, without the fields that ``version`` does not have. A Connect has its own version."""
    if isinstance(packet, Publish):
        return encode_publish(
            version,
            packet.topic,
            packet.payload,
            qos=packet.qos,
            retain=packet.retain,
            dup=packet.dup,
            packet_id=packet.packet_id,
            properties=packet.properties,
            topic_alias=packet.topic_alias,
            subscription_ids=packet.subscription_ids,
        )
    kind, write = _WRITERS[type(packet)]
    return _frame(kind << 4 | FLAGS[kind], write(packet, version))


def encode_publish(
    version: Version,
    topic: str,
    payload: bytes,
    *,
    qos: int = 0,
    retain: bool = False,
    dup: bool = False,
    packet_id: int | None = None,
    properties: MessageProperties = NO_PROPERTIES,
    topic_alias: int | None = None,
    subscription_ids: tuple[int, ...] = (),
) -> bytes:
    first = 0x30 | qos << 1
    if retain:
        first |= 1
    if dup:
        first |= 8
    head = write_text(topic)
    if qos:
        if not packet_id:
            raise ValueError("a PUBLISH above QoS 0 needs a packet identifier")
        head += packet_id.to_bytes(2, "big")
    if version == 5:
        if properties is NO_PROPERTIES and topic_alias is None and not subscription_ids:
            head += _NONE
        else:
            own = Publish("", b"", topic_alias=topic_alias, subscription_ids=subscription_ids)
            head += write_properties((tables.MESSAGE, properties), (tables.PUBLISH_ONLY, own))
    size = len(head) + len(payload)
    if size < 0x80:
        return b"%c%c%b%b" % (first, size, head, payload)
    return b"%c%b%b%b" % (first, write_varint(size), head, payload)


def encode_puback(packet_id: int) -> bytes:
    """Encodes a PUBACK with SUCCESS, which is the same in both versions."""
    return b"\x40\x02" + packet_id.to_bytes(2, "big")


def _frame(first: int, body: bytes) -> bytes:
    return b"%c%b%b" % (first, write_varint(len(body)), body)


def _connect(packet: Connect, version: Version) -> bytes:
    version = packet.version
    flags = packet.clean_start << 1
    will = packet.will
    out = bytearray(write_text(packet.client_id))
    if will is not None:
        flags |= 4 | will.qos << 3 | will.retain << 5
        if version == 5:
            out += write_properties((tables.MESSAGE, will.properties), (tables.WILL_ONLY, will))
        out += write_text(will.topic) + write_binary(will.payload)
    if packet.username is not None:
        flags |= 0x80
        out += write_text(packet.username)
    if packet.password is not None:
        if version == 4 and packet.username is None:
            raise ValueError("MQTT 3.1.1 allows no password without a user name")
        flags |= 0x40
        out += write_binary(packet.password)
    own = write_properties((tables.CONNECT, packet)) if version == 5 else b""
    return b"%b%c%c%b%b%b" % (write_text("MQTT"), version, flags, write_u16(packet.keep_alive), own, bytes(out))


def _connack(packet: ConnAck, version: Version) -> bytes:
    if version == 5:
        return b"%c%c%b" % (packet.session_present, packet.reason, write_properties((tables.CONNACK, packet)))
    code = TO_RETURN_CODE.get(packet.reason)
    if code is None:
        raise ValueError("MQTT 3.1.1 has no return code for this reason")
    return b"%c%c" % (packet.session_present, code)


def _publish_answer(packet: PubAck | PubRec | PubRel | PubComp, version: Version) -> bytes:
    return write_u16(packet.packet_id) + _tail(packet, version, tables.ANSWER)


def _tail(packet: Any, version: Version, table: tables.Table) -> bytes:
    """Writes reason code and properties, without defaults at the end of the packet (3.4.2.1, 3.14.2.1)."""
    if version == 4:
        return b""
    own = write_properties((table, packet))
    if own == _NONE:
        return b"" if packet.reason is Reason.SUCCESS else b"%c" % packet.reason
    return b"%c%b" % (packet.reason, own)


def _subscribe(packet: Subscribe, version: Version) -> bytes:
    out = bytearray(write_u16(packet.packet_id))
    if version == 5:
        out += write_properties((tables.SUBSCRIBE, packet))
    for request in packet.requests:
        options: int = request.qos
        if version == 5:
            options |= request.no_local << 2 | request.retain_as_published << 3 | request.retain_handling << 4
        out += write_text(request.filter)
        out.append(options)
    return bytes(out)


def _suback(packet: SubAck, version: Version) -> bytes:
    if version == 5:
        return write_u16(packet.packet_id) + write_properties((tables.ANSWER, packet)) + bytes(packet.reasons)
    codes = bytes(_FAILURE_3 if reason.failed else reason for reason in packet.reasons)
    return write_u16(packet.packet_id) + codes


def _unsubscribe(packet: Unsubscribe, version: Version) -> bytes:
    own = write_properties((tables.UNSUBSCRIBE, packet)) if version == 5 else b""
    return b"%b%b%b" % (write_u16(packet.packet_id), own, b"".join(map(write_text, packet.filters)))


def _unsuback(packet: UnsubAck, version: Version) -> bytes:
    if version == 5:
        return write_u16(packet.packet_id) + write_properties((tables.ANSWER, packet)) + bytes(packet.reasons)
    return write_u16(packet.packet_id)


def _bare(packet: PingReq | PingResp, version: Version) -> bytes:
    return b""


def _disconnect(packet: Disconnect, version: Version) -> bytes:
    return _tail(packet, version, tables.DISCONNECT)


def _auth(packet: Auth, version: Version) -> bytes:
    if version != 5:
        raise ValueError("MQTT 3.1.1 has no AUTH")
    return _tail(packet, version, tables.AUTH)


_WRITERS: dict[type, tuple[PacketType, Callable[[Any, Version], bytes]]] = {
    Connect: (PacketType.CONNECT, _connect),
    ConnAck: (PacketType.CONNACK, _connack),
    PubAck: (PacketType.PUBACK, _publish_answer),
    PubRec: (PacketType.PUBREC, _publish_answer),
    PubRel: (PacketType.PUBREL, _publish_answer),
    PubComp: (PacketType.PUBCOMP, _publish_answer),
    Subscribe: (PacketType.SUBSCRIBE, _subscribe),
    SubAck: (PacketType.SUBACK, _suback),
    Unsubscribe: (PacketType.UNSUBSCRIBE, _unsubscribe),
    UnsubAck: (PacketType.UNSUBACK, _unsuback),
    PingReq: (PacketType.PINGREQ, _bare),
    PingResp: (PacketType.PINGRESP, _bare),
    Disconnect: (PacketType.DISCONNECT, _disconnect),
    Auth: (PacketType.AUTH, _auth),
}
