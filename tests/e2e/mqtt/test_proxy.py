"""The server behind a TLS proxy: on a Unix socket, and on a port for proxies with a listed certificate."""

from __future__ import annotations

import contextlib
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from tests.e2e.mqtt.devices import tls_context
from tests.e2e.mqtt.test_proxied import header
from thingmint.mqtt.protocol.decoder import Decoder
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.packets import ConnAck, Connect
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.testing import ServerFailed, running_server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.mqtt.conftest import Gateway
    from tests.e2e.mqtt.devices import Credential
    from thingmint.testing import RunningServer


def answer(sock: socket.socket, fingerprint: str) -> list[object]:
    """Connects through a proxy that forwards this fingerprint. Returns the answer to the device's CONNECT."""
    sock.settimeout(15)
    sock.sendall(header(digest=bytes.fromhex(fingerprint)) + encode(Connect(5, "behind", keep_alive=60), 5))
    return list(Decoder(version=5).feed(sock.recv(65536)))


def over_tls(server: RunningServer, proxy: Credential, fingerprint: str) -> list[object]:
    """Does the same at the port for proxies. Returns nothing if the connection was ended, by TLS or TCP."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", server.ports["mqtt-proxy"]), 15) as raw,
        tls_context(server, proxy).wrap_socket(raw, server_hostname="localhost") as sock,
    ):
        return answer(sock, fingerprint)
    return []


def test_a_proxy_connects_over_a_unix_socket(gateway: Gateway) -> None:
    made = gateway.mine.credential()
    assert stat.S_IMODE(gateway.proxy_socket.stat().st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(gateway.proxy_socket))
        [accepted] = answer(sock, made.fingerprint)
        assert isinstance(accepted, ConnAck)
        assert accepted.reason is Reason.SUCCESS
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(gateway.proxy_socket))
        assert answer(sock, "0" * 64) == [ConnAck(Reason.NOT_AUTHORIZED)]
    [line] = gateway.mine.log(made, "connected")
    assert line["client"] == "192.0.2.1"  # the address of the device, not of the proxy


def test_a_proxy_connects_over_tls_with_a_listed_certificate(gateway: Gateway) -> None:
    made = gateway.mine.credential()
    [accepted] = over_tls(gateway.server, gateway.proxy, made.fingerprint)
    assert isinstance(accepted, ConnAck)
    assert accepted.reason is Reason.SUCCESS
    # The certificate of a registered device is not in the list of proxies.
    assert over_tls(gateway.server, made, made.fingerprint) == []


def test_the_proxy_port_needs_fingerprints(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerFailed, match="mqtt-proxy-fingerprints: must list the fingerprints"),
        running_server(tmp_path / "data", environment={"THINGMINT_MQTT_PROXY_PORT": "0"}),
    ):
        pass
