"""TLS for devices: the transport of the inner protocol, after the handshake."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thingmint.http.connection_limits import Place


# OpenSSL's memory BIOs never shrink, so data passes through them in small pieces. Then a device that sent or received
# much, and is idle again, takes less memory (measured: 41 KiB, against 72 KiB with pieces of 16 KiB).
PIECE = 4 * 1024
_RECORD_OUT = PIECE + 1024  # a piece as a TLS record (RFC 8446, section 5.2), and room for a record of TLS itself
_RECORD_IN = 16 * 1024
# Time for the peer to read the last bytes and to close. If the socket were closed earlier, further bytes of the peer
# would make the kernel reset the connection, and the device could lose the answer with the reason of a refusal.
_LINGER = 2.0  # seconds
# OpenSSL answers some records itself (each attempt to renegotiate). A peer that causes such answers and does not read
# them is disconnected at this limit. All other writes are limited by the inner protocol, with pause_writing().
_MAX_OWN_BACKLOG = 256 * 1024  # bytes


class TlsTransport(asyncio.Transport, asyncio.BufferedProtocol):
    """The transport of the inner protocol, and the protocol of the TCP transport.

    Data that the inner protocol writes while it handles received data is sent together, after it returns. If the peer
    ends TLS properly (close_notify), ``eof_received`` and ``connection_lost(None)`` are called; if it only ends TCP,
    ``connection_lost(ConnectionAbortedError)``. There are no half-closed connections.
    """

    __slots__ = (
        "_buffer",
        "_connection",
        "_context",
        "_corked",
        "_error",
        "_held",
        "_inner",
        "_is_closing",
        "_is_paused",
        "_linger",
        "_place",
        "_transport",
    )

    def __init__(
        self,
        connection: SSL.Connection,
        context: SSL.Context,
        transport: asyncio.Transport,
        inner: asyncio.Protocol,
        buffer: memoryview,
        place: Place | None,
    ) -> None:
        self._connection = connection
        self._context = context  # the first context must stay alive: OpenSSL still points at its callbacks
        self._transport = transport
        self._inner = inner
        self._buffer = buffer
        self._place = place
        self._error: Exception | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._held = 0  # bytes before encryption, written and not yet flushed
        self._corked = False
        self._is_closing = False
        self._is_paused = False

    def start(self, already: memoryview) -> None:
        """Starts after the handshake. ``already``: bytes that arrived together with its end."""
        self._transport.set_protocol(self)
        self._corked = True
        try:
            self._inner.connection_made(self)
        except Exception:
            self._transport.abort()
            raise
        self._take(already)

    # The interface for the TCP transport.

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._take(self._buffer[:nbytes])

    def eof_received(self) -> bool:
        if not self._is_closing:
            self._error = ConnectionAbortedError("the peer ended TCP without ending TLS")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closing = True
        if self._linger is not None:
            self._linger.cancel()
        if self._place is not None:
            self._place.closed()
        inner = self._inner
        del self._inner, self._connection  # breaks the reference cycles
        inner.connection_lost(self._error or exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def _take(self, data: memoryview) -> None:
        """Decrypts and delivers. While reading is paused, only stores."""
        if self._is_closing:
            return
        self._corked = True
        for start in range(0, len(data), PIECE):
            self._connection.bio_write(data[start : start + PIECE])
            if not self._deliver():
                return
        if data or self._deliver():
            self._uncork()

    def _deliver(self) -> bool:
        """Delivers decrypted data. Returns True if the connection is still open."""
        while not (self._is_paused or self._is_closing):
            try:
                data = self._connection.recv(_RECORD_IN)
            except SSL.WantReadError:
                return True
            except SSL.ZeroReturnError:
                self._inner.eof_received()
                self.close()
                return False
            except SSL.Error as error:
                self._fail(error)
                return False
            try:
                self._inner.data_received(data)
            except Exception:
                self._transport.abort()
                raise
        return not self._is_closing

    def _uncork(self) -> None:
        self._corked = False
        is_own = not self._held
        sent = self._flush()
        if is_own and sent and self._transport.get_write_buffer_size() > _MAX_OWN_BACKLOG:
            self._error = ConnectionAbortedError("the peer does not read")
            self.abort()

    def _flush(self) -> bool:
        self._held = 0
        return flush(self._connection, self._transport)

    def _fail(self, error: SSL.Error) -> None:
        """Ends the connection after an error of OpenSSL, which has written an alert already."""
        self._error = ConnectionAbortedError(f"TLS failed: {reason_of(error)}")
        self._send_close_notify()

    def _send_close_notify(self) -> None:
        self._is_closing = True
        self._flush()
        if self._is_paused:
            self._transport.resume_reading()
        self._linger = end_writing(self._transport)

    # The interface for the inner protocol.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypts and sends. After ``close`` nothing is sent."""
        view = memoryview(data)
        for start in range(0, len(view), PIECE):
            if self._is_closing:
                return
            piece = view[start : start + PIECE]
            try:
                self._connection.send(piece)
            except SSL.Error as error:
                self._fail(error)
                return
            self._held += len(piece)
            if not self._corked or self._held >= PIECE:
                self._flush()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """Sends the written data, then close_notify, and nothing after it (RFC 8446, section 6.1)."""
        if self._is_closing:
            return
        with contextlib.suppress(SSL.Error):
            self._connection.shutdown()
        self._send_close_notify()

    def abort(self) -> None:
        self._is_closing = True
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._is_closing or self._transport.is_closing()

    def pause_reading(self) -> None:
        if not (self._is_paused or self._is_closing):
            self._is_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._is_paused and not self._is_closing:
            self._is_paused = False
            asyncio.get_running_loop().call_soon(self._resume)

    def _resume(self) -> None:
        self._take(self._buffer[:0])
        # The inner protocol may have paused or closed meanwhile.
        if self.is_reading() and not self._transport.is_closing():
            self._transport.resume_reading()

    def is_reading(self) -> bool:
        return not (self._is_paused or self._is_closing)

    def can_write_eof(self) -> bool:
        return False

    def write_eof(self) -> None:
        raise NotImplementedError("half-closed TLS connections are not supported")

    def get_write_buffer_size(self) -> int:
        return self._held + self._transport.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._transport.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._inner

    def set_protocol(self, protocol: asyncio.Protocol) -> None:  # type: ignore[override]  # streams of bytes only
        self._inner = protocol


def flush(connection: SSL.Connection, transport: asyncio.Transport) -> bool:
    """Sends the output of OpenSSL. Returns True if there was any."""
    sent = False
    while True:
        try:
            data = connection.bio_read(_RECORD_OUT)
        except SSL.WantReadError:
            return sent
        transport.write(data)
        sent = True
        if len(data) < _RECORD_OUT:
            return True


def end_writing(transport: asyncio.Transport) -> asyncio.TimerHandle | None:
    """Sends FIN after the written data. The transport closes when the peer closes, or after a short time."""
    try:
        transport.write_eof()
    except (OSError, RuntimeError, NotImplementedError):
        transport.abort()
        return None
    return asyncio.get_running_loop().call_later(_LINGER, transport.abort)


def reason_of(error: SSL.Error) -> str:
    """Returns OpenSSL's name of the error. It has no text from the peer."""
    if isinstance(error, SSL.SysCallError):
        return "the peer disconnected"
    queue = error.args[0] if error.args else []
    # The queue may have more than TLS's reason: one of the cipher or the key below it, and a general one above it.
    reasons = [reason for library, _, reason in queue if library == "SSL routines"]
    return next(iter(reasons), "") or "unknown"
