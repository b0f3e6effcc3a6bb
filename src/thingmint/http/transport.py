"""What an HTTP connection writes to: one piece for an answer, and no patience without end for those who do not read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

MAX_UNSENT = 64 * 1024
"""Bytes of answers that wait for the peer before the next request waits too; a larger answer waits as a whole."""
STALL_TIMEOUT = 15.0  # seconds
_MIN_TAKEN = 16 * 1024  # bytes in that time, while that many wait


class AnswerTransport:
    """A transport that sends what is written within one turn of the event loop as one piece, at the turn's end.

    uvicorn writes an answer's head and its body apart, which would be two TLS records and two system calls.
    A peer that does not take what was written is cut off, also after ``close``.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._unsent = 0
        self._stall: asyncio.TimerHandle | None = None
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
        self.watch()

    def watch(self) -> None:
        """Cuts the peer off unless it goes on taking what waits for it. ``unwatch`` ends this."""
        if self._stall is None:
            self._unsent = self._transport.get_write_buffer_size()
            self._stall = self._loop.call_later(STALL_TIMEOUT, self._look)

    def unwatch(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _look(self) -> None:
        self._stall = None
        if self._transport.get_write_buffer_size() > self._unsent - _MIN_TAKEN:
            self._transport.abort()
        else:
            self.watch()

    def _flush(self) -> None:
        if self._held and not self.is_closing():
            self._transport.write(b"".join(self._held))
        self._held.clear()
