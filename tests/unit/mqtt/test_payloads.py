"""Payloads of the provisioning topics, in JSON and in CBOR."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest

from tests.tables import each_row
from thingmint.domain.errors import InvalidParameters
from thingmint.mqtt.payloads import (
    Unreadable,
    read_optional_text,
    read_parameters,
    read_payload,
    read_text,
    write_payload,
)

JSON = [
    b"[]",
    b"null",
    b'"{}"',
    b"1",
    b"{",
    b"{}{}",
    b'{"a": NaN}',
    b"\xef\xbb\xbf{}",
    b'{"a": "\xff"}',
    "{}".encode("utf-16"),
    b"[" * 60_000,
    b'{"a":' * 10_000,
    b'{"a": ' + b"9" * 5_000 + b"}",
    b'{"a": "' + b"x" * 70_000 + b'"}',
    b'{"a": 1, "a": 1}',
    b'{"\\ud800": 1}',
]
CBOR = [
    b"\x80",
    b"\xf6",
    b"\xf7",
    b"\x60",
    b"\x01",
    b"\xfb\x7f\xf8\0\0\0\0\0\0",
    b"\xa0\xa0",
    b"\xa1\x61a",
    b"\xa1\x01\x01",
    b"\xa1\x41a\x01",
    b"\xa2\x61a\x01\x61a\x01",
    b"\xa1\x61\xff\x01",
    b"\x5b" + b"\xff" * 8,
    b"\x7b\0\0\0\0\x7f\xff\xff\xff",
    b"\x9b\0\0\0\0\xff\xff\xff\xff",
    b"\xbb\0\0\0\0\xff\xff\xff\xff",
    b"\x81" * 100_000,
    b"\xbf" * 1000,
    b"\xa1\x61a" * 100,
    b"\xff",
    b"\x1c",
    b"\xd9\xd9\xf7\xa0",
    *(cbor2.dumps({"a": cbor2.CBORTag(tag, value)}) for tag in (0, 1, 35, 260) for value in ("a", 1)),
    cbor2.dumps({"a": cbor2.CBORTag(2, b"\xff" * 60_000)}),
    b"\xa1\x61a\xd8\x1c\x81\xd8\x1d\x00",
    b"\xa1\x61a\xc4\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x01",
]


@each_row("payload", JSON)
def test_invalid_json_payloads_are_refused(payload: bytes) -> None:
    with pytest.raises(Unreadable):
        read_payload(payload, "json")


@each_row("payload", CBOR)
def test_invalid_cbor_payloads_are_refused(payload: bytes) -> None:
    with pytest.raises(Unreadable):
        read_payload(payload, "cbor")


@each_row("tag", [*range(300), 1004, 43000, 55799, 2**32, 2**64 - 1])
def test_cbor_tags_are_refused(tag: int) -> None:
    values: list[Any] = ["2026-11-21T00:00:00Z", 0, b"\1", [1, 2], {}, [[]]]
    for value in values:
        for document in (cbor2.CBORTag(tag, value), {"a": cbor2.CBORTag(tag, value)}):
            with pytest.raises(Unreadable):
                read_payload(cbor2.dumps(document), "cbor")


@pytest.mark.parametrize("format", ["json", "cbor"])
def test_a_payload_of_64_kib_is_accepted(format: Any) -> None:
    document = {"a": "x" * 65_000}
    document["b"] = "x" * (65_536 - len(write_payload(document, format)) - (10 if format == "json" else 6))
    written = write_payload(document, format)
    assert 65_530 < len(written) <= 65_536
    assert read_payload(written, format) == document


@pytest.mark.parametrize("format", ["json", "cbor"])
def test_written_payloads_can_be_read(format: Any) -> None:
    document = {"a": "é", "b": {"c": "d"}}
    written = write_payload(document, format)
    assert read_payload(written, format) == document
    for end in range(len(written)):
        with pytest.raises(Unreadable):
            read_payload(written[:end], format)
    with pytest.raises(Unreadable):
        read_payload(written + b"\0", format)


def test_cbor_has_definite_lengths() -> None:
    assert write_payload({"a": "b"}, "cbor") == b"\xa1\x61a\x61b"


WRONG: list[Any] = [None, 1, 1.5, True, [], {}, ["a"], "\0", "\ud800", "\udfff", b"a"]


@each_row("value", WRONG)
def test_texts_with_nul_or_surrogates_are_refused(value: Any) -> None:
    for read in (read_text, read_optional_text):
        with pytest.raises(Unreadable):
            read({"a": value}, "a")
    if value != {}:
        with pytest.raises(Unreadable):
            read_parameters({"parameters": value})


def test_numbers_and_booleans_become_text() -> None:
    given = {"a": "x", "b": 1, "c": -2.5, "d": True, "e": 10**30, "f": ""}
    texts, converted = read_parameters({"parameters": given})
    assert texts == {"a": "x", "b": "1", "c": "-2.5", "d": "true", "e": "1" + "0" * 30, "f": ""}
    assert converted == ["b", "c", "d", "e"]


@each_row("value", [None, [], {}, ["a"], "\0", "\ud800", b"a", float("nan"), float("inf")])
def test_other_parameters_are_refused_with_their_name(value: Any) -> None:
    for name, shown in (("Serial", "Serial"), ("a b", "a parameter"), ("x" * 65, "a parameter")):
        with pytest.raises(InvalidParameters, match=f"^The value of {shown} must be text, a number or a boolean$"):
            read_parameters({"parameters": {"Other": "x", name: value}})


def test_optional_members_can_be_omitted() -> None:
    assert read_optional_text({}, "a") is None
    assert read_parameters({}) == ({}, [])
    with pytest.raises(Unreadable):
        read_text({}, "a")
