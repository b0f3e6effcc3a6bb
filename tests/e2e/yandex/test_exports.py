"""Data stream exports: messages of devices and registries arrive at an HTTP hook, at least once and in order."""

from __future__ import annotations

import base64
import json
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from yandex.cloud.iot.devices.v1 import (
    device_data_service_pb2,
    registry_data_service_pb2,
    registry_service_pb2,
)

from tests.e2e.databases import metric, several
from tests.e2e.logs import check_log
from tests.e2e.wire import until
from tests.e2e.yandex.clients import PASSWORD, Account, Cloud
from tests.e2e.yandex.mqtt_clients import Client, Pair, connected
from tests.e2e.yandex.stream_hook import StreamHook, add_export, delete_export, stream_hook, waiting
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.e2e.yandex.stream_hook import Mode
    from thingmint.testing import RunningServer

_LOG = ["--log-format=json"]


@pytest.fixture(scope="module")
def hook() -> Iterator[StreamHook]:
    with stream_hook() as hook:
        yield hook


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("hook") / "token"
    file.write_text("secret-1\n")
    return file


@pytest.fixture(scope="module")
def exporting(hook: StreamHook, token: Path) -> Iterator[Cloud]:
    """A server with the hook, whose queues are as small as can be."""
    setting = hook.setting(token_file=str(token), queue_bytes=1_048_576)
    with running_server(arguments=_LOG, environment=setting) as server:
        cloud = Cloud(server)
        yield cloud
        cloud.close()
        check_log(server.output.read_text(errors="replace"))


@pytest.fixture
def cloud(exporting: Cloud, hook: StreamHook) -> Cloud:
    """The server, where no earlier message waits."""
    hook.mode = "accept"
    until(lambda: not waiting(exporting), seconds=90, what="empty queues")
    hook.batches.clear()
    hook.calls.clear()
    return exporting


@contextmanager
def publisher(server: RunningServer, owner: str) -> Iterator[Client]:
    with connected(server, None, owner, PASSWORD, client_id=owner) as client:
        yield client


def lines(server: RunningServer, event: str) -> list[dict[str, Any]]:
    found = (json.loads(line) for line in server.output.read_bytes().splitlines() if line.startswith(b"{"))
    return [line for line in found if line["event"] == event]


def test_events_and_commands_arrive_as_yandex_records(cloud: Cloud, hook: StreamHook) -> None:
    registry = cloud.registry(password=PASSWORD)
    device = cloud.device(registry, password=PASSWORD, topic_aliases={"my/alias/": "$devices/{id}/"})
    export = add_export(cloud, registry)
    with publisher(cloud.server, device) as client, publisher(cloud.server, registry) as owner:
        assert client.publish(f"$devices/{device}/events", "температура".encode())
        assert client.publish("my/alias/events/a", b"\xff\x00")
        assert client.publish("$me/device/state", b"not exported")
        assert client.publish(f"$registries/{registry}/events", b"", qos=0)
        hook.wait_for("")
        assert owner.publish(f"$devices/{device}/commands/c", b"{}")
        assert owner.publish(f"$devices/{device}/config", b"not exported")
        assert owner.publish(f"$registries/{registry}/commands", b"last")
    hook.wait_for("last")
    assert hook.messages == [
        {"device_id": sender, "mqtt_topic": topic, "payload": payload, "is_base64": is_base64}
        for sender, topic, payload, is_base64 in (
            (device, f"$devices/{device}/events", "температура", False),
            (device, f"$devices/{device}/events/a", base64.b64encode(b"\xff\x00").decode(), True),
            (device, f"$registries/{registry}/events", "", False),
            ("", f"$devices/{device}/commands/c", "{}", False),
            ("", f"$registries/{registry}/commands", "last", False),
        )
    ]
    [first, *_] = hook.batches
    assert (first["export_id"], first["registry_id"], first["first_number"]) == (export.id, registry, 1)
    assert (first["database"], first["stream"]) == (export.database, export.stream)
    assert {call["authorization"] for call in hook.calls} == {"Bearer secret-1"}


def test_messages_that_are_published_over_the_api_are_exported(cloud: Cloud, hook: StreamHook) -> None:
    registry = cloud.registry()
    device = cloud.device(registry)
    add_export(cloud, registry)
    event = device_data_service_pb2.PublishDeviceDataRequest(device_id=device, topic="$me/device/events", data=b"1")
    state = device_data_service_pb2.PublishDeviceDataRequest(device_id=device, topic="$me/device/state", data=b"no")
    command = registry_data_service_pb2.PublishRegistryDataRequest(
        registry_id=registry, topic=f"$devices/{device}/commands", data=b"2"
    )
    for wire in (cloud.grpc, cloud.rest):
        wire.call("DeviceDataService/Publish", state)
        wire.call("DeviceDataService/Publish", event)
        wire.call("RegistryDataService/Publish", command)
    until(lambda: len(hook.messages) == 4, seconds=60, what="all messages")
    found = [(message["device_id"], message["mqtt_topic"], message["payload"]) for message in hook.messages]
    assert found == 2 * [(device, f"$devices/{device}/events", "1"), ("", f"$devices/{device}/commands", "2")]


def test_only_topics_of_the_filter_are_exported(cloud: Cloud, hook: StreamHook) -> None:
    registry = cloud.registry(password=PASSWORD)
    one, two = (cloud.device(registry, password=PASSWORD) for _ in range(2))
    add_export(cloud, registry, mqtt_topic_filter=f"$devices/{one}/events/a/#")
    with publisher(cloud.server, one) as first, publisher(cloud.server, two) as second:
        assert second.publish(f"$devices/{two}/events/a", b"another device")
        assert first.publish(f"$devices/{one}/events", b"no a")
        assert first.publish(f"$registries/{registry}/events/a", b"of the registry")
        assert first.publish(f"$devices/{one}/events/a", b"1")
        assert first.publish(f"$devices/{one}/events/a/b", b"2")
    hook.wait_for("2")
    assert hook.payloads == ["1", "2"]


def test_a_new_export_takes_the_next_message_and_a_deleted_one_none(cloud: Cloud, hook: StreamHook) -> None:
    registry = cloud.registry(password=PASSWORD)
    device = cloud.device(registry, password=PASSWORD)
    topic = f"$devices/{device}/events"
    with publisher(cloud.server, device) as client:
        for number in range(5):
            assert client.publish(topic, b"before")
            export = add_export(cloud, registry)
            assert client.publish(topic, f"{number}".encode())
            hook.wait_for(f"{number}")
            delete_export(cloud, registry, export.id)
            assert client.publish(topic, b"after")
    assert hook.payloads == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("mode", ["fail", "refuse", "redirect", "close", "hang"])
def test_publishers_go_on_while_the_hook_does_not_accept(cloud: Cloud, hook: StreamHook, mode: Mode) -> None:
    registry = cloud.registry(password=PASSWORD)
    device = cloud.device(registry, password=PASSWORD)
    add_export(cloud, registry)
    hook.mode = mode
    hook.released.clear()
    failures = metric(cloud.server, "export_failures_total")
    expected = [f"{mode} {number}" for number in range(20)]
    with publisher(cloud.server, device) as client:
        for payload in expected:
            assert client.publish(f"$devices/{device}/events", payload.encode())
        until(lambda: metric(cloud.server, "export_failures_total") > failures, seconds=60, what="a failed call")
        until(lambda: metric(cloud.server, "exports_failing") == 1, seconds=60, what="the export is failing")
        assert hook.payloads == []
        hook.mode = "accept"
        hook.released.set()
        hook.wait_for(*expected)
    assert hook.payloads == expected
    assert hook.elsewhere == 0, "a redirect is not followed"
    about = [line for line in lines(cloud.server, "data_stream_export_failing") if line["registry"] == registry]
    assert len(about) == 1, "one line for a series of failures"
    assert "secret" not in json.dumps(about)


def test_a_replaced_token_is_used(cloud: Cloud, hook: StreamHook, token: Path) -> None:
    registry = cloud.registry(password=PASSWORD)
    add_export(cloud, registry)
    with publisher(cloud.server, registry) as owner:
        token.write_text("secret-2")
        try:
            assert owner.publish(f"$registries/{registry}/commands", b"new token")
            hook.wait_for("new token")
            assert hook.calls[-1]["authorization"] == "Bearer secret-2"
        finally:
            token.write_text("secret-1\n")


def test_a_full_queue_drops_the_oldest_messages(cloud: Cloud, hook: StreamHook) -> None:
    registry = cloud.registry(password=PASSWORD)
    add_export(cloud, registry)
    hook.mode = "fail"
    dropped = metric(cloud.server, "export_messages_dropped_total")
    payloads = [f"{number:04}" * 25_000 for number in range(20)]  # 100 KB each; ten fit
    with publisher(cloud.server, registry) as owner:
        for payload in payloads:
            assert owner.publish(f"$registries/{registry}/commands", payload.encode())
    assert metric(cloud.server, "export_messages_dropped_total") == dropped + 10
    hook.mode = "accept"
    hook.wait_for(payloads[-1])
    assert hook.payloads == payloads[10:]
    assert hook.batches[0]["first_number"] == 11, "the receiver can see that messages are missing"
    [line] = lines(cloud.server, "export_messages_dropped")
    assert line["messages"] == 1, "logged once; the others are in the next line, after a minute"


def test_messages_of_a_disabled_registry_are_still_sent(cloud: Cloud, hook: StreamHook) -> None:
    registry = cloud.registry(password=PASSWORD)
    add_export(cloud, registry)
    hook.mode = "fail"
    with publisher(cloud.server, registry) as owner:
        assert owner.publish(f"$registries/{registry}/commands", b"before")
        request = registry_service_pb2.DisableRegistryRequest(registry_id=registry)
        cloud.grpc.call("RegistryService/Disable", request)
        assert owner.ends()
    assert not Client(cloud.server, None, registry, PASSWORD).connect()
    hook.mode = "accept"
    hook.wait_for("before")
    enable = registry_service_pb2.EnableRegistryRequest(registry_id=registry)
    cloud.grpc.call("RegistryService/Enable", enable)
    with publisher(cloud.server, registry) as owner:
        assert owner.publish(f"$registries/{registry}/commands", b"after")
    hook.wait_for("after")
    assert hook.payloads == ["before", "after"]


def test_a_registry_is_deleted_with_its_export_while_messages_wait(cloud: Cloud, hook: StreamHook) -> None:
    registry = cloud.registry(password=PASSWORD)
    add_export(cloud, registry, name="gone")
    hook.mode = "fail"
    with publisher(cloud.server, registry) as owner:
        for _ in range(150):
            assert owner.publish(f"$registries/{registry}/commands", b"never sent")
    request = registry_service_pb2.DeleteRegistryRequest(registry_id=registry)
    cloud.grpc.call("RegistryService/Delete", request)
    until(lambda: not waiting(cloud), seconds=30, what="no queue has messages")
    hook.mode = "accept"
    another = cloud.registry(password=PASSWORD)
    add_export(cloud, another, name="gone")
    with publisher(cloud.server, another) as owner:
        assert owner.publish(f"$registries/{another}/commands", b"sent")
    hook.wait_for("sent")
    assert hook.payloads == ["sent"]


def test_batches_are_sent_when_they_are_full_or_after_the_cutoff(tmp_path: Path) -> None:
    with (
        stream_hook() as hook,
        running_server(tmp_path / "data", arguments=_LOG, environment=hook.setting(batch=10, cutoff="1s")) as server,
    ):
        cloud = Cloud(server)
        registry = cloud.registry(password=PASSWORD)
        add_export(cloud, registry)
        expected = [f"{number}" for number in range(25)]
        with publisher(server, registry) as owner:
            for payload in expected:
                assert owner.publish(f"$registries/{registry}/commands", payload.encode())
        hook.wait_for(*expected)
        assert hook.payloads == expected
        sizes = [len(batch["messages"]) for batch in hook.batches]
        assert max(sizes) == 10
        assert len(sizes) <= 1 + 25 // 5, "not one by one"
        numbers = [batch["first_number"] for batch in hook.batches]
        assert numbers == [1 + sum(sizes[:at]) for at in range(len(sizes))]
        cloud.close()


def test_without_a_hook_nothing_is_queued_until_there_is_one(tmp_path: Path) -> None:
    config = tmp_path / "thingmint.toml"
    config.write_text("")
    with (
        stream_hook() as hook,
        running_server(tmp_path / "data", arguments=[*_LOG, f"--config={config}"]) as server,
    ):
        cloud = Cloud(server)
        registry = cloud.registry(password=PASSWORD)
        export = add_export(cloud, registry)
        until(lambda: lines(server, "data_stream_export_without_hook"), seconds=30, what="the log says so")
        [line] = lines(server, "data_stream_export_without_hook")
        assert (line["level"], line["export"], line["registry"]) == ("warning", export.id, registry)
        topic = f"$registries/{registry}/commands"
        with publisher(server, registry) as owner:
            assert owner.publish(topic, b"before")
            settings = f'[export_hooks.a]\ndatabase = "{export.database}"\nstream = "{export.stream}"\n'
            config.write_text(f'{settings}url = "{hook.url}"\n')
            server.process.send_signal(signal.SIGHUP)
            until(lambda: lines(server, "reloaded"), seconds=30, what="the new setting is in force")
            assert owner.publish(topic, b"after")
            hook.wait_for("after")
            assert hook.payloads == ["after"]
            config.write_text(f'{settings}url = "{hook.url}"\ntoken_file = "{tmp_path}/missing"\n')
            server.process.send_signal(signal.SIGHUP)
            until(lambda: lines(server, "settings_not_reloaded"), seconds=30, what="a file is missing")
            config.write_text("")
            server.process.send_signal(signal.SIGHUP)
            until(lambda: len(lines(server, "reloaded")) == 2, seconds=30, what="no hook any more")
            assert len(lines(server, "data_stream_export_without_hook")) == 2
            assert owner.publish(topic, b"later")
            config.write_text(f'{settings}url = "{hook.url}"\n')
            server.process.send_signal(signal.SIGHUP)
            until(lambda: len(lines(server, "reloaded")) == 3, seconds=30, what="a hook again")
            assert owner.publish(topic, b"again")
            hook.wait_for("again")
        assert hook.payloads == ["after", "again"]
        cloud.close()


class Load:
    """A thread that publishes numbered messages until the server is gone."""

    def __init__(self, server: RunningServer, device: str) -> None:
        self.device = device
        self.acknowledged: list[str] = []
        self._client = Client(server, None, device, PASSWORD, client_id=device)
        assert self._client.connect()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while self._client.publish(f"$devices/{self.device}/events", f"{self.device} {number}".encode()):
            self.acknowledged.append(f"{self.device} {number}")
            number += 1

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()
        self._client.close()


def in_order(hook: StreamHook, devices: list[str]) -> None:
    """Each device's messages were accepted first in the order in which they were published, without a gap."""
    for device in devices:
        numbers = [int(payload.split()[1]) for payload in hook.payloads if payload.startswith(device)]
        assert list(dict.fromkeys(numbers)) == list(range(max(numbers) + 1))


@pytest.mark.both_engines
def test_acknowledged_messages_arrive_after_the_server_was_killed(
    new_store: Callable[[], Mapping[str, str]], tmp_path: Path
) -> None:
    with stream_hook() as hook:
        environment = {**new_store(), **hook.setting(batch=3)}
        acknowledged: list[str] = []
        devices: list[str] = []
        for _ in range(3):
            with running_server(tmp_path / "data", arguments=_LOG, environment=environment) as server:
                cloud = Cloud(server)
                registry = cloud.registry(password=PASSWORD)
                add_export(cloud, registry)
                new = [cloud.device(registry, password=PASSWORD) for _ in range(3)]
                loads = [Load(server, device) for device in new]
                devices += new
                hook.wait_for(*(f"{device} 5" for device in new))
                server.kill()
                for load in loads:
                    load.join()
                    assert load.acknowledged
                    acknowledged += load.acknowledged
                cloud.close()
        with running_server(tmp_path / "data", arguments=_LOG, environment=environment) as server:
            hook.wait_for(*acknowledged)
            until(lambda: metric(server, "export_messages_waiting") == 0, seconds=60, what="empty queues")
        in_order(hook, devices)


def test_one_of_two_processes_sends_and_the_other_goes_on_when_it_is_killed(tmp_path: Path, url: str) -> None:
    with stream_hook() as hook, several(tmp_path, url, 2, **hook.setting()) as servers:
        account = Account.first(servers[0])
        clouds = [Cloud(server, account) for server in servers]
        registry = clouds[0].registry(password=PASSWORD)
        add_export(clouds[0], registry)
        devices = [clouds[0].device(registry, password=PASSWORD) for _ in servers]
        topics = [f"$devices/{device}/events" for device in devices]
        until(lambda: sum(metric(each, "exports_lease_held") for each in servers) == 1, seconds=20, what="one holder")
        [sender] = [each for each in servers if metric(each, "exports_lease_held")]
        [other] = [each for each in servers if each is not sender]
        with publisher(servers[0], devices[0]) as one, publisher(servers[1], devices[1]) as two:
            # The second process learns of the export within a second.
            until(lambda: two.publish(topics[1], b"known") and "known" in hook.payloads, seconds=30, what="it knows")
            expected = [f"{device} {number}" for number in range(50) for device in devices]
            for number in range(50):
                assert one.publish(topics[0], f"{devices[0]} {number}".encode())
                assert two.publish(topics[1], f"{devices[1]} {number}".encode())
            hook.wait_for(*expected)
            assert sorted(each for each in hook.payloads if each != "known") == sorted(expected), "each message once"
            in_order(hook, devices)
            assert metric(other, "export_messages_sent_total") == 0
        hook.mode = "fail"
        at = servers.index(other)
        with publisher(other, devices[at]) as client:
            for number in range(50, 60):
                assert client.publish(topics[at], f"{devices[at]} {number}".encode())
            sender.kill()
            hook.mode = "accept"
            for number in range(60, 70):
                assert client.publish(topics[at], f"{devices[at]} {number}".encode())
        hook.wait_for(*(f"{devices[at]} {number}" for number in range(50, 70)))
        in_order(hook, devices)
        assert metric(other, "exports_lease_held") == 1
        for each in clouds:
            each.close()


@pytest.mark.parametrize(
    ("trusted", "host", "arrives"), [(True, "localhost", True), (False, "localhost", False), (True, "127.0.0.1", False)]
)
def test_the_certificate_of_a_hook_is_verified(tmp_path: Path, trusted: bool, host: str, arrives: bool) -> None:
    pair = Pair(tmp_path, "hook", names=["localhost"])
    ca = {"ca_file": str(pair.certificate)} if trusted else {}
    (tmp_path / "token").write_text("secret")
    with stream_hook(pair) as hook:
        hook.url = hook.url.replace("localhost", host)
        setting = hook.setting(token_file=str(tmp_path / "token"), **ca)
        with running_server(tmp_path / "data", arguments=_LOG, environment=setting) as server:
            cloud = Cloud(server)
            registry = cloud.registry(password=PASSWORD)
            add_export(cloud, registry)
            with publisher(server, registry) as owner:
                assert owner.publish(f"$registries/{registry}/commands", b"x")
            if arrives:
                hook.wait_for("x")
                assert hook.calls[0]["authorization"] == "Bearer secret"
            else:
                until(lambda: lines(server, "data_stream_export_failing"), seconds=30, what="it fails")
                [line] = lines(server, "data_stream_export_failing")
                assert "CERTIFICATE_VERIFY_FAILED" in line["why"]
                assert hook.calls == []
            cloud.close()
