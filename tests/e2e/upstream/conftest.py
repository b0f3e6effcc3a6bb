"""A server in front of each kind of broker, and devices that may do anything."""

from __future__ import annotations

import contextlib
import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.access.local_admin import LocalAdmin, allow, document
from tests.e2e.conftest import iot_client
from tests.e2e.upstream.brokers import mosquitto, rabbitmq
from tests.e2e.upstream.device import Device, Identity, connect
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.upstream.brokers import RunningBroker
    from thingmint.mqtt.protocol.packets import ConnAck
    from thingmint.testing import RunningServer

KINDS = ["embedded", "mosquitto-5", "mosquitto-3.1.1", "rabbitmq"]


@dataclass
class BrokeredServer:
    kind: str
    server: RunningServer
    broker: RunningBroker | None
    folder: Path
    clients: contextlib.ExitStack
    policy: str = field(default_factory=lambda: f"anything-{secrets.token_hex(4)}")
    devices: list[Device] = field(default_factory=list)

    def account(self, name: str | None = None) -> Any:
        """Returns a boto3 client for the first account, or for a new one."""
        if name is None:
            iot = iot_client(self.server)
        else:
            new = LocalAdmin(self.server).ask("account.create", name=name)
            iot = self.clients.enter_context(LocalAdmin(self.server, new["account"]).iot(new))
        iot.create_policy(policyName=self.policy, policyDocument=document(allow("iot:*")))
        return iot

    def connect(self, identity: Identity, client_id: str, **fields: Any) -> tuple[Device, ConnAck]:
        device, connack = connect(self.server, identity, client_id, **fields)
        self.devices.append(device)
        return device, connack

    def device(self, identity: Identity, client_id: str, **fields: Any) -> Device:
        device, connack = self.connect(identity, client_id, **fields)
        assert not connack.reason.failed, connack
        return device


@contextlib.contextmanager
def server_before(kind: str, folder: Path) -> Iterator[BrokeredServer]:
    with contextlib.ExitStack() as stack:
        broker: RunningBroker | None = None
        if kind.startswith("mosquitto"):
            broker = stack.enter_context(mosquitto(folder))
        elif kind == "rabbitmq":
            broker = stack.enter_context(rabbitmq(folder))
        # Without rates, tests with many messages are faster.
        environment = {f"THINGMINT_MQTT_RATES__{rate}": "0" for rate in ("PUBLISHES", "SUBSCRIBES", "RECEIVED")}
        if broker is not None:
            version = "5" if kind == "mosquitto-5" else "3.1.1"
            environment["THINGMINT_BROKER"] = json.dumps(broker.settings | {"version": version})
        server = stack.enter_context(running_server(arguments=["--log-format=json"], environment=environment))
        yield BrokeredServer(kind, server, broker, folder, stack)
        log = server.output.read_text(errors="replace")
        assert "Traceback" not in log, log


@pytest.fixture(scope="package", params=KINDS)
def own_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokeredServer]:
    with server_before(request.param, tmp_path_factory.mktemp("broker")) as brokered:
        yield brokered


@pytest.fixture
def brokered(own_server: BrokeredServer) -> Iterator[BrokeredServer]:
    yield own_server
    for device in own_server.devices:
        device.close()
    own_server.devices.clear()


@pytest.fixture(scope="package")
def iot(own_server: BrokeredServer) -> Any:
    return own_server.account()


@pytest.fixture(scope="package")
def identity(own_server: BrokeredServer, iot: Any) -> Identity:
    return Identity.new(iot, own_server.folder, own_server.policy)


@pytest.fixture
def name() -> str:
    """Returns a unique name for client ids and topics."""
    return f"n{secrets.token_hex(5)}"
