"""One of several processes on a database seals the audit log, and another takes over after its end."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING

import asyncpg

from tests.e2e.commands import in_process
from tests.e2e.conftest import iot_client
from tests.e2e.databases import metric, served, several
from tests.e2e.wire import until

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.testing import RunningServer


def holders(servers: list[RunningServer], lease: str = "audit") -> list[int]:
    """The processes that report that they have the lease."""
    return [at for at, server in enumerate(servers) if metric(server, f"{lease}_lease_held")]


def is_sealed(data: Path, url: str) -> bool:
    done = in_process("audit", "export", "--data-dir", data, env={"THINGMINT_STORE": url})
    assert done.returncode == 0, done
    return all(json.loads(line)["sequence"] for line in done.stdout.splitlines())


def test_another_process_seals_after_the_lease_expired(tmp_path: Path, url: str) -> None:
    with several(tmp_path, url, 3) as servers:
        first, *others = servers
        assert holders(servers) == holders(servers, "jobs") == [0]
        first.kill()
        iot_client(others[0]).create_thing(thingName="lamp")
        until(lambda: len(holders(others)) == 1, seconds=20, what="another process has the lease")
        until(lambda: is_sealed(others[0].data_dir, url), seconds=20, what="all records sealed")
        # A process that stops releases the lease, so that no process waits for it to expire.
        (holder,) = holders(others)
        (heir,) = (server for at, server in enumerate(others) if at != holder)
        assert others[holder].stop() == 0
        until(lambda: holders([heir]) == [0], seconds=20, what="the last process has the lease")
        done = in_process("audit", "verify", "--data-dir", heir.data_dir, env={"THINGMINT_STORE": url})
        assert (done.returncode, done.stderr) == (0, ""), done


def test_a_suspended_process_loses_the_lease_and_forks_no_chain(tmp_path: Path, url: str) -> None:
    with several(tmp_path, url) as (first, second):
        first.process.send_signal(signal.SIGSTOP)
        try:
            until(lambda: holders([second]) == [0], seconds=20, what="another process takes over the lease")
            iot_client(second).create_thing(thingName="lamp")
        finally:
            first.process.send_signal(signal.SIGCONT)
        iot_client(first).create_thing(thingName="shade")
        until(lambda: holders([first, second]) == [1], seconds=20, what="the suspended process gives up the lease")
        until(lambda: is_sealed(first.data_dir, url), seconds=20, what="all records sealed")
        for server in (first, second):
            done = in_process("audit", "verify", "--data-dir", server.data_dir, env={"THINGMINT_STORE": url})
            assert (done.returncode, done.stderr) == (0, ""), done


def test_a_process_continues_after_an_unexpected_error(tmp_path: Path, url: str) -> None:
    async def rename(table: str, name: str) -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(f"ALTER TABLE {table} RENAME TO {name}")
        await connection.close()

    with served(tmp_path / "data", url) as server:
        asyncio.run(rename("leases", "elsewhere"))
        until(lambda: "chore_failed" in server.output.read_text(), seconds=20, what="the process failed")
        until(lambda: holders([server]) == [], seconds=20, what="the process has no lease")
        asyncio.run(rename("elsewhere", "leases"))
        until(lambda: holders([server]) == [0], seconds=20, what="the process has its leases again")
