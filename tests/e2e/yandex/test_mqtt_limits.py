"""Registries with thousands of aliases, connections with many subscriptions, and clients that do not read."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.mqtt.devices import Closed, Device, credential
from tests.e2e.yandex.clients import Cloud
from tests.e2e.yandex.owners import Owners
from thingmint.mqtt.protocol.packets import Publish
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thingmint.testing import RunningServer

DEVICES = 400  # of 5 aliases each


@pytest.fixture(scope="module")
def owners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owners]:
    rates = {f"THINGMINT_MQTT_RATES__{rate}": "0" for rate in ("PUBLISHES", "SUBSCRIBES", "RECEIVED")}
    with running_server(arguments=["--log-format=json"], environment=rates) as server:
        cloud = Cloud(server)
        yield Owners(cloud, tmp_path_factory.mktemp("owners"), topic_aliases={"alias/": "$devices/{id}/"})
        cloud.close()
        assert "Traceback" not in server.output.read_text(errors="replace")


@pytest.fixture(scope="module")
def aliases(owners: Owners) -> list[str]:
    """The names of the devices with aliases: the alias NAME/K/ is for the topic events/K of its device."""

    def create(name: str) -> str:
        aliases = {f"{name}/{kind}/": f"$devices/{{id}}/{kind}/" for kind in ("events", "state", "commands", "config")}
        owners.cloud.device(owners.registry, topic_aliases={**aliases, f"{name}/x": "$devices/{id}/events/x"})
        return name

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(create, (f"d{number}" for number in range(DEVICES))))


def resident_megabytes(server: RunningServer) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


def test_a_registry_uses_two_thousand_aliases(owners: Owners, aliases: list[str]) -> None:
    before = resident_megabytes(owners.cloud.server)
    with owners.connected("registry", "r") as registry, owners.connected("device") as device:
        filters = ["#", "+/#", "+/events/#", "+/events", "+/x", *(f"{name}/#" for name in aliases[:60])]
        filters += [f"+/events/{number}" for number in range(35)]
        assert registry.subscribe(*filters) == [1] * 100
        assert registry.subscribe("alias/events/one-more") == [0x80]
        assert device.publish("$me/device/events/a") is Reason.SUCCESS
        assert registry.receive().topic == "alias/events/a"
        assert device.publish("alias/events") is Reason.SUCCESS
        assert registry.receive().topic == "alias/events"
        assert registry.publish(f"{aliases[-1]}/commands/on") is Reason.SUCCESS
        registry.unsubscribe(*filters[1:])
        assert device.publish("alias/events/b") is Reason.SUCCESS
        assert registry.receive().topic == "alias/events/b"
    assert resident_megabytes(owners.cloud.server) < before + 60


@pytest.mark.usefixtures("aliases")
def test_a_new_alias_is_used_by_open_subscriptions_of_a_registry(owners: Owners) -> None:
    with owners.connected("registry", "r") as registry:
        assert registry.subscribe("+/#", "fresh/#") == [1, 0x80]
        made = credential(owners.folder, name="localhost")
        aliases, certificates = {"fresh/": "$devices/{id}/"}, [{"certificate_data": made.pem}]
        owners.cloud.device(owners.registry, topic_aliases=aliases, certificates=certificates)
        with Device(owners.cloud.server, made, 4) as device:
            device.connect("fresh")
            for number in range(50):  # none of them is lost while the aliases are loaded again
                assert device.publish("$me/device/events", b"%d" % number) is Reason.SUCCESS
                if number == 0:
                    owners.cloud.device(owners.registry, topic_aliases={"fresher/": "$devices/{id}/"})
            received = [registry.receive() for _ in range(50)]
        assert {message.topic for message in received} == {"fresh/events"}
        assert [message.payload for message in received] == [b"%d" % number for number in range(50)]
        assert registry.publish("fresh/commands") is Reason.SUCCESS


def test_a_hundred_subscriptions_and_no_more(owners: Owners) -> None:
    with owners.connected("registry", "r", version=5) as registry:
        filters = [f"$devices/{owners.device}/events/{number}" for number in range(100)]
        assert registry.subscribe(*filters) == [1] * 100
        assert registry.subscribe("$devices/+/state") == [Reason.QUOTA_EXCEEDED]
        assert registry.subscribe(filters[0], qos=0) == [0], "it is one of the hundred"
        assert registry.unsubscribe(filters[0], "$devices/+/state") == [
            Reason.SUCCESS,
            Reason.NO_SUBSCRIPTION_EXISTED,
        ]
        assert registry.subscribe("$devices/+/state") == [1]
        with owners.connected("device") as device:
            assert device.publish("$me/device/events/99") is Reason.SUCCESS
        assert registry.receive().topic == filters[99]


def test_messages_for_a_client_that_does_not_read_take_a_bounded_amount_of_memory(owners: Owners) -> None:
    server = owners.cloud.server
    before = resident_megabytes(server)
    with contextlib.ExitStack() as stack:
        for number in range(5):
            silent = stack.enter_context(owners.connected("device", f"silent-{number}"))
            assert silent.subscribe("$me/device/commands/#", "#") == [1, 1]
        registry = stack.enter_context(owners.connected("registry", "r"))
        for number in range(200):
            try:
                registry.publish(f"$devices/{owners.device}/commands", b"x" * 256 * 1024)
            except Closed:  # the broker has no more room
                registry = stack.enter_context(owners.connected("registry", f"r{number}"))
        with owners.connected("other", "read") as other:
            assert other.subscribe("$me/device/commands") == [1]
            registry.send(Publish(f"$devices/{owners.ids['other']}/commands", b"read", 0))
            assert other.receive().payload == b"read"
        assert resident_megabytes(server) < before + 200
