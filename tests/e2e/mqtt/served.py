"""A listener of the MQTT gateway on a free port, in a thread, with an inner protocol that records its calls."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import threading
from typing import TYPE_CHECKING, Any, Protocol

import uvloop
from OpenSSL import SSL

from tests.e2e import material
from thingmint.domain.server_certificates import ServerCertificate
from thingmint.mqtt.tls.contexts import Contexts, build_context
from thingmint.mqtt.tls.listener import TlsListener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cryptography import x509

    from thingmint.mqtt.peer import Peer

__all__ = [
    "PATIENCE",
    "Inner",
    "Served",
    "client_context",
    "connect",
    "contexts",
    "handshake_by_hand",
    "identity",
    "read_all",
    "served",
    "tls_client",
]

PATIENCE = 15.0  # seconds, for what should take no time


class Inner(asyncio.Protocol):
    """Records its events. Echoes data, unless ``on_data`` or ``on_made`` are replaced."""

    def __init__(self, peer: Peer, server: Served) -> None:
        self.peer = peer
        self.server = server
        self.events: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.received = bytearray()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.server.made.put(self)
        self.server.all.append(self)
        self.server.on_made(self)

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.server.on_data(self, data)

    def eof_received(self) -> None:
        self.events.put(("eof", None))

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.put(("lost", exc))

    def pause_writing(self) -> None:
        self.events.put(("pause", None))

    def resume_writing(self) -> None:
        self.events.put(("resume", None))

    def next(self) -> tuple[str, Any]:
        return self.events.get(timeout=PATIENCE)

    def echo(self, data: bytes) -> None:
        self.transport.write(data)


class Served:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.port = 0
        self.made: queue.Queue[Inner] = queue.Queue()
        self.on_made: Callable[[Inner], None] = lambda inner: None
        self.on_data: Callable[[Inner, bytes], None] = Inner.echo
        self.all: list[Inner] = []
        self.accidents: list[dict[str, Any]] = []

    def inner(self, peer: Peer) -> Inner:
        return Inner(peer, self)

    def next(self) -> Inner:
        return self.made.get(timeout=PATIENCE)

    def no_connection_was_made(self) -> bool:
        """Waits for callbacks under way. True if no new inner protocol was made."""
        self.run(lambda: None)
        return self.made.empty()

    def abort_all(self) -> None:
        for inner in self.all:
            inner.transport.abort()

    def run(self, what: Callable[[], Any]) -> Any:
        """Calls a function in the event loop's thread."""

        async def call() -> Any:
            return what()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(PATIENCE)


@contextlib.contextmanager
def served(
    make: Callable[[Served], Callable[[], asyncio.BaseProtocol]] | None = None,
    *,
    loop: str = "uvloop",
    expect_accidents: bool = False,
    unix: str | None = None,
) -> Iterator[Served]:
    """``make`` returns the protocol factory; by default a TlsListener with a P-256 certificate."""
    event_loop: asyncio.AbstractEventLoop = uvloop.new_event_loop() if loop == "uvloop" else asyncio.new_event_loop()
    server = Served(event_loop)
    event_loop.set_exception_handler(lambda _, context: server.accidents.append(context))
    factory = make(server) if make else TlsListener(contexts(), server.inner)

    async def start() -> asyncio.AbstractServer:
        if unix is not None:
            return await event_loop.create_unix_server(factory, unix)
        listening = await event_loop.create_server(factory, "127.0.0.1", 0)
        server.port = listening.sockets[0].getsockname()[1]
        return listening

    listening = event_loop.run_until_complete(start())
    thread = threading.Thread(target=event_loop.run_forever)
    thread.start()
    try:
        yield server
    finally:
        server.run(listening.close)
        server.run(server.abort_all)
        server.run(lambda: None)
        event_loop.call_soon_threadsafe(event_loop.stop)
        thread.join()
        event_loop.run_until_complete(event_loop.shutdown_asyncgens())
        event_loop.close()
    assert bool(server.accidents) == expect_accidents, server.accidents


def identity(kind: str = "secp256r1", name: str = "localhost") -> ServerCertificate:
    return ServerCertificate(material.self_signed(kind, name), material.key(kind))


def contexts(**by_name: ServerCertificate) -> Contexts:
    return Contexts(build_context(identity()), {name: build_context(each) for name, each in by_name.items()})


def client_context(certificate: x509.Certificate | None = None, key: Any = None) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if certificate is not None:
        context.use_certificate(certificate)
        context.use_privatekey(key)
    return context


class HasPort(Protocol):
    @property
    def port(self) -> int: ...


def connect(server: HasPort) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)


@contextlib.contextmanager
def tls_client(
    server: Served, context: SSL.Context | None = None, name: str | None = None, alpn: list[bytes] | None = None
) -> Iterator[SSL.Connection]:
    """A client after its handshake. With TLS 1.3 the server may still refuse it."""
    with connect(server) as sock:
        sock.settimeout(None)
        client = SSL.Connection(context or client_context(), sock)
        client.set_connect_state()
        if name:
            client.set_tlsext_host_name(name.encode())
        if alpn:
            client.set_alpn_protos(alpn)
        client.do_handshake()
        yield client


def handshake_by_hand(sock: socket.socket, context: SSL.Context) -> SSL.Connection:
    """Returns a client whose bytes the test transfers. The last bytes of its handshake are not sent yet."""
    client = SSL.Connection(context, None)
    client.set_connect_state()
    while True:
        with contextlib.suppress(SSL.WantReadError):
            client.do_handshake()
            return client
        sock.sendall(client.bio_read(65536))
        client.bio_write(sock.recv(65536))


def read_all(sock: socket.socket) -> bytes:
    """Returns all data until the other side ends the connection in any way."""
    received = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while data := sock.recv(65536):
            received += data
    return bytes(received)
