"""The Yandex API over REST: google.api.http routes and JSON."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from thingmint.domain.errors import NotFound, Throttled
from thingmint.http.messages import Answer
from thingmint.yandex.contract.answers import HTTP_STATUS, Code
from thingmint.yandex.errors import status_of

if TYPE_CHECKING:
    from thingmint.access.context import Caller, Outcome, RequestContext
    from thingmint.domain.arns import Scope
    from thingmint.domain.errors import DomainError
    from thingmint.http.messages import Incoming
    from thingmint.yandex.app import YandexApi
    from thingmint.yandex.contract import Method

    _Route = tuple[Method, Any]


_JSON = (b"content-type", b"application/json")


class YandexRest:
    """An HttpApi. A route is a method with its path variables, or None (no match)."""

    def __init__(self, api: YandexApi) -> None:
        self.api = api
        self._contract = api.contract

    def is_route(self, raw_path: bytes) -> bool:
        """True if the path belongs to this API, even if it matches no method."""
        return raw_path[1:].partition(b"/")[0].partition(b":")[0] in self._contract.roots

    def route(self, context: RequestContext, incoming: Incoming) -> tuple[RequestContext, _Route | None]:
        route = self._contract.match(incoming.method, incoming.raw_path)
        return context.of(route[0].label if route is not None else "-", api="yandex"), route

    async def authenticate(self, context: RequestContext, route: _Route | None, incoming: Incoming) -> RequestContext:
        if route is None:
            raise NotFound("method", "at this path")
        return await self.api.authenticate(context, route[0], incoming.headers)

    def is_route_of(self, route: _Route | None, operation: str) -> bool:
        """True if the route is the one of the operation in the OpenAPI document, which has an id for each binding."""
        return route is not None and operation.removesuffix(".post") == route[0].label

    def act_as(self, context: RequestContext, route: _Route, caller: Caller, scope: Scope) -> RequestContext:
        """The context of a request that ``caller`` makes in the console, without a token. Folders have no regions."""
        del scope
        return self.api.act_as(context, route[0], caller)

    async def decode(self, context: RequestContext, route: _Route, incoming: Incoming) -> tuple[RequestContext, Any]:
        method, bindings = route
        request = await incoming.whole()
        message = method.request_from_http(bindings, request.query, request.body)
        return context, (message, incoming.port, _text(incoming.header(b"idempotency-key")))

    async def serve(self, context: RequestContext, outcome: Outcome, route: _Route, given: Any) -> Answer:
        message, port, key = given
        answer = await self.api.serve(context, outcome, route[0], message, port=port, idempotency_key=key)
        return Answer(200, [_JSON, _request_id(context)], self._contract.response_to_json(answer), outcome.code)

    def refuse(self, context: RequestContext, error: DomainError) -> Answer:
        status = status_of(self._contract, error, context.id)
        code = Code(status.code)  # type: ignore[attr-defined]  # google.rpc.Status of a private pool
        headers = [_JSON, _request_id(context)]
        if isinstance(error, Throttled):
            headers.append((b"retry-after", b"%d" % math.ceil(error.retry_after)))
        return Answer(HTTP_STATUS[code], headers, self._contract.status_to_json(status), code.name)


class YandexMessages(YandexRest):
    """The methods that only gRPC has, for the console: it sends their messages as JSON, to gRPC's path.

    No listener has this API.
    """

    def route(self, context: RequestContext, incoming: Incoming) -> tuple[RequestContext, _Route | None]:
        method = self._contract.methods.get(incoming.raw_path.decode("ascii"))
        if method is None or method.bindings:
            return context.of("-", api="yandex"), None
        return context.of(method.label, api="yandex"), (method, {})


def _request_id(context: RequestContext) -> tuple[bytes, bytes]:
    return (b"x-request-id", context.id.encode())


def _text(value: bytes | None) -> str | None:
    return value.decode("latin-1") if value is not None else None
