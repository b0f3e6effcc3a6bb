"""Decodes the bytes of a connection into packets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.domain.messages import NO_PROPERTIES
from thingmint.mqtt.protocol.bodies import FLAGS, READERS, read_connect, read_level, read_message_properties
from thingmint.mqtt.protocol.packets import PubAck, Publish
from thingmint.mqtt.protocol.reasons import ProtocolError, Reason
from thingmint.mqtt.protocol.wire import MAX_REMAINING_LENGTH, PacketType, Reader, malformed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thingmint.mqtt.protocol.packets import Connect, Packet, Version


_CONNECT = 0x10  # a whole first byte: type and flags
_PUBACK = 0x40
_LARGEST_PACKET = MAX_REMAINING_LENGTH + 5


class Decoder:
    """Decodes one direction of a connection.

    ``version``: given for a client. For a server, the first packet must be CONNECT, which has the version.
    ``max_packet_size`` is in bytes and counts the whole packet (MQTT 5, 3.1.2.11.4); it may change between packets.
    """

    __slots__ = ("_data", "_failure", "_need", "_position", "_tail", "max_packet_size", "version")

    def __init__(self, max_packet_size: int = _LARGEST_PACKET, version: Version | None = None) -> None:
        self.max_packet_size = max_packet_size
        self.version = version
        self._data = b""
        self._position = 0
        self._tail = bytearray()  # bytes that came after ``_data``, or its incomplete end
        self._need = 0  # the length of ``_tail`` from which the next packet may be complete
        self._failure: ProtocolError | None = None

    @property
    def held(self) -> int:
        """The number of bytes that were fed, but not returned as packets yet."""
        return len(self._data) - self._position + len(self._tail)

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Returns an iterator of the complete packets. Packets not taken from it come with the next call.

        The iterator raises ProtocolError at the first invalid packet, and at each later call.
        """
        if self._failure is None and data:
            if self._position < len(self._data):
                self._keep_rest()
            if self._tail:
                self._tail += data
            else:
                self._data = data
                self._position = 0
        return self._packets()

    def _keep_rest(self) -> None:
        # The tail is empty here: it is moved to ``_data`` before a packet is read.
        self._tail += memoryview(self._data)[self._position :]
        self._data = b""
        self._position = 0

    def _packets(self) -> Iterator[Packet]:
        if self._failure is not None:
            raise self._failure
        if self._tail:
            if len(self._tail) < self._need:
                return
            self._data = bytes(self._tail)
            self._position = 0
            self._tail.clear()
        try:
            while self._position < len(self._data):
                packet = self._next()
                if packet is None:
                    self._keep_rest()
                    return
                yield packet
        except ProtocolError as error:
            self._fail(error)
            raise
        self._data = b""
        self._position = 0
        self._need = 0

    def _fail(self, error: ProtocolError) -> None:
        self._failure = error
        self._data = b""
        self._position = 0
        self._tail.clear()

    def _next(self) -> Packet | None:
        """Returns the next packet, or None if it is incomplete."""
        data, start = self._data, self._position
        size = len(data)
        first = data[start]
        version = self.version
        if version is None and first != _CONNECT:
            raise ProtocolError(Reason.PROTOCOL_ERROR, "the first packet is not CONNECT")  # MQTT-3.1.0-1
        body = start + 2
        if body > size:
            self._need = 2
            return None
        length = data[start + 1]
        if length >= 0x80:
            body = _length_end(data, start + 1)
            if not body:
                self._need = size - start + 1
                return None
            length = Reader(data, start + 1, body).varint()
        end = body + length
        if end - start > self.max_packet_size:
            raise ProtocolError(Reason.PACKET_TOO_LARGE, "a packet is larger than the maximum")
        if end > size:
            self._need = end - start
            return None
        self._position = end
        self._need = 0
        if first & 0xF0 == 0x30:
            return _read_publish(data, first, body, end, version)
        if first == _PUBACK and length == 2 and data[body:end] != b"\0\0":
            return PubAck(data[body] << 8 | data[body + 1])  # the second most frequent packet
        return self._read_other(first, Reader(data, body, end))

    def _read_other(self, first: int, reader: Reader) -> Packet:
        kind = first >> 4
        if first & 0x0F != FLAGS.get(kind):
            raise malformed("a packet's type or its reserved flags are wrong")  # 2.1.2, 2.1.3
        if kind == PacketType.CONNECT:
            return self._read_connect(reader)
        assert self.version is not None
        return READERS[kind](reader, self.version)

    def _read_connect(self, reader: Reader) -> Connect:
        if self.version is not None:
            raise ProtocolError(Reason.PROTOCOL_ERROR, "a second CONNECT")  # MQTT-3.1.0-2
        level = read_level(reader)
        # Set before the rest is read, so that a refusal has the form that the client expects.
        version: Version = 5 if level >= 5 else 4
        self.version = version
        if level != version:
            raise ProtocolError(Reason.UNSUPPORTED_PROTOCOL_VERSION, "the protocol level must be 4 or 5")
        return read_connect(reader, version)


def _length_end(data: bytes, start: int) -> int:
    """Returns the end of the "remaining length" that begins at ``start``; 0 if it is incomplete."""
    for position in range(start, min(start + 4, len(data))):
        if data[position] < 0x80:
            return position + 1
    return start + 4 if len(data) >= start + 4 else 0


def _read_publish(data: bytes, first: int, position: int, end: int, version: Version | None) -> Publish:
    """Reads PUBLISH, the most frequent packet, in as few steps as possible."""
    qos: Any = first >> 1 & 3
    start = position + 2
    position = start + (data[position] << 8 | data[position + 1]) if start <= end else end + 1
    if position > end:
        raise malformed("the packet ends inside a field")
    try:
        topic = data[start:position].decode()
    except UnicodeDecodeError:
        topic = "\0"
    if "\0" in topic or "+" in topic or "#" in topic:  # MQTT-1.5.4-1, -2, 3.3.2-2
        raise malformed("a topic name is not well-formed")
    packet_id = None
    if qos:
        if qos == 3:
            raise malformed("a quality of service is 3")  # MQTT-3.3.1-4
        position += 2
        if position > end:
            raise malformed("the packet ends inside a field")
        packet_id = data[position - 2] << 8 | data[position - 1]
        if not packet_id:
            raise malformed("a packet identifier is zero")  # MQTT-2.2.1-3
    elif first & 0x08:
        raise malformed("DUP is set at quality of service 0")  # MQTT-3.3.1-2
    properties, alias = NO_PROPERTIES, None
    ids: tuple[int, ...] = ()
    if version == 5:
        if position < end and not data[position]:
            position += 1  # the length 0: no properties
        else:
            reader = Reader(data, position, end)
            properties, alias, ids = read_message_properties(reader)
            position = end - reader.left
    if not topic and alias is None:
        raise ProtocolError(Reason.PROTOCOL_ERROR, "a PUBLISH without topic and topic alias")  # MQTT-4.7.3-1, 3.3.2.1
    payload = data[position:end]
    return Publish(topic, payload, qos, bool(first & 1), bool(first & 8), packet_id, properties, alias, ids)
