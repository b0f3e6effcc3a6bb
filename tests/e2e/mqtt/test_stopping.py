"""A server that stops while devices are connected, and starts again."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.e2e.access.local_admin import keys_of
from tests.e2e.commands import in_process
from tests.e2e.conftest import iot_client
from tests.e2e.logs import check_log
from tests.e2e.mqtt.conftest import Devices, new_name, opened_gateway
from tests.e2e.mqtt.devices import Closed, Device
from thingmint.mqtt.protocol.packets import Will
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.testing import running_server

if TYPE_CHECKING:
    from pathlib import Path


def test_devices_are_disconnected_by_sigterm_and_state_survives_sigkill(tmp_path: Path) -> None:
    with opened_gateway(tmp_path) as gateway:
        mine, name, topic = gateway.mine, new_name(), new_name("t")
        made, doomed = mine.credential(), mine.credential()
        keeper = mine.connected(made)
        keeper.subscribe(topic)
        five = mine.connected(made, name, will=Will(topic, b"not now"), session_expiry=60)
        old = mine.connected(made, version=4)
        silent = mine.dial(made)
        began = time.monotonic()
        gateway.server.process.send_signal(signal.SIGINT)
        assert five.until_closed().reason is Reason.SERVER_SHUTTING_DOWN
        closed = keeper.until_closed()
        assert closed.reason is Reason.SERVER_SHUTTING_DOWN
        assert len(closed.packets) == 1  # no will
        for device in (old, silent):
            assert device.until_closed().packets == []
            device.drop()
        for device in (five, keeper):
            device.drop()
        assert gateway.server.process.wait(20) == 0
        assert time.monotonic() - began < 10
        log = gateway.server.output.read_text()
        check_log(log)
        assert log.splitlines()[-1].find('"stopped"') > 0
        assert not gateway.proxy_socket.exists()
    # The directory and the certificate are the same. Sessions of the embedded broker are lost.
    data, default = gateway.server.data_dir, {"THINGMINT_DEFAULT_ACCOUNT": mine.account}
    with (
        running_server(data, arguments=["--log-format=json"], environment=default) as server,
        Device(server, made) as device,
        Device(server, doomed) as other,
        contextlib.closing(iot_client(server, **keys_of(mine.keys))) as iot,
    ):
        assert not device.connect(name, clean_start=False, session_expiry=60).session_present
        assert device.is_open
        other.connect(new_name())
        iot.update_certificate(certificateId=doomed.fingerprint, newStatus="INACTIVE")
        server.kill()
        for one in (device, other):
            one.until_closed()
    # No acknowledged change is lost: a deactivation survives a power failure.
    with running_server(data, arguments=["--log-format=json"], environment=default) as server:
        with Device(server, doomed) as again:
            with pytest.raises(Closed) as caught:
                again.connect(new_name())
            assert caught.value.reason is Reason.NOT_AUTHORIZED
        with Device(server, made) as device:
            device.connect(name)
            server.process.terminate()
            assert device.until_closed().reason is Reason.SERVER_SHUTTING_DOWN
        assert server.process.wait(20) == 0


def test_endpoints_are_read_from_a_file(tmp_path: Path) -> None:
    """An ``[endpoints]`` table in thingmint.toml, for the first account."""
    data, config = tmp_path / "data", tmp_path / "thingmint.toml"
    assert in_process("init", "--data-dir", data).returncode == 0
    [account] = json.loads(in_process("access", "account", "list", "--data-dir", data, "--output", "json").stdout)
    number = account["id"]
    config.write_text(
        f'[endpoints]\n"IoT.Example.org" = {{ account = "{number}", region = "us-east-1" }}\n'
        f'"y.example.org" = {{ account = "{number}", region = "us-east-1", cloud = "yandex" }}\n'
    )
    with (
        running_server(data, arguments=[f"--config={config}"]) as server,
        contextlib.closing(iot_client(server)) as iot,
    ):
        assert iot.describe_endpoint()["endpointAddress"] == "iot.example.org"
        fleet = Devices(server, iot, number, "iot.example.org", {}, tmp_path)
        for endpoint in ("iot.example.org", "localhost"):
            with fleet.dial(fleet.credential(), endpoint=endpoint) as device:
                device.connect(new_name())
        with fleet.dial(fleet.credential(), endpoint="y.example.org") as device, pytest.raises(Closed):
            device.connect(new_name())  # Yandex's rules hold there, and the certificate is bound to no device
