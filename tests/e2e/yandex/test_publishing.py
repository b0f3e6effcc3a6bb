"""Publish over gRPC, REST and the SDK reaches clients over MQTT, and permanent topics keep it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from yandex.cloud.iot.broker.v1 import broker_data_service_pb2, broker_pb2, broker_service_pb2
from yandex.cloud.iot.devices.v1 import (
    device_data_service_pb2,
    device_data_service_pb2_grpc,
    registry_data_service_pb2,
    registry_data_service_pb2_grpc,
    registry_service_pb2,
)

from tests.e2e.databases import several
from tests.e2e.upstream.brokers import mosquitto
from tests.e2e.yandex.clients import PASSWORD, Cloud, Refused, done
from tests.e2e.yandex.mqtt_clients import connected

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.yandex.clients import Wire

LARGE = bytes(range(256)) * 1024

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated class RetryInterceptor:DeprecationWarning")


def request(kind: str, id: str, topic: str, data: bytes = b"x") -> Any:
    module = {
        "Device": device_data_service_pb2,
        "Registry": registry_data_service_pb2,
        "Broker": broker_data_service_pb2,
    }[kind]
    return getattr(module, f"Publish{kind}DataRequest")(**{f"{kind.lower()}_id": id}, topic=topic, data=data)


def refusal(wire: Wire, kind: str, id: str, topic: str, data: bytes = b"x", **options: Any) -> str:
    with pytest.raises(Refused) as refused:
        wire.call(f"{kind}DataService/Publish", request(kind, id, topic, data), **options)
    return refused.value.code


def test_published_messages_reach_clients_over_mqtt(cloud: Cloud, wire: Wire) -> None:
    registry = cloud.registry(password=PASSWORD)
    device = cloud.device(registry, password=PASSWORD, topic_aliases={"my/": "$devices/{id}/"})
    made = broker_service_pb2.CreateBrokerRequest(folder_id=cloud.folder, password=PASSWORD)
    broker = done(cloud.grpc.call("BrokerService/Create", made), broker_pb2.Broker).id
    with (
        connected(cloud.server, None, device, PASSWORD) as of_device,
        connected(cloud.server, None, registry, PASSWORD) as of_registry,
        connected(cloud.server, None, broker, PASSWORD) as of_broker,
    ):
        assert of_device.subscribe("my/commands/#", "$me/device/config") == [1, 1]
        assert of_registry.subscribe("$devices/#", "$registries/#") == [1, 1]
        assert of_broker.subscribe("#") == [1]
        for kind, id, topic, client, shown in (
            ("Registry", registry, f"$devices/{device}/commands/a", of_device, "my/commands/a"),
            ("Registry", registry, "my/config", of_device, "$me/device/config"),
            ("Device", device, "$me/device/events", of_registry, f"$devices/{device}/events"),
            ("Device", device, "my/state", of_registry, f"$devices/{device}/state"),
            ("Broker", broker, "any/topic", of_broker, "any/topic"),
        ):
            for data in (b"", b"text", LARGE):
                answer = wire.call(f"{kind}DataService/Publish", request(kind, id, topic, data))
                assert answer.SerializeToString() == b""
                assert client.receive() == (shown, data)
    with connected(cloud.server, None, registry, PASSWORD) as later:
        assert later.subscribe("$devices/+/state") == [1]
        assert later.receive() == (f"$devices/{device}/state", LARGE)


def test_publish_is_refused_with_the_code_of_the_reason(cloud: Cloud, wire: Wire) -> None:
    registry = cloud.registry()
    device = cloud.device(registry)
    assert refusal(wire, "Device", device, "$me/device/commands") == "PERMISSION_DENIED"
    assert refusal(wire, "Registry", registry, "$devices/none/commands") == "PERMISSION_DENIED"
    assert refusal(wire, "Device", "none", "$me/device/events") == "NOT_FOUND"
    assert refusal(wire, "Broker", "none", "a") == "NOT_FOUND"
    assert refusal(wire, "Device", device, "$me/device/events/#") == "INVALID_ARGUMENT"
    assert refusal(wire, "Device", device, "$me/device/events", LARGE + b"x") == "INVALID_ARGUMENT"
    assert refusal(wire, "Device", device, "$me/device/events", token="") == "UNAUTHENTICATED"
    cloud.grpc.call("RegistryService/Disable", registry_service_pb2.DisableRegistryRequest(registry_id=registry))
    assert refusal(wire, "Device", device, "$me/device/events") == "FAILED_PRECONDITION"
    assert refusal(wire, "Registry", registry, "$me/registry/config") == "FAILED_PRECONDITION"


def test_the_sdk_publishes(cloud: Cloud) -> None:
    registry = cloud.registry(password=PASSWORD)
    device = cloud.device(registry, password=PASSWORD)
    sdk = cloud.sdk()
    with connected(cloud.server, None, registry, PASSWORD) as client:
        assert client.subscribe("$devices/+/events") == [1]
        devices = sdk.client(device_data_service_pb2_grpc.DeviceDataServiceStub)
        devices.Publish(request("Device", device, "$me/device/events", b"by the SDK"))
        assert client.receive() == (f"$devices/{device}/events", b"by the SDK")
    registries = sdk.client(registry_data_service_pb2_grpc.RegistryDataServiceStub)
    registries.Publish(request("Registry", registry, f"$devices/{device}/config", b"kept"))
    with connected(cloud.server, None, device, PASSWORD) as client:
        assert client.subscribe("$me/device/config") == [1]
        assert client.receive() == ("$me/device/config", b"kept")


def test_a_broker_that_is_away_is_unavailable_and_processes_share_one(tmp_path: Path, url: str) -> None:
    with mosquitto(tmp_path) as broker:
        settings = json.dumps(broker.settings | {"version": "5"})
        with several(tmp_path, url, THINGMINT_BROKER=settings) as (here, there):
            cloud = Cloud(here)
            registry = cloud.registry(password=PASSWORD)
            device = cloud.device(registry)
            with connected(there, None, registry, PASSWORD) as client:
                assert client.subscribe("$devices/+/events") == [1]
                cloud.grpc.call("DeviceDataService/Publish", request("Device", device, "$me/device/events", b"1"))
                assert client.receive() == (f"$devices/{device}/events", b"1")
            with broker.stopped():
                assert refusal(cloud.grpc, "Device", device, "$me/device/events", timeout=30) == "UNAVAILABLE"
            cloud.close()
