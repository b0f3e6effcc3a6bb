"""The basic data types: a reader stays within its bounds."""

from __future__ import annotations

import pytest

from thingmint.mqtt.protocol.reasons import ProtocolError
from thingmint.mqtt.protocol.wire import Reader, write_varint


def test_a_reader_does_not_read_beyond_its_end() -> None:
    reader = Reader(b"\0\x01abc", 0, 3)
    assert reader.binary() == b"a"
    assert reader.left == 0
    for read in (reader.u8, reader.u16, lambda: reader.take(1), lambda: reader.part(1)):
        with pytest.raises(ProtocolError):
            read()
    reader.done()


@pytest.mark.parametrize(
    ("value", "octets"),
    [
        (0, b"\0"),
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (16_383, b"\xff\x7f"),
        (16_384, b"\x80\x80\x01"),
        (268_435_455, b"\xff\xff\xff\x7f"),
    ],
)
def test_variable_byte_integers(value: int, octets: bytes) -> None:
    assert write_varint(value) == octets
    assert Reader(octets, 0, len(octets)).varint() == value
