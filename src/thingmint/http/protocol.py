"""The limits that uvicorn itself does not set: how large and how slow a request's head may be, how many connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

if TYPE_CHECKING:
    import asyncio


MAX_HEAD_BYTES = 64 * 1024
HEAD_TIMEOUT = 10.0  # seconds
_HEADER_FRAMING = 4  # bytes: the colon, a blank and the line's end
_MAX_CONNECTIONS = 4096


class _OneWrite:
    """A transport that sends what is written within one turn of the event loop as one piece, at the turn's end.

    uvicorn writes an answer's head and its body apart, which would be two TLS records and two system calls.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
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

    def _flush(self) -> None:
        if self._held and not self.is_closing():
            self._transport.write(b"".join(self._held))
        self._held.clear()


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
        super().connection_made(_OneWrite(transport, self.loop))  # type: ignore[arg-type]  # all that uvicorn uses
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
        self._unset_keepalive_if_required()
        self._feed(data)
        if self.transport.is_closing():
            return
        if self._head_bytes > MAX_HEAD_BYTES or self._idle_bytes > MAX_HEAD_BYTES:
            self._head_too_large()
        elif self._in_head and self._head_bytes and self._timer is None:
            self._timer = self.loop.call_later(HEAD_TIMEOUT, self._head_timed_out)

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # We speak no other protocol, so the request is read again as if none had been offered (RFC 9110 7.8).
            head = b"".join(b"%b: %b\r\n" % pair for pair in self.headers if pair[0] != b"upgrade")
            line = b"%b %b HTTP/1.1\r\n" % (self.parser.get_method(), self.url)
            self.parser = httptools.HttpRequestParser(self)
            self._feed(b"%b%b\r\n%b" % (line, head, data[upgrade.args[0] :]))
        except httptools.HttpParserError:
            self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer is no header (RFC 9110 6.5.1): it must not stand in for one that was signed, or authorizes.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._offers_upgrade():
            return
        self._in_head = False
        self._head_bytes = 0
        self._stop_timer()
        size = len(self.url) + sum(len(name) + len(value) + _HEADER_FRAMING for name, value in self.headers)
        if size > MAX_HEAD_BYTES:
            self._head_too_large()
            return
        # RFC 9112 3.2: without a Host, or with two, nobody can say whom the request is for.
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            self.send_400_response("")
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._in_head:
            return  # the end of a head that offered an upgrade
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
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            # What came before is whole, and is answered first: the answer may hold a key that is given out only once.
            cycle.keep_alive = False
            self.transport.pause_reading()
            return
        self._refuse(400, "VALIDATION_ERROR", "InvalidRequestException", "The request is not well-formed HTTP/1.1")

    def _offers_upgrade(self) -> bool:
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

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
