"""The limits that uvicorn itself does not set: how large and how slow a request's head may be, how many connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

__all__ = ["HEAD_TIMEOUT", "MAX_HEAD_BYTES", "LimitedProtocol"]

MAX_HEAD_BYTES = 64 * 1024
HEAD_TIMEOUT = 10.0  # seconds
_HEADER_FRAMING = 4  # bytes: the colon, a blank and the line's end
_MAX_CONNECTIONS = 4096


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with limits on a request's head, answered before any face is known.

    Such an answer therefore carries what each of them reads: the envelope, and AWS's message and error type.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._head_bytes = 0
        self._idle_bytes = 0  # of a body's framing (chunk extensions, trailers) since the last that was content
        self._timer: asyncio.TimerHandle | None = None  # for a head, or for the rest of a body that nobody reads

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn types it
        super().connection_made(transport)
        if len(self.connections) > _MAX_CONNECTIONS:
            self._refuse(503, "TOO_MANY_CONNECTIONS", "ServiceUnavailableException", "Too many connections are open")
        else:
            self._timer = self.loop.call_later(HEAD_TIMEOUT, self._head_timed_out)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        # Counts a body's first bytes too when they come in one piece with the head; on_headers_complete() knows better.
        if self._in_head:
            self._head_bytes += len(data)
        else:
            self._idle_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._head_bytes > MAX_HEAD_BYTES or self._idle_bytes > MAX_HEAD_BYTES:
            self._head_too_large()
        elif self._in_head and self._head_bytes and self._timer is None:
            self._timer = self.loop.call_later(HEAD_TIMEOUT, self._head_timed_out)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer is no header (RFC 9110 6.5.1): it must not stand in for one that was signed, or authorizes.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        self._stop_timer()
        size = len(self.url) + sum(len(name) + len(value) + _HEADER_FRAMING for name, value in self.headers)
        if size > MAX_HEAD_BYTES:
            self._head_too_large()
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._idle_bytes = 0
        self._stop_timer()
        if not self.transport.is_closing():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.more_body and not self.transport.is_closing():
            # The answer did not wait for the body; the client may finish sending it, but not for ever.
            self._stop_timer()
            self._timer = self.loop.call_later(HEAD_TIMEOUT, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "VALIDATION_ERROR", "InvalidRequestException", "The request is not well-formed HTTP/1.1")

    def _head_too_large(self) -> None:
        message = f"The request's header block must be at most {MAX_HEAD_BYTES} bytes"
        self._refuse(431, "VALIDATION_ERROR", "InvalidRequestException", message)

    def _head_timed_out(self) -> None:
        self._timer = None
        if self._head_bytes:
            message = f"The request's header block did not arrive within {HEAD_TIMEOUT:.0f} seconds"
            self._refuse(408, "VALIDATION_ERROR", "InvalidRequestException", message)
        else:
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: int, code: str, aws_code: str, message: str) -> None:
        body = orjson.dumps({"success": False, "error": {"code": code, "message": message}, "message": message})
        head = (
            "content-type: application/json\r\n"
            f"x-amzn-errortype: {aws_code}\r\n"
            f"content-length: {len(body)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()
