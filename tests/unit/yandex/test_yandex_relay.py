"""The end of a relayed TLS handshake, found by the headers of TLS records."""

from __future__ import annotations

import pytest

from thingmint.yandex.relay import _Records

HELLO = b"\x16\x03\x01\x00\x05hello"
CHANGE = b"\x14\x03\x03\x00\x01\x01"
FINISHED = b"\x17\x03\x03\x00\x03abc"


@pytest.mark.parametrize("size", [1, 2, 5, 7, 100])
def test_the_first_record_with_application_data_is_found(size: int) -> None:
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
def test_other_records_have_no_application_data(sent: bytes) -> None:
    records = _Records()
    records.read(sent)
    assert not records.has_application_data
