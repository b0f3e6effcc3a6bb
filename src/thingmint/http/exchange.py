"""One request and its answer, as the faces see them: thin typed shells over ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from thingmint.access.exchange import Exchange
from thingmint.domain.errors import Invalid

__all__ = ["MAX_BODY_BYTES", "App", "ClientGone", "Exchange", "Receive", "Request", "Send", "read_request", "respond"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 1024 * 1024
_BODY_TIMEOUT = 30.0  # seconds


class ClientGone(Exception):
    """The client closed the connection before its request was complete: nobody is there to answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request. Path and query are as they came over the wire; header names are in lower case."""

    method: str
    raw_path: bytes
    query: bytes
    headers: Iterable[tuple[bytes, bytes]]
    body: bytes


async def read_request(scope: Message, receive: Receive) -> Request:
    """Raises Invalid for a body that is too large or too slow, and ClientGone."""
    if _has_body(scope["headers"]):
        try:
            async with asyncio.timeout(_BODY_TIMEOUT):
                body = await _read_body(receive)
        except TimeoutError:
            raise Invalid("body", f"did not arrive within {_BODY_TIMEOUT:.0f} seconds") from None
    else:
        body = await _read_body(receive)
    if len(body) > MAX_BODY_BYTES:
        raise Invalid("body", f"must be at most {MAX_BODY_BYTES} bytes")
    return Request(scope["method"], scope["raw_path"], scope["query_string"], scope["headers"], body)


def _has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers)


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        body += message.get("body", b"")
        if not message.get("more_body") or len(body) > MAX_BODY_BYTES:
            return bytes(body)


async def respond(
    exchange: Exchange, send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes
) -> None:
    exchange.status = status
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, (b"content-length", b"%d" % len(body))],
        }
    )
    await send({"type": "http.response.body", "body": body})
