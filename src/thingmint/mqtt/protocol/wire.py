"""MQTT's data types (MQTT 5, 1.5) and the numbers of its control packets (2.1.2)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from thingmint.mqtt.protocol.errors import ProtocolError
from thingmint.mqtt.protocol.reasons import Reason

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
    """Reads a packet's body from ``position`` up to ``end``. What is malformed raises ProtocolError."""

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
        """The next ``size`` bytes as a reader of their own."""
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
        # Raised here, not where decoding failed: that error would be this one's context, and it holds the input.
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
            raise malformed("the packet goes on behind its last field")


def _decode(data: bytes) -> str | None:
    try:
        return data.decode()  # strict: neither surrogates nor overlong forms
    except UnicodeDecodeError:
        return None


def write_u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def write_u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def write_varint(value: int) -> bytes:
    """Raises ValueError where four bytes are too few."""
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
    """Raises ValueError for what no MQTT text may hold: a null character, a surrogate, more than 65,535 bytes."""
    if "\0" in value:
        raise ValueError("a text has a null character")
    return write_binary(value.encode())
