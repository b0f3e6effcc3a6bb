"""Where an instance keeps its records: in a file of its own, or in a database that other processes may share.

A store says which keys its records were made with, by their fingerprints: another data directory's do not fit.
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
    """The database cannot be opened; the text names it, and has no password."""


@dataclass(frozen=True, slots=True)
class Database:
    """``url`` is ``sqlite:`` with the path of a file behind it, or a PostgreSQL URL, which may hold a password."""

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
        """Brings the schema up to date; ``reserve`` is for a file, and ``timelines`` one for PostgreSQL's.

        Raises DatabaseError.
        """
        if self.file is not None:
            try:
                return SQLiteStore(self.file, reserve)
            except (sqlite3.Error, MigrationError) as error:
                raise DatabaseError(f"{self} cannot be opened: {error}") from None
        return await self._open_postgres(timelines, reading=False)

    async def open_to_read(self, timelines: Path | None = None) -> SQLiteReader | Store:
        """For reading only, beside a server that may be writing. Raises DatabaseError."""
        if self.file is None:
            return await self._open_postgres(timelines, reading=True)
        try:
            return SQLiteReader(self.file)
        except (sqlite3.Error, MigrationError) as error:
            raise DatabaseError(f"{self} cannot be read: {error}") from None

    async def _open_postgres(self, timelines: Path | None, *, reading: bool) -> Store:
        import asyncpg  # 0.1 s, which an instance with a file of its own need not wait for

        from thingmint.store.postgres import PostgresStore

        try:
            return await PostgresStore.open(self.url, timelines=timelines, reading=reading)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, MigrationError, OSError, ValueError) as error:
            raise DatabaseError(f"{self} cannot be opened: {error or type(error).__name__}") from None


def parse_store_url(url: str) -> str:
    """Raises ValueError for what is neither ``sqlite:`` (the data directory's own file) nor a PostgreSQL URL."""
    if url != "sqlite:" and not url.startswith(_POSTGRES):
        raise ValueError("must be sqlite: (a file in the data directory) or postgresql://USER@HOST/DATABASE")
    return url


async def list_instance_keys(tx: Transaction) -> dict[str, str]:
    """Name and SHA-256, in hexadecimal digits."""
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
