"""Dumps a store as text, and restores it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# Rows that expire within days would have expired before a test migrates them, so their times are moved by a century.
_CENTURY = 100 * 366 * 24 * 3600 * 1_000_000  # microseconds
_ENDING = (
    ("provisioning_claims", "expires_at"),
    ("ownership_tokens", "expires_at"),
    ("credentials", "expires_at"),
    ("revoked_tokens", "expires_at"),
    ("idempotency_keys", "created_at"),
    ("operations", "created_at"),
    ("outbox", "created_at"),
)


def dump(database: Path) -> str:
    """All tables and rows as SQL, always in the same order."""
    with closing(sqlite3.connect(database)) as connection:
        return "".join(f"{line}\n" for line in connection.iterdump())


def restore(text: str, database: Path) -> None:
    """Makes the database from the text of ``dump``. Times at which rows expire soon are moved by a century."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(text)
        for table, column in _ENDING:
            connection.execute(f"UPDATE {table} SET {column} = {column} + {_CENTURY}")
        connection.commit()


def row_counts(database: Path) -> dict[str, int]:
    with closing(sqlite3.connect(database)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
        return {t: connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for (t,) in tables}
