"""The native face: authenticate, find the endpoint, check the input, call it, wrap the answer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import orjson
from starlette.exceptions import HTTPException
from starlette.routing import Route, Router

from thingmint.domain.errors import DomainError, Invalid, Throttled, Unauthenticated
from thingmint.http.exchange import Exchange, read_request, respond
from thingmint.native.endpoints import ENDPOINTS, Call
from thingmint.native.errors import Problem, problem_of
from thingmint.native.openapi import document
from thingmint.native.schemas import checked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.access.administration import Administration
    from thingmint.access.audit_records import AuditRecords
    from thingmint.access.throttle import Throttle
    from thingmint.http.exchange import Message, Receive, Send
    from thingmint.native.auth import NativeAuth
    from thingmint.native.endpoints import Endpoint
    from thingmint.services.certificates import CertificateRegistry

__all__ = ["NativeFace"]

_JSON = (b"content-type", b"application/json")
_MAX_PARAMETERS = 32


class NativeFace:
    """An ASGI application."""

    def __init__(
        self,
        auth: NativeAuth,
        throttle: Throttle,
        certificates: CertificateRegistry,
        administration: Administration,
        audit: AuditRecords,
    ) -> None:
        self._auth = auth
        self._openapi = orjson.dumps(document())
        self._router = Router(
            [
                Route(e.path, _EndpointApp(e, certificates, administration, audit, throttle), methods=[e.method])
                for e in ENDPOINTS
            ],
            redirect_slashes=False,
            default=_not_found,
        )

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        exchange.face = "native"
        try:
            if scope["raw_path"] == b"/openapi.json" and scope["method"] in ("GET", "HEAD"):
                await respond(exchange, send, 200, [_JSON], self._openapi)
                return
            exchange.caller, scope["thingmint.scope"] = await self._auth.authenticate(scope["headers"])
            scope["app"] = self  # starlette then raises for a wrong method, instead of answering in plain text
            await self._router(scope, receive, send)
        except DomainError as error:
            headers = [(b"www-authenticate", b"Bearer")] if isinstance(error, Unauthenticated) else []
            if isinstance(error, Throttled):
                headers.append((b"retry-after", b"%d" % math.ceil(error.retry_after)))
            await _respond_problem(exchange, send, problem_of(error), headers, _is_aws_path(scope, error))
        except HTTPException as refused:
            problem = Problem(405, "METHOD_NOT_ALLOWED", "This path does not take that method; see /openapi.json")
            allow = (refused.headers or {}).get("Allow", "")
            await _respond_problem(exchange, send, problem, [(b"allow", allow.encode())])


class _EndpointApp:
    def __init__(
        self,
        endpoint: Endpoint,
        certificates: CertificateRegistry,
        administration: Administration,
        audit: AuditRecords,
        throttle: Throttle,
    ) -> None:
        self._endpoint = endpoint
        self._throttle = throttle
        self._certificates = certificates
        self._administration = administration
        self._audit = audit

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        exchange.operation = self._endpoint.operation
        assert exchange.caller is not None, "the face authenticates first"
        self._throttle.take(exchange.caller.account, self._endpoint.operation)
        request = await read_request(scope, receive)
        call = Call(
            exchange=exchange,
            scope=scope["thingmint.scope"],
            certificates=self._certificates,
            administration=self._administration,
            audit=self._audit,
            path=scope["path_params"],
            query=checked(self._endpoint.query, _parameters(request.query)),
            body=checked(self._endpoint.body, _object(request.body)),
        )
        result = await self._endpoint.handler(call)
        data = result.model_dump(mode="json") if result is not None else None
        await respond(exchange, send, 200, [_JSON], orjson.dumps({"success": True, "data": data}))


async def _not_found(scope: Message, receive: Receive, send: Send) -> None:
    del receive
    problem = Problem(404, "NOT_FOUND", "There is nothing at this path; see /openapi.json")
    await _respond_problem(Exchange.of(scope), send, problem)


async def _respond_problem(
    exchange: Exchange,
    send: Send,
    problem: Problem,
    headers: Sequence[tuple[bytes, bytes]] = (),
    readable_by_aws: bool = False,
) -> None:
    exchange.error_code = problem.code
    body: dict[str, Any] = {"success": False, "error": {"code": problem.code, "message": problem.message}}
    headers = [_JSON, *headers]
    if readable_by_aws:
        body["message"] = problem.message
        headers.append((b"x-amzn-errortype", b"MissingAuthenticationTokenException"))
    await respond(exchange, send, problem.status, headers, orjson.dumps(body))


def _is_aws_path(scope: Message, error: DomainError) -> bool:
    """AWS has this path too: a client of AWS's that forgot to sign should understand the refusal."""
    return isinstance(error, Unauthenticated) and scope["raw_path"] == b"/keys-and-certificate"


def _parameters(query: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS
        )
    except ValueError:
        raise Invalid("query", f"must be percent-encoded UTF-8, of at most {_MAX_PARAMETERS} parameters") from None
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise Invalid("query", "must not name a parameter twice")
    return parameters


def _object(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Invalid("body", "is not valid JSON") from None
    if not isinstance(value, dict):
        raise Invalid("body", "must be a JSON object")
    return value
