"""Rows are found by search keys, with indexes."""

from __future__ import annotations

import contextlib
import sqlite3
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.unit import vectors
from tests.world import OURS, THEIRS
from thingmint.store.audit import STREAMS
from thingmint.store.search_keys import audit_keys, certificate_keys, search_key
from thingmint.store.sqlite import SQLiteStore

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world import World

KEYED = "SELECT certificate FROM registrations WHERE {} = $1 ORDER BY certificate LIMIT 5"


def der(serial: int, *names: str) -> bytes:
    key = vectors.ca_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])
    builder = x509.CertificateBuilder(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "o")]), subject)
    builder = builder.public_key(key.public_key()).serial_number(serial)
    builder = builder.not_valid_before(vectors.NOW).not_valid_after(vectors.NOW.replace(year=2040))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize("serial", [1, 0x7F, 0x80, (1 << 159) - 1])
@pytest.mark.parametrize("names", [("lamp",), ("first", "lämp"), ("x" * 64,), ()])
def test_keys_of_a_certificate(serial: int, names: tuple[str, ...]) -> None:
    account = " ".join(OURS)
    by_serial, by_subject = certificate_keys(OURS, der(serial, *names))
    assert by_serial == search_key(account, "serial", f"{serial:x}")
    assert by_subject == (search_key(account, "common name", names[-1]) if names else None)
    assert (by_serial, by_subject) != certificate_keys(THEIRS, der(serial, *names))


@pytest.mark.parametrize("end", range(0, 60, 7))
def test_an_incomplete_certificate_has_no_keys(end: int) -> None:
    assert certificate_keys(OURS, der(7, "lamp")[:end]) in [
        (None, None),
        (search_key(" ".join(OURS), "serial", "7"), None),
    ]


@pytest.mark.parametrize("record", ["", "[]", "1", "{", '{"event":1,"resources":[[]]}'])
def test_a_malformed_record_has_no_keys(record: str) -> None:
    assert audit_keys("1", record, ("event", "resource")) == [None, None]


async def test_certificates_are_found_by_serial_number_and_common_name(world: World) -> None:
    for scope in (OURS, THEIRS):
        for serial, name in ((1, "a"), (2, "b")):
            await world.certificate(scope, _pem(der(serial, name)))
    for scope in (OURS, THEIRS):
        for column, kind, text in (("serial_key", "serial", "2"), ("subject_key", "common name", "b")):
            key = search_key(" ".join(scope), kind, text)
            (row,) = await world.rows(f"SELECT account, certificate FROM registrations WHERE {column} = $1", key)
            assert row[0] == scope.account


def _pem(content: bytes) -> str:
    return x509.load_der_x509_certificate(content).public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (KEYED.format("serial_key"), "registrations_by_serial_key"),
        (KEYED.format("subject_key"), "registrations_by_subject"),
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
