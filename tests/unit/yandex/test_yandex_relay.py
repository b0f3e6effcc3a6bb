"""When a relayed TLS handshake is over, by the headers of the records that pass."""

from __future__ import annotations

import pytest

from thingmint.yandex.relay import _Records

HELLO = b"\x16\x03\x01\x00\x05hello"
CHANGE = b"\x14\x03\x03\x00\x01\x01"
FINISHED = b"\x17\x03\x03\x00\x03abc"


@pytest.mark.parametrize("size", [1, 2, 5, 7, 100])
def test_the_first_encrypted_record(size: int) -> None:
    records = _Records()
    sent = HELLO + CHANGE + FINISHED
    seen = []
    for start in range(0, len(sent), size):
        records.read(sent[start : start + size])
        seen.append(records.has_application_data)
    assert seen[-1]
    known_at = len(HELLO + CHANGE) + 5  # the end of its header
    assert seen.index(True) == (known_at - 1) // size


@pytest.mark.parametrize("sent", [b"", HELLO, HELLO[:-1] + b"\x17", HELLO + CHANGE, b"\x17\x03\x03\x00", HELLO * 1000])
def test_none_yet(sent: bytes) -> None:
    records = _Records()
    records.read(sent)
    assert not records.has_application_data
