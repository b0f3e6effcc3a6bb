"""Data through TLS: complete, in order, limited in memory, and with an end that differs from an interruption."""

from __future__ import annotations

import random
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from OpenSSL import SSL

from tests.e2e import material
from tests.e2e.mqtt.served import (
    PATIENCE,
    Inner,
    Served,
    client_context,
    connect,
    handshake_by_hand,
    read_all,
    served,
    tls_client,
)
from thingmint.mqtt.tls.transport import TlsTransport

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = 5_000_000


@pytest.fixture(params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    with served(loop=request.param) as running:
        yield running


def context_of(version: int) -> SSL.Context:
    context = client_context(material.self_signed(), material.key("secp256r1"))
    context.set_max_proto_version(version)
    return context


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_large_transfers_in_both_directions(server: Served, version: int) -> None:
    source = random.Random(7)
    sent = source.randbytes(MANY)

    def echo_in_pieces(inner: Inner, data: bytes) -> None:
        start = 0
        while start < len(data):
            size = source.choice([1, 17, 1000, 5000, 40_000])
            piece = data[start : start + size]
            if size == 17:
                inner.transport.writelines([piece[:9], bytearray(piece[9:])])
            else:
                inner.transport.write(memoryview(piece))
            start += size

    server.on_data = echo_in_pieces
    with connect(server) as sock:
        received = exchange(handshake_by_hand(sock, context_of(version)), sock, sent)
    assert received == sent
    assert bytes(server.next().received) == sent


def exchange(client: SSL.Connection, sock: socket.socket, data: bytes) -> bytes:
    """Writes in random pieces, also split at random places on the wire, while a thread reads. Returns the echo."""
    source = random.Random(8)
    received = bytearray()
    lock = threading.Lock()  # an OpenSSL connection allows one thread at a time

    def outgoing() -> bytes:
        with lock:
            try:
                return client.bio_read(200_000)
            except SSL.WantReadError:
                return b""

    sock.sendall(outgoing())

    def read() -> None:
        while len(received) < len(data) and (incoming := sock.recv(source.choice([100, 3000, 70_000]))):
            with lock:
                client.bio_write(incoming)
                while True:
                    try:
                        received.extend(client.recv(65536))
                    except SSL.WantReadError:
                        break

    reader = threading.Thread(target=read)
    reader.start()
    start = 0
    while start < len(data):
        with lock:
            start += client.send(data[start : start + source.choice([1, 300, 16_384, 60_000])])
        wire = memoryview(outgoing())
        while wire:
            cut = source.choice([5, 700, 20_000, 100_000])
            sock.sendall(wire[:cut])
            wire = wire[cut:]
    reader.join(60)
    return bytes(received)


def test_small_writes_are_sent_together(server: Served) -> None:
    """So a device's radio wakes once for CONNACK and the packets after it."""

    def answer(inner: Inner, data: bytes) -> None:
        for _ in range(20):
            inner.transport.write(data)
        assert inner.transport.get_write_buffer_size() == 20 * len(data)

    server.on_data = answer
    with connect(server) as sock:
        client = handshake_by_hand(sock, context_of(SSL.TLS1_2_VERSION))
        client.send(b"tick")
        sock.sendall(client.bio_read(65536))
        client.bio_write(sock.recv(65536))
        assert b"".join(client.recv(4) for _ in range(20)) == b"tick" * 20


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_a_client_may_end_with_close_notify(server: Served, version: int) -> None:
    with tls_client(server, context_of(version)) as client:
        inner = server.next()
        client.shutdown()
        assert inner.next() == ("eof", None)
        with pytest.raises(SSL.ZeroReturnError):
            client.recv(1)
    assert inner.next() == ("lost", None)


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_the_server_ends_with_close_notify(server: Served, version: int) -> None:
    def reply_and_close(inner: Inner, data: bytes) -> None:
        inner.transport.write(b"bye")
        inner.transport.close()
        assert inner.transport.is_closing()
        inner.transport.write(b" and this is not sent")
        inner.transport.close()

    server.on_data = reply_and_close
    with tls_client(server, context_of(version)) as client:
        client.send(b"x")
        inner = server.next()
        assert client.recv(100) == b"bye"
        with pytest.raises(SSL.ZeroReturnError):
            client.recv(1)
        client.shutdown()
    assert inner.next() == ("lost", None)
    assert inner.events.empty()


def test_the_last_data_arrives_while_the_client_keeps_sending(server: Served) -> None:
    """If the socket was closed at once, the kernel would answer these bytes with a reset (RFC 9293, section 3.6.1)."""

    def reply_and_close(inner: Inner, data: bytes) -> None:
        inner.transport.write(b"why")
        inner.transport.close()

    server.on_data = reply_and_close
    with tls_client(server) as client:
        client.send(b"x")
        inner = server.next()
        for _ in range(20):
            client.send(b"more" * 100)
            time.sleep(0.005)
        assert client.recv(100) == b"why"
        with pytest.raises(SSL.ZeroReturnError):
            client.recv(1)
        assert bytes(inner.received) == b"x"


def test_a_client_that_ignores_close_notify_is_disconnected(server: Served) -> None:
    with tls_client(server) as client:
        client.send(b"x")
        inner = server.next()
        client.recv(1)
        began = time.monotonic()
        server.run(inner.transport.close)
        assert inner.next() == ("lost", None)
        assert 1 < time.monotonic() - began < 10


def test_close_works_while_reading_is_paused(server: Served) -> None:
    with tls_client(server) as client:
        inner = server.next()
        server.run(inner.transport.pause_reading)
        client.send(b"x" * 1000)
        began = time.monotonic()
        server.run(inner.transport.close)
        with pytest.raises(SSL.ZeroReturnError):
            client.recv(1)
        client.shutdown()
    assert inner.next() == ("lost", None)
    assert time.monotonic() - began < 1.5  # the end of the client was noticed before the time-out
    assert not inner.received


def test_tcp_end_without_close_notify_is_an_error(server: Served) -> None:
    with tls_client(server) as client:
        inner = server.next()
        client.send(b"the last that was s")
        client.sock_shutdown(socket.SHUT_WR)
        event, error = inner.next()
        assert event == "lost"
        assert isinstance(error, ConnectionAbortedError)
    assert bytes(inner.received) == b"the last that was s"


def test_a_forged_record_ends_the_connection(server: Served) -> None:
    with connect(server) as sock:
        client = SSL.Connection(client_context(), sock)
        sock.settimeout(None)
        client.set_connect_state()
        client.do_handshake()
        inner = server.next()
        sock.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(SSL.Error) as caught:
            client.recv(1)
        assert "bad record mac" in str(caught.value)
        event, error = inner.next()
        assert event == "lost"
        assert isinstance(error, ConnectionAbortedError)
        assert "bad record mac" in str(error)
        assert not inner.received


def test_abort_ends_the_connection(server: Served) -> None:
    with connect(server) as sock:
        client = SSL.Connection(client_context(), sock)
        sock.settimeout(None)
        client.set_connect_state()
        client.do_handshake()
        inner = server.next()
        server.run(inner.transport.abort)
        assert inner.next() == ("lost", None)
        with pytest.raises(SSL.SysCallError):
            client.recv(1)


def test_close_works_in_connection_made(server: Served) -> None:
    server.on_made = lambda inner: inner.transport.close()
    with tls_client(server) as client, pytest.raises(SSL.ZeroReturnError):
        client.recv(1)
    assert server.next().next() == ("lost", None)


def test_writing_pauses_for_a_client_that_never_reads(server: Served) -> None:
    """pause_writing() is called; if the inner protocol then stops, the buffered data is limited."""

    def flood(inner: Inner, data: bytes) -> None:
        inner.transport.set_write_buffer_limits(high=100_000)

        def more() -> None:
            if inner.events.empty() and not inner.transport.is_closing():
                inner.transport.write(bytes(10_000))
                server.loop.call_soon(more)

        more()

    server.on_data = flood
    with tls_client(server) as client:
        client.send(b"x")
        inner = server.next()
        deadline = time.monotonic() + PATIENCE
        while inner.events.empty() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert 0 < server.run(inner.transport.get_write_buffer_size) < 150_000
        assert inner.next() == ("pause", None)
        stop = threading.Timer(PATIENCE, client.sock_shutdown, [socket.SHUT_RDWR])
        stop.start()
        inner.events.put(("resume", None))  # ends the flood
        got = 0
        while inner.events.qsize() < 2:
            got += len(client.recv(65536))
        stop.cancel()
        assert got > 100_000
        assert [inner.next(), inner.next()] == [("resume", None), ("resume", None)]


def test_paused_reading_stops_the_client(server: Served) -> None:
    server.on_data = lambda inner, data: inner.transport.pause_reading()
    with tls_client(server) as client:
        client.send(b"first")
        inner = server.next()
        total = len(b"first")
        client.setblocking(False)
        quiet = 0
        while quiet < 10:  # until the kernel's buffers are full
            try:
                total += client.send(bytes(4096))
                quiet = 0
            except SSL.WantWriteError:
                quiet += 1
                time.sleep(0.02)
        assert not server.run(inner.transport.is_reading)
        assert isinstance(inner.transport, TlsTransport)
        assert not server.run(inner.transport._transport.is_reading)
        assert bytes(inner.received) == b"first"
        server.on_data = lambda inner, data: None
        server.run(inner.transport.resume_reading)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and len(inner.received) < total:
            time.sleep(0.01)
        assert len(inner.received) >= total


def test_paused_reading_holds_decrypted_records(server: Served) -> None:
    """The records of one read are delivered one by one, and not while reading is paused."""

    def one_at_a_time(inner: Inner, data: bytes) -> None:
        inner.transport.pause_reading()
        inner.events.put(("data", data))

    server.on_data = one_at_a_time
    with connect(server) as sock:
        client = handshake_by_hand(sock, client_context())
        for word in (b"one", b"two", b"three"):
            client.send(word)
        sock.sendall(client.bio_read(65536))
        inner = server.next()
        for word in (b"one", b"two", b"three"):
            assert inner.next() == ("data", word)
            time.sleep(0.05)
            assert inner.events.empty()
            server.run(lambda: resume_twice(inner))


def test_data_sent_with_the_handshake_is_delivered(server: Served) -> None:
    """A TLS 1.3 client may send data, of more than one piece, before the server has finished the handshake."""
    data = random.Random(9).randbytes(30_000)
    with connect(server) as sock:
        client = handshake_by_hand(sock, context_of(SSL.TLS1_3_VERSION))
        client.sendall(data)
        sock.sendall(client.bio_read(65536))
        inner = server.next()
        deadline = time.monotonic() + PATIENCE
        while len(inner.received) < len(data) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert bytes(inner.received) == data


def resume_twice(inner: Inner) -> None:
    inner.transport.resume_reading()
    inner.transport.resume_reading()


@pytest.mark.parametrize("word", [b"at once", b"later"])
def test_an_error_of_the_inner_protocol_ends_the_connection(word: bytes) -> None:
    """Both for data from the transport, and for data that waited until reading was resumed."""

    def fail(inner: Inner, data: bytes) -> None:
        if data == b"later":
            inner.transport.pause_reading()
            failing.loop.call_soon(inner.transport.resume_reading)
        else:
            raise RuntimeError("a bug")

    with served(expect_accidents=True) as failing:
        failing.on_data = fail
        with connect(failing) as sock:
            client = handshake_by_hand(sock, client_context())
            client.send(word)
            client.send(b"one more record of the same read")
            sock.sendall(client.bio_read(65536))
            read_all(sock)
        assert failing.next().next()[0] == "lost"
