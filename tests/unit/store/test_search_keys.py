"""Rows are found by search keys, with indexes."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import warnings
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from tests.unit import vectors
from tests.world import OURS, THEIRS
from thingmint.store.audit import STREAMS
from thingmint.store.search_keys import (
    MAX_NAME,
    audit_keys,
    certificate_keys,
    folded_name,
    name_key,
    search_key,
    serial_and_common_name,
)
from thingmint.store.sqlite import SQLiteStore

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world import World

KEYED = "SELECT certificate FROM registrations WHERE {} = $1 ORDER BY certificate LIMIT 5"


def der(serial: int, *names: str, kind: _ASN1Type | None = None, organization: str | None = None) -> bytes:
    key = vectors.ca_key()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this library counts bytes, X.520 characters
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name, kind, _validate=False) for name in names]
    if organization is not None:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    subject = x509.Name(attributes)
    builder = x509.CertificateBuilder(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "o")]), subject)
    builder = builder.public_key(key.public_key()).serial_number(serial)
    builder = builder.not_valid_before(vectors.NOW).not_valid_after(vectors.NOW.replace(year=2040))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize("serial", [1, 0x7F, 0x80, (1 << 159) - 1])
@pytest.mark.parametrize("names", [("lamp",), ("first", "lämp"), ("x" * 64,), ()])
def test_keys_of_a_certificate(serial: int, names: tuple[str, ...]) -> None:
    by_serial, by_name = certificate_keys(OURS, der(serial, *names))
    assert by_serial == search_key(" ".join(OURS), "serial", f"{serial:x}")
    assert by_name == (names[-1].encode() if names else None)
    assert by_serial != certificate_keys(THEIRS, der(serial, *names))[0]


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("Pump-7", "pump-7"),
        ("ДАТЧИК №7", "датчик no7"),  # NFKC writes the sign as two letters
        ("Straße", "strasse"),
        ("Й", "\u0439"),
        ("И\u0306", "\u0439"),  # the same letter, of two characters
        ("\uff30ump", "pump"),  # a P of full width
        (" a   b ", "a b"),
        ("ΟΔΟΣ", "οδοσ"),
        ("%_\\'\"<b>", "%_\\'\"<b>"),
        ("\U0010ffff", "\U0010ffff"),
    ],
)
def test_names_that_people_take_for_the_same_have_the_same_key(name: str, folded: str) -> None:
    assert name_key(name) == name_key(name.upper()) == folded.encode()


@pytest.mark.parametrize("name", ["", " ", "\t \u00a0"])
def test_a_name_of_spaces_has_no_key(name: str) -> None:
    assert name_key(name) is None


def test_keys_of_long_names_are_cut() -> None:
    assert len(name_key("\U00010437" * 64) or b"") == MAX_NAME
    assert name_key("x" * 5000) == b"x" * MAX_NAME


@pytest.mark.parametrize("kind", [_ASN1Type.UTF8String, _ASN1Type.BMPString, _ASN1Type.UniversalString])
def test_a_common_name_of_any_string_type_is_read(kind: _ASN1Type) -> None:
    assert serial_and_common_name(der(7, "Датчик", kind=kind)) == ("7", "Датчик")


def test_a_common_name_inside_another_attribute_does_not_count() -> None:
    """The attribute's text has the bytes of an object identifier and a string."""
    disguised = "\x06\x03U\x04\x03\x0c\x05other"
    assert serial_and_common_name(der(7, "pump", organization=disguised)) == ("7", "pump")
    assert serial_and_common_name(der(7, organization=disguised)) == ("7", None)


def test_any_bytes_can_be_read_without_an_error() -> None:
    rng, whole = random.Random(5), der(7, "first", "pump", organization="plant")
    for _ in range(3000):
        changed = bytearray(whole[: rng.randrange(len(whole) + 1)])
        for _ in range(min(len(changed), rng.randrange(4))):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        certificate_keys(OURS, bytes(changed))


def test_of_a_very_long_name_only_the_beginning_is_put_into_unicode_order() -> None:
    marks = "\u0301\u0327" * 10_000  # the time to order these grows with the square of their number
    folded = folded_name(f"Pump{marks}LAMP")
    assert folded.startswith("pum\u1e55\u0327\u0327")
    assert folded.endswith("\u0301\u0327lamp"), "not in order"
    assert folded_name(" " * 10_000 + "Pump " * 1000) == folded_name("pump " * 1000)


@pytest.mark.parametrize("end", range(0, 60, 7))
def test_an_incomplete_certificate_has_no_keys(end: int) -> None:
    assert certificate_keys(OURS, der(7, "lamp")[:end]) in [
        (None, None),
        (search_key(" ".join(OURS), "serial", "7"), None),
    ]
    assert certificate_keys(OURS, der(7, "lamp"))[1] == b"lamp"


@pytest.mark.parametrize("record", ["", "[]", "1", "{", '{"event":1,"resources":[[]]}'])
def test_a_malformed_record_has_no_keys(record: str) -> None:
    assert audit_keys("1", record, ("event", "resource")) == [None, None]


async def test_certificates_are_found_by_serial_number_and_common_name(world: World) -> None:
    for scope in (OURS, THEIRS):
        for serial, name in ((1, "a"), (2, "b")):
            await world.certificate(scope, pem_of(der(serial, name)))
    for scope in (OURS, THEIRS):
        key = search_key(" ".join(scope), "serial", "2")
        assert await world.rows("SELECT account, common_name FROM registrations WHERE serial_key = $1", key) == [
            (scope.account, b"b")
        ]


def pem_of(content: bytes) -> str:
    return x509.load_der_x509_certificate(content).public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (KEYED.format("serial_key"), "registrations_by_serial_key"),
        (
            "SELECT certificate FROM registrations WHERE account = $1 AND region = $1 AND common_name >= $1 LIMIT 5",
            "registrations_by_common_name",
        ),
        (
            "SELECT certificate FROM registrations WHERE account = $1 AND region = $1 AND not_after < $1 LIMIT 5",
            "registrations_by_not_after",
        ),
        *(
            (
                f"SELECT record FROM {table} WHERE {kind}_key = $1 AND id < $1 ORDER BY id DESC LIMIT 5",
                f"{table}_by_{kind}",
            )
            for stream in STREAMS
            for table, kind in product([stream.records], stream.searched)
        ),
    ],
)
async def test_searches_use_their_index(database: Path, query: str, index: str) -> None:
    await SQLiteStore(database).close()
    with contextlib.closing(sqlite3.connect(database)) as connection:
        plan: list[Any] = connection.execute(f"EXPLAIN QUERY PLAN {query.replace('$1', '1')}").fetchall()
    assert [index in step[3] for step in plan] == [True], plan
