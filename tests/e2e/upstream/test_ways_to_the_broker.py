"""Ways to connect to a broker: TLS with a client certificate, a Unix socket, a password; also with errors in them."""

from __future__ import annotations

import contextlib
import json
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.e2e import material
from tests.e2e.access.local_admin import allow, document
from tests.e2e.conftest import iot_client
from tests.e2e.upstream.brokers import free_port, mosquitto, program
from tests.e2e.upstream.device import Identity, connect
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.testing import running_server

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.testing import RunningServer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ways")


@pytest.fixture(scope="module")
def listeners(folder: Path) -> list[str]:
    """Returns lines of Mosquitto's configuration: a TLS listener with client certificates, and a Unix socket."""
    for name, kind in (("broker", "secp256r1"), ("client", "secp384r1")):
        certificate = material.self_signed(kind, "localhost")
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        (folder / f"{name}.key").write_text(material.key_pem(material.key(kind)))
    (folder / "password").write_text("correct\n")
    (folder / "wrong").write_text("wrong\n")
    passwords = folder / "passwords"
    passwords.touch(0o600)
    subprocess.run([program("mosquitto_passwd"), "-b", passwords, "thingmint", "correct"], check=True)
    return [
        f"listener {free_port()} 127.0.0.1",
        f"cafile {folder}/client.pem",
        f"certfile {folder}/broker.pem",
        f"keyfile {folder}/broker.key",
        "require_certificate true",
        f"listener 0 {folder}/socket",
        f"password_file {folder}/passwords",
    ]


def served(server: RunningServer, folder: Path) -> Reason:
    """Returns the reason of a device's CONNACK. If it is accepted, checks that a message is delivered."""
    iot = iot_client(server)
    iot.create_policy(policyName="anything", policyDocument=document(allow("iot:*")))
    identity = Identity.new(iot, folder, "anything")
    device, connack = connect(server, identity, "d")
    with contextlib.closing(device):
        if not connack.reason.failed:
            device.subscribe("a")
            device.publish("a", b"through")
            assert device.message().payload == b"through"
        return connack.reason


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("unix", Reason.SUCCESS),
        ("tls", Reason.SUCCESS),
        ("wrong password", Reason.SERVER_UNAVAILABLE),
        ("wrong host", Reason.SERVER_UNAVAILABLE),
        ("unknown authority", Reason.SERVER_UNAVAILABLE),
        ("no client certificate", Reason.SERVER_UNAVAILABLE),
    ],
)
def test_transports_and_credentials_of_the_broker(
    folder: Path, listeners: list[str], way: str, expected: Reason
) -> None:
    port = listeners[0].split()[1]
    tls = {
        "url": f"mqtts://localhost:{port}",
        "ca_file": f"{folder}/broker.pem",
        "certificate_file": f"{folder}/client.pem",
        "key_file": f"{folder}/client.key",
    }
    settings = {
        "unix": {"url": f"unix://{folder}/socket"},
        "tls": tls,
        "wrong password": {"url": f"unix://{folder}/socket", "password_file": f"{folder}/wrong"},
        "wrong host": tls | {"url": f"mqtts://127.0.0.1:{port}"},
        "unknown authority": tls | {"ca_file": f"{folder}/client.pem"},
        "no client certificate": {"url": tls["url"], "ca_file": tls["ca_file"]},
    }[way]
    settings = {"username": "thingmint", "password_file": f"{folder}/password"} | settings
    with (
        mosquitto(folder, *listeners),
        running_server(environment={"THINGMINT_BROKER": json.dumps(settings)}) as server,
    ):
        assert served(server, folder) is expected
        log = server.output.read_text()
        assert ("broker_unreachable" in log) == expected.failed
        assert "correct" not in log
        assert "Traceback" not in log
        assert server.stop() == 0


def test_connects_are_refused_while_the_broker_is_absent(folder: Path) -> None:
    """The server starts without the broker."""
    settings = {"url": f"mqtt://127.0.0.1:{free_port()}"}
    with running_server(environment={"THINGMINT_BROKER": json.dumps(settings)}) as server:
        assert served(server, folder) is Reason.SERVER_UNAVAILABLE
        assert server.stop() == 0
