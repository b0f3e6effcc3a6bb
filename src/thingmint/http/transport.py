"""A transport that sends an answer as one piece, and a guard that ends connections whose peer does not read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

MAX_UNSENT = 64 * 1024
"""Unsent bytes up to which the next request is processed."""
STALL_TIMEOUT = 15.0  # seconds
_MIN_TAKEN = 16 * 1024  # bytes that the peer must read within STALL_TIMEOUT


class StallGuard:
    """Aborts the connection of a peer that does not keep reading.

    Call ``watch`` when the transport pauses writing, and when it was closed; call ``unwatch`` when writing resumes.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._unsent = 0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        if self._timer is None:
            self._unsent = self._transport.get_write_buffer_size()
            self._timer = self._loop.call_later(STALL_TIMEOUT, self._find)

    def unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _find(self) -> None:
        self._timer = None
        if self._transport.get_write_buffer_size() > self._unsent - _MIN_TAKEN:
            self._transport.abort()
        else:
            self.watch()


class AnswerTransport:
    """A transport that joins the writes of one turn of the event loop, and sends them at the turn's end.

    uvicorn writes an answer's head and body separately, which would be two TLS records and two system calls.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self.guard = StallGuard(transport, loop)
        transport.set_write_buffer_limits(high=MAX_UNSENT)
        self.is_closing = transport.is_closing
        self.get_extra_info = transport.get_extra_info
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def write(self, data: bytes) -> None:
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()
        self.guard.watch()

    def _flush(self) -> None:
        if self._held and not self.is_closing():
            data = b"".join(self._held)
            # uvloop's TLS does not count the piece that it is sending: it would count nothing of one large piece.
            for start in range(0, len(data), MAX_UNSENT):
                self._transport.write(data[start : start + MAX_UNSENT])
        self._held.clear()
