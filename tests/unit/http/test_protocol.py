"""The limits on a request's head, with a fake transport and a fake clock."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.server import ServerState

from thingmint.http.connection_limits import AddressLimits, Limits, Place
from thingmint.http.memory import MIB, RequestMemory
from thingmint.http.messages import Answer, Incoming, send_stream
from thingmint.http.protocol import HEAD_TIMEOUT, MAX_HEAD_BYTES, REST_TIMEOUT, LimitedProtocol
from thingmint.http.transport import STALL_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from thingmint.http.messages import Message, Receive, Send

GET = b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"


class FakeTransport(asyncio.Transport):
    """A transport that keeps the written bytes."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 50000), "sockname": ("127.0.0.1", 8080)})
        self.written = bytearray()
        self.closed = self.aborted = False
        self.reads = True
        self.unsent = 0

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.closed = self.aborted = True


class FakeTimer:
    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when, self.callback = when, callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """The running loop, with timers that the test fires."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[FakeTimer] = []

    def call_later(self, delay: float, callback: Callable[[], object]) -> FakeTimer:
        self.timers.append(FakeTimer(self.now + delay, callback))
        return self.timers[-1]

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if timer.when <= self.now]
        self.timers = [timer for timer in self.timers if timer.when > self.now]
        for timer in due:
            if not timer.cancelled:
                timer.callback()

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio.get_running_loop(), name)


class Connection:
    """A connection to a server whose application keeps the requests and answers with an empty body."""

    def __init__(self, memory: RequestMemory | None = None) -> None:
        self.requests: list[Message] = []
        config = uvicorn.Config(
            self._app,
            interface="asgi3",
            ws="none",
            lifespan="off",
            log_config=None,
            server_header=False,
            timeout_keep_alive=75,
            proxy_headers=False,
        )
        config.load()
        self.loop = FakeLoop()
        self.state = ServerState()
        self.memory = memory or RequestMemory.of()
        self.limits = AddressLimits(Limits())
        place = self.limits.admit("127.0.0.1")
        assert isinstance(place, Place)
        loop: Any = self.loop
        self.protocol = LimitedProtocol(config, self.state, self.memory, place, loop)
        self.transport = FakeTransport()
        self.protocol.connection_made(self.transport)
        self.held: asyncio.Event | None = None
        self.reads = True

    async def _app(self, scope: Message, receive: Receive, send: Send) -> None:
        body = b""
        while self.reads:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message["body"]
            if not message["more_body"]:
                break
        self.requests.append({**scope, "body": body})
        if self.held is not None:
            await self.held.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def receive(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.protocol.data_received(piece)
            for _ in range(5):
                await asyncio.sleep(0)

    def refusal(self) -> tuple[int, dict[str, str], Any]:
        """The status, headers and body of the last answer, after which the connection was closed."""
        assert self.transport.is_closing()
        answer = bytes(self.transport.written)
        head, _, body = answer[answer.rindex(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        assert int(headers["content-length"]) == len(body)
        return int(status.split()[1]), headers, json.loads(body)


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    made = Connection()
    yield made
    made.protocol.connection_lost(None)
    for _ in range(3):
        await asyncio.sleep(0)


def check(connection: Connection, status: int, message: str, aws_code: str = "InvalidRequestException") -> None:
    """Checks that the refusal can be read by clients of both APIs."""
    got, headers, body = connection.refusal()
    assert got == status
    assert headers["content-type"] == "application/json"
    assert headers["x-amzn-errortype"] == aws_code
    assert headers["connection"] == "close"
    assert body["success"] is False
    assert body["error"]["message"] == body["message"] == message
    assert connection.requests == []


TOO_LARGE = "The request's header block must be at most 65536 bytes"
TOO_SLOW = "The request's header block did not arrive within 10 seconds"
NOT_HTTP = "The request is not well-formed HTTP/1.1"


def head(size: int, *, header: bytes = b"a" * 97) -> bytes:
    """A head of about ``size`` bytes."""
    line = b"x: " + header + b"\r\n"
    return GET[:-2] + line * (size // len(line)) + b"\r\n"


class TestRequests:
    @pytest.mark.parametrize("size", [1, 2, 7, 1000])
    async def test_requests_in_pieces_of_any_size_are_answered(self, connection: Connection, size: int) -> None:
        sent = b"POST /a%2Fb?c=%20 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
        await connection.receive(*(sent[start : start + size] for start in range(0, len(sent), size)))
        [request] = connection.requests
        assert (request["method"], request["raw_path"], request["query_string"]) == ("POST", b"/a%2Fb", b"c=%20")
        assert request["body"] == b"hello"
        assert connection.transport.written.startswith(b"HTTP/1.1 200 ")
        assert not connection.transport.is_closing()

    async def test_several_requests_on_one_connection_are_answered(self, connection: Connection) -> None:
        await connection.receive(GET, GET + GET, GET)
        assert len(connection.requests) == 4
        assert not connection.transport.is_closing()

    async def test_a_large_body_does_not_count_as_head(self, connection: Connection) -> None:
        body = b"x" * (2 * MAX_HEAD_BYTES)
        sent = GET.replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % len(body)) + body
        await connection.receive(sent)  # in one piece
        await connection.receive(sent[:40], sent[40:])  # the head's end and the body in one piece
        await connection.receive(sent[:100], *(sent[start : start + 9999] for start in range(100, len(sent), 9999)))
        assert [len(request["body"]) for request in connection.requests] == [len(body)] * 3
        assert not connection.transport.is_closing()

    async def test_trailers_are_not_headers(self, connection: Connection) -> None:
        chunked = GET.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        await connection.receive(chunked, b"1\r\na\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
        [request] = connection.requests
        assert b"authorization" not in dict(request["headers"])


class TestSize:
    async def test_a_head_below_the_limit_is_served(self, connection: Connection) -> None:
        sent = head(MAX_HEAD_BYTES - 200)
        await connection.receive(sent)
        await connection.receive(*(sent[start : start + 1000] for start in range(0, len(sent), 1000)))
        assert len(connection.requests) == 2

    @pytest.mark.parametrize("piece", [1000, 65536, 10**6])
    @pytest.mark.parametrize(
        "sent",
        [
            head(2 * MAX_HEAD_BYTES),
            head(2 * MAX_HEAD_BYTES, header=b"a" * (MAX_HEAD_BYTES + 1)),
            head(2 * MAX_HEAD_BYTES)[:-2],  # without its end
            b"GET /" + b"a" * MAX_HEAD_BYTES + b" HTTP/1.1\r\n\r\n",
            b"GET /?" + b"a" * MAX_HEAD_BYTES,
            GET[:-2] + b"a" * (MAX_HEAD_BYTES + 1),
        ],
        ids=["many", "one", "unfinished", "path", "query", "name"],
    )
    async def test_a_head_above_the_limit_is_refused(self, connection: Connection, sent: bytes, piece: int) -> None:
        await connection.receive(*(sent[start : start + piece] for start in range(0, len(sent), piece)))
        check(connection, 431, TOO_LARGE)

    async def test_very_many_small_headers_are_refused(self, connection: Connection) -> None:
        await connection.receive(GET[:-2] + b"a:b\r\n" * 30_000 + b"\r\n")
        check(connection, 431, TOO_LARGE)

    async def test_the_next_request_is_limited_too(self, connection: Connection) -> None:
        await connection.receive(GET)
        connection.requests.clear()
        connection.transport.written.clear()
        sent = head(2 * MAX_HEAD_BYTES)
        await connection.receive(*(sent[start : start + 1000] for start in range(0, len(sent), 1000)))
        check(connection, 431, TOO_LARGE)

    @pytest.mark.parametrize("trailer", [b"a" * 1000, b"a:b\r\n" * 200])
    async def test_trailers_are_limited(self, connection: Connection, trailer: bytes) -> None:
        chunked = GET.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        await connection.receive(chunked, b"0\r\n", *[trailer] * (2 * MAX_HEAD_BYTES // 1000))
        assert connection.transport.is_closing()


class TestTime:
    @pytest.mark.parametrize("pieces", [(GET[:1],), (GET[:-1],), (GET[:5], GET[5:9], GET[9:20])])
    async def test_a_slow_head_is_refused(self, connection: Connection, pieces: tuple[bytes, ...]) -> None:
        for piece in pieces:
            await connection.receive(piece)
            connection.loop.advance(HEAD_TIMEOUT / 4)
        assert not connection.transport.is_closing()
        connection.loop.advance(HEAD_TIMEOUT)
        check(connection, 408, TOO_SLOW)

    async def test_dripping_does_not_help(self, connection: Connection) -> None:
        for byte in range(9):
            await connection.receive(GET[byte : byte + 1])
            connection.loop.advance(1.0)
        assert not connection.transport.is_closing()
        await connection.receive(GET[9:10])
        connection.loop.advance(1.0)
        check(connection, 408, TOO_SLOW)

    async def test_a_connection_without_a_request_is_closed_without_an_answer(self, connection: Connection) -> None:
        connection.loop.advance(HEAD_TIMEOUT - 1)
        assert not connection.transport.is_closing()
        connection.loop.advance(1)
        assert connection.transport.is_closing()
        assert not connection.transport.written

    async def test_the_time_limit_between_requests_is_longer(self, connection: Connection) -> None:
        await connection.receive(GET)
        connection.loop.advance(3 * HEAD_TIMEOUT)
        assert not connection.transport.is_closing()
        await connection.receive(GET)
        assert len(connection.requests) == 2

    async def test_a_slow_head_of_the_second_request_is_refused(self, connection: Connection) -> None:
        await connection.receive(GET, GET[:9])
        connection.requests.clear()
        connection.loop.advance(HEAD_TIMEOUT)
        check(connection, 408, TOO_SLOW)

    async def test_a_slow_application_is_not_interrupted(self, connection: Connection) -> None:
        connection.held = asyncio.Event()
        await connection.receive(GET)
        connection.loop.advance(10 * HEAD_TIMEOUT)
        assert not connection.transport.is_closing()
        connection.held.set()
        for _ in range(3):
            await asyncio.sleep(0)
        assert connection.transport.written.startswith(b"HTTP/1.1 200 ")

    async def test_a_slow_body_that_is_not_read_ends_the_connection(self, connection: Connection) -> None:
        connection.reads = False
        await connection.receive(GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 1000000\r\n\r\n"))
        assert connection.transport.written.startswith(b"HTTP/1.1 200 ")
        for _ in range(100):
            await connection.receive(b"x")
            connection.loop.advance(HEAD_TIMEOUT)
        assert connection.transport.is_closing()

    @pytest.mark.parametrize("pieces", [(), (GET,), (GET, GET[:9])])
    @pytest.mark.parametrize("error", [None, ConnectionResetError()])
    async def test_a_lost_connection_leaves_no_timer(self, pieces: tuple[bytes, ...], error: Exception | None) -> None:
        connection = Connection()
        await connection.receive(*pieces)
        connection.protocol.connection_lost(error)
        assert all(timer.cancelled for timer in connection.loop.timers)
        connection.loop.advance(1000)
        assert connection.state.connections == set()


class TestPipelining:
    """Requests that are sent before the previous one is answered."""

    async def settle(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0)

    async def test_pipelined_requests_are_answered_in_order(self, connection: Connection) -> None:
        sent = b"".join(GET.replace(b"/a", b"/%d" % number) for number in range(300))
        await connection.receive(sent[:7000], sent[7000:7001], sent[7001:])
        for _ in range(30):
            await self.settle()
        assert [request["raw_path"] for request in connection.requests] == [b"/%d" % number for number in range(300)]
        assert connection.transport.reads

    @pytest.mark.parametrize("body", [b"", b"hello", b"\n\n" * 200])
    async def test_pipelined_requests_can_have_bodies(self, connection: Connection, body: bytes) -> None:
        plain = GET.replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % len(body)) + body
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        chunked = GET.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n") + chunk + b"0\r\n\r\n"
        for size in (1, 100, 10**6):
            connection.requests.clear()
            sent = (plain + chunked + GET) * 4
            await connection.receive(*(sent[start : start + size] for start in range(0, len(sent), size)))
            await self.settle()
            assert [request["body"] for request in connection.requests] == [body, body, b""] * 4

    @pytest.mark.parametrize("filling", [b"1\r\na\r\n", b"2\r\n\n\n\r\n"])
    async def test_many_small_chunks_are_parsed_in_turns(self, connection: Connection, filling: bytes) -> None:
        head = GET.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.protocol.data_received(head + filling * 20_000 + b"0\r\n\r\n" + GET)
        assert len(connection.protocol.cycle.body) < 10_000
        for _ in range(20):
            await self.settle()
        assert [len(request["body"]) for request in connection.requests] == [20_000 * (len(filling) - 5), 0]
        assert connection.transport.reads

    async def test_few_requests_are_parsed_before_the_first_is_answered(self, connection: Connection) -> None:
        connection.held = asyncio.Event()
        await connection.receive(GET * 2000)
        assert not connection.transport.reads
        assert len(connection.protocol.pipeline) < 12
        connection.held.set()

    async def test_answers_do_not_resume_reading_while_requests_wait(self, connection: Connection) -> None:
        connection.held = asyncio.Event()
        await connection.receive(GET * 200)
        connection.held.set()
        await asyncio.sleep(0)
        assert connection.requests
        assert not connection.transport.reads

    async def test_nothing_is_parsed_while_the_peer_does_not_read(self, connection: Connection) -> None:
        connection.protocol.pause_writing()
        await connection.receive(GET)
        assert connection.requests == []
        assert not connection.transport.reads
        connection.protocol.resume_writing()
        await self.settle()
        assert len(connection.requests) == 1
        assert connection.transport.reads

    async def test_waiting_bytes_are_bounded(self) -> None:
        memory = RequestMemory.of(unauthenticated=4 * MIB)
        connection = Connection(memory)
        connection.held = asyncio.Event()
        await connection.receive(GET + b"x" * (3 * MIB))
        connection.held.set()
        await self.settle()
        assert connection.transport.is_closing()
        assert connection.transport.written.startswith(b"HTTP/1.1 200 ")
        connection.protocol.connection_lost(None)
        assert memory.unauthenticated.used == 0

    async def test_large_heads_are_bounded_together(self) -> None:
        memory = RequestMemory.of(unauthenticated=300_000)
        connections = [Connection(memory) for _ in range(3)]
        for connection in connections:
            await connection.receive(head(50_000)[:-2])
        assert [connection.transport.is_closing() for connection in connections] == [False, True, True]
        check(connections[1], 503, "Too many large requests are under way", "ServiceUnavailableException")
        for connection in connections:
            connection.protocol.connection_lost(None)
        assert memory.unauthenticated.used == 0


class Streaming(Connection):
    """A connection whose requests are answered with a stream without an end."""

    def __init__(self) -> None:
        self.parts = 0
        self.has_ended = False
        super().__init__()

    async def next(self) -> bytes | None:
        await asyncio.sleep(0)
        self.parts += 1
        return b"x" * 1000

    def close(self) -> None:
        pass

    async def _app(self, scope: Message, receive: Receive, send: Send) -> None:
        incoming = Incoming(scope, receive, self.memory)
        incoming.serve_no_further()
        await send_stream(receive, send, Answer(200, [], b""), self)
        self.has_ended = True


class TestStop:
    @pytest.mark.parametrize(
        "framing", [b"Content-Length: 9\r\n\r\nab", b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"]
    )
    async def test_a_request_that_does_not_arrive_is_dropped(self, connection: Connection, framing: bytes) -> None:
        await connection.receive(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing)
        connection.protocol.shutdown()
        connection.loop.advance(REST_TIMEOUT - 0.1)
        assert not connection.transport.is_closing()
        connection.loop.advance(0.1)
        assert connection.transport.is_closing()
        assert not connection.requests
        assert not connection.transport.written

    async def test_a_request_that_arrives_in_time_is_answered(self, connection: Connection) -> None:
        await connection.receive(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
        connection.protocol.shutdown()
        await connection.receive(b"cd")
        [request] = connection.requests
        assert request["body"] == b"abcd"
        assert connection.transport.written.startswith(b"HTTP/1.1 200 ")
        connection.loop.advance(REST_TIMEOUT)
        assert connection.transport.is_closing()

    async def test_a_request_that_is_worked_on_is_answered(self, connection: Connection) -> None:
        connection.held = asyncio.Event()
        await connection.receive(GET)
        connection.protocol.shutdown()
        connection.loop.advance(REST_TIMEOUT)
        assert not connection.transport.is_closing()
        connection.held.set()
        await connection.receive(b"")
        assert connection.transport.written.startswith(b"HTTP/1.1 200 ")


class TestRequestsAfterAStream:
    @pytest.mark.parametrize(
        "further",
        [
            b"",
            GET,
            GET * 2,
            GET * 500,
            GET[:10],
            b"\x00garbage\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab",
        ],
    )
    async def test_they_are_dropped_so_that_the_end_of_the_connection_is_seen(self, further: bytes) -> None:
        connection = Streaming()
        await connection.receive(GET + further)
        for _ in range(20):
            await asyncio.sleep(0)
        assert connection.transport.reads, "a connection that is not read does not tell its end"
        assert connection.memory.unauthenticated.used == 0
        assert b"connection: close" in connection.transport.written
        connection.loop.advance(HEAD_TIMEOUT)
        assert not connection.transport.is_closing()
        assert connection.transport.written.count(b"HTTP/1.1 ") == 1
        connection.protocol.connection_lost(None)
        for _ in range(20):
            await asyncio.sleep(0)
        assert connection.has_ended

    @pytest.mark.parametrize("further", [GET, GET[:10], GET * 500, b"\x00garbage"])
    async def test_one_that_comes_later_ends_the_connection(self, further: bytes) -> None:
        connection = Streaming()
        await connection.receive(GET)
        await connection.receive(further, further)
        connection.loop.advance(HEAD_TIMEOUT)
        assert connection.transport.is_closing()
        connection.protocol.connection_lost(None)
        for _ in range(20):
            await asyncio.sleep(0)
        assert connection.has_ended


class TestAnswersThatAreNotRead:
    async def test_a_stream_waits_for_its_peer_and_ends_with_it(self) -> None:
        connection = Streaming()
        await connection.receive(GET)
        for _ in range(20):
            await asyncio.sleep(0)
        assert connection.parts > 1
        connection.transport.unsent = 100_000
        connection.protocol.pause_writing()
        for _ in range(20):
            await asyncio.sleep(0)
        parts = connection.parts
        for _ in range(100):
            await asyncio.sleep(0)
        assert connection.parts == parts, "nothing more is kept for the peer"
        connection.loop.advance(STALL_TIMEOUT)
        assert connection.transport.aborted
        connection.protocol.connection_lost(None)
        for _ in range(20):
            await asyncio.sleep(0)
        assert connection.has_ended

    async def test_a_peer_that_does_not_read_is_disconnected(self, connection: Connection) -> None:
        connection.transport.unsent = 100_000
        connection.protocol.pause_writing()
        connection.loop.advance(STALL_TIMEOUT - 1)
        assert not connection.transport.aborted
        connection.loop.advance(1)
        assert connection.transport.aborted

    async def test_a_peer_that_reads_slowly_is_served(self, connection: Connection) -> None:
        await connection.receive(GET)
        connection.transport.unsent = 1_000_000
        connection.protocol.pause_writing()
        for _ in range(10):
            connection.transport.unsent -= 20_000
            connection.loop.advance(STALL_TIMEOUT)
        assert not connection.transport.is_closing()
        connection.transport.unsent = 0
        connection.protocol.resume_writing()
        connection.loop.advance(74)
        assert not connection.transport.is_closing()
        connection.loop.advance(1)  # now idle like any other connection
        assert connection.transport.is_closing()

    async def test_dripping_does_not_help(self, connection: Connection) -> None:
        connection.transport.unsent = 1_000_000
        connection.protocol.pause_writing()
        connection.transport.unsent -= 100
        connection.loop.advance(STALL_TIMEOUT)
        assert connection.transport.aborted

    async def test_a_last_answer_that_is_not_read_ends_the_connection(self, connection: Connection) -> None:
        connection.transport.unsent = 1000
        await connection.receive(b"nonsense\r\n\r\n")
        assert not connection.transport.aborted
        connection.loop.advance(STALL_TIMEOUT)
        assert connection.transport.aborted


class TestPlaces:
    async def test_a_place_is_held_until_the_connection_is_lost(self) -> None:
        connection = Connection()
        assert (connection.limits.total, connection.limits.half_open) == (1, 0)
        connection.protocol.connection_lost(None)
        assert connection.limits.total == 0


class TestMalformed:
    @pytest.mark.parametrize(
        "sent",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS on the plain port
            b"hello\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\0c\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\nc: d\r\n\r\n\r\n\0",
            b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET http://localhost HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"FROB / HTTP/1.1\r\n\r\n",
        ],
    )
    async def test_a_malformed_request_is_answered_in_json(self, connection: Connection, sent: bytes) -> None:
        await connection.receive(sent)
        connection.requests.clear()
        check(connection, 400, NOT_HTTP)

    @given(
        st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([GET, b"\r\n", b"GET / HTTP/1.1\r\n"])), max_size=6)
    )
    async def test_arbitrary_bytes_raise_no_error(self, pieces: list[bytes]) -> None:
        connection = Connection()
        await connection.receive(*pieces)
        if connection.transport.closed and b" 400 " in connection.transport.written:
            assert connection.refusal()[2]["message"] == NOT_HTTP
        connection.protocol.connection_lost(None)
