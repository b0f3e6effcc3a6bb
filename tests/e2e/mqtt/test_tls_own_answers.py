"""OpenSSL answers some records itself; the inner protocol cannot hold these answers back."""

from __future__ import annotations

import socket
import time
import warnings
from typing import TYPE_CHECKING

import pytest
from OpenSSL import SSL

from tests.e2e.mqtt.served import PATIENCE, Served, client_context, connect, handshake_by_hand, served

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it imports asyncore where there is one
    from tlslite.api import HandshakeSettings, TLSConnection  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    with served(loop=request.param) as running:
        yield running


def handshake(sock: socket.socket) -> TLSConnection:
    settings = HandshakeSettings()
    settings.minVersion = (3, 4)
    settings.certificate_compression_send = []
    client = TLSConnection(sock)
    client.handshakeClientCert(settings=settings)
    return client


def test_key_updates_are_accepted(server: Served) -> None:
    """RFC 8446, section 4.6.3. The server's keys change with its next data, so these requests cost nothing."""
    with connect(server) as sock:
        client = handshake(sock)
        for _ in range(3):
            list(client.send_keyupdate_request(1))
            client.sendall(b"x")
            assert bytes(client.read(max=1, min=1)) == b"x"


def test_a_client_that_does_not_read_tls_answers_is_disconnected(server: Served) -> None:
    """Each attempt to renegotiate is answered with an alert. This client has not read 6 MB of the inner protocol, which
    is allowed. So the first alert exceeds the limit for OpenSSL's answers."""
    server.on_data = lambda inner, data: inner.transport.write(bytes(6_000_000) if data == b"go" else data)
    with connect(server) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        context = client_context()
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        client = handshake_by_hand(sock, context)
        inner = server.next()
        client.send(b"go")
        sock.sendall(client.bio_read(65536))
        assert inner.next() == ("pause", None)
        client.send(b"a word in between")
        sock.sendall(client.bio_read(65536))
        deadline = time.monotonic() + PATIENCE
        while len(inner.received) == len(b"go") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert inner.events.empty()
        client.renegotiate()
        with pytest.raises(SSL.WantReadError):
            client.do_handshake()
        sock.sendall(client.bio_read(65536))
        event, error = inner.next()
        assert event == "lost"
        assert isinstance(error, ConnectionAbortedError)
        assert str(error) == "the peer does not read"
