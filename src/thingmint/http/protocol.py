"""Limits that uvicorn does not have: the size and the time of a request's head, and the data that waits."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import httptools
import orjson
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from thingmint.domain.names import source_of
from thingmint.http.memory import Lease
from thingmint.http.messages import DEVICE, EXPECT_BODY, LAST
from thingmint.http.transport import AnswerTransport

if TYPE_CHECKING:
    import asyncio

    from uvicorn import Config
    from uvicorn.server import ServerState

    from thingmint.http.connection_limits import Place
    from thingmint.http.memory import RequestMemory
    from thingmint.services.authentication_decisions import AuthenticationRequest


MAX_HEAD_BYTES = 64 * 1024
HEAD_TIMEOUT = 10.0  # seconds
REST_TIMEOUT = 2.0  # seconds, for the rest of a body when the server stops
# The kernel's receive buffer of a connection. One read can return all of it, and the TLS layer's buffers never shrink
# again: a connection that sent 1 MiB costs 90 KB with RECEIVE_BUFFER, 210 KB with _BODY_RECEIVE_BUFFER, which is for
# reading large bodies, and 600 KB with the kernel's default.
RECEIVE_BUFFER = 4 * 1024
_BODY_RECEIVE_BUFFER = 32 * 1024
# The kernel's send buffer, for an answer that the peer does not read. Linux doubles it; its default grows to 4 MiB.
SEND_BUFFER = 64 * 1024
_HEADER_FRAMING = 4  # bytes: the colon, a blank and the line's end
_HEADER_MEMORY = 150  # bytes that a header takes in addition to its text
_HEAD_END = re.compile(rb"\n\r?\n")
# Bytes that are parsed in one piece when a request can end in them: about ten of the smallest requests, or one usual
# head.
_MIN_PIECE, _MAX_PIECE = 256, 1024
# Bytes of such pieces in one turn of the event loop: of the smallest chunks and headers, some milliseconds.
_MAX_TURN = 16 * 1024


class _Flow(FlowControl):
    """uvicorn's resumes reading after each answer, even while other requests wait. This one does not while ``held``."""

    held = False

    def resume_reading(self) -> None:
        if self.read_paused and not self.held:
            super().resume_reading()


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with limits on a request's head, answered before any API is known.

    Such an answer therefore has the error fields of all APIs: the native envelope, and AWS's message and error type.

    Requests are parsed one after the other. Data after a complete request waits, unparsed, until the request is
    answered and the peer has read the answer. Nothing is read in the meantime.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        memory: RequestMemory,
        place: Place,
        loop: asyncio.AbstractEventLoop | None = None,
        device: AuthenticationRequest | None = None,
    ) -> None:
        state = {EXPECT_BODY: self._expect_body, LAST: self._take_no_further, DEVICE: device}
        super().__init__(config, server_state, state, loop)
        self._memory = memory
        self._place = place
        self._in_head = True
        self._head_bytes = 0
        self._idle_bytes = 0  # of a body's framing (chunk extensions, trailers) since its last content
        self._body_left = 0  # bytes of a body with a Content-Length
        self._held = b""
        self._is_wide = False
        self._answered: RequestResponseCycle | None = None  # uvicorn's ``cycle`` is the last one that was parsed
        self._is_last = False  # no request after the one that is answered is served
        self._timer: asyncio.TimerHandle | None = None  # for a head, or for the rest of a body that is not read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn types it
        self._place.opened()
        self._answers = AnswerTransport(transport, self.loop)
        super().connection_made(self._answers)  # type: ignore[arg-type]  # all that uvicorn uses
        self.flow = self._flow = _Flow(self._answers)  # type: ignore[arg-type]
        self._lease = Lease(self._memory.unauthenticated, source_of(self.client[0] if self.client else ""))
        self._timer = self.loop.call_later(HEAD_TIMEOUT, self._head_timed_out)

    def connection_lost(self, exc: Exception | None) -> None:
        self._place.closed()
        self._lease.release()
        self._held = b""
        self._stop_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self._answers.guard.unwatch()

    def shutdown(self) -> None:
        super().shutdown()
        if not self.transport.is_closing():
            self.loop.call_later(REST_TIMEOUT, self._end_incomplete)

    def _end_incomplete(self) -> None:
        """Closes the connection if the rest of the request is missing: nothing was done for it, and clients retry."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle is self._answered and cycle.more_body and not cycle.response_started:
            self.transport.close()

    def _expect_body(self) -> None:
        """Enlarges the receive buffer, because a large body is read."""
        if not self._is_wide:
            self._is_wide = True
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BODY_RECEIVE_BUFFER)

    def _take_no_further(self) -> None:
        """Drops the requests that wait, and reads on: a connection that is not read does not tell its end."""
        self._is_last = True
        if self._answered is not None:
            self.cycle = self._answered
        self.cycle.keep_alive = False
        self.pipeline.clear()
        self._held = b""
        self._lease.resize(0)
        self._stop_timer()
        self._flow.held = False
        self.flow.resume_reading()
        self.transport.resume_reading()  # paused without the flow after bytes that are no request

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unset_keepalive_if_required()  # the connection is not idle
        self._answers.guard.watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._answers.guard.unwatch()
            cycle: RequestResponseCycle | None = self.cycle
            if cycle is not None and cycle.response_complete and not cycle.more_body:
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )
            self._go_on()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._is_last:
            self.transport.close()
        elif self._held:
            self._hold(self._held + data)
        else:
            self._parse(data)

    def _has_to_wait(self) -> bool:
        """True while a complete request is not answered, or the peer does not read the answers."""
        cycle: RequestResponseCycle | None = self.cycle
        is_whole = self._in_head or len(self.pipeline) > 0
        return self.flow.write_paused or (cycle is not None and is_whole and not cycle.response_complete)

    def _hold(self, data: bytes) -> None:
        self._flow.held = True
        self.flow.pause_reading()
        if self._lease.resize(len(data)):
            self._held = data
            return
        # The parsed requests are answered. The others are lost with the connection (RFC 9112 9.3.2: clients retry).
        self._held = b""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self.transport.close()
        else:
            cycle.keep_alive = False

    def _go_on(self) -> None:
        """Parses the held data, unless it still has to wait."""
        if not self._flow.held or self._has_to_wait() or self.transport.is_closing():
            return
        self._flow.held = False
        held, self._held = self._held, b""
        if held:
            self._parse(held)
        if not self._held:
            self._lease.resize(self._head_memory())
            self.flow.resume_reading()

    def _head_memory(self) -> int:
        return self._head_bytes + _HEADER_MEMORY * len(self.headers or ()) if self._head_bytes else 0

    def _parse(self, data: bytes) -> None:
        """Parses in pieces, so that little data beyond the first complete request is parsed."""
        self._unset_keepalive_if_required()
        start = parsed = 0
        while start < len(data):
            if self._has_to_wait():
                self._hold(data[start:])
                return
            if parsed > _MAX_TURN:
                self._flow.held = True
                self.flow.pause_reading()
                self._held = data[start:]
                self.loop.call_soon(self._go_on)
                return
            is_content = self._body_left > 0
            end = self._end_of_piece(data, start)
            parsed += 0 if is_content else end - start
            self._take(data[start:end])
            if self.transport.is_closing():
                return
            start = end
        if self._in_head and self._head_bytes and self._timer is None:
            self._timer = self.loop.call_later(HEAD_TIMEOUT, self._head_timed_out)

    def _end_of_piece(self, data: bytes, start: int) -> int:
        if self._body_left:
            return min(start + self._body_left, len(data))
        found = _HEAD_END.search(data, start + _MIN_PIECE, start + _MAX_PIECE)
        return found.end() if found else min(start + _MAX_PIECE, len(data))

    def _take(self, piece: bytes) -> None:
        # A body's first bytes in the same piece as the head are counted too; on_headers_complete() corrects that.
        if self._in_head:
            self._head_bytes += len(piece)
        else:
            self._idle_bytes += len(piece)
        self._feed(piece)
        if self.transport.is_closing():
            return
        if self._head_bytes > MAX_HEAD_BYTES or self._idle_bytes > MAX_HEAD_BYTES:
            self._head_too_large()
        elif not self._head_bytes:
            if self._in_head:  # a complete request was parsed
                self._lease.release()
        elif not self._lease.resize(self._head_memory()):
            self._refuse(503, "UNAVAILABLE", "ServiceUnavailableException", "Too many large requests are under way")

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # Other protocols are not supported, so the request is parsed again without the offer (RFC 9110 7.8).
            head = b"".join(b"%b: %b\r\n" % pair for pair in self.headers if pair[0] != b"upgrade")
            line = b"%b %b HTTP/1.1\r\n" % (self.parser.get_method(), self.url)
            self.parser = httptools.HttpRequestParser(self)
            self._feed(b"%b%b\r\n%b" % (line, head, data[upgrade.args[0] :]))
        except httptools.HttpParserError:
            self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._body_left = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer is not a header (RFC 9110 6.5.1): it must not replace a signed or an authorizing header.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._offers_upgrade():
            return
        self._in_head = False
        self._head_bytes = 0
        self._stop_timer()
        size, hosts = len(self.url), 0
        for name, value in self.headers:
            size += len(name) + len(value) + _HEADER_FRAMING
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                self._body_left = int(value)
        if size > MAX_HEAD_BYTES:
            self._head_too_large()
            return
        # RFC 9112 3.2: a request without a Host header, or with several, must be refused.
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            self.send_400_response("")
            return
        super().on_headers_complete()
        if not self.pipeline:
            self._answered = self.cycle

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        self._body_left = max(0, self._body_left - len(body))
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
        if self.pipeline:
            self._answered = self.pipeline[-1][0]
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self.cycle.response_complete and self.cycle.more_body:
            # The answer did not wait for the body. The client may finish sending it, within a time limit.
            self._stop_timer()
            self._timer = self.loop.call_later(HEAD_TIMEOUT, self.transport.close)
        self._go_on()

    def send_400_response(self, msg: str) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            # The previous request is complete and is answered first: its answer may contain a key, which is sent once.
            cycle.keep_alive = False
            self.transport.pause_reading()
            return
        self._refuse_head(400, "The request is not well-formed HTTP/1.1")

    def _offers_upgrade(self) -> bool:
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def _head_too_large(self) -> None:
        self._refuse_head(431, f"The request's header block must be at most {MAX_HEAD_BYTES} bytes")

    def _head_timed_out(self) -> None:
        self._timer = None
        if self._head_bytes:
            self._refuse_head(408, f"The request's header block did not arrive within {HEAD_TIMEOUT:.0f} seconds")
        else:
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse_head(self, status: int, message: str) -> None:
        self._refuse(status, "VALIDATION_ERROR", "InvalidRequestException", message)

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
