"""A database of schema 10, with fingerprints as text in every index, is migrated to ids, on both engines."""

from __future__ import annotations

import contextlib
import re
import secrets
import signal
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.unit.vectors import certificate_pem
from thingmint.store.database import Database, DatabaseError
from thingmint.store.migrate import HISTORY_TABLE, migrations
from thingmint.store.postgres import PostgresStore
from thingmint.store.search_keys import certificate_keys, search_key
from thingmint.store.sqlite import SQLiteStore
from thingmint.store.table import fingerprint_of

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.store.engine import Store

A, B, C, CA, GONE, TOLD = ("a" * 64, "b" * 64, "c" * 64, "d" * 64, "e" * 64, "f" * 64)
UUID = "01234567-89ab-4def-a123-456789abcdef"
AUDIT = f"{1700000000000000:016x}0123456789abcdef"
RECORD = '{"event":"e","principal":"p","resources":["r","s"]}'
COMMON_NAME = "Lamp 7"
DER = x509.load_pem_x509_certificate(certificate_pem(common_name=COMMON_NAME).encode()).public_bytes(Encoding.DER)
SCHEMA = 10

_REGISTRATIONS = """registrations (
    account, region, fingerprint, status, mode, origin, created_at, modified_at, generation, version, ca, serial,
    deactivated_by, made_by_binding
)"""
# Rows of two accounts. The second account registered C before the first did. GONE is a deleted CA certificate. Bytes
# are in PostgreSQL's notation.
ROWS = rf"""
INSERT INTO accounts VALUES ('1', 'one', 1), ('2', 'two', 2);
INSERT INTO certificates VALUES
    ('{A}', '\x{DER.hex()}', 1, 2), ('{B}', '\x0b', 3, 4), ('{C}', '\x0c', 5, 6), ('{CA}', '\x0d', 7, 8);
INSERT INTO {_REGISTRATIONS} VALUES
    ('1', 'r', '{A}', 'ACTIVE', 'DEFAULT', 'csr', 50, 51, '{UUID}', 3, NULL, NULL, NULL, 0),
    ('1', 'r', '{B}', 'INACTIVE', 'SNI_ONLY', 'registered', 50, 50, '{UUID}', 1, '{CA}', '0a', 'unbinding', 1),
    ('1', 's', '{C}', 'REVOKED', 'DEFAULT', 'registered', 70, 70, '{UUID}', 1, '{GONE}', '0b', NULL, 0),
    ('2', 'r', '{C}', 'ACTIVE', 'DEFAULT', 'keys', 20, 20, '{UUID}', 1, NULL, NULL, NULL, 0);
INSERT INTO ca_certificates VALUES
    ('1', 'r', '{CA}', '\x01', 'ACTIVE', 'DEFAULT', 1, NULL, NULL, NULL, 'g', 2, 9, 10);
INSERT INTO ca_owners VALUES ('1', 'r', '{CA}', 'key', 9), ('1', 's', '{GONE}', '', 8);
INSERT INTO bindings VALUES ('1', 'r', '{A}', 'device', 'are1', 'PEM', 52);
INSERT INTO things VALUES ('1', 'r', 'lamp', '{UUID}', NULL, '{{"a":"b"}}', 2, 60);
INSERT INTO thing_attributes VALUES ('1', 'r', 'lamp', 'a', 'b');
INSERT INTO thing_groups VALUES ('1', 'r', 'g', 'group-id', NULL, 'g', NULL, '{{}}', 1, 1);
INSERT INTO thing_group_members VALUES ('1', 'r', 'group-id', 'lamp', 61);
INSERT INTO thing_principals VALUES ('1', 'r', 'lamp', '{A}', 1, 62), ('1', 'r', 'lamp', '{B}', 0, 63);
INSERT INTO device_policies VALUES ('1', 'r', 'p', 1, 1, 'g', 1, 1);
INSERT INTO device_policy_attachments VALUES
    ('1', 'r', 'cert', '{A}', 'p', 64), ('1', 'r', 'thinggroup', 'g', 'p', 65);
INSERT INTO provisioning_claims VALUES ('1', 'r', '{TOLD}', 't', 'g', 66, 67);
INSERT INTO ownership_tokens VALUES ('\x02', '1', 'r', '{A}', '{TOLD}', 68, NULL, NULL);
INSERT INTO revoked_certificates VALUES
    ('1', 'r', '{TOLD}', '{CA}', '0c', 69), ('1', 'r', '{GONE}', NULL, NULL, 70);
INSERT INTO ended_bindings VALUES ('1', 'r', '{TOLD}', 'INACTIVE');
INSERT INTO audit_records VALUES
    ('{AUDIT}', '1', '{RECORD}', 1, '\x03'), ('{AUDIT[:-1]}0', NULL, '[]', NULL, NULL);
INSERT INTO audit_activity VALUES ('{AUDIT}', '1', '{{}}', 1, '\x03')
"""

_F = fingerprint_of("certificate")
KEPT: dict[str, list[tuple[Any, ...]]] = {
    # In order of age, and of fingerprint for equal ages. The age of GONE comes from ca_owners.
    "SELECT id, fingerprint, der, not_before, not_after FROM certificates ORDER BY id": [
        (64 * 8, GONE, "", 0, 0),
        (64 * 9, CA, "0d", 7, 8),
        (64 * 20, C, "0c", 5, 6),
        (64 * 50, A, DER.hex(), 1, 2),
        (64 * 50 + 1, B, "0b", 3, 4),
    ],
    f"SELECT account, region, {_F}, status, mode, origin, created_at, modified_at, generation, version, "
    f"{fingerprint_of('ca')}, serial, deactivated_by, made_by_binding FROM registrations ORDER BY 1, 2, 3": [
        ("1", "r", A, "ACTIVE", "DEFAULT", "csr", 50, 51, UUID.replace("-", ""), 3, None, None, None, 0),
        ("1", "r", B, "INACTIVE", "SNI_ONLY", "registered", 50, 50, UUID.replace("-", ""), 1, CA, "0a", "unbinding", 1),
        ("1", "s", C, "REVOKED", "DEFAULT", "registered", 70, 70, UUID.replace("-", ""), 1, GONE, "0b", None, 0),
        ("2", "r", C, "ACTIVE", "DEFAULT", "keys", 20, 20, UUID.replace("-", ""), 1, None, None, None, 0),
    ],
    f"SELECT account, region, {_F}, subject, status, mode, auto_registration, version, created_at, modified_at "
    "FROM ca_certificates": [("1", "r", CA, "01", "ACTIVE", "DEFAULT", 1, 2, 9, 10)],
    f"SELECT account, region, {_F}, key_id, since FROM ca_owners ORDER BY since": [
        ("1", "s", GONE, "", 8),
        ("1", "r", CA, "key", 9),
    ],
    f"SELECT account, region, {_F}, kind, owner, submitted_pem, created_at FROM bindings": [
        ("1", "r", A, "device", "are1", "PEM", 52)
    ],
    "SELECT account, region, name, id, type, attributes, version, created_at FROM things": [
        ("1", "r", "lamp", UUID.replace("-", ""), None, '{"a":"b"}', 2, 60)
    ],
    "SELECT account, region, thing, name, value FROM thing_attributes": [("1", "r", "lamp", "a", "b")],
    "SELECT account, region, thing_group, thing, added_at FROM thing_group_members": [
        ("1", "r", "group-id", "lamp", 61)
    ],
    f"SELECT account, region, thing, {_F}, exclusive, attached_at FROM thing_principals ORDER BY attached_at": [
        ("1", "r", "lamp", A, 1, 62),
        ("1", "r", "lamp", B, 0, 63),
    ],
    f"SELECT account, region, {_F}, thing_group, policy, attached_at FROM device_policy_attachments "
    "ORDER BY attached_at": [("1", "r", A, "", "p", 64), ("1", "r", None, "g", "p", 65)],
    "SELECT account, region, fingerprint, template, template_generation, expires_at, created_at "
    "FROM provisioning_claims": [("1", "r", TOLD, "t", "g", 66, 67)],
    "SELECT token_sha256, account, region, fingerprint, claim, expires_at FROM ownership_tokens": [
        ("02", "1", "r", A, TOLD, 68)
    ],
    f"SELECT account, region, fingerprint, {fingerprint_of('ca')}, serial, revoked_at FROM revoked_certificates "
    "ORDER BY revoked_at": [("1", "r", TOLD, CA, "0c", 69), ("1", "r", GONE, None, None, 70)],
    "SELECT account, region, fingerprint, status FROM ended_bindings": [("1", "r", TOLD, "INACTIVE")],
    "SELECT id, account, record, sequence, hash FROM audit_records ORDER BY id": [
        (f"{AUDIT[:-1]}0", None, "[]", None, None),
        (AUDIT, "1", RECORD, 1, "03"),
    ],
    "SELECT created_at, not_after, serial_key, common_name FROM registrations ORDER BY created_at, certificate": [
        (20, 6, None, None),
        (50, 2, certificate_keys(("1", "r"), DER)[0], COMMON_NAME.lower().encode().hex()),
        (50, 4, None, None),
        (70, 6, None, None),
    ],
    "SELECT id, event_key, principal_key, resource_key FROM audit_records ORDER BY id": [
        (f"{AUDIT[:-1]}0", None, None, None),
        (AUDIT, search_key("1", "event", "e"), search_key("1", "principal", "p"), search_key("1", "resource", "r")),
    ],
    "SELECT id, account, record, sequence, hash FROM audit_activity": [(AUDIT, "1", "{}", 1, "03")],
}


class OldDatabase:
    """A database of schema 10: a file, or a new database on the PostgreSQL server at ``url``."""

    def __init__(self, file: Path, url: str | None) -> None:
        self.file = file
        self._server = url
        self._name = f"old{secrets.token_hex(4)}"
        self._url = url.replace("/postgres?", f"/{self._name}?") if url is not None else None

    async def make(self, *rows: str) -> None:
        if self._server is not None:
            await _execute(self._server, f"CREATE DATABASE {self._name}")
        done = [migration for migration in migrations() if migration.version <= SCHEMA]
        history = [f"({each.version}, '{each.name}', '{each.sha256}')" for each in done]
        await self.execute(
            *(statement for migration in done for statement in migration.statements),
            HISTORY_TABLE,
            f"INSERT INTO schema_migrations VALUES {', '.join(history)}",
            *(statement for text in rows for statement in text.split(";\n")),
        )

    async def execute(self, *statements: str) -> None:
        if self._url is not None:
            await _execute(self._url, *statements)
            return
        with contextlib.closing(sqlite3.connect(self.file, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(re.sub(r"'\\x([0-9a-f]*)'", r"x'\1'", statement))

    @property
    def database(self) -> Database:
        return Database.in_file(self.file) if self._url is None else Database(self._url)

    async def open(self) -> Store:
        return SQLiteStore(self.file) if self._url is None else await PostgresStore.open(self._url)


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(params=["sqlite", "postgres"])
def old(request: pytest.FixtureRequest, database: Path) -> OldDatabase:
    sqlite = request.param == "sqlite"
    return OldDatabase(database, None if sqlite else request.getfixturevalue("postgres_database").server_url)


async def kept(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    found = {}
    for sql in KEPT:
        rows = await store.read(lambda tx, sql=sql: tx.fetch_all(sql))  # type: ignore[misc]
        found[sql] = [tuple(value.hex() if isinstance(value, bytes) else value for value in row) for row in rows]
    return found


async def test_every_row_is_migrated(old: OldDatabase) -> None:
    await old.make(ROWS)
    for _ in range(2):
        store = await old.open()
        assert await kept(store) == KEPT
        await store.close()


async def test_opening_to_read_does_not_migrate_and_refuses_other_versions(old: OldDatabase) -> None:
    """A server of that version may be using the database."""
    await old.make(ROWS)
    with pytest.raises(DatabaseError, match=rf"earlier version of Thingmint \(schema {SCHEMA}, .* start the server"):
        await old.database.open_to_read()
    await (await old.open()).close()
    await (await old.database.open_to_read()).close()
    await old.execute("INSERT INTO schema_migrations VALUES (9999, 'later', '')")
    with pytest.raises(DatabaseError, match="later version of Thingmint"):
        await old.database.open_to_read()


async def test_a_migration_that_fails_near_its_end_changes_nothing(old: OldDatabase) -> None:
    twice = f"INSERT INTO audit_activity VALUES ('{AUDIT.upper()}', NULL, '', NULL, NULL)"  # the same bytes
    await old.make(ROWS, twice)
    with pytest.raises((sqlite3.IntegrityError, asyncpg.UniqueViolationError)):
        await old.open()
    await old.execute(f"DELETE FROM audit_activity WHERE id = '{AUDIT.upper()}'")
    store = await old.open()
    assert await kept(store) == KEPT
    await store.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from thingmint.store import migrate, sqlite

def decode(text, encoding):
    if text == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
    return bytes.fromhex(text)

migrate._decode = decode
sqlite.SQLiteStore(Path(sys.argv[1]))
"""


async def test_a_killed_migration_changes_nothing(database: Path) -> None:
    old = OldDatabase(database, None)
    await old.make(ROWS)
    killed = subprocess.run([sys.executable, "-c", KILLED, database, AUDIT], check=False)  # noqa: ASYNC221
    assert killed.returncode == -signal.SIGKILL
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT max(version) FROM schema_migrations").fetchone() == (SCHEMA,)
        assert connection.execute("SELECT fingerprint FROM bindings").fetchall() == [(A,)]
    store = await old.open()
    assert await kept(store) == KEPT
    await store.close()
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_ids_are_unique_and_in_the_order_of_registration(old: OldDatabase) -> None:
    """Also if hundreds of certificates were registered in one microsecond."""
    fingerprints = [f"{number:064x}" for number in range(300)]
    contents = ", ".join(f"('{fingerprint}', '\\x00', 1, 2)" for fingerprint in fingerprints)
    claims = ", ".join(
        f"('1', 'r', '{fingerprint}', 'ACTIVE', 'DEFAULT', 'csr', {7 + number // 200}, 1, '{UUID}', 1, NULL, NULL, "
        "NULL, 0)"
        for number, fingerprint in enumerate(reversed(fingerprints))
    )
    await old.make(
        "INSERT INTO accounts VALUES ('1', 'one', 1)",
        f"INSERT INTO certificates VALUES {contents}",
        f"INSERT INTO {_REGISTRATIONS} VALUES {claims}",
    )
    store = await old.open()
    rows = await store.read(lambda tx: tx.fetch_all("SELECT id, fingerprint FROM certificates ORDER BY id"))
    await store.close()
    assert [fingerprint.hex() for _, fingerprint in rows] == [*fingerprints[100:], *fingerprints[:100]]
    assert len({id for id, _ in rows}) == 300
    assert (rows[0][0], rows[199][0], rows[200][0]) == (7 * 64, 7 * 64 + 199, 7 * 64 + 200)
