"""The Yandex face over REST: google.api.http routes and JSON."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from thingmint.domain.errors import DomainError, NotFound, Throttled
from thingmint.http.exchange import Exchange, read_request, respond
from thingmint.yandex.contract.status import HTTP_STATUS, Code

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message as ProtoMessage

    from thingmint.http.exchange import Message, Receive, Send
    from thingmint.yandex.app import YandexApi

__all__ = ["YandexRest"]

_JSON = (b"content-type", b"application/json")


class YandexRest:
    """An ASGI application."""

    def __init__(self, face: YandexApi) -> None:
        self._face = face
        self._contract = face.contract

    def is_route(self, raw_path: bytes) -> bool:
        """Whether the path is one of this face's, be it one where nothing is."""
        return raw_path[1:].partition(b"/")[0].partition(b":")[0] in self._contract.roots

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        exchange.face = "yandex"
        headers = [_JSON, (b"x-request-id", exchange.id.encode())]
        try:
            answer = await self._serve(scope, receive, exchange)
        except DomainError as error:
            status = self._face.status_of(error, exchange.id)
            code = Code(status.code)  # type: ignore[attr-defined]  # google.rpc.Status of a private pool
            exchange.error_code = code.name
            if isinstance(error, Throttled):
                headers.append((b"retry-after", b"%d" % math.ceil(error.retry_after)))
            await respond(exchange, send, HTTP_STATUS[code], headers, self._contract.status_to_json(status))
        else:
            await respond(exchange, send, 200, headers, self._contract.response_to_json(answer))

    async def _serve(self, scope: Message, receive: Receive, exchange: Exchange) -> ProtoMessage:
        request = await read_request(scope, receive)
        match = self._contract.match(request.method, request.raw_path)
        if match is None:
            raise NotFound("method", "at this path")
        method, bindings = match
        await self._face.authenticate(method, request.headers, exchange)
        headers: Mapping[bytes, bytes] = dict(request.headers)
        message = method.request_from_http(bindings, request.query, request.body, _text(headers.get(b"content-type")))
        return await self._face.serve(
            method,
            message,
            exchange,
            port=scope["server"][1],
            idempotency_key=_text(headers.get(b"idempotency-key")),
        )


def _text(value: bytes | None) -> str | None:
    return value.decode("latin-1") if value is not None else None
