"""A request and its answer as the APIs use them: thin typed wrappers of ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from thingmint.domain.errors import Invalid, Throttled
from thingmint.domain.names import source_of
from thingmint.http.memory import FREE_BYTES, Lease
from thingmint.http.transport import MAX_UNSENT

if TYPE_CHECKING:
    from thingmint.http.memory import RequestMemory
    from thingmint.services.authentication_decisions import AuthenticationRequest

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

MAX_BODY_BYTES = 1024 * 1024
DEVICE = "thingmint.device"
"""The name, in a request's state, of what TLS knows about the device: an AuthenticationRequest."""
EXPECT_BODY = "thingmint.expect_body"
"""The name, in a request's state (ASGI's scope), of a function to call when a large body is read."""
LAST = "thingmint.last"
"""The name, in a request's state, of a function to call when no request after this one is served."""
_BODY_TIMEOUT = 30.0  # seconds
_COPIES = 2  # of an answer that the client has not read: the plain one and the encrypted one


class ClientGone(Exception):
    """The client closed the connection before its request was complete, so there is no answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """A complete request. Path and query are as they were sent; header names are in lower case."""

    method: str
    raw_path: bytes
    query: bytes
    headers: Iterable[Header]
    body: bytes


class Stream(Protocol):
    """A body whose parts are not known yet. The next part is asked for when the last one was sent."""

    async def next(self) -> bytes | None:
        """The next part; None at the end."""
        ...

    def close(self) -> None:
        """Called once, when no further part is asked for. Also if none was."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """``code`` is the API's code of an error, for log and audit record. A ``stream`` follows ``body``."""

    status: int
    headers: Iterable[Header]
    body: bytes
    code: str | None = None
    stream: Stream | None = None


class Incoming:
    """A request whose head has arrived. Its body is read when it is first needed, and counted in ``memory``."""

    __slots__ = (
        "_expect_body",
        "_is_last",
        "_lease",
        "_memory",
        "_receive",
        "_request",
        "client",
        "device",
        "has_large_body",
        "headers",
        "method",
        "path",
        "port",
        "query",
        "raw_path",
        "secure",
    )

    def __init__(self, scope: Message, receive: Receive, memory: RequestMemory) -> None:
        self.method: str = scope["method"]
        self.raw_path: bytes = scope["raw_path"]
        self.path: str = scope.get("path", "")
        self.query: bytes = scope["query_string"]
        self.headers: Iterable[Header] = scope["headers"]
        self.client: str | None = scope["client"] and scope["client"][0]
        self.port: int = (scope.get("server") or ("", 0))[1]
        self.secure: bool = scope.get("scheme") == "https"
        state = scope.get("state", {})
        self._expect_body: Callable[[], None] | None = state.get(EXPECT_BODY)
        self._is_last: Callable[[], None] | None = state.get(LAST)
        self.device: AuthenticationRequest | None = state.get(DEVICE)
        self.has_large_body = False
        self._receive = receive
        self._request: Request | None = None
        self._memory = memory
        self._lease = Lease(memory.unauthenticated, source_of(self.client or ""))

    def header(self, name: bytes) -> bytes | None:
        """The first header of that name."""
        for known, value in self.headers:
            if known == name:
                return value
        return None

    def authenticated(self, account: str) -> None:
        """From now on the body is counted for the account."""
        self._lease.move(self._memory.authenticated, account)

    def hold(self, answer: Answer) -> bool:
        """Counts the answer in place of the body, until it is sent. False if there is no room for it."""
        return self._lease.resize(_COPIES * len(answer.body))

    def serve_no_further(self) -> None:
        """Requests that the client sends after this one are not served: the answer takes a long time."""
        if self._is_last is not None:
            self._is_last()

    def release(self) -> None:
        """The request is answered."""
        self._lease.release()

    async def whole(self) -> Request:
        """The request with its body. Raises Invalid for a too large or too slow body, Throttled, and ClientGone."""
        if self._request is None:
            self._request = Request(self.method, self.raw_path, self.query, self.headers, await self._body())
        return self._request

    async def _body(self) -> bytes:
        if self._has_body():
            try:
                async with asyncio.timeout(_BODY_TIMEOUT):
                    body = await self._read()
            except TimeoutError:
                raise Invalid("body", f"did not arrive within {_BODY_TIMEOUT:.0f} seconds") from None
        else:
            body = await self._read()
        if len(body) > MAX_BODY_BYTES:
            raise Invalid("body", f"must be at most {MAX_BODY_BYTES} bytes")
        return body

    def _has_body(self) -> bool:
        return self.header(b"content-length") not in (None, b"0") or self.header(b"transfer-encoding") is not None

    async def _read(self) -> bytes:
        body = bytearray()
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                raise ClientGone
            body += message.get("body", b"")
            if not self._lease.resize(len(body)):
                raise Throttled("Too many unfinished requests with large bodies; try again")
            if len(body) > FREE_BYTES and self._expect_body is not None:
                self.has_large_body = True
                self._expect_body()
            if not message.get("more_body") or len(body) > MAX_BODY_BYTES:
                return bytes(body)


async def send_answer(send: Send, answer: Answer) -> None:
    """Returns, for a large answer, when at most MAX_UNSENT bytes of it are unsent, or the client is gone."""
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [*answer.headers, (b"content-length", b"%d" % len(answer.body))],
        }
    )
    if len(answer.body) <= MAX_UNSENT:
        await send({"type": "http.response.body", "body": answer.body})
        return
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    await asyncio.sleep(0)  # AnswerTransport writes at the end of the turn
    await send({"type": "http.response.body"})  # uvicorn waits here


async def send_stream(receive: Receive, send: Send, answer: Answer, stream: Stream) -> None:
    """Sends the parts of an answer as they come. Returns at their end, or when the client is gone.

    While the peer does not read, no part is asked for. The guard of AnswerTransport then ends the connection.
    """
    await send({"type": "http.response.start", "status": answer.status, "headers": [*answer.headers]})
    gone = asyncio.create_task(_until_gone(receive))
    try:
        part: bytes | None = answer.body
        while part is not None:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            part = await _unless(gone, stream.next())
        if not gone.done():
            await send({"type": "http.response.body"})
    finally:
        gone.cancel()


async def _unless(gone: asyncio.Task[None], wanted: Coroutine[Any, Any, bytes | None]) -> bytes | None:
    """What ``wanted`` returns; None if the client is gone before."""
    task = asyncio.create_task(wanted)
    try:
        await asyncio.wait({gone, task}, return_when=asyncio.FIRST_COMPLETED)
        return None if gone.done() else task.result()
    finally:
        task.cancel()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
