"""Monitoring: messages to $monitoring/ID/json, and the view FULL of devices."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from yandex.cloud.iot.devices.v1 import device_service_pb2

from tests.e2e.databases import several
from tests.e2e.upstream.brokers import mosquitto
from tests.e2e.wire import until
from tests.e2e.yandex.clients import PASSWORD, Cloud
from tests.e2e.yandex.mqtt_clients import connected
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.e2e.yandex.clients import Wire
    from tests.e2e.yandex.mqtt_clients import Client

FULL: Any = 1
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
ALWAYS = {"device_id", "registry_id", "last_auth_ip", "last_auth_time", "last_online_time"}


def report_with(client: Client, topic: str, *names: str) -> dict[str, str]:
    """The first report that has these names."""
    while True:
        name, payload = client.receive()
        assert name == topic
        report: dict[str, str] = json.loads(payload)
        assert all(TIME.fullmatch(value) for name, value in report.items() if name.endswith("_time")), report
        if set(names) <= report.keys():
            return report


def full(wire: Wire, device: str) -> Any:
    request = device_service_pb2.GetDeviceRequest(device_id=device, device_view=FULL)
    return wire.call("DeviceService/Get", request).monitoring_data


def test_a_registry_hears_what_its_devices_do(cloud: Cloud) -> None:
    registry, foreign = cloud.registry(password=PASSWORD), cloud.registry(password=PASSWORD)
    device, other = cloud.device(registry, password=PASSWORD), cloud.device(registry, password=PASSWORD)
    topic = f"$monitoring/{device}/json"
    with (
        connected(cloud.server, None, registry, PASSWORD, client_id="r") as ours,
        connected(cloud.server, None, other, PASSWORD, client_id="o") as neighbour,
        connected(cloud.server, None, foreign, PASSWORD, client_id="f") as theirs,
    ):
        assert ours.subscribe(topic) == [1]
        assert neighbour.subscribe(topic) == [1]
        assert theirs.subscribe(topic) == [0x80]
        assert theirs.subscribe("$monitoring/+/json") == [1]
        with connected(cloud.server, None, device, PASSWORD, client_id="d") as client:
            report = report_with(ours, topic)
            assert report.keys() == ALWAYS
            assert (report["device_id"], report["registry_id"]) == (device, registry)
            assert report["last_auth_ip"] in ("127.0.0.1", "::1")
            assert client.publish("$me/device/events")
            assert "last_sub_activity_time" not in report_with(ours, topic, "last_pub_activity_time")
            assert client.subscribe("$me/monitoring/json") == [1]
            latest = report_with(ours, topic, "last_pub_activity_time", "last_sub_activity_time")
            assert latest["last_auth_time"] == report["last_auth_time"] < latest["last_online_time"]
            assert client.publish("$me/device/state")
            report_with(client, "$me/monitoring/json")
        assert report_with(neighbour, topic)["device_id"] == device
        assert theirs.nothing_comes()


def test_the_view_full_has_the_values(cloud: Cloud, wire: Wire) -> None:
    registry = cloud.registry()
    device = cloud.device(registry, password=PASSWORD)
    assert full(wire, device).last_auth_ip == ""
    with connected(cloud.server, None, device, PASSWORD) as client:
        assert client.subscribe("$me/device/commands") == [1]
        assert client.publish("$me/device/events")
        until(lambda: full(wire, device).HasField("last_pub_activity_time"), seconds=20, what="the values")
        found = full(wire, device)
        assert found.last_auth_ip in ("127.0.0.1", "::1")
        assert not found.HasField("last_disconnect_time")
    until(lambda: full(wire, device).HasField("last_disconnect_time"), seconds=20, what="the end of the connection")
    found = full(wire, device)
    assert found.last_online_time == found.last_disconnect_time
    request = device_service_pb2.ListDevicesRequest(registry_id=registry, device_view=FULL)
    (listed,) = wire.call("DeviceService/List", request).devices
    assert listed.monitoring_data == found
    basic = wire.call("DeviceService/Get", device_service_pb2.GetDeviceRequest(device_id=device))
    assert not basic.HasField("monitoring_data")


def test_the_log_says_who_connected_and_from_where(cloud: Cloud) -> None:
    device = cloud.device(cloud.registry(), password=PASSWORD)
    with connected(cloud.server, None, device, PASSWORD):
        pass

    def line() -> dict[str, Any] | None:
        lines = map(json.loads, cloud.server.output.read_text().splitlines())
        return next((line for line in lines if line.get("owner") == f"yandex:device/{device}"), None)

    until(lambda: line() is not None, seconds=20, what="the line")
    found = line() or {}
    assert found["event"] == "connected"
    assert found["client_id"] == "Test_Device_Client"
    assert found["client"] in ("127.0.0.1", "::1")
    assert found["port"] > 0


def test_stored_values_survive_a_kill(tmp_path: Path, new_store: Callable[[], dict[str, str]]) -> None:
    data, environment = tmp_path / "data", new_store()
    with running_server(data, environment=environment) as server:
        cloud = Cloud(server)
        device = cloud.device(cloud.registry(), password=PASSWORD)
        with connected(server, None, device, PASSWORD) as client:
            assert client.publish("$me/device/events")
            until(lambda: full(cloud.grpc, device).HasField("last_pub_activity_time"), seconds=20, what="the values")
            before = full(cloud.grpc, device)
            server.kill()
        cloud.close()
    with running_server(data, environment=environment) as server:
        cloud = Cloud(server)
        assert full(cloud.grpc, device) == before
        with connected(server, None, device, PASSWORD):
            pass
        server.stop()
        cloud.close()
    with running_server(data, environment=environment) as server:
        cloud = Cloud(server)
        found = full(cloud.grpc, device)
        assert found.last_pub_activity_time == before.last_pub_activity_time
        assert found.HasField("last_disconnect_time"), "what a stop of the server leaves behind is stored"
        cloud.close()


def test_two_processes_monitor_together(tmp_path: Path, url: str) -> None:
    with mosquitto(tmp_path) as broker:
        settings = json.dumps(broker.settings | {"version": "5"})
        with several(tmp_path, url, THINGMINT_BROKER=settings) as (here, there):
            one = Cloud(here)
            registry = one.registry(password=PASSWORD)
            device = one.device(registry, password=PASSWORD)
            topic = f"$monitoring/{device}/json"
            with connected(there, None, registry, PASSWORD, client_id="r") as client:
                assert client.subscribe(topic) == [1]
                with connected(here, None, device, PASSWORD, client_id="d") as publisher:
                    assert publisher.publish("$me/device/events")
                    first = report_with(client, topic, "last_pub_activity_time")
                until(lambda: full(one.grpc, device).HasField("last_disconnect_time"), seconds=20, what="the values")
                with connected(there, None, device, PASSWORD, client_id="d"):
                    while (second := report_with(client, topic))["last_auth_time"] == first["last_auth_time"]:
                        pass
                assert second["last_pub_activity_time"] == first["last_pub_activity_time"]
            one.close()
