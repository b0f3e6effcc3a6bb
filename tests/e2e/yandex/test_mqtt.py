"""MQTT as Yandex IoT Core speaks it: who connects, which topics, and what ends a connection."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from yandex.cloud.iot.broker.v1 import broker_pb2, broker_service_pb2
from yandex.cloud.iot.devices.v1 import device_service_pb2, registry_service_pb2

from tests.e2e.commands import in_process
from tests.e2e.mqtt.conftest import new_name
from tests.e2e.wire import until
from tests.e2e.yandex.clients import PASSWORD, done
from tests.e2e.yandex.mqtt_clients import Client, Pair, connected

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.yandex.clients import Cloud

WRONG = "Wrong-password-000"
BAD_PASSWORD = 0x86  # as paho shows return code 4 of 3.1.1, too


class Fleet(NamedTuple):
    """A registry with two devices, each with a certificate and a password; and a broker."""

    cloud: Cloud
    registry: str
    device: str
    other: str
    broker: str
    pairs: dict[str, Pair]


@pytest.fixture(scope="module")
def fleet(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    folder = tmp_path_factory.mktemp("yandex")
    pairs = {
        "registry": Pair(folder, "registry"),
        "device": Pair(folder, "device", ends=timedelta(days=-1), begins=timedelta(days=-2)),
        "other": Pair(folder, "other", begins=timedelta(days=1), ends=timedelta(days=2)),
        "broker": Pair(folder, "broker"),
        "unknown": Pair(folder, "unknown"),
    }

    def fields(name: str) -> dict[str, Any]:
        return {"certificates": [{"certificate_data": pairs[name].pem}], "password": PASSWORD}

    registry = cloud.registry(**fields("registry"))
    device = cloud.device(registry, **fields("device"), topic_aliases={"my/alias/": "$devices/{id}/"})
    other = cloud.device(registry, **fields("other"))
    request = broker_service_pb2.CreateBrokerRequest(folder_id=cloud.folder, **fields("broker"))
    broker = done(cloud.grpc.call("BrokerService/Create", request), broker_pb2.Broker).id
    return Fleet(cloud, registry, device, other, broker, pairs)


@pytest.mark.both_engines
@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("name", ["registry", "device", "other", "broker"])
def test_owners_connect_by_certificate_or_by_password(fleet: Fleet, name: str, version: int) -> None:
    server, pair = fleet.cloud.server, fleet.pairs[name]
    for credentials in ((pair,), (None, getattr(fleet, name), PASSWORD), (pair, getattr(fleet, name), PASSWORD)):
        with connected(server, *credentials, version=version):
            pass


def test_the_password_decides_where_both_are_given(fleet: Fleet) -> None:
    server, pairs = fleet.cloud.server, fleet.pairs
    for pair in (None, pairs["device"], pairs["other"], pairs["unknown"]):
        with connected(server, pair, fleet.device, PASSWORD) as client:
            assert client.publish(f"$devices/{fleet.device}/events")
            assert not client.publish(f"$devices/{fleet.other}/events")
        refused = Client(server, pair, fleet.device, WRONG)
        assert not refused.connect()
        assert refused.refused == BAD_PASSWORD


@pytest.mark.both_engines
def test_why_finds_connected_clients_by_their_client_id(fleet: Fleet) -> None:
    server, pair = fleet.cloud.server, fleet.pairs["device"]
    client_id = new_name("client")

    def reports(subject: str) -> list[dict[str, Any]]:
        asked = ("--publish", "my/alias/events", "--data-dir", server.data_dir, "--output", "json")
        told = in_process("why", subject, *asked)
        assert told.returncode == 0, told.stderr
        found: list[dict[str, Any]] = json.loads(told.stdout)
        return found

    with (
        connected(server, pair, client_id=client_id),
        connected(server, None, fleet.registry, PASSWORD, client_id=client_id),
    ):
        by_certificate, by_password = reports(client_id)
        assert reports(f"{client_id}#{fleet.registry}") == [by_password]
    assert (by_certificate["owner"]["id"], by_password["owner"]["id"]) == (fleet.device, fleet.registry)
    assert (len(by_certificate["certificate"]), by_password["certificate"]) == (64, None)
    for report in (by_certificate, by_password):
        assert (report["connected"], report["client_id"], report["address"]) == (True, client_id, "127.0.0.1")
    assert [each["answers"][0]["decision"] for each in (by_certificate, by_password)] == ["ALLOWED", "DENIED"]
    unknown = ("why", client_id, "--data-dir", server.data_dir)
    until(lambda: in_process(*unknown).returncode == 1, seconds=30, what="the connections have ended")


@pytest.mark.parametrize("password", [WRONG, "", None])
def test_wrong_passwords_and_unknown_ids_are_refused_alike(fleet: Fleet, password: str | None) -> None:
    server = fleet.cloud.server
    outcomes = []
    for user_name in (fleet.registry, "are00000000000000000", "", "x" * 300, "$devices"):
        client = Client(server, None, user_name, password)
        assert not client.connect()
        outcomes.append(client.refused)
    assert set(outcomes) == {BAD_PASSWORD}


def test_unknown_certificates_are_refused(fleet: Fleet) -> None:
    assert not Client(fleet.cloud.server, fleet.pairs["unknown"]).connect()
    assert not Client(fleet.cloud.server).connect()


def test_a_registry_hears_its_devices_and_commands_them(fleet: Fleet) -> None:
    server, device = fleet.cloud.server, fleet.device
    with (
        connected(server, fleet.pairs["registry"], client_id="r") as registry,
        connected(server, fleet.pairs["device"]) as client,
    ):
        assert registry.subscribe("$devices/+/events/#", f"$registries/{fleet.registry}/events") == [1, 1]
        assert client.subscribe(f"$devices/{device}/commands/#", "$me/device/config") == [1, 1]
        for topic in (
            f"$devices/{device}/events",
            f"$devices/{device}/events/a/b",
            f"$registries/{fleet.registry}/events",
        ):
            assert client.publish(topic, topic.encode())
            assert registry.receive() == (topic, topic.encode())
        assert client.publish("my/alias/events/c", b"by alias")
        assert registry.receive() == (f"$devices/{device}/events/c", b"by alias")
        assert client.publish(f"devices/{device}/events", b"without $", qos=0)
        assert registry.receive() == (f"$devices/{device}/events", b"without $")
        assert registry.publish(f"$devices/{device}/commands", b"on")
        assert client.receive() == (f"$devices/{device}/commands", b"on")
        assert registry.publish(f"$devices/{device}/config", b"{}")
        assert client.receive() == ("$me/device/config", b"{}")
        assert client.publish(f"$devices/{device}/state", b"not subscribed to")
        assert registry.nothing_comes()


def test_messages_arrive_under_the_alias_of_the_subscription(fleet: Fleet) -> None:
    server = fleet.cloud.server
    with (
        connected(server, fleet.pairs["registry"], client_id="r") as registry,
        connected(server, fleet.pairs["device"]) as client,
    ):
        assert client.subscribe("my/alias/commands/#") == [1]
        assert registry.publish("my/alias/commands/x", b"1"), "a registry uses the aliases of its devices"
        assert client.receive() == ("my/alias/commands/x", b"1")
        assert registry.subscribe("#") == [1]
        assert client.publish("$me/device/events", b"2")
        assert registry.receive() == ("my/alias/events", b"2")


def test_clients_of_a_broker_share_free_topics(fleet: Fleet) -> None:
    server, pair = fleet.cloud.server, fleet.pairs["broker"]
    with connected(server, pair, client_id="a") as one, connected(server, pair, client_id="b") as two:
        assert two.subscribe("any/#") == [1]
        assert one.publish("any/topic", b"hello")
        assert two.receive() == ("any/topic", b"hello")
        assert one.subscribe("$devices/#") == [0x80]
        assert not one.publish("$registries/x/events")


@pytest.mark.parametrize("version", [4, 5])
def test_a_denied_subscription_is_answered_and_a_denied_publish_closes(fleet: Fleet, version: int) -> None:
    with connected(fleet.cloud.server, fleet.pairs["device"], version=version) as client:
        denied = 0x87 if version == 5 else 0x80
        assert client.subscribe(f"$devices/{fleet.device}/events", "$me/device/commands") == [denied, 1]
        assert client.publish("$me/device/events")
        assert not client.publish("$me/device/commands")
        assert client.ends()


def test_a_quality_of_service_of_2_closes_the_connection(fleet: Fleet) -> None:
    with connected(fleet.cloud.server, fleet.pairs["device"]) as client:
        client.client.publish("$me/device/events", b"x", qos=2)
        assert client.ends()


def test_registries_do_not_hear_each_other(fleet: Fleet, tmp_path: Path) -> None:
    pair = Pair(tmp_path, "second")
    second = fleet.cloud.registry(certificates=[{"certificate_data": pair.pem}])
    with (
        connected(fleet.cloud.server, pair, client_id="r") as registry,
        connected(fleet.cloud.server, fleet.pairs["device"]) as client,
    ):
        assert registry.subscribe("$devices/#", "$registries/#", f"$registries/{second}/events") == [1, 1, 1]
        assert registry.subscribe(f"$devices/{fleet.device}/events") == [0x80]
        assert client.publish("$me/device/events")
        assert registry.nothing_comes()
        assert not registry.publish(f"$devices/{fleet.device}/commands")


def test_large_messages_and_long_topics(fleet: Fleet) -> None:
    topic = "$me/device/events/" + "a/" * 400
    with connected(fleet.cloud.server, fleet.pairs["device"]) as client:
        assert client.publish(topic, b"x" * 256 * 1024)
        assert not client.publish("$me/device/events", b"x" * (256 * 1024 + 1))


@pytest.mark.both_engines
def test_access_ends_with_its_credential(fleet: Fleet, tmp_path: Path) -> None:
    cloud, pair = fleet.cloud, Pair(tmp_path, "new")
    device = cloud.device(fleet.registry, certificates=[{"certificate_data": pair.pem}], password=PASSWORD)
    request = device_service_pb2.ListDevicePasswordsRequest(device_id=device)
    (password,) = cloud.grpc.call("DeviceService/ListPasswords", request).passwords
    with (
        connected(cloud.server, pair, client_id="c") as by_certificate,
        connected(cloud.server, None, device, PASSWORD, client_id="p") as by_password,
    ):
        delete = device_service_pb2.DeleteDevicePasswordRequest(device_id=device, password_id=password.id)
        cloud.grpc.call("DeviceService/DeletePassword", delete)
        assert by_password.ends()
        assert by_certificate.publish("$me/device/events")
        cloud.remove(device, cloud.certificates(device)[0].fingerprint)
        assert by_certificate.ends()
    assert not Client(cloud.server, pair).connect()
    assert not Client(cloud.server, None, device, PASSWORD).connect()


@pytest.mark.both_engines
def test_a_disabled_registry_closes_and_refuses_all_its_connections(fleet: Fleet, tmp_path: Path) -> None:
    cloud, pair = fleet.cloud, Pair(tmp_path, "registry")
    registry = cloud.registry(certificates=[{"certificate_data": pair.pem}])
    device = cloud.device(registry, password=PASSWORD)
    with (
        connected(cloud.server, pair, client_id="r") as of_registry,
        connected(cloud.server, None, device, PASSWORD, client_id="d") as of_device,
        connected(cloud.server, fleet.pairs["device"], client_id="o") as of_another,
    ):
        cloud.grpc.call("RegistryService/Disable", registry_service_pb2.DisableRegistryRequest(registry_id=registry))
        assert of_registry.ends()
        assert of_device.ends()
        assert of_another.publish("$me/device/events")
    assert not Client(cloud.server, pair).connect()
    assert not Client(cloud.server, None, device, PASSWORD).connect()
    cloud.grpc.call("RegistryService/Enable", registry_service_pb2.EnableRegistryRequest(registry_id=registry))
    with connected(cloud.server, pair), connected(cloud.server, None, device, PASSWORD):
        pass


@pytest.mark.both_engines
def test_new_aliases_hold_for_open_subscriptions(fleet: Fleet, tmp_path: Path) -> None:
    cloud, pair = fleet.cloud, Pair(tmp_path, "new")
    device = cloud.device(fleet.registry, certificates=[{"certificate_data": pair.pem}])
    with (
        connected(cloud.server, pair) as client,
        connected(cloud.server, fleet.pairs["registry"], client_id="r") as registry,
    ):
        assert client.subscribe("#") == [1]
        cloud.grpc.call(
            "DeviceService/Update",
            device_service_pb2.UpdateDeviceRequest(
                device_id=device,
                update_mask=FieldMask(paths=["topic_aliases"]),
                topic_aliases={"fresh/": "$devices/{id}/"},
            ),
        )
        assert client.publish("fresh/events", b"1")
        assert registry.publish(f"$devices/{device}/commands", b"2")
        assert client.receive() == ("fresh/commands", b"2")


@pytest.mark.parametrize("by_password", [False, True])
def test_the_calls_of_yandex_s_python_sample(fleet: Fleet, by_password: bool) -> None:
    """As in its repository of examples, iot/Samples/python/client.py: one client id for each kind, and QoS 1."""
    server, topics = fleet.cloud.server, f"$registries/{fleet.registry}"
    commands, events = f"{topics}/commands", f"{topics}/events"
    credentials = {
        "device": (None, fleet.device, PASSWORD) if by_password else (fleet.pairs["device"],),
        "registry": (None, fleet.registry, PASSWORD) if by_password else (fleet.pairs["registry"],),
    }
    with (
        connected(server, *credentials["device"], client_id="Test_Device_Client") as device,
        connected(server, *credentials["registry"], client_id="Test_Registry_Client") as registry,
    ):
        assert device.subscribe(commands) == [1]
        assert registry.subscribe(events) == [1]
        assert registry.publish(commands, b"reg commands")
        assert device.publish(events, b"reg events")
        assert device.receive() == (commands, b"reg commands")
        assert registry.receive() == (events, b"reg events")
