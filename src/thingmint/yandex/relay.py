"""Relays the connections of gRPC's clients to grpcio, which cannot limit connections itself.

TLS is between the client and grpcio: the relay passes encrypted data. grpcio sees the name of the relay's socket
instead of the client's address; the relay maps the name to the address.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import sys
from typing import TYPE_CHECKING, NamedTuple

from thingmint.http.transport import MAX_UNSENT, StallGuard

if TYPE_CHECKING:
    from collections.abc import Callable

    from thingmint.http.connection_limits import Place


HANDSHAKE_TIMEOUT = 10.0  # seconds
_RECORD_HEADER = 5  # bytes: type, version, length (RFC 8446 5.1)
_APPLICATION_DATA = 23


class Relay:
    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._connections: dict[str, Connection] = {}

    def address_of(self, peer: str) -> str | None:
        """The client's address, by gRPC's name of the peer; None if the client has disconnected."""
        connection = self._connection_of(peer)
        return connection.address if connection is not None else None

    def port_of(self, peer: str) -> int | None:
        """The port that the client connected to; None if it has disconnected."""
        connection = self._connection_of(peer)
        return connection.port if connection is not None else None

    def abort(self, peer: str) -> None:
        """Closes the connection of a peer, which ends all of its calls."""
        connection = self._connection_of(peer)
        if connection is not None:
            connection.abort()

    def _connection_of(self, peer: str) -> Connection | None:
        return self._connections.get(peer.rpartition("-")[2])

    async def connect(self, client: socket.socket, place: Place | Places, address: str, target: str) -> None:
        """Relays an accepted connection to ``target``, the path of a Unix socket that grpcio listens on."""
        loop = asyncio.get_running_loop()
        number = str(next(self._numbers))
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        port = client.getsockname()[1]
        connection = Connection(address, port, place, lambda: self._connections.pop(number, None))
        try:
            server.setblocking(False)
            self._name(server, number, target)
            await loop.sock_connect(server, target)
            self._connections[number] = connection
            await loop.create_unix_connection(lambda: connection.server, sock=server)
            await loop.connect_accepted_socket(lambda: connection.client, client)
        except BaseException as error:
            connection.abort()
            server.close()
            client.close()
            if not isinstance(error, OSError):
                raise

    def _name(self, server: socket.socket, number: str, target: str) -> None:
        """Gives a relay's socket the name that grpcio sees."""
        if sys.platform == "linux":
            server.bind(f"\0thingmint-{os.getpid()}-{id(self)}-{number}")  # abstract: no file is made
        else:
            path = f"{target}-{number}"
            server.bind(path)
            os.unlink(path)  # noqa: PTH108 - only the name is needed

    def close(self) -> None:
        for connection in list(self._connections.values()):
            connection.abort()


class Places(NamedTuple):
    """The places of a connection that two kinds of listeners count."""

    one: Place
    other: Place

    def opened(self) -> None:
        self.one.opened()
        self.other.opened()

    def closed(self) -> None:
        self.one.closed()
        self.other.closed()


class Connection:
    """The two ends of a relayed connection. When one end is closed, so is the other."""

    def __init__(self, address: str, port: int, place: Place | Places, forget: Callable[[], object]) -> None:
        self.address = address
        self.port = port
        self.is_over = False
        self.client = _End(self, self._client_sent)
        self.server = _End(self, self._server_sent)
        self.client.other, self.server.other = self.server, self.client
        self._place = place
        self._forget = forget
        self._records: _Records | None = _Records()
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_TIMEOUT, self.abort)

    def abort(self) -> None:
        for end in (self.client, self.server):
            if end.transport is not None:
                end.transport.abort()
        self.ended()

    def ended(self) -> None:
        """Called when the connection of either end is closed."""
        self.is_over = True
        self._timer.cancel()
        self._place.closed()
        self._forget()

    def _client_sent(self, data: bytes) -> None:
        if self._records is not None:
            self._records.read(data)

    def _server_sent(self, data: bytes) -> None:
        # grpcio answers the client's first encrypted record only if the handshake is complete; otherwise it closes.
        if self._records is not None and self._records.has_application_data:
            self._records = None
            self._timer.cancel()
            self._place.opened()


class _Records:
    """Reads the headers of TLS records until one has application data (in TLS 1.3 the client's Finished does)."""

    def __init__(self) -> None:
        self.has_application_data = False
        self._header = b""
        self._rest = 0  # bytes of the record

    def read(self, data: bytes) -> None:
        while data and not self.has_application_data:
            if self._rest:
                passed = min(self._rest, len(data))
                self._rest -= passed
            else:
                passed = _RECORD_HEADER - len(self._header)
                self._header += data[:passed]
                if len(self._header) == _RECORD_HEADER:
                    self.has_application_data = self._header[0] == _APPLICATION_DATA
                    self._rest, self._header = int.from_bytes(self._header[3:]), b""
            data = data[passed:]


class _End(asyncio.Protocol):
    """Writes the data that it reads to the other end, and reads no faster than the other end sends."""

    other: _End

    def __init__(self, connection: Connection, sent: Callable[[bytes], None]) -> None:
        self.transport: asyncio.Transport | None = None
        self._connection = connection
        self._sent = sent

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # streams only
        self.transport = transport
        self._guard = StallGuard(transport, asyncio.get_running_loop())
        transport.set_write_buffer_limits(high=MAX_UNSENT)
        if self._connection.is_over:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        self._sent(data)
        if self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        self._guard.watch()
        if self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self._guard.unwatch()
        if self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._guard.unwatch()
        self._connection.ended()
        self.other.close()

    def close(self) -> None:
        """Closes the end after the data that was written to it is sent."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()
            self._guard.watch()
