"""Accepts connections within limits: in total, per address, and for connections that are in their handshake."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from thingmint.domain.names import plain_address, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from thingmint.access.request_log import RefusalLog


FEW = 32
"""An address with fewer connections may use the reserve."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``per_address`` is large, because all devices behind a NAT share an address.

    The last ``reserve`` places are for addresses with fewer than ``FEW`` connections, so that one address, or a few
    addresses together, cannot take all places.
    """

    total: int = 20_000
    per_address: int = 5_000
    half_open: int = 1_000
    half_open_per_address: int = 200
    reserve: int = 1_000


@dataclass(frozen=True, slots=True)
class TooMany:
    reason: str


class AddressLimits:
    """Counts connections. All listeners of a kind share one: it protects the files and memory of the process.

    ``refused`` is called with the reason of each refusal.
    """

    def __init__(self, limits: Limits, refused: Callable[[str], None] | None = None) -> None:
        self._limits = limits
        self._refused = refused
        self._open: Counter[str] = Counter()
        self._half_open: Counter[str] = Counter()
        self._half_open_total = 0
        self._total = 0

    def replace(self, limits: Limits) -> None:
        """Sets the limits for new connections."""
        self._limits = limits

    @property
    def total(self) -> int:
        return self._total

    @property
    def half_open(self) -> int:
        return self._half_open_total

    def admit(self, address: str) -> Place | TooMany:
        """A place for a new connection that begins its handshake. An address that is not IP is counted unchanged."""
        source = source_of(address)
        if (reason := self._refusal(source)) is not None:
            if self._refused is not None:
                self._refused(reason)
            return TooMany(reason)
        self._total += 1
        self._open[source] += 1
        self._half_open_total += 1
        self._half_open[source] += 1
        return Place(self, source)

    def _refusal(self, source: str) -> str | None:
        limits, of_source = self._limits, self._open[source]
        if self._total >= limits.total:
            return "too many connections"
        if of_source >= limits.per_address:
            return "too many connections from this address"
        if of_source >= FEW and self._total >= limits.total - limits.reserve:
            return "the last places are for addresses with few connections"
        if self._half_open_total >= limits.half_open:
            return "too many handshakes under way"
        if self._half_open[source] >= limits.half_open_per_address:
            return "too many handshakes under way from this address"
        return None

    def _opened(self, source: str) -> None:
        self._half_open_total -= 1
        _decrease(self._half_open, source)

    def _closed(self, source: str) -> None:
        self._total -= 1
        _decrease(self._open, source)


class Place:
    """The place of an admitted connection. Calling a method again has no effect."""

    __slots__ = ("_is_half_open", "_limits", "_source")

    def __init__(self, limits: AddressLimits, source: str) -> None:
        self._limits: AddressLimits | None = limits
        self._source = source
        self._is_half_open = True

    def opened(self) -> None:
        """The handshake is done."""
        if self._limits is not None and self._is_half_open:
            self._is_half_open = False
            self._limits._opened(self._source)  # noqa: SLF001 - the two are one thing

    def closed(self) -> None:
        """The connection has ended, with or without a handshake."""
        self.opened()
        if self._limits is not None:
            self._limits._closed(self._source)  # noqa: SLF001
            self._limits = None


def _decrease(counter: Counter[str], source: str) -> None:
    """Removes an entry that becomes 0: unauthenticated callers choose the sources, so entries must not pile up."""
    if counter[source] > 1:
        counter[source] -= 1
    else:
        del counter[source]


_BACKLOG = 1024  # connections that wait in the kernel while the event loop is busy
_AT_ONCE = 64  # connections accepted in one turn of the event loop
_PAUSE = 0.2  # seconds, when the process has no file descriptors left

_log = structlog.get_logger("thingmint.http")


class Acceptor:
    """``connect`` gets a connection's socket and its place. A connection beyond the limits is closed.

    ``receive_buffer`` and ``send_buffer`` are the bytes that the kernel buffers for a connection; with None, its
    defaults, which are megabytes.
    """

    def __init__(
        self,
        sock: socket.socket,
        limits: AddressLimits,
        refusals: RefusalLog,
        connect: Callable[[socket.socket, Place, str], Coroutine[None, None, None]],
        *,
        receive_buffer: int | None = None,
        send_buffer: int | None = None,
    ) -> None:
        """``sock`` is bound."""
        self._sock = sock
        self._limits = limits
        self._refusals = refusals
        self._connect = connect
        self._buffers = {socket.SO_RCVBUF: receive_buffer, socket.SO_SNDBUF: send_buffer}
        self._connecting: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        self._sock.setblocking(False)
        for option, size in self._buffers.items():
            if size is not None:  # set before listen(), so that connections inherit it
                self._sock.setsockopt(socket.SOL_SOCKET, option, size)
        self._sock.listen(_BACKLOG)
        self._loop.add_reader(self._sock, self._accept)

    def close(self) -> None:
        """Stops accepting, and ends the handshakes that are not complete."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()
        for task in self._connecting:
            task.cancel()

    async def wait_closed(self) -> None:
        if self._connecting:
            await asyncio.wait(self._connecting)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue  # the peer ended the connection before it was accepted
            except OSError as error:
                _log.error("connection_not_accepted", error=error.strerror)
                self._loop.remove_reader(self._sock)
                self._pause = self._loop.call_later(_PAUSE, self._loop.add_reader, self._sock, self._accept)
                return
            self._admit(connection, plain_address(address[0]))

    def _admit(self, connection: socket.socket, address: str) -> None:
        place = self._limits.admit(address)
        if isinstance(place, TooMany):
            self._refusals.note("connection_refused", source_of(address), place.reason)
            connection.close()
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._connect(connection, place, address))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
