"""Pending migrations, and databases that must not be changed."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

import pytest

from thingmint.store import sqlite
from thingmint.store.migrate import Migration, MigrationError, for_postgres, for_sqlite, migrations, pending
from thingmint.store.sqlite import SQLiteStore

if TYPE_CHECKING:
    from pathlib import Path

ALL = [(migration.version, migration.sha256) for migration in migrations()]


def schema(database: Path) -> list[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        found = connection.execute("SELECT sql FROM sqlite_schema ORDER BY name").fetchall()
        found += connection.execute("SELECT * FROM schema_migrations").fetchall()
    return found


def change(database: Path, sql: str) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(sql)


def test_migrations_are_numbered_from_1_without_a_gap() -> None:
    assert [migration.version for migration in migrations()] == list(range(1, len(ALL) + 1))


def test_all_migrations_are_pending_at_first_and_none_at_the_end() -> None:
    assert pending([]) == migrations()
    assert pending(ALL) == []


@pytest.mark.parametrize(
    ("applied", "message"),
    [
        ([*ALL, (len(ALL) + 1, "0" * 64)], "the database is of a later version of Thingmint"),
        ([(1, "0" * 64), *ALL[1:]], "schema version 1 of the database is not the one"),
        ([(2, ALL[0][1])], "schema version 2 of the database is not the one"),
    ],
)
def test_databases_with_another_history_are_refused(applied: list[tuple[int, str]], message: str) -> None:
    with pytest.raises(MigrationError, match=message):
        pending(applied)


def test_comments_are_removed_and_statements_split() -> None:
    migration = Migration(1, "x", "-- a; comment\nCREATE TABLE a (b); -- more\n\nCREATE INDEX c\n ON a (b);\n--\n")
    assert migration.statements == ["CREATE TABLE a (b)", "CREATE INDEX c\n ON a (b)"]


def test_syntax_of_the_other_engine_is_removed() -> None:
    statement = "CREATE TABLE a (id INTEGER PRIMARY KEY) WITHOUT ROWID"
    assert for_postgres(statement) == "CREATE TABLE a (id BIGINT PRIMARY KEY)"
    assert for_sqlite(statement) == statement
    assert for_sqlite("ALTER TABLE a DROP CONSTRAINT b") == ""


async def test_opening_a_current_database_changes_nothing(database: Path) -> None:
    for _ in range(2):
        await SQLiteStore(database).close()
        before = schema(database)
    assert schema(database) == before
    assert len(before) > 10


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO schema_migrations (version, name, sha256) VALUES (9999, 'later', '')",
        "UPDATE schema_migrations SET sha256 = ''",
    ],
)
async def test_a_database_of_another_version_is_not_changed(database: Path, sql: str) -> None:
    await SQLiteStore(database).close()
    change(database, sql)
    before = schema(database)
    with pytest.raises(MigrationError):
        SQLiteStore(database)
    assert schema(database) == before


async def test_a_failed_migration_changes_nothing(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Migration(1, "broken", "CREATE TABLE a (b); CREATE TABLE a (b);")
    monkeypatch.setattr(sqlite, "pending", lambda applied: [broken])
    with pytest.raises(sqlite3.OperationalError):
        SQLiteStore(database)
    monkeypatch.undo()
    await SQLiteStore(database).close()
    assert not [row for row in schema(database) if row[0] == "CREATE TABLE a (b)"]


def test_a_file_that_is_no_database_is_not_changed(database: Path) -> None:
    database.write_bytes(b"some text that is long enough for SQLite to check" * 100)
    before = database.read_bytes()
    with pytest.raises(sqlite3.DatabaseError):
        SQLiteStore(database)
    assert database.read_bytes() == before
