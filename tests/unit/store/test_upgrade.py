"""This version opens and migrates databases of earlier versions."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from structlog.testing import capture_logs

from tests.issuers import new_issuer
from tests.unit.vectors import NOW
from thingmint.access.administration.credentials import reseal
from thingmint.access.directory import Directory
from thingmint.access.vault import Vault
from thingmint.domain.issuing_ca import OwnAuthorities
from thingmint.domain.policies import Allow, Request
from thingmint.services.ca_owners import settle_ca_owners
from thingmint.store.migrate import HISTORY_TABLE, add_functions_to_sqlite, for_sqlite, migrations
from thingmint.store.sqlite import SQLiteStore
from thingmint.store.table import fingerprint_of

if TYPE_CHECKING:
    from pathlib import Path

VAULT = Vault(b"m" * 32)
ACCOUNT = "123456789012"
UUID = "01234567-89ab-cdef-0123-456789abcdef"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database with version 2 of the schema: an administrator, a user with one permission, a service account."""
    path = tmp_path / "thingmint.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(HISTORY_TABLE)
    for migration in list(migrations())[:2]:
        for statement in migration.statements:
            connection.execute(statement)
        row = (migration.version, migration.name, migration.sha256)
        connection.execute("INSERT INTO schema_migrations (version, name, sha256) VALUES (?, ?, ?)", row)
    rows: list[tuple[str, list[tuple[Any, ...]]]] = [
        ("accounts (id, name, created_at)", [(ACCOUNT, "default", 1)]),
        ("account_regions (account, region, position)", [(ACCOUNT, "us-east-1", 0)]),
        (
            "principals (id, account, kind, name, permissions, created_at)",
            [
                ("aje0", ACCOUNT, "user", "administrator", "*", 1),
                ("aje1", ACCOUNT, "user", "elf", "iot:DescribeThing", 2),
                ("aje2", ACCOUNT, "service-account", "administrator", "*", 1),
            ],
        ),
        (
            "access_keys (id, principal, sealed_secret, created_at)",
            [(id, owner, VAULT.seal(SECRET, id), 1) for id, owner in (("AKIA0", "aje0"), ("AKIA1", "aje1"))],
        ),
        (
            "api_tokens (id, principal, secret_sha256, created_at)",
            [("0123456789abcdef", "aje0", hashlib.sha256(b"secret").digest(), 1)],
        ),
        ("authorized_keys (id, principal, public_key, created_at)", [("ajeKey", "aje2", b"public", 1)]),
    ]
    for table, values in rows:
        for value in values:
            connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(value))})", value)
    connection.close()
    return path


async def test_credentials_work_after_the_upgrade(database: Path) -> None:
    for _ in range(2):
        store = SQLiteStore(database)
        try:
            directory = Directory(store, VAULT, lambda: NOW)
            request = [Request("iot:DescribeThing", "arn:aws:iot:us-east-1:123456789012:thing/x")]
            caller, secret = await directory.find_access_key("AKIA0", None)
            assert (caller.principal, caller.name, secret) == ("aje0", "administrator", SECRET)
            assert isinstance(caller.decide(request), Allow)
            assert (await directory.authenticate_token("tma_0123456789abcdef_secret")).principal == "aje0"
            assert await directory.find_authorized_key("ajeKey") == ("aje2", "public")
            assert isinstance((await directory.bearer_of_iam_token("x", "ajeKey")).decide(request), Allow)
            assert (await directory.developer()).principal == "aje0"
            # Lists of permissions no longer exist: a user that had one starts without policies.
            caller, secret = await directory.find_access_key("AKIA1", None)
            assert (caller.name, secret, caller.policies) == ("elf", SECRET, ())
            assert await store.write(lambda tx: reseal(tx, VAULT)) == 2
        finally:
            await store.close()


async def test_the_old_tables_and_columns_are_removed(database: Path) -> None:
    await SQLiteStore(database).close()
    with contextlib.closing(sqlite3.connect(database)) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        columns = {row[1] for row in connection.execute("PRAGMA table_info(principals)")}
        broken = connection.execute("PRAGMA foreign_key_check").fetchall()
    assert not tables & {"access_keys", "api_tokens", "authorized_keys"}
    assert "permissions" not in columns
    assert broken == []


def at_version(path: Path, version: int) -> sqlite3.Connection:
    """A database with this version of the schema, and without rows."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(HISTORY_TABLE)
    add_functions_to_sqlite(connection)
    for migration in migrations():
        if migration.version <= version:
            for statement in migration.statements:
                connection.execute(for_sqlite(statement))
            row = (migration.version, migration.name, migration.sha256)
            connection.execute("INSERT INTO schema_migrations (version, name, sha256) VALUES (?, ?, ?)", row)
    return connection


async def test_members_claims_and_bindings_are_migrated(tmp_path: Path) -> None:
    path = tmp_path / "thingmint.db"
    template = f"'{ACCOUNT}', 'r', 'p', 'JITP', NULL, 1, 'arn', NULL, NULL, 1, 1, 1, 1"
    with contextlib.closing(at_version(path, 7)) as connection:
        for statement in (
            f"INSERT INTO accounts VALUES ('{ACCOUNT}', 'default', 1)",
            f"INSERT INTO things VALUES ('{ACCOUNT}', 'r', 't', '{UUID}', NULL, '{{}}', 1, 1)",
            f"INSERT INTO thing_groups VALUES ('{ACCOUNT}', 'r', 'g', 'g-id', NULL, 'g', NULL, '{{}}', 1, 1)",
            f"INSERT INTO thing_group_members VALUES ('{ACCOUNT}', 'r', 'g', 't', 7)",
            f"INSERT INTO provisioning_templates VALUES ({template})",
            f"INSERT INTO provisioning_claims VALUES ('{ACCOUNT}', 'r', '{'c' * 64}', 'p', 9, 1)",
            *(f"INSERT INTO certificates VALUES ('{name * 64}', x'', 1, 2)" for name in "ab"),
            *(
                f"INSERT INTO registrations VALUES ('{ACCOUNT}', 'r', '{name * 64}', 'ACTIVE', 'DEFAULT', 'csr', 1, 1, "
                f"'{UUID}', 1, NULL, NULL)"
                for name in "ab"
            ),
            f"INSERT INTO bindings VALUES ('{ACCOUNT}', 'r', '{'a' * 64}', 'device', 'd', NULL, 1, 1)",
            f"INSERT INTO bindings VALUES ('{ACCOUNT}', 'r', '{'b' * 64}', 'device', 'd', NULL, 0, 1)",
        ):
            connection.execute(statement)
    await SQLiteStore(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT thing_group, thing, added_at FROM thing_group_members").fetchall() == [
            ("g-id", "t", 7)
        ]
        claims = "SELECT c.fingerprint FROM provisioning_claims AS c JOIN provisioning_templates AS t "
        assert connection.execute(f"{claims} ON t.generation = c.template_generation").fetchall() == [(b"\xcc" * 32,)]
        made = f"SELECT {fingerprint_of('certificate')}, made_by_binding, deactivated_by FROM registrations"
        expected = [(b"\xaa" * 32, 1, None), (b"\xbb" * 32, 0, None)]
        assert connection.execute(f"{made} ORDER BY certificate").fetchall() == expected
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


async def test_ca_owners_are_settled_once_and_other_accounts_become_sni_only(tmp_path: Path) -> None:
    """If two accounts had the same CA in DEFAULT mode, the first one keeps it, even if the CA is deleted."""
    path, other = tmp_path / "thingmint.db", "222222222222"
    root = new_issuer(now=NOW)
    kept, gone = root.fingerprint, "9" * 64
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(HISTORY_TABLE)
    for migration in list(migrations())[:6]:
        for statement in migration.statements:
            connection.execute(statement)
        row = (migration.version, migration.name, migration.sha256)
        connection.execute("INSERT INTO schema_migrations (version, name, sha256) VALUES (?, ?, ?)", row)
    der = root.certificate.public_bytes(Encoding.DER)
    connection.execute("INSERT INTO certificates VALUES (?, ?, 0, 0)", (kept, der))
    for name in "abcd":
        connection.execute("INSERT INTO certificates VALUES (?, ?, 0, 0)", (name * 64, b"device"))
    for age, account in enumerate((other, ACCOUNT)):  # the other account registered the CA first
        connection.execute("INSERT INTO accounts VALUES (?, 'x', 1)", (account,))
        connection.execute(
            "INSERT INTO ca_certificates VALUES (?, 'r', ?, ?, 'ACTIVE', 'DEFAULT', 1, NULL, NULL, NULL, 'g', 1, ?, 1)",
            (account, kept, b"subject", 10 + age),
        )
        for ca, device in ((kept, "ab"[age]), (gone, "cd"[age])):
            connection.execute(
                "INSERT INTO registrations VALUES (?, 'r', ?, 'ACTIVE', 'DEFAULT', 'registered', ?, 1, ?, 1, ?, ?)",
                (account, device * 64, 20 - age, UUID, ca, device),
            )
    connection.close()
    store = SQLiteStore(path)
    try:
        with capture_logs() as logs:
            for _ in range(2):
                await settle_ca_owners(store, OwnAuthorities([]))
        told = [(line["event"], line["account"], line["ca"]) for line in logs]
        assert sorted(told) == sorted(
            [("ca_certificate_made_sni_only", ACCOUNT, kept), ("ca_certificate_made_sni_only", other, gone)]
        )
        fingerprint = fingerprint_of("certificate")
        rows = await store.read(lambda tx: tx.fetch_all(f"SELECT account, {fingerprint}, mode FROM registrations"))
        assert {(account, of.hex()[0]): mode for account, of, mode in rows} == {
            (other, "a"): "DEFAULT",
            (ACCOUNT, "b"): "SNI_ONLY",
            (other, "c"): "SNI_ONLY",  # under the deleted CA, this account's oldest registration is the later one
            (ACCOUNT, "d"): "DEFAULT",
        }
        owners = await store.read(lambda tx: tx.fetch_all(f"SELECT account, {fingerprint} FROM ca_owners"))
        assert {(account, of.hex()) for account, of in owners} == {(other, kept), (ACCOUNT, gone)}
    finally:
        await store.close()
