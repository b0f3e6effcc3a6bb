"""Behaviour of PostgreSQL that an embedded engine does not have: conflicts, lost connections, other processes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from structlog.testing import capture_logs

import thingmint.store.postgres
from tests.postgres import connected
from tests.unit.store.bodies import ids, insert
from thingmint.domain.errors import Unavailable
from thingmint.store import postgres as module
from thingmint.store import postgres_pool
from thingmint.store.engine import AlreadyKept
from thingmint.store.migrate import MigrationError, migrations
from thingmint.store.postgres import PostgresStore
from thingmint.testing.postgres import QUICK, NoPostgres, Postgres, _copied, programs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, MutableMapping
    from pathlib import Path

    from thingmint.store.engine import Body, Transaction


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A server that the test can stop: acknowledged changes are still there after it is started again."""
    try:
        own = Postgres({**QUICK, "synchronous_commit": "on"})
    except NoPostgres as error:
        pytest.skip(f"PostgreSQL was not found: {error}")
    with own:
        yield own


def test_copied_programs_of_postgresql_work(tmp_path: Path) -> None:
    """They are copied if root runs the tests in a folder that other users cannot read."""
    try:
        copied = _copied(programs(), tmp_path)
    except NoPostgres as error:
        pytest.skip(f"PostgreSQL was not found: {error}")
    subprocess.run([copied / "initdb", "--version"], check=True, stdout=subprocess.DEVNULL)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(url)
    try:
        yield store
    finally:
        await store.close()


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


async def until_ready(store: PostgresStore) -> None:
    async with asyncio.timeout(20):
        while not store.ready:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.02)


async def until_logged(logs: list[MutableMapping[str, Any]], event: str) -> None:
    async with asyncio.timeout(20):
        while all(line["event"] != event for line in logs):  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.02)


async def test_a_body_is_run_again_after_a_conflict(postgres: str) -> None:
    runs = 0

    async def count_up(tx: Transaction) -> None:
        nonlocal runs
        runs += 1
        row = await tx.fetch_one("SELECT created_at FROM accounts WHERE id = $1", "a")
        assert row is not None
        await tx.execute("UPDATE accounts SET created_at = $1 WHERE id = $2", row[0] + 1, "a")

    async with opened(postgres) as first, opened(postgres) as second:
        await first.write(insert("a"))
        await asyncio.gather(*(store.write(count_up) for store in (first, second) * 10))
        count = await second.read(lambda tx: tx.fetch_one("SELECT created_at FROM accounts"))
        assert count == (20,)
        assert first.retries + second.retries == runs - 20 > 0


async def test_bodies_that_insert_into_a_small_table_seldom_conflict(postgres: str) -> None:
    """Each body first looks for a missing row. In a small table, that reads the place where the others insert."""

    def look_and_insert(id: str) -> Body[str]:
        async def body(tx: Transaction) -> str:
            await tx.fetch_one("SELECT 1 FROM accounts WHERE id = $1", id)
            return await insert(id)(tx)

        return body

    numbers = iter(range(400))

    async def write_on() -> None:
        for number in numbers:
            await store.write(look_and_insert(f"{number:04}"))

    async with opened(postgres) as store:
        await asyncio.gather(*(write_on() for _ in range(16)))
        assert len(await store.read(ids)) == 400
        assert store.retries < 80  # 16 at the same time would conflict 250 times


async def test_a_body_that_read_rows_which_another_changed_conflicts(postgres: str) -> None:
    """Each adds an account if there is only one. Without SERIALIZABLE both would."""

    def add(id: str) -> Any:
        async def body(tx: Transaction) -> bool:
            if len(await ids(tx)) > 1:
                return False
            await asyncio.sleep(0.05)
            await insert(id)(tx)
            return True

        return body

    async with opened(postgres) as first, opened(postgres) as second:
        await first.write(insert("a"))
        assert sorted(await asyncio.gather(first.write(add("b")), second.write(add("c")))) == [False, True]


async def test_processes_that_start_together_make_the_schema_once(server: Postgres) -> None:
    await execute(server.url(), "CREATE DATABASE fresh")
    stores = await asyncio.gather(*(PostgresStore.open(server.url("fresh")) for _ in range(4)))
    made = await stores[0].read(lambda tx: tx.fetch_all("SELECT version FROM schema_migrations ORDER BY version"))
    assert made == [(migration.version,) for migration in migrations()]
    for store in stores:
        await store.close()


async def test_a_database_with_another_encoding_is_refused(server: Postgres) -> None:
    await execute(server.url(), "CREATE DATABASE other TEMPLATE template0 ENCODING 'SQL_ASCII'")
    with pytest.raises(MigrationError, match="LC_COLLATE 'C' and UTF8"):
        await PostgresStore.open(server.url("other"))


async def test_the_store_recovers_when_the_server_is_back(server: Postgres) -> None:
    async with opened(server.url()) as store:
        await store.write(insert("a"))
        server.stop()
        with pytest.raises(Unavailable):
            await store.read(ids)
        with pytest.raises(Unavailable):
            await store.fetch_all("SELECT id FROM accounts")
        with pytest.raises(Unavailable):
            await store.write(insert("b"))
        assert not store.ready
        server.start()
        await until_ready(store)
        assert await store.write(insert("b")) == "b"
        assert await store.read(ids) == ["a", "b"]


async def test_a_single_lost_connection_is_replaced_immediately(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHECK_EVERY", 3600.0)
    async with opened(postgres) as store:
        with pytest.raises(Unavailable):
            await store.read(lambda tx: tx.fetch_one("SELECT pg_terminate_backend(pg_backend_pid())"))
        await until_ready(store)
        assert await store.write(insert("a")) == "a"


async def read_again(store: PostgresStore) -> list[str]:
    """The ids. Repeats the read if the connection is lost again meanwhile."""
    async with asyncio.timeout(20):
        while True:
            await until_ready(store)
            with contextlib.suppress(Unavailable):
                return await store.read(ids)


@pytest.mark.parametrize("statements", [0, 1])
async def test_a_transaction_fails_if_the_server_does_not_answer(
    server: Postgres, monkeypatch: pytest.MonkeyPatch, statements: int
) -> None:
    """The server does not answer BEGIN, or the statement after it."""
    monkeypatch.setattr(module, "_BODY_TIMEOUT", 0.3)
    begun, frozen = asyncio.Event(), asyncio.Event()

    async def body(tx: Transaction) -> list[str]:
        if statements:
            begun.set()
            await frozen.wait()
        return await ids(tx)

    async with opened(server.url()) as store:
        await store.write(insert("a"))
        if statements:
            monkeypatch.setattr(module, "_BODY_TIMEOUT", 3)
            reading = asyncio.create_task(store.read(body))
            await begun.wait()
        with server.frozen():
            frozen.set()
            with pytest.raises(Unavailable):
                await (reading if statements else store.read(body))
            assert not store.ready
        await until_ready(store)
        assert await store.read(ids) == ["a"]


async def test_a_single_statement_fails_if_the_server_does_not_answer(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BODY_TIMEOUT", 0.3)
    async with opened(server.url()) as store:
        await store.write(insert("a"))
        with server.frozen():
            with pytest.raises(Unavailable):
                await store.fetch_all("SELECT id FROM accounts")
            assert not store.ready
        await until_ready(store)
        assert await store.fetch_all("SELECT id FROM accounts") == [("a",)]


WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event IN ('SyncRep', 'PgSleep')"


async def until_found(server: Postgres, query: str) -> None:
    async with asyncio.timeout(20), connected(server.url()) as connection:
        while not await connection.fetchval(query):  # noqa: ASYNC110 - each attempt is a query
            await asyncio.sleep(0.02)


async def require_standby(server: Postgres) -> None:
    """Makes COMMIT wait for a standby, which does not exist."""
    await execute(server.url(), *STANDBY)
    await until_found(server, "SELECT current_setting('synchronous_standby_names') <> ''")
    await execute(server.url(), "CHECKPOINT")  # COMMIT uses the value that the checkpointer has read


# Makes COMMIT wait until the server is stopped by SIGQUIT, after which an unlogged table is empty.
HOLD = """
CREATE UNLOGGED TABLE holding AS SELECT 1;
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_sleep(60) FROM holding; RETURN NULL; END';
CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON accounts DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION hold()
"""
WITH_STANDBY = {"wal_level": "replica", "max_wal_senders": "2", "synchronous_commit": "on"}
STANDBY = ("ALTER SYSTEM SET synchronous_standby_names = 'another'", "SELECT pg_reload_conf()")
NO_STANDBY = ("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")


def marked(id: str, *, loses_connection: bool = False) -> Body[str]:
    """A body that adds an account, and detects its earlier run. The second run can lose its connection."""
    runs = count(1)

    async def body(tx: Transaction) -> str:
        if next(runs) == 2 and loses_connection:
            await tx.fetch_one("SELECT pg_terminate_backend(pg_backend_pid())")
        if tx.perhaps_kept and id in await ids(tx):
            raise AlreadyKept
        return await insert(id)(tx)

    return body


@pytest.mark.parametrize("settings", [{}, WITH_STANDBY])
async def test_a_commit_without_an_answer_has_an_unknown_outcome(settings: dict[str, str]) -> None:
    """The server stops while COMMIT waits: for a trigger before the change is durable, or for a standby after that."""
    with Postgres({**QUICK, **settings}) as server:
        async with opened(server.url()) as store:
            await (require_standby(server) if settings else execute(server.url(), HOLD))
            write = asyncio.create_task(store.write(insert("a")))
            await until_found(server, WAITING)
            assert not write.done()
            server.stop(signal.SIGQUIT)
            with pytest.raises(Unavailable, match="unknown"):
                await write


async def test_a_commit_that_no_standby_confirmed_has_an_unknown_outcome() -> None:
    """PostgreSQL answers COMMIT with success and a warning if its wait for the standby is cancelled."""
    with Postgres({**QUICK, **WITH_STANDBY}) as server:
        async with opened(server.url()) as store:
            await require_standby(server)
            write = asyncio.create_task(store.write(insert("a")))
            await until_found(server, WAITING)
            cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            await execute(server.url(), cancel)
            with pytest.raises(Unavailable, match="unknown"):
                await write


async def test_a_commit_continues_when_its_caller_is_cancelled(postgres: str) -> None:
    async with opened(postgres) as store:
        write = asyncio.create_task(store.write(insert("a")))
        await asyncio.sleep(0)
        write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write
    async with opened(postgres) as store:
        assert await store.read(ids) == ["a"]


@pytest.mark.parametrize("once_more", [False, True])
async def test_a_committed_change_without_an_answer_is_answered_when_a_standby_has_it(once_more: bool) -> None:
    with Postgres({**QUICK, **WITH_STANDBY}) as server:
        async with opened(server.url()) as store:
            await require_standby(server)
            write = asyncio.create_task(store.write(marked("a", loses_connection=once_more), once=True))
            await until_found(server, WAITING)
            with capture_logs() as logs:
                await execute(
                    server.url(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
                )
                await until_logged(logs, "store_reached")
            await asyncio.sleep(0.5)
            assert await read_again(store) == ["a"]
            assert not write.done()  # because no standby has the change yet
            await execute(server.url(), *NO_STANDBY)
            assert await asyncio.wait_for(write, 10) == "a"
            assert await store.read(ids) == ["a"]


async def test_a_change_that_is_not_confirmed_in_time_has_an_unknown_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thingmint.store.postgres, "_WAIT_FOR_ANSWER", 2.0)
    monkeypatch.setattr(thingmint.store.postgres, "_COMMIT_TIMEOUT", 0.5)
    monkeypatch.setitem(postgres_pool.SETTINGS, "lock_timeout", "500")
    with Postgres({**QUICK, **WITH_STANDBY}) as server:
        async with opened(server.url()) as store:
            await require_standby(server)
            with pytest.raises(Unavailable, match="unknown"):
                await store.write(marked("a"), once=True)
            await execute(server.url(), *NO_STANDBY)
            await until_found(server, "SELECT count(*) FROM accounts")  # it was committed


async def test_waiting_for_a_row_of_an_unconfirmed_change_has_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(postgres_pool.SETTINGS, "lock_timeout", "300")
    rename = "UPDATE accounts SET name = $1 WHERE id = 'a'"
    with Postgres({**QUICK, **WITH_STANDBY}) as server:
        async with opened(server.url()) as store:
            await store.write(insert("a"))
            await require_standby(server)
            first = asyncio.create_task(store.write(lambda tx: tx.execute(rename, "first")))
            await until_found(server, WAITING)
            with pytest.raises(Unavailable, match="waits to be confirmed"):
                await store.write(lambda tx: tx.execute(rename, "second"))
            await execute(server.url(), *NO_STANDBY)
            assert await first == 1


async def test_a_change_that_was_lost_without_an_answer_is_run_again(server: Postgres) -> None:
    async with opened(server.url()) as store:
        await execute(server.url(), HOLD)
        write = asyncio.create_task(store.write(marked("a"), once=True))
        await until_found(server, WAITING)
        server.stop(signal.SIGQUIT)
        server.start()
        assert await asyncio.wait_for(write, 20) == "a"
        assert await store.read(ids) == ["a"]
