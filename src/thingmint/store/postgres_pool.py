"""The pool of connections to PostgreSQL. Opening it checks the database and brings its schema up to date."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

import asyncpg

from thingmint.store.migrate import HISTORY, HISTORY_TABLE, MigrationError, check_current, for_postgres, pending
from thingmint.store.postgres_transaction import PostgresTransaction
from thingmint.store.search_keys import BACKFILLS

if TYPE_CHECKING:
    from thingmint.store.primary import PrimaryConnector


CONNECT_TIMEOUT = 5.0  # seconds
SETTINGS = {
    "application_name": "thingmint",
    "jit": "off",
    # A transaction that scans a table conflicts with every write to it, and the planner prefers to scan small tables.
    "enable_seqscan": "off",
    "idle_in_transaction_session_timeout": "60000",
    # A row stays locked while its COMMIT waits for a standby, which may never answer.
    "lock_timeout": "10000",
}

# Names must be compared by their bytes, as SQLite does. With another order, lists would skip rows between two pages.
_COLLATION = (
    "SELECT datcollate, pg_encoding_to_char(encoding) FROM pg_database "
    "WHERE datname = current_database() AND datlocprovider = 'c'"
)

logging.getLogger("asyncpg.pool").setLevel(
    logging.ERROR
)  # or it logs a traceback every second while the server is down


async def open_pool(url: str, connector: PrimaryConnector, connections: int, *, reading: bool) -> asyncpg.Pool:
    """The pool. Brings the schema up to date, except for ``reading``: servers of an earlier version may be running.

    Raises MigrationError, OSError and asyncpg.PostgresError.
    """
    pool = await asyncpg.create_pool(
        url,
        connect=connector,
        reset=_keep_session,
        min_size=1,
        max_size=connections,
        timeout=CONNECT_TIMEOUT,
        statement_cache_size=1000,
        max_cached_statement_lifetime=0,
        server_settings=SETTINGS,
    )
    try:
        async with pool.acquire() as connection:
            await _check_collation(connection)
            if reading:
                check_current(await connection.fetch(HISTORY))
            else:
                await _migrate(connection)
    except BaseException:
        pool.terminate()
        raise
    return pool


async def _keep_session(_connection: Any) -> None:
    """Does nothing. Thingmint changes no settings of a session, and to reset them would cost a round trip each time."""


async def _check_collation(connection: Any) -> None:
    found = await connection.fetchrow(_COLLATION)
    if found is None or found[0] not in ("C", "POSIX") or found[1] != "UTF8":
        raise MigrationError(
            "the database must be made with LC_COLLATE 'C' and UTF8: "
            "CREATE DATABASE thingmint TEMPLATE template0 LC_COLLATE 'C' ENCODING 'UTF8'"
        )


async def _migrate(connection: Any) -> None:
    """Runs the migrations in one transaction. If several processes start together, the others wait for the first."""
    with contextlib.suppress(asyncpg.UniqueViolationError):  # another process is making the table at this moment
        await connection.execute(HISTORY_TABLE)
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = 0")
        await connection.execute("LOCK TABLE schema_migrations IN EXCLUSIVE MODE")
        for migration in pending(await connection.fetch(HISTORY)):
            for statement in migration.statements:
                await connection.execute(for_postgres(statement))
            for backfill in BACKFILLS.get(migration.version, ()):
                await backfill.run(PostgresTransaction(connection, lambda error: error, 0, perhaps_kept=False))
            await connection.execute(
                "INSERT INTO schema_migrations (version, name, sha256) VALUES ($1, $2, $3)",
                migration.version,
                migration.name,
                migration.sha256,
            )
