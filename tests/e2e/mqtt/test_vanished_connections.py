"""Life cycle events if a process ends: of the connections that it had, and of those that continue elsewhere."""

from __future__ import annotations

import contextlib
import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.conftest import iot_client
from tests.e2e.databases import connected, device, several
from tests.e2e.mqtt.devices import Device
from tests.e2e.mqtt.events import Events
from tests.e2e.upstream.brokers import mosquitto
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.mqtt.devices import Credential
    from thingmint.testing import RunningServer

LASTING: dict[str, Any] = {"clean_start": False, "session_expiry": 600}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    with mosquitto(tmp_path) as running:
        yield json.dumps(running.settings | {"version": "5"})


@contextlib.contextmanager
def reader(server: RunningServer, made: Credential) -> Iterator[Events]:
    """A device whose session waits at the broker while the server is away."""
    with Device(server, made) as opened:
        opened.connect("reader", **LASTING)
        yield Events(opened)


@pytest.mark.parametrize("end", ["kill", "stop"])
@pytest.mark.parametrize("returns", [False, True])
def test_a_server_that_starts_again_reports_what_it_lost(
    tmp_path: Path, broker: str, *, end: str, returns: bool
) -> None:
    environment = {"THINGMINT_BROKER": broker}
    with running_server(tmp_path / "data", environment=environment) as server:
        made, other = device(tmp_path, iot_client(server)), device(tmp_path, iot_client(server))
        with reader(server, other) as events, connected(server, made, "lamp"):
            (first,) = events.of("lamp", 1)
            server.kill() if end == "kill" else server.stop()
    with running_server(tmp_path / "data", environment=environment) as server, reader(server, other) as events:
        lamp = contextlib.nullcontext() if not returns else connected(server, made, "lamp")
        with lamp:
            gone = events.until("lamp", "disconnected")
            assert gone["disconnectReason"] == ("SERVER_ERROR" if end == "kill" else "SERVER_INITIATED_DISCONNECT")
            assert not gone["clientInitiatedDisconnect"]
            same = ("sessionIdentifier", "versionNumber", "principalIdentifier")
            assert [gone[name] for name in same] == [first[name] for name in same]
        with connected(server, made, "lamp"):  # the version is kept after a restart
            assert events.until("lamp", "connected")["versionNumber"] > first["versionNumber"]


def test_a_takeover_by_another_process(tmp_path: Path, url: str, broker: str) -> None:
    with several(tmp_path, url, THINGMINT_BROKER=broker) as (here, there):
        made, other = device(tmp_path, iot_client(here)), device(tmp_path, iot_client(here))
        with reader(here, other) as events:
            with connected(here, made, "lamp") as old, connected(there, made, "lamp"):
                old.until_closed()
                found = events.of("lamp", 3)
            found += events.of("lamp", 1)
            with connected(here, made, "lamp"):
                (third,) = events.of("lamp", 1)
    found.sort(key=lambda event: (event["versionNumber"], event["eventType"]))
    assert [(event["eventType"], event.get("disconnectReason"), event["versionNumber"]) for event in found] == [
        ("connected", None, 0),
        ("disconnected", "DUPLICATE_CLIENTID", 0),
        ("connected", None, 1),
        ("disconnected", "CONNECTION_LOST", 1),
    ]
    assert third["versionNumber"] == 2


def test_another_process_reports_the_connections_of_a_killed_one(tmp_path: Path, url: str, broker: str) -> None:
    with several(tmp_path, url, THINGMINT_BROKER=broker) as (first, second):
        iot = iot_client(second)
        stays, returns, other = (device(tmp_path, iot) for _ in range(3))
        with reader(second, other) as events, connected(first, stays, "stays"), connected(first, returns, "returns"):
            assert [events.of(name, 1)[0]["versionNumber"] for name in ("stays", "returns")] == [0, 0]
            first.kill()
            with connected(second, returns, "returns"):  # before it is known that the process has ended
                found = events.of("returns", 2) + events.of("stays", 1)
    assert sorted((event["clientId"], event["versionNumber"], event.get("disconnectReason")) for event in found) == [
        ("returns", 0, "SERVER_ERROR"),
        ("returns", 1, None),
        ("stays", 0, "SERVER_ERROR"),
    ]


def test_a_process_that_returns_says_so(tmp_path: Path, url: str, broker: str) -> None:
    with several(tmp_path, url, THINGMINT_BROKER=broker) as (here, suspended):
        made, other = device(tmp_path, iot_client(here)), device(tmp_path, iot_client(here))
        with reader(here, other) as events, connected(suspended, made, "lamp") as lamp:
            events.of("lamp", 1)
            suspended.process.send_signal(signal.SIGSTOP)
            try:
                (gone,) = events.of("lamp", 1)
            finally:
                suspended.process.send_signal(signal.SIGCONT)
            (again,) = events.of("lamp", 1)
            assert (gone["disconnectReason"], again["eventType"]) == ("SERVER_ERROR", "connected")
            assert again["ipAddress"] == "127.0.0.1"
            assert lamp.is_open
            lamp.disconnect()
            (end,) = events.of("lamp", 1)
    assert end["disconnectReason"] == "CLIENT_INITIATED_DISCONNECT"
    assert {event["versionNumber"] for event in (gone, again, end)} == {0}
