"""A replaced primary that comes back is refused by every process that knows the new primary."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from tests.failover import both, promote, servers
from tests.tables import each_row
from tests.unit.store.bodies import ids, insert
from thingmint.domain.errors import Unavailable
from thingmint.store.database import Database, DatabaseError
from thingmint.store.postgres import PostgresStore
from thingmint.store.primary import NotPrimary, Timelines, hosts_of

if TYPE_CHECKING:
    from pathlib import Path


async def until_ready(store: PostgresStore) -> None:
    async with asyncio.timeout(30):
        while not store.ready:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("more", ["", "&target_session_attrs=primary", "&target_session_attrs=read-write"])
async def test_a_replaced_primary_that_comes_back_is_refused(tmp_path: Path, more: str) -> None:
    file = tmp_path / "timelines"
    with servers() as (old, new):
        store = await PostgresStore.open(both(old, new, more=more), timelines=file)
        await store.write(insert("a"))
        old.stop(signal.SIGQUIT)
        with pytest.raises(Unavailable):
            await store.read(ids)
        await promote(new)
        await until_ready(store)
        await store.write(insert("b"))
        old.start()  # it is first in the URL, accepts connections, and does not have "b"
        for host in ([old, new], [new, old]):
            other = await PostgresStore.open(both(*host, more=more), timelines=file)
            assert await other.read(ids) == ["a", "b"]
            await other.close()
        with pytest.raises(DatabaseError, match=r"is refused: its timeline is 1, and there is a primary of timeline 2"):
            await Database(old.url()).open(timelines=file)
        assert await store.read(ids) == ["a", "b"]
        await store.close()


async def test_a_new_process_uses_the_primary_with_the_highest_timeline(tmp_path: Path) -> None:
    with servers() as (old, new):
        old.stop(signal.SIGQUIT)
        await promote(new)
        old.start()
        with capture_logs() as logs:
            store = await PostgresStore.open(both(old, new), timelines=tmp_path / "timelines")
        await store.write(insert("a"))
        await store.close()
        assert json.loads((tmp_path / "timelines").read_bytes()).popitem()[1] == 2
        assert {line["event"] for line in logs} <= {"primary_replaced", "database_server_refused"}


async def test_connections_to_a_replaced_primary_are_closed(tmp_path: Path) -> None:
    """The old primary is still running, so only the timelines show that it was replaced."""
    with servers() as (old, new):
        store = await PostgresStore.open(both(old, new), timelines=tmp_path / "timelines")
        await store.write(insert("a"))
        await promote(new)
        assert await store.read(ids) == ["a"]
        later = await PostgresStore.open(new.url())
        await later.write(insert("b"))
        await later.close()
        store._connector.lost()  # as when any connection breaks
        await asyncio.gather(
            *(store.read(slow) for _ in range(4))
        )  # more reads than open connections, so a new one is opened
        assert await store.read(ids) == ["a", "b"]
        await store.close()


async def slow(tx: Any) -> None:
    await tx.fetch_one("SELECT CAST(pg_sleep(0.2) AS TEXT)")


async def test_a_standby_is_refused() -> None:
    with servers() as (primary, standby):
        with pytest.raises(DatabaseError, match="is refused: it is a standby"):
            await Database(standby.url()).open()
        store = await PostgresStore.open(both(standby, primary))
        await store.write(insert("a"))
        await store.close()


async def test_a_role_without_privileges_can_read_timelines(tmp_path: Path, postgres: str) -> None:
    connection = await asyncpg.connect(postgres)
    await connection.execute("DROP ROLE IF EXISTS plain")
    await connection.execute("CREATE ROLE plain LOGIN IN ROLE thingmint")
    await connection.close()
    file = tmp_path / "timelines"
    await (await PostgresStore.open(postgres.replace("thingmint@", "plain@"), timelines=file)).close()
    assert json.loads(file.read_bytes()).popitem()[1] == 1


def test_the_highest_timeline_of_each_cluster_is_stored(tmp_path: Path) -> None:
    file = tmp_path / "timelines"
    first = Timelines(file)
    assert [first.note("a", 1), first.note("a", 3), first.note("a", 3), first.note("b", 1)] == [
        False,
        True,
        False,
        False,
    ]
    again = Timelines(file)
    again.note("b", 1)
    again.note("a", 3)
    with pytest.raises(NotPrimary):
        again.note("a", 2)


@each_row(
    ("url", "hosts"),
    [
        ("postgresql:///d", []),
        ("postgresql://u:p@db/d", [("db", None)]),
        ("postgresql://u:p%40@db1:5433,db2/d?sslmode=require", [("db1", 5433), ("db2", None)]),
        ("postgresql://u@db1,db2/d?port=5433,5434", [("db1", 5433), ("db2", 5434)]),
        ("postgresql://u@db1,db2/d?port=5433", [("db1", 5433), ("db2", 5433)]),
        ("postgresql://u@/d?host=/run/a,/run/b", [("/run/a", None), ("/run/b", None)]),
        ("postgresql://u@[::1]:5433,[::2]/d", [("::1", 5433), ("::2", None)]),
        ("postgresql://u@%2Frun%2Fa/d", [("/run/a", None)]),
    ],
)
def test_hosts_and_ports_are_read_from_the_url(url: str, hosts: list[tuple[str, int | None]]) -> None:
    assert hosts_of(url) == hosts
