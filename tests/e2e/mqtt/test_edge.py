"""The server behind an edge: on a Unix socket, and on a port for edges with a known certificate."""

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
    """What a device gets for its CONNECT, whose edge says that this is its certificate."""
    sock.settimeout(15)
    sock.sendall(header(digest=bytes.fromhex(fingerprint)) + encode(Connect(5, "behind", keep_alive=60), 5))
    return list(Decoder(version=5).feed(sock.recv(65536)))


def over_tls(server: RunningServer, edge: Credential, fingerprint: str) -> list[object]:
    """The same on the port for edges; nothing if that ended the connection, be it TLS or TCP first."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", server.ports["mqtt-proxy"]), 15) as raw,
        tls_context(server, edge).wrap_socket(raw, server_hostname="localhost") as sock,
    ):
        return answer(sock, fingerprint)
    return []


def test_an_edge_on_a_unix_socket(gateway: Gateway) -> None:
    made = gateway.mine.credential()
    assert stat.S_IMODE(gateway.edge_socket.stat().st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(gateway.edge_socket))
        [accepted] = answer(sock, made.fingerprint)
        assert isinstance(accepted, ConnAck)
        assert accepted.reason is Reason.SUCCESS
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(gateway.edge_socket))
        assert answer(sock, "0" * 64) == [ConnAck(Reason.NOT_AUTHORIZED)]
    [line] = gateway.mine.log(made, "connected")
    assert line["client"] == "192.0.2.1"  # the device's, not the edge's


def test_an_edge_with_a_known_certificate(gateway: Gateway) -> None:
    made = gateway.mine.credential()
    [accepted] = over_tls(gateway.server, gateway.edge, made.fingerprint)
    assert isinstance(accepted, ConnAck)
    assert accepted.reason is Reason.SUCCESS
    # A device of ours is no edge: what it says of others is not believed.
    assert over_tls(gateway.server, made, made.fingerprint) == []


def test_a_port_for_edges_needs_their_certificates(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerFailed, match="mqtt-proxy-fingerprints: must list the fingerprints"),
        running_server(tmp_path / "data", environment={"THINGMINT_MQTT_PROXY_PORT": "0"}),
    ):
        pass
