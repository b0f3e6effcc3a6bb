"""An HTTP listener: a listening socket that uvicorn serves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import uvicorn

from thingmint.http.client_hello import ClientHello, peek_hello
from thingmint.http.connection_limits import Acceptor
from thingmint.http.protocol import HEAD_TIMEOUT, RECEIVE_BUFFER, SEND_BUFFER, LimitedProtocol

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from thingmint.access.request_log import RefusalLog
    from thingmint.http.connection_limits import AddressLimits, Place
    from thingmint.http.memory import RequestMemory
    from thingmint.http.messages import App


_KEEP_ALIVE = 75  # seconds
_TLS_SHUTDOWN_TIMEOUT = 2.0  # seconds, for an idle client to answer close_notify
_SHORTEST = 0.1  # seconds
_GRACE = 30  # seconds, for requests in flight when the server stops


def bind(host: str, port: int) -> socket.socket:
    """A bound socket. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


Take = Callable[[socket.socket, "Place", str, str | None], Coroutine[None, None, None]]
"""Takes over an accepted connection with its place, the client's address, and the host name that it asks for."""


class HttpListener(uvicorn.Server):
    """uvicorn with other code to accept connections, and without its signal handlers: the server has its own.

    ``tls`` returns the context for the host name that a client asks for, if any; without it HTTP is not encrypted.
    ``http2`` gets the connections of TLS clients that offer HTTP/2 and no HTTP/1.1, as gRPC's clients do.
    """

    def __init__(
        self,
        app: App,
        sock: socket.socket,
        limits: AddressLimits,
        refusals: RefusalLog,
        memory: RequestMemory,
        tls: Callable[[str | None], ssl.SSLContext] | None = None,
        http2: Take | None = None,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=LimitedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_GRACE,
        )
        super().__init__(config)
        self._sock = sock
        self._limits = limits
        self._refusals = refusals
        self._memory = memory
        self._tls = tls
        self._http2 = http2
        self._serving: asyncio.Task[None] | None = None
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)

    @property
    def port(self) -> int:
        port: int = self._sock.getsockname()[1]
        return port

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def start(self) -> None:
        """Returns once connections are accepted."""
        self._serving = asyncio.create_task(self.serve())
        while not self.started:
            if self._serving.done():
                await self._serving
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Stops accepting, and returns when the requests in flight are answered."""
        self.should_exit = True
        if self._serving is not None:
            await self._serving

    async def startup(self, sockets: list[Any] | None = None) -> None:
        acceptor = Acceptor(
            self._sock,
            self._limits,
            self._refusals,
            self._connect,
            receive_buffer=RECEIVE_BUFFER,
            send_buffer=SEND_BUFFER,
        )
        acceptor.start()
        self.servers = [acceptor]  # type: ignore[list-item]  # all that uvicorn uses of an asyncio.Server
        self.started = True

    async def _connect(self, connection: socket.socket, place: Place, address: str) -> None:
        """Returns after the TLS handshake. From then on the protocol is responsible for the place."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + HEAD_TIMEOUT
        context = None
        if self._tls is not None:
            hello = await self._hello(connection, place)
            if self._http2 is not None and b"h2" in hello.protocols and b"http/1.1" not in hello.protocols:
                await self._http2(connection, place, address, hello.server_name)
                return
            context = self._tls(hello.server_name)
        try:
            await loop.connect_accepted_socket(
                lambda: LimitedProtocol(self.config, self.server_state, self._memory, place),
                connection,
                ssl=context,
                ssl_handshake_timeout=max(ends - loop.time(), _SHORTEST) if context else None,
                ssl_shutdown_timeout=_TLS_SHUTDOWN_TIMEOUT if context else None,
            )
        except OSError:  # the handshake failed, or took too long
            place.closed()
        except asyncio.CancelledError:
            place.closed()
            raise

    async def _hello(self, connection: socket.socket, place: Place) -> ClientHello:
        """Empty after the time-out: what is left of the handshake's time then ends the connection."""
        try:
            async with asyncio.timeout(HEAD_TIMEOUT):
                return await peek_hello(connection)
        except TimeoutError:
            return ClientHello()
        except asyncio.CancelledError:
            connection.close()
            place.closed()
            raise
