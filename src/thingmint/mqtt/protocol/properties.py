"""The properties of MQTT 5 (2.2.2): the properties that each packet may have, their types, and their names here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from thingmint.domain.mqtt_topics import is_topic_name
from thingmint.mqtt.protocol.reasons import ProtocolError, Reason
from thingmint.mqtt.protocol.wire import (
    Reader,
    malformed,
    write_binary,
    write_text,
    write_u16,
    write_u32,
    write_varint,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Property:
    """``name`` is the packet's field, ``default`` its value if the property is absent.

    ``many``: the property may be repeated, and the field is a tuple.
    """

    id: int
    name: str
    read: Callable[[Reader], Any]
    write: Callable[[Any], bytes]
    default: Any = None
    many: bool = False


class Table:
    """The properties that one packet may have."""

    __slots__ = ("by_id", "entries")

    def __init__(self, *entries: Property) -> None:
        self.entries = entries
        self.by_id = {property.id: property for property in entries}


def _protocol_error(text: str) -> ProtocolError:
    return ProtocolError(Reason.PROTOCOL_ERROR, text)


def _read_bit(reader: Reader) -> int:
    value = reader.u8()
    if value > 1:
        raise _protocol_error("a property must be 0 or 1")
    return value


def _read_flag(reader: Reader) -> bool:
    return _read_bit(reader) == 1


def _write_bit(value: int) -> bytes:
    return b"\x01" if value else b"\x00"


def _not_zero(read: Callable[[Reader], int]) -> Callable[[Reader], int]:
    def read_positive(reader: Reader) -> int:
        value = read(reader)
        if not value:
            raise _protocol_error("a property must not be 0")
        return value

    return read_positive


def _read_alias(reader: Reader) -> int:
    value = reader.u16()
    if not value:
        raise ProtocolError(Reason.TOPIC_ALIAS_INVALID, "a topic alias is zero")  # MQTT-3.3.2-8
    return value


def _read_topic(reader: Reader) -> str:
    topic = reader.text()
    if not is_topic_name(topic):
        raise _protocol_error("a response topic is not a topic name")  # MQTT-3.3.2-14
    return topic


def _read_pair(reader: Reader) -> tuple[str, str]:
    return reader.text(), reader.text()


def _write_pair(pair: tuple[str, str]) -> bytes:
    return write_text(pair[0]) + write_text(pair[1])


def _flag(id: int, name: str, default: bool | None) -> Property:
    return Property(id, name, _read_flag, _write_bit, default)


def _u16(id: int, name: str, default: int | None) -> Property:
    return Property(id, name, Reader.u16, write_u16, default)


def _u32(id: int, name: str, default: int | None = None) -> Property:
    return Property(id, name, Reader.u32, write_u32, default)


def _text(id: int, name: str) -> Property:
    return Property(id, name, Reader.text, write_text)


def _binary(id: int, name: str) -> Property:
    return Property(id, name, Reader.binary, write_binary)


_read_id = _not_zero(Reader.varint)
_AUTHENTICATION = (_text(0x15, "authentication_method"), _binary(0x16, "authentication_data"))
_EXPIRY = _u32(0x11, "session_expiry")
_MAXIMUM_PACKET_SIZE = Property(0x27, "maximum_packet_size", _not_zero(Reader.u32), write_u32)
_REASON_STRING = _text(0x1F, "reason_string")
_RECEIVE_MAXIMUM = Property(0x21, "receive_maximum", _not_zero(Reader.u16), write_u16, 65_535)
_SERVER_REFERENCE = _text(0x1C, "server_reference")
_TOPIC_ALIAS_MAXIMUM = _u16(0x22, "topic_alias_maximum", 0)
_USER = Property(0x26, "user_properties", _read_pair, _write_pair, (), many=True)

MESSAGE: Final = Table(
    _flag(0x01, "payload_is_utf8", None),
    _u32(0x02, "message_expiry"),
    _text(0x03, "content_type"),
    Property(0x08, "response_topic", _read_topic, write_text),
    _binary(0x09, "correlation_data"),
    _USER,
)
"""The fields of ``MessageProperties``, for PUBLISH and wills."""

WILL_ONLY: Final = Table(_u32(0x18, "delay", 0))
WILL: Final = Table(*MESSAGE.entries, *WILL_ONLY.entries)

PUBLISH_ONLY: Final = Table(
    Property(0x23, "topic_alias", _read_alias, write_u16),
    Property(0x0B, "subscription_ids", _read_id, write_varint, (), many=True),
)
PUBLISH: Final = Table(*MESSAGE.entries, *PUBLISH_ONLY.entries)

CONNECT: Final = Table(
    _u32(0x11, "session_expiry", 0),
    _RECEIVE_MAXIMUM,
    _MAXIMUM_PACKET_SIZE,
    _TOPIC_ALIAS_MAXIMUM,
    _flag(0x19, "request_response_information", default=False),
    _flag(0x17, "request_problem_information", default=True),
    *_AUTHENTICATION,
    _USER,
)

CONNACK: Final = Table(
    _EXPIRY,
    _RECEIVE_MAXIMUM,
    Property(0x24, "maximum_qos", _read_bit, _write_bit, 2),
    _flag(0x25, "retain_available", default=True),
    _MAXIMUM_PACKET_SIZE,
    _text(0x12, "assigned_client_id"),
    _TOPIC_ALIAS_MAXIMUM,
    _REASON_STRING,
    _flag(0x28, "wildcard_available", default=True),
    _flag(0x29, "subscription_ids_available", default=True),
    _flag(0x2A, "shared_available", default=True),
    _u16(0x13, "server_keep_alive", None),
    _text(0x1A, "response_information"),
    _SERVER_REFERENCE,
    *_AUTHENTICATION,
    _USER,
)

SUBSCRIBE: Final = Table(Property(0x0B, "subscription_id", _read_id, write_varint), _USER)
UNSUBSCRIBE: Final = Table(_USER)
ANSWER: Final = Table(_REASON_STRING, _USER)
"""For PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK."""

DISCONNECT: Final = Table(_EXPIRY, _REASON_STRING, _SERVER_REFERENCE, _USER)
AUTH: Final = Table(*_AUTHENTICATION, _REASON_STRING, _USER)


MAX_REPEATED: Final = 256
"""User properties in one packet. Limited, as each one is sent to each subscriber."""


def read_properties(reader: Reader, table: Table) -> dict[str, Any]:
    """Returns the present fields by name."""
    size = reader.varint()
    if not size:
        return {}
    known = table.by_id
    part = reader.part(size)
    fields: dict[str, Any] = {}
    while part.left:
        property = known.get(part.u8())  # a variable byte integer, but all identifiers fit in one byte
        if property is None:
            raise malformed("a property is not allowed in this packet")  # 2.2.2.2
        value = property.read(part)
        if property.many:
            values = fields.setdefault(property.name, [])
            values.append(value)
            if len(values) > MAX_REPEATED:
                raise ProtocolError(Reason.QUOTA_EXCEEDED, "a packet has too many user properties")
        elif property.name in fields:
            raise _protocol_error("a property occurs twice")
        else:
            fields[property.name] = value
    for name, value in fields.items():
        if isinstance(value, list):
            fields[name] = tuple(value)
    return fields


def write_properties(*parts: tuple[Table, object]) -> bytes:
    """Each part is a table, and an object with the fields of the table."""
    out = bytearray()
    for table, packet in parts:
        for property in table.entries:
            value = getattr(packet, property.name)
            if property.many:
                for one in value:
                    out.append(property.id)
                    out += property.write(one)
            elif value != property.default:
                out.append(property.id)
                out += property.write(value)
    return write_varint(len(out)) + out
