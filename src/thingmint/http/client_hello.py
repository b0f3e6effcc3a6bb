"""Reads a TLS client's first message, and leaves it in the socket.

It has the application protocols that the client offers (ALPN, RFC 7301), and the host name that it asks for (SNI, RFC
6066 3). So two servers that both terminate TLS can share a port: whichever serves the connection reads the message
again.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.domain.names import server_name

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_HELLO = 16 * 1024  # bytes; TLS itself allows more, which no client sends
_RECORD_HEADER = 5  # bytes: type, version, length (RFC 8446 5.1)
_MAX_RECORD = 2**14  # bytes (RFC 8446 5.1)
_HANDSHAKE_HEADER = 4  # bytes: type, length
_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _ALPN = 0, 16  # extensions
_HOST_NAME = 0  # a type of server name
_VERSION_AND_RANDOM = 2 + 32  # bytes


class _Truncated(Exception):
    """The message goes on."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        """Raises _Truncated."""
        if self._at + size > len(self._data):
            raise _Truncated
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, size: int) -> bytes:
        """A vector whose length has ``size`` bytes (RFC 8446 3.4)."""
        return self.take(self.number(size))

    @property
    def is_empty(self) -> bool:
        return self._at == len(self._data)


@dataclass(slots=True)
class ClientHello:
    """``server_name`` is in lower case, without a trailing dot."""

    protocols: Sequence[bytes] = ()
    server_name: str | None = None


def read_hello(data: bytes) -> ClientHello | None:
    """What a connection that begins with ``data`` asks for; None if that needs more data.

    It is empty if the data is not a ClientHello, and incomplete if the message is damaged or too long.
    """
    message, goes_on = _handshake(data)
    found = ClientHello()
    try:
        _read_hello(_Reader(message), found)
    except _Truncated:
        header = message[:_HANDSHAKE_HEADER]
        is_whole = len(header) == _HANDSHAKE_HEADER and len(message) >= len(header) + int.from_bytes(header[1:])
        if goes_on and not is_whole and len(data) < MAX_HELLO:
            return None
    return found


def _handshake(data: bytes) -> tuple[bytes, bool]:
    """The contents of the handshake records at the beginning of ``data``, and whether more of them may follow."""
    records: list[bytes] = []
    at = 0
    while at < len(data):
        header = data[at : at + _RECORD_HEADER]
        size = int.from_bytes(header[3:])
        if not (header[0] == _HANDSHAKE and header[1:2] in (b"", b"\3") and size <= _MAX_RECORD):
            return b"".join(records), False
        at += _RECORD_HEADER
        records.append(data[at : at + size])
        at += size
    return b"".join(records), True


def _read_hello(message: _Reader, found: ClientHello) -> None:
    """Raises _Truncated."""
    if message.number(1) != _CLIENT_HELLO:
        return
    message.take(_HANDSHAKE_HEADER - 1)
    message.take(_VERSION_AND_RANDOM)
    message.vector(1)  # session id
    message.vector(2)  # cipher suites
    message.vector(1)  # compression methods
    end = message.number(2)
    while end > 0:
        kind, size = message.number(2), message.number(2)
        extension = message.take(size)
        with contextlib.suppress(_Truncated):  # of the extension itself
            if kind == _ALPN:
                found.protocols = _protocols(_Reader(extension))
            elif kind == _SERVER_NAME:
                found.server_name = _host_name(_Reader(extension))
        end -= 4 + size


def _protocols(extension: _Reader) -> Sequence[bytes]:
    """Raises _Truncated."""
    found = []
    names = _Reader(extension.vector(2))
    while not names.is_empty:
        found.append(names.vector(1))
    return found


def _host_name(extension: _Reader) -> str | None:
    """Raises _Truncated."""
    names = _Reader(extension.vector(2))
    while not names.is_empty:
        kind, name = names.number(1), names.vector(2)
        if kind == _HOST_NAME:
            return server_name(name)
    return None


async def peek_hello(connection: socket.socket) -> ClientHello:
    """What ``read_hello`` finds in the data that the client sends first, which stays in the socket.

    Empty if the client closes the connection, or if its message does not fit into the kernel's buffer.
    """
    seen = 0
    try:
        while True:
            await _readable(connection)
            try:
                data = connection.recv(MAX_HELLO, socket.MSG_PEEK)
            except (BlockingIOError, InterruptedError):
                continue
            found = read_hello(data)
            if found is not None:
                return found
            if len(data) <= seen:  # the client closed, or the kernel's buffer is full
                return ClientHello()
            seen = len(data)
            # Without it the socket would stay readable, and this loop would run all the time.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, seen + 1)
    except OSError:  # the client reset the connection
        return ClientHello()
    finally:
        if seen:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


async def _readable(connection: socket.socket) -> None:
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)
