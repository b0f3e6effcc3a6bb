"""The numbered migrations of the schema, and those that a database still needs.

Both engines run the same files. Where their SQL differs, the files have PostgreSQL's, with these exceptions:

- ``add_functions_to_sqlite`` adds functions that only PostgreSQL has (``decode``).
- ``for_postgres`` removes SQLite's table layouts: INTEGER PRIMARY KEY makes a column the row number that SQLite has
  anyway, WITHOUT ROWID stores the rows in the index of their key.
- ``for_sqlite`` omits DROP CONSTRAINT, which SQLite does not have.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence


HISTORY = "SELECT version, sha256 FROM schema_migrations"
HISTORY_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version BIGINT PRIMARY KEY,
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL
)
"""

_FILE_NAME = re.compile(r"(\d{4})_(\w+)\.sql")


class MigrationError(Exception):
    """The database was made by another program, or by a later version of this one."""


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def statements(self) -> list[str]:
        """The statements one by one: neither engine runs several in one call inside a transaction."""
        without_comments = re.sub(r"--[^\n]*", "", self.sql)
        return [statement.strip() for statement in without_comments.split(";") if statement.strip()]


def for_postgres(statement: str) -> str:
    return statement.replace("INTEGER PRIMARY KEY", "BIGINT PRIMARY KEY").replace(" WITHOUT ROWID", "")


def for_sqlite(statement: str) -> str:
    return "" if " DROP CONSTRAINT " in statement else statement


def add_functions_to_sqlite(connection: sqlite3.Connection) -> None:
    """Adds the functions of PostgreSQL that migrations call."""
    connection.create_function("decode", 2, _decode, deterministic=True)


def _decode(text: str, encoding: str) -> bytes:
    assert encoding == "hex", encoding
    return bytes.fromhex(text)


def migrations() -> list[Migration]:
    """All migrations of this program, in order."""
    folder = resources.files("thingmint.store") / "migrations"
    found = [
        Migration(int(match[1]), match[2], file.read_text("utf-8"))
        for file in folder.iterdir()
        if (match := _FILE_NAME.fullmatch(file.name))
    ]
    return sorted(found, key=lambda migration: migration.version)


def pending(applied: Sequence[tuple[int, str]]) -> list[Migration]:
    """The migrations that a database needs, given (version, sha256) of those that it has. Raises MigrationError."""
    known = migrations()
    if len(applied) > len(known):
        raise MigrationError(
            f"the database is of a later version of Thingmint (schema {len(applied)}, this one knows {len(known)}): "
            "start that version"
        )
    for migration, (version, sha256) in zip(known, sorted(applied), strict=False):
        if (migration.version, migration.sha256) != (version, sha256):
            raise MigrationError(
                f"schema version {version} of the database is not the one that this version of Thingmint made"
            )
    return known[len(applied) :]


def check_current(applied: Sequence[tuple[int, str]]) -> None:
    """Raises MigrationError if a database needs migrations; for readers, which cannot run them."""
    if left := pending(applied):
        raise MigrationError(
            f"the database is of an earlier version of Thingmint (schema {len(applied)}, this one reads schema "
            f"{len(applied) + len(left)}): start the server, which brings it up to date"
        )
