"""What a source has to remember of a fleet, in a temporary file instead of in memory."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Seen = Literal["new", "same", "other"]


class Scratch:
    """``seen`` remembers keys with what they had; ``aliases`` keeps rows by device until they are taken.

    SQLite keeps a bounded part in memory and the rest in a file without a name, which ends with the process.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(
            """
            PRAGMA journal_mode = OFF;
            PRAGMA synchronous = OFF;
            CREATE TABLE seen (key TEXT PRIMARY KEY, content BLOB) WITHOUT ROWID;
            CREATE TABLE aliases (device TEXT, alias TEXT, target TEXT, PRIMARY KEY (device, alias)) WITHOUT ROWID;
            """
        )

    def seen(self, key: str, content: bytes) -> Seen:
        """``new`` the first time that a key comes; then ``same`` if it has the same content, else ``other``."""
        cursor = self._database.execute("INSERT INTO seen VALUES (?, ?) ON CONFLICT DO NOTHING", (key, content))
        if cursor.rowcount == 1:
            return "new"
        (known,) = self._database.execute("SELECT content FROM seen WHERE key = ?", (key,)).fetchone()
        return "same" if known == content else "other"

    def keep_aliases(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Rows of device, alias and target; the first of a device and alias counts."""
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO aliases VALUES (?, ?, ?) ON CONFLICT DO NOTHING", rows)
        self._database.execute("COMMIT")

    def take_aliases(self, device: str) -> list[tuple[str, str]]:
        """The aliases of a device with their targets, which are forgotten."""
        rows = self._database.execute("SELECT alias, target FROM aliases WHERE device = ?", (device,)).fetchall()
        if rows:
            self._database.execute("DELETE FROM aliases WHERE device = ?", (device,))
        return rows

    def left_aliases(self) -> Iterator[tuple[str, str]]:
        """Devices and aliases that were not taken. Then they are forgotten."""
        yield from self._database.execute("SELECT device, alias FROM aliases ORDER BY device, alias")
        self._database.execute("DELETE FROM aliases")

    def close(self) -> None:
        self._database.close()
