"""Devices of several processes on one database exchange messages through a common broker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.e2e.conftest import iot_client
from tests.e2e.databases import connected, device, served, several
from tests.e2e.mqtt.devices import Device
from tests.e2e.upstream.brokers import mosquitto
from thingmint.mqtt.protocol.packets import Will
from thingmint.testing import running_server

if TYPE_CHECKING:
    from pathlib import Path

NOTE = "embedded_broker_is_for_one_process"


def received(device: Device) -> tuple[str, bytes, bool]:
    message = device.receive()
    return message.topic, message.payload, message.retain


def test_devices_of_two_processes_exchange_messages(tmp_path: Path, url: str) -> None:
    with mosquitto(tmp_path) as broker:
        settings = json.dumps(broker.settings | {"version": "5"})
        with several(tmp_path, url, THINGMINT_BROKER=settings) as (here, there):
            made = device(tmp_path, iot_client(here))
            with connected(there, made, "b") as b:
                b.subscribe("to/b")
                with Device(here, made) as a:
                    a.connect("a", will=Will("to/b", b"gone", 1))
                    a.subscribe("to/a")
                    assert a.publish("to/b", b"from a").failed is False
                    assert received(b) == ("to/b", b"from a", False)
                    assert b.publish("to/a", b"from b").failed is False
                    assert received(a) == ("to/a", b"from b", False)
                    a.publish("kept", b"by the broker", retain=True)
                assert received(b) == (
                    "to/b",
                    b"gone",
                    False,
                )  # the will: a ended without DISCONNECT
                b.subscribe("kept")
                assert received(b) == ("kept", b"by the broker", True)
                # The broker takes a client id over from a connection of another process.
                with connected(here, made, "b") as again:
                    b.until_closed()
                    assert again.is_open
            for server in (here, there):
                assert NOTE not in server.output.read_text()


def test_the_embedded_broker_warns_if_several_processes_share_a_store(tmp_path: Path, url: str) -> None:
    with served(tmp_path / "shared", url) as server:
        (line,) = [line for line in map(json.loads, server.output.read_text().splitlines()) if line["event"] == NOTE]
        assert line["level"] == "warning"
        assert "set broker to an MQTT broker" in line["advice"]
    with running_server(tmp_path / "own") as server:
        assert NOTE not in server.output.read_text()
