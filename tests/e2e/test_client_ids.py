"""One client id and two processes on one database: only the newest connection stays."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import threading
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.e2e.commands import in_process
from tests.e2e.conftest import iot_client
from tests.e2e.databases import connected, device, metric, several
from tests.e2e.mqtt.devices import Closed, Device
from tests.e2e.wire import until
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.mqtt.devices import Credential
    from thingmint.testing import RunningServer

ALLOWED = 2.0  # seconds; the documentation promises one second


def rows(url: str) -> list[tuple[str, str]]:
    async def read() -> list[tuple[str, str]]:
        connection = await asyncpg.connect(url)
        found = await connection.fetch("SELECT client_id, process FROM connections WHERE process <> '' ORDER BY 1")
        await connection.close()
        return [(row[0], row[1]) for row in found]

    return asyncio.run(read())


def test_a_client_id_that_connects_elsewhere_ends_its_connection_here(tmp_path: Path, url: str) -> None:
    with several(tmp_path, url) as (first, second):
        iot = iot_client(first)
        made, other = device(tmp_path, iot), device(tmp_path, iot)
        with (
            connected(first, made, "lamp") as old,
            connected(first, other, "shade") as unconcerned,
            connected(second, made, "lamp") as new,
        ):
            assert old.until_closed(ALLOWED).reason is Reason.SESSION_TAKEN_OVER
            assert new.nothing_comes()
            with connected(first, made, "lamp") as newest:  # and back to the first process
                assert new.until_closed(ALLOWED).reason is Reason.SESSION_TAKEN_OVER
                assert newest.nothing_comes()
                assert unconcerned.nothing_comes()
                assert [name for name, _ in rows(url)] == ["lamp", "shade"]
        until(lambda: rows(url) == [], seconds=20, what="no rows of connections that ended")


def test_sessions_of_all_processes_are_listed_and_ended(tmp_path: Path, url: str) -> None:
    with several(tmp_path, url) as (first, second):
        made = device(tmp_path, iot_client(first))

        def listed(server: RunningServer) -> list[str]:
            done = in_process("session", "list", "--data-dir", server.data_dir, "--output", "json")
            assert (done.returncode, done.stderr) == (0, "")
            return [each["client_id"] for each in json.loads(done.stdout)]

        with connected(first, made, "lamp") as lamp, connected(second, made, "shade") as shade:
            # Each finds the other's lease within a second.
            until(lambda: listed(first) == listed(second) == ["shade", "lamp"], seconds=30, what="both are listed")
            done = in_process("session", "show", "lamp", "--data-dir", second.data_dir)
            assert done.returncode == 0, done.stderr
            assert in_process("session", "kick", "lamp", "--data-dir", second.data_dir).returncode == 0
            assert lamp.until_closed(ALLOWED).reason is Reason.ADMINISTRATIVE_ACTION
            assert shade.nothing_comes()
            until(lambda: listed(second) == ["shade"], seconds=20, what="only the other one is left")


def connect_often(server: RunningServer, made: Credential, times: int, opened: list[Device]) -> None:
    for _ in range(times):
        opened.append(Device(server, made))
        with contextlib.suppress(Closed):  # another connection may have replaced this one before its CONNACK
            opened[-1].connect("lamp")


def test_one_of_several_simultaneous_connections_stays(tmp_path: Path, url: str) -> None:
    with several(tmp_path, url) as servers, contextlib.ExitStack() as stack:
        made = device(tmp_path, iot_client(servers[0]))
        opened: list[list[Device]] = [[], [], [], []]
        threads = [
            threading.Thread(target=connect_often, args=(server, made, 10, those))
            for server, those in zip(servers * 2, opened, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        every = [stack.enter_context(each) for those in opened for each in those]
        assert len(every) == 40
        until(
            lambda: sum(metric(s, "device_connections") for s in servers) == 1,
            seconds=20,
            what="one connection is left",
        )
        assert sum(each.is_open for each in every) == 1
        assert [name for name, _ in rows(url)] == ["lamp"]


def test_the_client_ids_of_a_process_that_was_killed_are_free(tmp_path: Path, url: str) -> None:
    with several(tmp_path, url) as (first, second):
        iot = iot_client(first)
        one, two = device(tmp_path, iot), device(tmp_path, iot)
        with connected(first, one, "one"), connected(first, two, "two"):
            assert len(rows(url)) == 2
            first.kill()
            with connected(second, one, "one") as again:
                until(
                    lambda: [name for name, _ in rows(url)] == ["one"],
                    seconds=30,
                    what="the rows of the killed process are deleted",
                )
                assert again.nothing_comes()


def test_a_suspended_process_keeps_client_ids_that_are_not_in_use_elsewhere(tmp_path: Path, url: str) -> None:
    """Other processes delete its rows. Afterwards it ends only connections whose client id connected elsewhere."""
    with several(tmp_path, url) as (second, first):
        iot = iot_client(second)
        kept, taken = device(tmp_path, iot), device(tmp_path, iot)
        with connected(first, kept, "kept") as keeps, connected(first, taken, "taken") as loses:
            first.process.send_signal(signal.SIGSTOP)
            try:
                until(lambda: rows(url) == [], seconds=30, what="the rows of the suspended process are deleted")
                with connected(second, taken, "taken") as new:
                    first.process.send_signal(signal.SIGCONT)
                    with pytest.raises(Closed):
                        loses.read()
                    until(
                        lambda: [n for n, _ in rows(url)] == ["kept", "taken"],
                        seconds=20,
                        what="the row is written again",
                    )
                    assert keeps.nothing_comes()
                    assert new.nothing_comes()
            finally:
                first.process.send_signal(signal.SIGCONT)
