"""A listening socket with uvicorn behind it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Any

import uvicorn

from thingmint.http.protocol import HEAD_TIMEOUT, LimitedProtocol

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from thingmint.http.messages import App


_KEEP_ALIVE = 75  # seconds
_GOODBYE = 2.0  # seconds, for an idle client to answer that the connection ends
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


class HttpListener(uvicorn.Server):
    """uvicorn, but for signals, which the server as a whole owns, and with time-outs on TLS handshakes."""

    def __init__(self, app: App, sock: socket.socket, tls: ssl.SSLContext | None = None) -> None:
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
        self._tls = tls
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
        """Accepts nothing more, and returns when the requests in flight are answered."""
        self.should_exit = True
        if self._serving is not None:
            await self._serving

    async def startup(self, sockets: list[Any] | None = None) -> None:
        self.servers = [
            await asyncio.get_running_loop().create_server(
                lambda: LimitedProtocol(self.config, self.server_state, {}),
                sock=self._sock,
                ssl=self._tls,
                backlog=self.config.backlog,
                ssl_handshake_timeout=HEAD_TIMEOUT if self._tls else None,
                ssl_shutdown_timeout=_GOODBYE if self._tls else None,
            )
        ]
        self.started = True
