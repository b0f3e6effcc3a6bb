"""Accepts connections within limits by address, before anything is done for them."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import structlog

from thingmint.domain.names import plain_address, source_of
from thingmint.http.connection_limits import TooMany

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from thingmint.access.refusals import RefusalLog
    from thingmint.http.connection_limits import AddressLimits, Place


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
            self._refusals.note("connection refused", source_of(address), place.reason)
            connection.close()
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._connect(connection, place, address))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
