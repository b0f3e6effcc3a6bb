"""Permanent topics over MQTT: what a client gets that subscribes after the message was published."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.e2e.databases import several
from tests.e2e.upstream.brokers import mosquitto
from tests.e2e.yandex.clients import PASSWORD, Cloud
from tests.e2e.yandex.mqtt_clients import connected
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.e2e.yandex.mqtt_clients import Client
    from thingmint.testing import RunningServer


class Fleet(NamedTuple):
    cloud: Cloud
    registry: str
    device: str

    def client(self, owner: str, server: RunningServer | None = None, **options: Any) -> AbstractContextManager[Client]:
        return connected(server or self.cloud.server, None, owner, PASSWORD, client_id=f"c-{owner}", **options)

    def publish(self, owner: str, *messages: tuple[str, bytes], qos: int = 1) -> None:
        with self.client(owner) as client:
            for topic, payload in messages:
                assert client.publish(topic, payload, qos)


def new_fleet(cloud: Cloud) -> Fleet:
    registry = cloud.registry(password=PASSWORD)
    device = cloud.device(registry, password=PASSWORD, topic_aliases={"my/": "$devices/{id}/"})
    return Fleet(cloud, registry, device)


@pytest.fixture(scope="module", params=["embedded", "mosquitto"])
def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[], dict[str, str]]
) -> Iterator[Fleet]:
    if request.param == "embedded":
        with running_server(environment=new_store()) as server:
            yield new_fleet(Cloud(server))
        return
    with mosquitto(tmp_path_factory.mktemp("broker")) as broker:
        settings = {"THINGMINT_BROKER": json.dumps(broker.settings | {"version": "5"})}
        with running_server(environment=new_store() | settings) as server:
            yield new_fleet(Cloud(server))


def received(client: Client, count: int) -> dict[str, bytes]:
    return dict(client.receive() for _ in range(count))


@pytest.mark.both_engines
@pytest.mark.parametrize("qos", [0, 1])
def test_the_last_message_comes_under_the_form_of_the_subscription(fleet: Fleet, qos: int) -> None:
    device, registry = fleet.device, fleet.registry
    state = f"$devices/{device}/state"
    fleet.publish(device, ("$me/device/state", b"old"), ("my/state", b"new"), ("my/state/a", b""), qos=qos)
    fleet.publish(device, ("$me/device/events", b"not permanent"), ("$me/registry/state/x", b"of it"), qos=qos)
    with fleet.client(registry) as client:
        assert client.subscribe(state) == [1]
        while client.receive() != (state, b"new"):
            assert qos == 0, "a message of QoS 0 may come after the subscription"
        assert client.subscribe(f"devices/{device}/state/#") == [1]
        assert received(client, 2) == {state[1:]: b"new", f"{state[1:]}/a": b""}
        assert client.subscribe("my/state/a") == [1]
        assert client.receive() == ("my/state/a", b"")
        assert client.subscribe("$devices/#", f"$registries/{registry}/state/+") == [1, 1]
        assert received(client, 3) == {
            state: b"new",
            f"{state}/a": b"",
            f"$registries/{registry}/state/x": b"of it",
        }
        assert client.subscribe(state) == [1], "a filter that is subscribed to again gets it again"
        assert client.receive() == (state, b"new")
        assert client.nothing_comes()
    with fleet.client(registry) as client:
        assert client.subscribe("#", "my/#", "my/+") == [1, 1, 1]
        assert client.subscribe("my/state/none", f"$devices/{device}/commands") == [1, 0x80]
        assert client.nothing_comes(), "not through a wildcard over aliases"


def test_messages_of_qos_0_right_before_the_end_of_the_connection_arrive(fleet: Fleet) -> None:
    topic, state = f"$devices/{fleet.device}/events/burst", f"$devices/{fleet.device}/state/burst"
    payloads = [str(number).encode() for number in range(50)]
    with fleet.client(fleet.registry) as client:
        assert client.subscribe(topic, state) == [1, 1]
        for name in (topic, state):
            fleet.publish(fleet.device, *((name, payload) for payload in payloads), qos=0)
            assert [client.receive() for _ in payloads] == [(name, payload) for payload in payloads]
    with fleet.client(fleet.registry) as client:
        assert client.subscribe(state) == [1]
        assert client.receive() == (state, payloads[-1])


def test_config_waits_for_the_device(fleet: Fleet) -> None:
    topics = [f"$devices/{fleet.device}/config", f"$registries/{fleet.registry}/config/a"]
    fleet.publish(fleet.registry, *((topic, topic.encode()) for topic in topics))
    for version in (4, 5):
        with fleet.client(fleet.device, version=version) as client:
            assert client.subscribe("$me/device/config/#", "$me/registry/config/#") == [1, 1]
            assert received(client, 2) == {
                "$me/device/config": topics[0].encode(),
                "$me/registry/config/a": topics[1].encode(),
            }
            assert client.nothing_comes()


def test_large_messages_come_to_a_client_one_after_the_other(fleet: Fleet) -> None:
    messages = {f"$devices/{fleet.device}/state/large/{n}": bytes([n]) * 200_000 for n in range(60)}
    fleet.publish(fleet.device, *messages.items())
    with fleet.client(fleet.registry) as client:
        assert client.subscribe(f"$devices/{fleet.device}/state/large/+") == [1]
        assert received(client, len(messages)) == messages


@pytest.mark.both_engines
def test_an_acknowledged_message_survives_a_kill(tmp_path: Path, new_store: Callable[[], dict[str, str]]) -> None:
    data, environment = tmp_path / "data", new_store()
    with running_server(data, environment=environment) as server:
        cloud = Cloud(server)
        fleet = new_fleet(cloud)
        registry, device = fleet.registry, fleet.device
        with fleet.client(device) as client:
            for number in range(50):
                assert client.publish("$me/device/state", str(number).encode())
            server.kill()
        cloud.close()
    with (
        running_server(data, environment=environment) as server,
        connected(server, None, registry, PASSWORD) as client,
    ):
        assert client.subscribe("$devices/+/state") == [1]
        assert client.receive() == (f"$devices/{device}/state", b"49")


def test_two_processes_share_the_last_messages(tmp_path: Path, url: str) -> None:
    with mosquitto(tmp_path) as broker:
        settings = json.dumps(broker.settings | {"version": "5"})
        with several(tmp_path, url, THINGMINT_BROKER=settings) as (here, there):
            fleet = new_fleet(Cloud(here))
            state = f"$devices/{fleet.device}/state"
            with fleet.client(fleet.device, here) as device, fleet.client(fleet.registry, there) as registry:
                assert device.publish(state, b"1")
                assert registry.subscribe(state) == [1]
                assert registry.receive() == (state, b"1")
                assert device.publish(state, b"2")
                assert registry.receive() == (state, b"2")
            fleet.cloud.close()
