"""Limits on connections: in all, from one address, and of those whose handshake is under way; accepting within them."""

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
"""Connections from one address up to which it may take a place of the reserve."""


@dataclass(frozen=True, slots=True)
class Limits:
    """A fleet behind one NAT shares an address, so ``per_address`` is not small.

    The last ``reserve`` places are for addresses that have fewer than ``FEW`` connections: neither one address nor a
    handful of them can take all places.
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
    """Share one among all listeners of a kind, as what it protects are the process's files and memory.

    ``refused`` is told the reason of each refusal.
    """

    def __init__(self, limits: Limits, refused: Callable[[str], None] | None = None) -> None:
        self._limits = limits
        self._refused = refused
        self._open: Counter[str] = Counter()
        self._half_open: Counter[str] = Counter()
        self._half_open_total = 0
        self._total = 0

    def replace(self, limits: Limits) -> None:
        """For connections that come from now on."""
        self._limits = limits

    @property
    def total(self) -> int:
        return self._total

    @property
    def half_open(self) -> int:
        return self._half_open_total

    def admit(self, address: str) -> Place | TooMany:
        """A new connection, its handshake still to come. Addresses of other kinds than IP are counted as they are."""
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
    """What an admitted connection holds. Its methods may be called again, to no effect."""

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
        """The connection has ended, whatever became of it."""
        self.opened()
        if self._limits is not None:
            self._limits._closed(self._source)  # noqa: SLF001
            self._limits = None


def _decrease(counter: Counter[str], source: str) -> None:
    """Leaves no entry for a source that has nothing: unauthenticated callers choose them."""
    if counter[source] > 1:
        counter[source] -= 1
    else:
        del counter[source]


_BACKLOG = 1024  # connections that the kernel holds while we are busy
_AT_ONCE = 64  # connections accepted in one turn of the event loop
_PAUSE = 0.2  # seconds, when the process has no files left

_log = structlog.get_logger("thingmint.http")


class Acceptor:
    """``connect`` takes over a connection's socket and its place. A connection beyond the limits is just closed.

    ``receive_buffer`` is what the kernel takes in for a connection before it is read, ``send_buffer`` what it takes
    over before the peer has it, in bytes; its defaults, of megabytes, if None.
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
            if size is not None:  # before listen(), so that connections begin with it
                self._sock.setsockopt(socket.SOL_SOCKET, option, size)
        self._sock.listen(_BACKLOG)
        self._loop.add_reader(self._sock, self._accept)

    def close(self) -> None:
        """Accepts nothing more, and ends what is not connected yet."""
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
                continue  # it ended before it was accepted
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
