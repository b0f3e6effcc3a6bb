"""Reads the bodies of control packets, of both versions, as a server or a client receives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from thingmint.domain.messages import NO_PROPERTIES, MessageProperties
from thingmint.domain.mqtt_topics import is_topic_name
from thingmint.mqtt.protocol import properties as tables
from thingmint.mqtt.protocol.packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    SubscriptionRequest,
    UnsubAck,
    Unsubscribe,
    Will,
)
from thingmint.mqtt.protocol.properties import Table, read_properties
from thingmint.mqtt.protocol.reasons import ProtocolError, Reason
from thingmint.mqtt.protocol.wire import ALLOWED, FROM_RETURN_CODE, SUBACK_3, PacketType, Reader, malformed

if TYPE_CHECKING:
    from collections.abc import Callable, Sized

    from thingmint.mqtt.protocol.packets import Version


MAX_FILTERS: Final = 256
"""In one packet."""

_PROTOCOL_NAMES = {"MQTT", "MQIsdp"}  # MQIsdp: MQTT 3.1

_TWO = {PacketType.PUBREL, PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE}
FLAGS: dict[int, int] = {kind: 2 if kind in _TWO else 0 for kind in PacketType if kind is not PacketType.PUBLISH}
"""The lower half of a packet's first byte, which is fixed for all packets except PUBLISH (2.1.3)."""


def read_level(reader: Reader) -> int:
    """Returns the protocol level of a CONNECT; 3 is MQTT 3.1."""
    name = reader.text()
    if name not in _PROTOCOL_NAMES:
        raise ProtocolError(Reason.UNSUPPORTED_PROTOCOL_VERSION, "the protocol is not MQTT")
    level = reader.u8()
    return min(level, 3) if name == "MQIsdp" else level


def read_connect(reader: Reader, version: Version) -> Connect:
    """Reads the rest of CONNECT, after the protocol level."""
    flags = reader.u8()
    if flags & 0x01:
        raise malformed("a reserved flag of CONNECT is set")  # MQTT-3.1.2-3
    keep_alive = reader.u16()
    fields = read_properties(reader, tables.CONNECT) if version == 5 else {}
    if "authentication_data" in fields and "authentication_method" not in fields:
        raise ProtocolError(Reason.PROTOCOL_ERROR, "authentication data without a method")  # 3.1.2.11.10
    client_id = reader.text()
    will = _read_will(reader, version, flags)
    if version == 4 and flags & 0xC0 == 0x40:
        raise malformed("a password without a user name")  # 3.1.1, MQTT-3.1.2-22
    packet = Connect(
        version=version,
        client_id=client_id,
        clean_start=bool(flags & 0x02),
        keep_alive=keep_alive,
        will=will,
        username=reader.text() if flags & 0x80 else None,
        password=reader.binary() if flags & 0x40 else None,
        **fields,
    )
    reader.done()
    return packet


def _read_will(reader: Reader, version: Version, flags: int) -> Will | None:
    qos: Any = flags >> 3 & 3
    if not flags & 0x04:
        if flags & 0x38:
            raise malformed("options of a will without a will")  # MQTT-3.1.2-11, -13
        return None
    if qos == 3:
        raise malformed("a will's quality of service is 3")  # MQTT-3.1.2-12
    fields = read_properties(reader, tables.WILL) if version == 5 else {}
    topic = reader.text()
    if not is_topic_name(topic):
        raise malformed("the topic of a will is not a topic name")
    payload = reader.binary()
    delay = fields.pop("delay", 0)
    return Will(topic, payload, qos, bool(flags & 0x20), delay, _message_properties(fields))


def read_message_properties(reader: Reader) -> tuple[MessageProperties, int | None, tuple[int, ...]]:
    """Reads the properties of PUBLISH: those of the message, the topic alias and the subscription identifiers."""
    fields = read_properties(reader, tables.PUBLISH)
    alias = fields.pop("topic_alias", None)
    ids = fields.pop("subscription_ids", ())
    return _message_properties(fields), alias, ids


def _message_properties(fields: dict[str, Any]) -> MessageProperties:
    return MessageProperties(**fields) if fields else NO_PROPERTIES


def _reason(reader: Reader, kind: PacketType) -> Reason:
    reason = ALLOWED[kind].get(reader.u8())
    if reason is None:
        raise malformed("a reason code is not allowed in this packet")
    return reason


def _tail(reader: Reader, kind: PacketType, table: Table) -> dict[str, Any]:
    """Reads a reason code and properties at a packet's end; both are optional (3.4.2.1, 3.14.2.1)."""
    if not reader.left:
        return {}
    reason = _reason(reader, kind)
    fields = read_properties(reader, table) if reader.left else {}
    reader.done()
    return {"reason": reason, **fields}


def _read_connack(reader: Reader, version: Version) -> ConnAck:
    flags = reader.u8()
    if flags > 1:
        raise malformed("a reserved flag of CONNACK is set")
    if version == 5:
        reason = _reason(reader, PacketType.CONNACK)
        fields = read_properties(reader, tables.CONNACK)
    else:
        known = FROM_RETURN_CODE.get(reader.u8())
        if known is None:
            raise malformed("an unknown return code")
        reason, fields = known, {}
    reader.done()
    if flags and reason:
        raise ProtocolError(Reason.PROTOCOL_ERROR, "a refusal with session present")  # MQTT-3.2.2-6
    return ConnAck(reason, bool(flags), **fields)


def _publish_answer(kind: PacketType, make: Callable[..., Packet]) -> Callable[[Reader, Version], Packet]:
    def read(reader: Reader, version: Version) -> Packet:
        packet_id = reader.packet_id()
        if version == 5:
            return make(packet_id, **_tail(reader, kind, tables.ANSWER))
        reader.done()
        return make(packet_id)

    return read


def _read_subscribe(reader: Reader, version: Version) -> Subscribe:
    packet_id = reader.packet_id()
    fields = read_properties(reader, tables.SUBSCRIBE) if version == 5 else {}
    requests = []
    while reader.left:
        requests.append(_read_request(reader, version))
        _check_count(requests)
    if not requests:
        raise ProtocolError(Reason.PROTOCOL_ERROR, "a SUBSCRIBE without a filter")  # MQTT-3.8.3-2
    return Subscribe(packet_id, tuple(requests), **fields)


def _check_count(filters: Sized) -> None:
    """Limits the filters of a packet, which has room for tens of thousands: each one needs an answer."""
    if len(filters) > MAX_FILTERS:
        raise ProtocolError(Reason.QUOTA_EXCEEDED, "a packet has too many filters")


def _read_request(reader: Reader, version: Version) -> SubscriptionRequest:
    filter = reader.text()
    options = reader.u8()
    qos: Any = options & 3
    retain_handling: Any = options >> 4 & 3
    if options & (0xC0 if version == 5 else 0xFC):
        raise malformed("a reserved bit of a subscription's options is set")  # MQTT-3.8.3-5
    if qos == 3:
        raise malformed("a subscription's quality of service is 3")
    if retain_handling == 3:
        raise ProtocolError(Reason.PROTOCOL_ERROR, "a subscription's retain handling is 3")  # 3.8.3.1
    return SubscriptionRequest(filter, qos, bool(options & 4), bool(options & 8), retain_handling)


def _read_suback(reader: Reader, version: Version) -> SubAck:
    packet_id = reader.packet_id()
    fields = read_properties(reader, tables.ANSWER) if version == 5 else {}
    known = ALLOWED[PacketType.SUBACK] if version == 5 else SUBACK_3
    return SubAck(packet_id, _reasons(reader, known), **fields)


def _reasons(reader: Reader, known: Any) -> tuple[Reason, ...]:
    codes = reader.rest()
    if not codes:
        raise ProtocolError(Reason.PROTOCOL_ERROR, "an answer without a reason code")
    reasons = tuple(map(known.get, codes))
    if None in reasons:
        raise malformed("a reason code is not allowed in this packet")
    return reasons


def _read_unsubscribe(reader: Reader, version: Version) -> Unsubscribe:
    packet_id = reader.packet_id()
    fields = read_properties(reader, tables.UNSUBSCRIBE) if version == 5 else {}
    filters = []
    while reader.left:
        filters.append(reader.text())
        _check_count(filters)
    if not filters:
        raise ProtocolError(Reason.PROTOCOL_ERROR, "an UNSUBSCRIBE without a filter")  # MQTT-3.10.3-2
    return Unsubscribe(packet_id, tuple(filters), **fields)


def _read_unsuback(reader: Reader, version: Version) -> UnsubAck:
    packet_id = reader.packet_id()
    if version == 5:
        fields = read_properties(reader, tables.ANSWER)
        return UnsubAck(packet_id, _reasons(reader, ALLOWED[PacketType.UNSUBACK]), **fields)
    reader.done()
    return UnsubAck(packet_id)


def _read_disconnect(reader: Reader, version: Version) -> Disconnect:
    if version == 5:
        return Disconnect(**_tail(reader, PacketType.DISCONNECT, tables.DISCONNECT))
    reader.done()
    return Disconnect()


def _read_auth(reader: Reader, version: Version) -> Auth:
    if version != 5:
        raise malformed("MQTT 3.1.1 has no AUTH")
    return Auth(**_tail(reader, PacketType.AUTH, tables.AUTH))


def _bare(packet: Packet) -> Callable[[Reader, Version], Packet]:
    def read(reader: Reader, version: Version) -> Packet:
        reader.done()
        return packet

    return read


READERS: dict[int, Callable[[Reader, Version], Packet]] = {
    PacketType.CONNACK: _read_connack,
    PacketType.PUBACK: _publish_answer(PacketType.PUBACK, PubAck),
    PacketType.PUBREC: _publish_answer(PacketType.PUBREC, PubRec),
    PacketType.PUBREL: _publish_answer(PacketType.PUBREL, PubRel),
    PacketType.PUBCOMP: _publish_answer(PacketType.PUBCOMP, PubComp),
    PacketType.SUBSCRIBE: _read_subscribe,
    PacketType.SUBACK: _read_suback,
    PacketType.UNSUBSCRIBE: _read_unsubscribe,
    PacketType.UNSUBACK: _read_unsuback,
    PacketType.PINGREQ: _bare(PingReq()),
    PacketType.PINGRESP: _bare(PingResp()),
    PacketType.DISCONNECT: _read_disconnect,
    PacketType.AUTH: _read_auth,
}
"""By packet type. The decoder reads CONNECT and PUBLISH itself."""
