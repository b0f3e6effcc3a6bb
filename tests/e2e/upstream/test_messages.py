"""The operations on messages and sessions (services/messages.py), with a whole server and real devices.

No API has all of them. So the server runs in a thread of this process, and tests use its Messages object.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest
import uvloop

from tests.e2e.access.local_admin import allow, document
from tests.e2e.commands import in_process
from tests.e2e.conftest import iot_client
from tests.e2e.upstream.brokers import mosquitto
from tests.e2e.upstream.device import Closed, Device, Identity, connect
from tests.e2e.wire import until
from thingmint.domain.arns import Scope
from thingmint.domain.errors import Unavailable, Unsupported
from thingmint.domain.messages import Message, MessageProperties
from thingmint.instance.create import Instance
from thingmint.instance.layout import DataDirectory
from thingmint.mqtt.messages import GatewayMessages
from thingmint.mqtt.protocol.packets import Will
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.server import devices, running, serving
from thingmint.settings import load
from thingmint.testing import RunningServer

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from pathlib import Path

    from tests.e2e.upstream.brokers import RunningBroker
    from thingmint.mqtt.protocol.packets import ConnAck
    from thingmint.server import Ready
    from thingmint.services.messages import Messages

PATIENCE = 30.0  # seconds
THEIRS = Scope("999999999999", "us-east-1")


@dataclass
class Served:
    kind: str
    server: RunningServer
    broker: RunningBroker | None
    messages: Messages
    loop: asyncio.AbstractEventLoop
    iot: Any
    identity: Identity
    scope: Scope
    devices: list[Device] = field(default_factory=list)

    def ask(self, call: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(call, self.loop).result(PATIENCE)

    def connect(self, client_id: str, identity: Identity | None = None, **fields: Any) -> tuple[Device, ConnAck]:
        device, connack = connect(self.server, identity or self.identity, client_id, **fields)
        self.devices.append(device)
        return device, connack

    def device(self, client_id: str, identity: Identity | None = None, **fields: Any) -> Device:
        device, connack = self.connect(client_id, identity, **fields)
        assert not connack.reason.failed, connack
        return device

    def connected(self, scope: Scope | None = None) -> dict[str, Any]:
        listed = self.ask(self.messages.connections_after(scope or self.scope, None, 1_000))
        return {connection.client_id: connection for connection in listed}


@contextlib.contextmanager
def in_a_thread(data: Path, **further: Any) -> Iterator[tuple[RunningServer, Messages, asyncio.AbstractEventLoop]]:
    assert in_process("init", "--data-dir", data).returncode == 0
    flags = {"data_dir": data, "api_port": 0, "http_port": 0, "grpc_port": 0, "mqtt_port": 0, "key_pool": 0, **further}
    made: list[GatewayMessages] = []
    started: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    ports: list[Ready] = []
    is_ready = threading.Event()

    def keep(broker: Any, connections: Any, clients: Any, clock: Any, **further: Any) -> GatewayMessages:
        made.append(GatewayMessages(broker, connections, clients, clock, answer_timeout=2.0, **further))
        return made[0]

    def events() -> tuple[asyncio.Event, asyncio.Event]:
        """Replaces the signal handlers, which only the main thread may set."""
        started.append((asyncio.get_running_loop(), asyncio.Event()))
        return started[0][1], asyncio.Event()

    def on_ready(ready: Ready) -> None:
        ports.append(ready)
        is_ready.set()

    async def serve() -> None:
        settings = load(flags)
        instance = await Instance.open(DataDirectory(data), lambda: None, settings.master_keys())
        try:
            await serving.serve(instance, settings, on_ready)
        finally:
            await instance.store.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "GatewayMessages", keep)
        patch.setattr(serving, "stop_and_reload_signals", events)
        patch.setattr(running, "_exclude_from_garbage_collection", lambda: None)
        thread = threading.Thread(target=lambda: uvloop.run(serve()))
        thread.start()
        try:
            assert is_ready.wait(PATIENCE)
            loop, _ = started[0]
            yield RunningServer(data, data / "none", cast("Any", None), ports[0].ports), made[0], loop
        finally:
            if started:
                started[0][0].call_soon_threadsafe(started[0][1].set)
            thread.join(PATIENCE)


@pytest.fixture(scope="module", params=["embedded", "mosquitto-5", "mosquitto-3.1.1"])
def one_served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder, kind = tmp_path_factory.mktemp("messages"), request.param
    with contextlib.ExitStack() as stack:
        settings: dict[str, Any] = {}
        broker: RunningBroker | None = None
        if kind != "embedded":
            broker = stack.enter_context(mosquitto(folder))
            settings["broker"] = broker.settings | {"version": kind.partition("-")[2]}
        server, messages, loop = stack.enter_context(in_a_thread(folder / "data", **settings))
        iot = iot_client(server)
        stack.callback(iot.close)
        iot.create_policy(policyName="all", policyDocument=document(allow("iot:*")))
        identity = Identity.new(iot, folder, "all")
        arn = iot.describe_certificate(certificateId=identity.certificate_id)["certificateDescription"][
            "certificateArn"
        ]
        scope = Scope(arn.split(":")[4], arn.split(":")[3])
        yield Served(kind, server, broker, messages, loop, iot, identity, scope)


@pytest.fixture
def served(one_served: Served) -> Iterator[Served]:
    yield one_served
    for device in one_served.devices:
        device.close()
    one_served.devices.clear()


@pytest.fixture
def name() -> str:
    return f"n{secrets.token_hex(5)}"


def test_published_messages_reach_devices(served: Served, name: str) -> None:
    device = served.device(name)
    device.subscribe(name)
    properties = MessageProperties(content_type="text/plain", user_properties=(("k", "v"),))
    served.ask(served.messages.publish(THEIRS, Message(name, b"theirs", 1)))
    served.ask(served.messages.publish(served.scope, Message(name, b"ours", 1, properties=properties)))
    got = device.message()
    assert (got.topic, got.payload, got.qos) == (name, b"ours", 1)
    assert got.properties == (MessageProperties() if served.kind == "mosquitto-3.1.1" else properties)
    served.ask(served.messages.publish(served.scope, Message(name, b"at most once")))
    assert device.message().payload == b"at most once"


def test_retained_messages_are_read_or_unsupported(served: Served, name: str) -> None:
    served.ask(served.messages.publish(served.scope, Message(name, b"kept", 1, retain=True)))
    device = served.device(name)
    device.subscribe(name)
    assert device.message().payload == b"kept"
    device.publish(f"{name}/device", b"of a device", retain=True)
    one = partial(served.messages.retained_message, served.scope, f"{name}/device")
    several = partial(served.messages.retained_after, served.scope, name, 10)
    if served.kind == "embedded":
        assert served.ask(one()).message.payload == b"of a device"
        assert [each.message.topic for each in served.ask(several())] == [f"{name}/device"]
    else:
        for look in (one, several):
            with pytest.raises(Unsupported):
                served.ask(look())


@pytest.mark.parametrize("version", [4, 5])
def test_connections_are_listed(served: Served, name: str, version: Any) -> None:
    device = served.device(name, version=version)
    connection = served.connected()[name]
    assert connection.certificate_id == served.identity.certificate_id
    assert (connection.address, connection.port) == device._sock.getsockname()
    assert connection.protocol == ("MQTT 5" if version == 5 else "MQTT 3.1.1")
    assert name not in served.connected(THEIRS)
    again = served.device(name, version=version)
    newer = served.connected()[name]
    assert newer.position > connection.position
    assert device.is_closed() is None or version == 5
    assert served.connected()[name] == newer
    again.disconnect()
    until(lambda: name not in served.connected(), seconds=PATIENCE, what="gone from the list")


@pytest.mark.parametrize("with_will", [True, False])
def test_close_client_ends_the_connection(served: Served, name: str, with_will: bool) -> None:
    other = served.device(f"{name}-other")
    other.subscribe(f"{name}/will")
    device = served.device(name, will=Will(f"{name}/will", b"gone", 1))
    assert not served.ask(served.messages.close_client(THEIRS, name))
    assert served.ask(served.messages.close_client(served.scope, name, with_will=with_will))
    said = device.is_closed()
    assert said is not None
    assert said.reason is Reason.ADMINISTRATIVE_ACTION
    assert name not in served.connected()
    if with_will:
        assert other.message().payload == b"gone"
    served.ask(served.messages.publish(served.scope, Message(f"{name}/will", b"last", 1)))
    assert other.message().payload == b"last"
    assert not served.ask(served.messages.close_client(served.scope, name))


@pytest.mark.parametrize("connected", [True, False])
def test_close_client_may_discard_the_session(served: Served, name: str, connected: bool) -> None:
    lasting: dict[str, Any] = {"clean_start": False, "session_expiry": 600}
    device = served.device(name, **lasting)
    device.subscribe(name)
    device.close()
    device, connack = served.connect(name, **lasting)
    assert connack.session_present
    if not connected:
        device.close()
        until(lambda: name not in served.connected(), seconds=PATIENCE, what="gone from the list")
    assert served.ask(served.messages.close_client(served.scope, name, discard=True)) is connected
    device, connack = served.connect(name, **lasting)
    assert not connack.session_present


def test_close_certificate_ends_all_its_connections(served: Served, name: str, tmp_path: Path) -> None:
    mine = Identity.new(served.iot, tmp_path, "all")
    devices = [served.device(f"{name}-{number}", mine) for number in range(3)]
    served.device(name)
    assert served.ask(served.messages.close_certificate(THEIRS, mine.certificate_id)) == 0
    assert served.ask(served.messages.close_certificate(served.scope, mine.certificate_id)) == 3
    for device in devices:
        assert device.is_closed() is not None
    assert [client for client in served.connected() if client.startswith(name)] == [name]


def test_deactivation_closes_the_connection_before_the_call_returns(served: Served, name: str, tmp_path: Path) -> None:
    mine = Identity.new(served.iot, tmp_path, "all")
    device = served.device(name, mine)
    served.iot.update_certificate(certificateId=mine.certificate_id, newStatus="INACTIVE")
    assert name not in served.connected()
    assert device.is_closed() is not None
    with contextlib.suppress(Closed):
        assert served.connect(name, mine)[1].reason.failed


def test_publishing_fails_while_the_broker_is_stopped(served: Served, name: str) -> None:
    if served.broker is None:
        return  # the embedded broker cannot be killed alone
    served.broker.kill()
    with pytest.raises(Unavailable):
        served.ask(served.messages.publish(served.scope, Message(name, b"x", 1)))
    served.broker.start()
    served_again = partial(served.messages.publish, served.scope, Message(name, b"x", 1))

    def is_taken() -> bool:
        with contextlib.suppress(Unavailable):
            served.ask(served_again())
            return True
        return False

    until(is_taken, seconds=PATIENCE, what="the broker accepts messages again")
