"""COMMITs whose wait for a standby is cut off: the server finds out their outcome before it reports success."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.e2e.commands import in_process
from tests.e2e.conftest import iot_client, registered
from tests.e2e.databases import served
from tests.e2e.material import csr_pem
from tests.e2e.wire import until
from thingmint.testing.postgres import NoPostgres, Postgres

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

_REPLICATED = {"wal_level": "replica", "max_wal_senders": "4", "synchronous_commit": "on", "fsync": "off"}
_WAITING = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture
def pair() -> Iterator[tuple[Postgres, Postgres]]:
    """A primary, and the standby that must confirm each change."""
    try:
        primary = Postgres(_REPLICATED | {"synchronous_standby_names": "FIRST 1 (standby)"})
    except NoPostgres as error:
        pytest.skip(f"PostgreSQL was not found: {error}")
    with primary, Postgres(_REPLICATED, standby_of=primary) as standby:
        yield primary, standby


def fetch(server: Postgres, query: str) -> list[Any]:
    async def run() -> list[Any]:
        connection = await asyncpg.connect(server.url())
        try:
            return [row[0] for row in await connection.fetch(query)]
        finally:
            await connection.close()

    return asyncio.run(run())


def waiting(server: Postgres) -> int:
    count: int = fetch(server, f"SELECT count(*) {_WAITING}")[0]
    return count


def none_is_answered(calls: Sequence[Future[Any]]) -> bool:
    return not any(call.done() for call in calls)


def test_a_commit_that_lost_its_connection_is_answered_after_its_outcome_is_known(
    tmp_path: Path, pair: tuple[Postgres, Postgres]
) -> None:
    primary, standby = pair
    data, store = tmp_path / "data", {"THINGMINT_STORE": primary.url()}
    with served(data, primary.url()) as server, ThreadPoolExecutor() as threads:
        iot = iot_client(server)
        csrs = [csr_pem(common_name=f"lamp-{number}") for number in range(3)]
        standby.stop()
        calls = [
            threads.submit(iot.create_certificate_from_csr, certificateSigningRequest=csr, setAsActive=True)
            for csr in csrs
        ]
        until(lambda: waiting(primary) >= len(calls), seconds=15, what="all wait for the standby")
        assert fetch(primary, f"SELECT pg_cancel_backend(pid) {_WAITING}"), "COMMIT succeeds, with a warning"
        until(lambda: waiting(primary), seconds=15, what="the outcome of the commit is looked up")
        assert none_is_answered(calls)
        assert fetch(primary, f"SELECT pg_terminate_backend(pid) {_WAITING}"), "the connection is lost"
        until(lambda: "store_unreachable" in server.output.read_text(), seconds=15, what="the loss is noticed")
        assert none_is_answered(calls)
        standby.start()
        made = [call.result(30) for call in calls]
        assert sorted(registered(iot)) == sorted((each["certificateId"], "ACTIVE") for each in made)
        assert server.stop() == 0
    exported = in_process("audit", "export", "--data-dir", data, env=store).stdout
    for each in made:
        assert exported.count(each["ResponseMetadata"]["RequestId"]) == 1, "it was made once"
