"""MQTT's data types (MQTT 5, 1.5), the numbers of the control packets (2.1.2), and the codes each may have (2.4)."""

from __future__ import annotations

from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from thingmint.mqtt.protocol.reasons import ProtocolError, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping


MAX_REMAINING_LENGTH: Final = 268_435_455
_MAX_U16 = 65_535


class PacketType(IntEnum):
    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


def malformed(text: str) -> ProtocolError:
    return ProtocolError(Reason.MALFORMED_PACKET, text)


class Reader:
    """Reads a packet's body from ``position`` to ``end``. Raises ProtocolError for malformed data."""

    __slots__ = ("_data", "_end", "_position")

    def __init__(self, data: bytes, position: int, end: int) -> None:
        self._data = data
        self._position = position
        self._end = end

    @property
    def left(self) -> int:
        return self._end - self._position

    def take(self, size: int) -> bytes:
        start = self._position
        stop = start + size
        if stop > self._end:
            raise malformed("the packet ends inside a field")
        self._position = stop
        return self._data[start:stop]

    def rest(self) -> bytes:
        return self.take(self.left)

    def part(self, size: int) -> Reader:
        """Returns a reader of the next ``size`` bytes."""
        start = self._position
        if size > self.left:
            raise malformed("the packet ends inside a field")
        self._position += size
        return Reader(self._data, start, self._position)

    def u8(self) -> int:
        position = self._position
        if position >= self._end:
            raise malformed("the packet ends inside a field")
        self._position = position + 1
        return self._data[position]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 21:
                raise malformed("a variable byte integer has more than four bytes")
        if byte == 0 and shift:
            raise malformed("a variable byte integer is longer than it needs to be")  # MQTT-1.5.5-1
        return value

    def binary(self) -> bytes:
        return self.take(self.u16())

    def text(self) -> str:
        text = _decode(self.binary())
        # Not raised in _decode: the UnicodeDecodeError would be the context of this error, and it contains the input.
        if text is None:
            raise malformed("a text is not well-formed UTF-8")  # MQTT-1.5.4-1
        if "\0" in text:
            raise malformed("a text has a null character")  # MQTT-1.5.4-2
        return text

    def packet_id(self) -> int:
        value = self.u16()
        if not value:
            raise malformed("a packet identifier is zero")  # MQTT-2.2.1-3
        return value

    def done(self) -> None:
        if self._position != self._end:
            raise malformed("the packet has bytes after its last field")


def _decode(data: bytes) -> str | None:
    try:
        return data.decode()  # strict: no surrogates, no overlong forms
    except UnicodeDecodeError:
        return None


def write_u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def write_u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def write_varint(value: int) -> bytes:
    """Raises ValueError if the value needs more than four bytes."""
    if value < 0x80:
        return value.to_bytes(1, "big")
    if value > MAX_REMAINING_LENGTH:
        raise ValueError("a variable byte integer is too large")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_binary(value: bytes) -> bytes:
    """Raises ValueError above 65,535 bytes."""
    if len(value) > _MAX_U16:
        raise ValueError("binary data or a text is too long")
    return len(value).to_bytes(2, "big") + value


def write_text(value: str) -> bytes:
    """Raises ValueError for a null character, a surrogate, or more than 65,535 bytes."""
    if "\0" in value:
        raise ValueError("a text has a null character")
    return write_binary(value.encode())


def _codes(text: str) -> Mapping[int, Reason]:
    return MappingProxyType({int(code, 16): Reason(int(code, 16)) for code in text.split()})


_PUBLISH_ANSWER = _codes("00 10 80 83 87 90 91 97 99")
_RELEASE_ANSWER = _codes("00 92")

ALLOWED: Final[Mapping[PacketType, Mapping[int, Reason]]] = MappingProxyType(
    {
        PacketType.CONNACK: _codes("00 80 81 82 83 84 85 86 87 88 89 8A 8C 90 95 97 99 9A 9B 9C 9D 9F"),
        PacketType.PUBACK: _PUBLISH_ANSWER,
        PacketType.PUBREC: _PUBLISH_ANSWER,
        PacketType.PUBREL: _RELEASE_ANSWER,
        PacketType.PUBCOMP: _RELEASE_ANSWER,
        PacketType.SUBACK: _codes("00 01 02 80 83 87 8F 91 97 9E A1 A2"),
        PacketType.UNSUBACK: _codes("00 11 80 83 87 8F 91"),
        PacketType.DISCONNECT: _codes(
            "00 04 80 81 82 83 87 89 8B 8D 8E 8F 90 93 94 95 96 97 98 99 9A 9B 9C 9D 9E 9F A0 A1 A2"
        ),
        PacketType.AUTH: _codes("00 18 19"),
    }
)

SUBACK_3: Final = _codes("00 01 02 80")

FROM_RETURN_CODE: Final[Mapping[int, Reason]] = MappingProxyType(
    {
        0: Reason.SUCCESS,
        1: Reason.UNSUPPORTED_PROTOCOL_VERSION,
        2: Reason.CLIENT_IDENTIFIER_NOT_VALID,
        3: Reason.SERVER_UNAVAILABLE,
        4: Reason.BAD_USER_NAME_OR_PASSWORD,
        5: Reason.NOT_AUTHORIZED,
    }
)

TO_RETURN_CODE: Final[Mapping[Reason, int]] = MappingProxyType(
    {
        **{reason: code for code, reason in FROM_RETURN_CODE.items()},
        Reason.BAD_AUTHENTICATION_METHOD: 5,
        Reason.BANNED: 5,
        Reason.CONNECTION_RATE_EXCEEDED: 3,
        Reason.QUOTA_EXCEEDED: 3,
        Reason.SERVER_BUSY: 3,
        Reason.SERVER_SHUTTING_DOWN: 3,
    }
)
"""MQTT 3.1.1 has no return code for other reasons: the connection is closed without CONNACK."""
