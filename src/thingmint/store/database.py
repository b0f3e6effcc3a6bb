"""The database of an instance: a SQLite file for one process, or a PostgreSQL database that processes can share.

A store has the fingerprints of the instance's keys, so that the keys of another data directory are refused.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from thingmint.store.migrate import MigrationError
from thingmint.store.sqlite import SQLiteReader, SQLiteStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.store.disk_reserve import DiskReserve
    from thingmint.store.engine import Store, Transaction


_POSTGRES = ("postgresql://", "postgres://")


class DatabaseError(Exception):
    """The database cannot be opened. The text names the database, without its password."""


@dataclass(frozen=True, slots=True)
class Database:
    """``url`` is ``sqlite:`` followed by the path of a file, or a PostgreSQL URL, which can contain a password."""

    url: str = field(repr=False)

    @classmethod
    def in_file(cls, path: Path) -> Database:
        return cls(f"sqlite:{path}")

    @property
    def file(self) -> Path | None:
        return Path(self.url.removeprefix("sqlite:")) if self.url.startswith("sqlite:") else None

    def __str__(self) -> str:
        if self.file is not None:
            return str(self.file)
        parts = urlsplit(self.url)
        return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"

    async def open(self, reserve: DiskReserve | None = None, timelines: Path | None = None) -> Store:
        """The store, with its schema brought up to date. Raises DatabaseError.

        ``reserve`` is used for SQLite. ``timelines`` is a file that is used for PostgreSQL (see ``primary``).
        """
        if self.file is not None:
            try:
                return SQLiteStore(self.file, reserve)
            except (sqlite3.Error, MigrationError) as error:
                raise DatabaseError(f"{self} cannot be opened: {error}") from None
        return await self._open_postgres(timelines, reading=False)

    async def open_to_read(self, timelines: Path | None = None) -> SQLiteReader | Store:
        """The store for reading only, while a server may be writing. Raises DatabaseError."""
        if self.file is None:
            return await self._open_postgres(timelines, reading=True)
        try:
            return SQLiteReader(self.file)
        except (sqlite3.Error, MigrationError) as error:
            raise DatabaseError(f"{self} cannot be read: {error}") from None

    async def _open_postgres(self, timelines: Path | None, *, reading: bool) -> Store:
        import asyncpg  # takes 0.1 s, which an instance with SQLite does not need

        from thingmint.store.postgres import PostgresStore

        try:
            return await PostgresStore.open(self.url, timelines=timelines, reading=reading)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, MigrationError, OSError, ValueError) as error:
            raise DatabaseError(f"{self} cannot be opened: {error or type(error).__name__}") from None


def parse_store_url(url: str) -> str:
    """The URL unchanged. Raises ValueError unless it is ``sqlite:`` (a file in the data directory) or PostgreSQL's."""
    if url != "sqlite:" and not url.startswith(_POSTGRES):
        raise ValueError("must be sqlite: (a file in the data directory) or postgresql://USER@HOST/DATABASE")
    return url


async def list_instance_keys(tx: Transaction) -> dict[str, str]:
    """The SHA-256 of each of the instance's keys, in hexadecimal digits, by the key's name."""
    return dict(await tx.fetch_all("SELECT name, sha256 FROM instance_keys"))


async def keep_instance_keys(tx: Transaction, keys: Mapping[str, str]) -> None:
    rows = list(keys.items())
    await tx.execute_many(
        "INSERT INTO instance_keys (name, sha256) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING", rows
    )


async def replace_instance_key(tx: Transaction, name: str, sha256: str) -> None:
    await tx.execute(
        "INSERT INTO instance_keys (name, sha256) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET sha256 = $2",
        name,
        sha256,
    )
