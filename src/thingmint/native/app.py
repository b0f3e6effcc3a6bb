"""The native REST API, whose answers are enveloped: ``{"success": true, "data": ...}`` or ``"error"``."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

import orjson
from starlette.routing import Match, Route

from thingmint.access.authorization import authorizer
from thingmint.domain.errors import Invalid, Throttled, Unauthenticated
from thingmint.domain.strict_json import MAX_VALUES, has_too_many_values
from thingmint.http.messages import Answer
from thingmint.native.endpoints import ENDPOINTS, Call
from thingmint.native.errors import Problem, problem_of
from thingmint.native.openapi import document
from thingmint.native.schemas import checked
from thingmint.services.change import Change

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.access.audit import AuditedStore
    from thingmint.access.audit_records import AuditRecords
    from thingmint.access.context import Outcome, RequestContext
    from thingmint.access.local_admin import Administration
    from thingmint.access.throttle import Throttle
    from thingmint.domain.errors import DomainError
    from thingmint.http.messages import Incoming
    from thingmint.native.auth import NativeAuth
    from thingmint.native.endpoints import Endpoint
    from thingmint.services.change import Environment


_JSON = (b"content-type", b"application/json")
_MAX_PARAMETERS = 32
_ISSUE = "CreateKeysAndCertificate"


class _Found(NamedTuple):
    endpoint: Endpoint
    parameters: dict[str, str]  # of the path


class NativeApi:
    """An HttpApi. A route is the path's endpoint with its parameters, or the answer if there is none."""

    def __init__(
        self,
        auth: NativeAuth,
        throttle: Throttle,
        store: AuditedStore,
        environment: Environment,
        administration: Administration,
        audit: AuditRecords,
    ) -> None:
        self._auth = auth
        self._throttle = throttle
        self._store = store
        self._environment = environment
        self._administration = administration
        self._audit = audit
        self._openapi = orjson.dumps(document())
        self._routes = [(Route(e.path, _unused, methods=[e.method]), e) for e in ENDPOINTS]

    def route(self, context: RequestContext, incoming: Incoming) -> tuple[RequestContext, _Found | Answer]:
        if incoming.raw_path == b"/openapi.json" and incoming.method in ("GET", "HEAD"):
            return context.of("-", api="native"), Answer(200, [_JSON], self._openapi)
        allowed: set[str] = set()
        for route, endpoint in self._routes:
            match, found = route.matches({"type": "http", "method": incoming.method, "path": incoming.path})
            if match is Match.FULL:
                return context.of(endpoint.operation, api="native"), _Found(endpoint, found["path_params"])
            if match is Match.PARTIAL and not allowed:
                allowed = route.methods or set()
        if allowed:
            problem = Problem(405, "METHOD_NOT_ALLOWED", "This path does not take that method; see /openapi.json")
            headers = [(b"allow", ", ".join(sorted(allowed)).encode())]
        else:
            problem, headers = Problem(404, "NOT_FOUND", "There is nothing at this path; see /openapi.json"), []
        return context.of("-", api="native"), _answer_of(problem, headers)

    async def authenticate(self, context: RequestContext, route: _Found | Answer, incoming: Incoming) -> RequestContext:
        if isinstance(route, Answer) and route.body is self._openapi:
            return context
        return context.by(*await self._auth.authenticate(incoming.headers))

    async def decode(
        self, context: RequestContext, route: _Found | Answer, incoming: Incoming
    ) -> tuple[RequestContext, tuple[Any, Any]]:
        if isinstance(route, Answer):
            return context, (None, None)
        endpoint = route.endpoint
        assert context.scope is not None, "callers are authenticated first"
        self._throttle.take(context.scope.account, endpoint.operation)
        request = await incoming.whole()
        query = checked(endpoint.query, _parameters(request.query))
        body = checked(endpoint.body, _object(request.body))
        return endpoint.named(context, body), (query, body)

    async def serve(
        self, context: RequestContext, outcome: Outcome, route: _Found | Answer, given: tuple[Any, Any]
    ) -> Answer:
        if isinstance(route, Answer):
            return route
        assert context.scope is not None, "callers are authenticated first"
        query, body = given
        call = Call(
            change=Change(context.scope, context.now, self._environment, authorizer(context, outcome, context.scope)),
            store=self._store.of(context, outcome),
            administer=partial(self._administration.run, context=context, outcome=outcome),
            audit=self._audit,
            path=route.parameters,
            query=query,
            body=body,
        )
        result = await route.endpoint.handler(call)
        data = result.model_dump(mode="json") if result is not None else None
        return Answer(200, [_JSON], orjson.dumps({"success": True, "data": data}))

    def refuse(self, context: RequestContext, error: DomainError) -> Answer:
        headers = [(b"www-authenticate", b"Bearer")] if isinstance(error, Unauthenticated) else []
        if isinstance(error, Throttled):
            headers.append((b"retry-after", b"%d" % math.ceil(error.retry_after)))
        # AWS has this path too: a client of AWS's that forgot to sign should understand the refusal.
        readable_by_aws = isinstance(error, Unauthenticated) and context.operation == _ISSUE
        return _answer_of(problem_of(error), headers, readable_by_aws=readable_by_aws)


def _answer_of(problem: Problem, headers: Sequence[tuple[bytes, bytes]], *, readable_by_aws: bool = False) -> Answer:
    body: dict[str, Any] = {"success": False, "error": {"code": problem.code, "message": problem.message}}
    headers = [_JSON, *headers]
    if readable_by_aws:
        body["message"] = problem.message
        headers.append((b"x-amzn-errortype", b"MissingAuthenticationTokenException"))
    return Answer(problem.status, headers, orjson.dumps(body), problem.code)


async def _unused(scope: object, receive: object, send: object) -> None:
    """Routes are only matched here."""


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
    if has_too_many_values(body):
        raise Invalid("body", f"must hold at most {MAX_VALUES} values")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Invalid("body", "is not valid JSON") from None
    if not isinstance(value, dict):
        raise Invalid("body", "must be a JSON object")
    return value
