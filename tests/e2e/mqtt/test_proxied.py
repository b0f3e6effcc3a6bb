"""Devices behind a TLS proxy, which connects over a Unix socket or inside TLS."""

from __future__ import annotations

import hashlib
import socket
import struct
import time
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from structlog.testing import capture_logs

from tests.e2e import material
from tests.e2e.mqtt.served import PATIENCE, Served, client_context, connect, contexts, read_all, served, tls_client
from thingmint.domain.certificates import fingerprint_of
from thingmint.http.connection_limits import AddressLimits, Limits
from thingmint.mqtt.peer import Peer
from thingmint.mqtt.tls.listener import TlsListener, fingerprint_check
from thingmint.mqtt.tls.proxied import ProxyListener

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DIGEST = hashlib.sha256(b"a device's certificate").digest()


def header(address: str = "192.0.2.1", digest: bytes = DIGEST, command: int = 0x21) -> bytes:
    body = socket.inet_aton(address) + bytes(4) + struct.pack("!HH", 40001, 8883)
    body += struct.pack("!BH", 0xE0, len(digest)) + digest
    return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", command, 0x11, len(body)) + body


@pytest.fixture(params=["uvloop", "asyncio"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Served, str]]:
    where = str(tmp_path / "proxy")
    limits = AddressLimits(Limits(per_address=2))
    with served(
        lambda server: ProxyListener(server.inner, header_timeout=0.5, limits=limits), loop=request.param, unix=where
    ) as server:
        yield server, where


def through(where: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE)
    sock.connect(where)
    return sock


@pytest.mark.parametrize("cut", [0, 1, 13, 27, 70])
def test_a_header_may_come_in_two_pieces(path: tuple[Served, str], cut: int) -> None:
    server, where = path
    with through(where) as sock:
        data = header() + b"hello"
        sock.sendall(data[:cut])
        time.sleep(0.02)
        sock.sendall(data[cut:])
        assert sock.recv(100) == b"hello"
        time.sleep(0.6 if cut == 1 else 0)  # longer than the time-out for the header, which has ended
        sock.sendall(b"again")
        assert sock.recv(100) == b"again"
    inner = server.next()
    assert inner.peer == Peer("192.0.2.1", 40001, fingerprint=DIGEST.hex())
    assert [inner.next()[0], inner.next()[0]] == ["eof", "lost"]


def test_a_health_check_has_no_identity(path: tuple[Served, str]) -> None:
    server, where = path
    with through(where) as sock:
        sock.sendall(header(command=0x20))
        assert server.next().peer == Peer("", 0)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"\x10\x13\x00\x04MQTT", "no PROXY protocol header"),
        (header(digest=b"short"), "a fingerprint that is not a SHA-256"),
        (header()[:-1], "timed out"),
        (b"", "timed out"),
    ],
)
def test_a_missing_or_invalid_header_is_refused(path: tuple[Served, str], sent: bytes, reason: str) -> None:
    server, where = path
    with capture_logs() as logs, through(where) as sock:
        sock.sendall(sent)
        assert read_all(sock) == b""
        assert server.no_connection_was_made()
    assert [(line["event"], line["reason"]) for line in logs] == [("proxy_header_refused", reason)]


def test_limits_count_the_addresses_of_devices(path: tuple[Served, str]) -> None:
    server, where = path
    with through(where) as first, through(where) as second, through(where) as other:
        for sock, address in ((first, "192.0.2.1"), (second, "192.0.2.1"), (other, "192.0.2.2")):
            sock.sendall(header(address))
            server.next()
        with capture_logs() as logs, through(where) as third:
            third.sendall(header())
            assert read_all(third) == b""
        assert [(line["event"], line["source"]) for line in logs] == [("connection_refused", "192.0.2.1")]
        first.close()
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with through(where) as again:
                again.sendall(header() + b"x")
                if read_one(again):
                    break
        else:
            pytest.fail("the place was not given back")


def answer_to(client: SSL.Connection, data: bytes) -> bytes:
    client.send(data)
    return client.recv(100)


def read_one(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1)
    except ConnectionResetError:
        return b""


def test_a_proxy_inside_tls_needs_a_listed_certificate() -> None:
    proxy = material.self_signed(common_name="proxy-1")
    fingerprint = fingerprint_of(proxy.public_bytes(Encoding.DER))

    def make(server: Served) -> TlsListener:
        return TlsListener(contexts(), ProxyListener(server.inner).inside, check=fingerprint_check({fingerprint}))

    with served(make) as server:
        with tls_client(server, client_context(proxy, material.key("secp256r1"))) as client:
            client.send(header() + b"hello")
            assert client.recv(100) == b"hello"
            inner = server.next()
            assert inner.peer == Peer("192.0.2.1", 40001, fingerprint=DIGEST.hex())
            client.shutdown()
            assert [inner.next(), inner.next()] == [("eof", None), ("lost", None)]
        # Clients with another certificate, or without one, that send the same header.
        for unknown in (client_context(material.self_signed(), material.key("secp256r1")), client_context()):
            with pytest.raises(SSL.Error), tls_client(server, unknown) as client:
                answer_to(client, header() + b"hello")
            assert server.no_connection_was_made()
        with connect(server) as sock:
            sock.sendall(header())
            read_all(sock)
        assert server.no_connection_was_made()
