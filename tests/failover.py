"""Two PostgreSQL servers: a primary, and a standby that takes its place."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest

from thingmint.testing.postgres import QUICK, NoPostgres, Postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["both", "promote", "servers"]

_REPLICATED = {**QUICK, "synchronous_commit": "on", "wal_level": "replica", "max_wal_senders": "4"}


@contextmanager
def servers() -> Iterator[tuple[Postgres, Postgres]]:
    """A primary, and a standby that has to confirm each change."""
    try:
        primary = Postgres(_REPLICATED | {"synchronous_standby_names": "FIRST 1 (standby)"})
    except NoPostgres as error:
        pytest.skip(f"PostgreSQL was not found: {error}")
    with primary, Postgres(_REPLICATED, standby_of=primary) as standby:
        yield primary, standby


async def promote(standby: Postgres) -> None:
    connection = await asyncpg.connect(standby.url())
    assert await connection.fetchval("SELECT pg_promote()")
    await connection.close()


def both(*servers: Postgres, more: str = "") -> str:
    """The URL with the hosts in this order."""
    return f"postgresql://thingmint@/postgres?host={','.join(str(server.folder) for server in servers)}{more}"
