"""The native REST API: authentication, and answers as ``{"success": true, "data": ...}`` or with an ``"error"``."""

from __future__ import annotations

import math
import re
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

import orjson
from starlette.routing import Match, Route

from thingmint.access.authorization import authorizer, is_allowed
from thingmint.access.directory import bearer_token
from thingmint.domain.errors import Invalid, Throttled, Unauthenticated
from thingmint.domain.strict_json import MAX_VALUES, has_too_many_values
from thingmint.http.messages import Answer
from thingmint.http.openapi import Documents
from thingmint.native.declaring import Call
from thingmint.native.endpoints import ENDPOINTS
from thingmint.native.errors import Problem, problem_of
from thingmint.native.openapi import document
from thingmint.native.schemas import checked
from thingmint.services.change import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from thingmint.access.audit import AuditedStore
    from thingmint.access.audit_records import AuditRecords
    from thingmint.access.context import Caller, Outcome, RequestContext
    from thingmint.access.directory import Directory
    from thingmint.access.local_admin import Administration
    from thingmint.access.throttle import Throttle
    from thingmint.domain.arns import Scope
    from thingmint.domain.errors import DomainError
    from thingmint.http.messages import Incoming
    from thingmint.native.declaring import Endpoint
    from thingmint.services.change import Environment
    from thingmint.services.hostnames import ListHostnames


_AWS_HOST = re.compile(r"iot\.([a-z0-9-]{1,63})\.amazonaws\.com")


class NativeAuth:
    """``dev``: accept requests without credentials as the developer's, unless a web page may have caused them."""

    def __init__(self, directory: Directory, hostnames: ListHostnames, *, dev: bool) -> None:
        self._directory = directory
        self._hostnames = hostnames
        self._dev = dev

    async def authenticate(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[Caller, Scope]:
        """The caller, and the Host header's region or else the account's home region. Raises Unauthenticated."""
        token = bearer_token(headers)
        host = _host(headers)
        if token is not None:
            caller = await self._directory.authenticate_token(token)
        elif self._dev:
            caller = await self._developer(headers, host)
        else:
            raise Unauthenticated(
                "missing",
                "An API token is needed, as: Authorization: Bearer <token>; see clients/token in the data directory",
            )
        match = _AWS_HOST.fullmatch(host)
        return caller, caller.scope(match[1] if match else None)

    async def _developer(self, headers: Iterable[tuple[bytes, bytes]], host: str) -> Caller:
        # Otherwise a web page in a browser on this machine could make keys: by a cross-site request, or, if the page's
        # host name resolves to 127.0.0.1, by a same-origin request. Programs send neither header.
        for name, value in headers:
            if name == b"origin" or (name == b"sec-fetch-site" and value not in (b"none", b"same-origin")):
                raise Unauthenticated("missing", "A request that a web page caused needs an API token")
        caller = await self._directory.developer()
        match = _AWS_HOST.fullmatch(host)
        if (match and match[1] in caller.regions) or host in await self._hostnames():
            return caller
        raise Unauthenticated("missing", "Without an API token, Host must be one of this server's configured names")


def _host(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The Host header without its port, in lower case, brackets of an IPv6 address removed."""
    hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
    if len(hosts) != 1:
        return ""
    host = re.sub(r":\d{1,5}$", "", hosts[0])
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


_JSON = (b"content-type", b"application/json")
_MAX_PARAMETERS = 32
_READS = ("GET", "HEAD")
_ISSUE = "CreateKeysAndCertificate"


class _Found(NamedTuple):
    endpoint: Endpoint
    parameters: dict[str, str]  # of the path


class _Document(NamedTuple):
    """The route of an OpenAPI document, which needs no credentials."""

    path: bytes


_Route = _Found | _Document | Answer


class NativeApi:
    """An HttpApi. A route is the path's endpoint with its parameters, a document, or the answer if there is neither.

    ``documents`` make the OpenAPI documents of the other APIs, by raw path.
    """

    def __init__(
        self,
        auth: NativeAuth,
        throttle: Throttle,
        store: AuditedStore,
        environment: Environment,
        administration: Administration,
        audit: AuditRecords,
        documents: Mapping[bytes, Callable[[], dict[str, Any]]],
    ) -> None:
        self._auth = auth
        self._throttle = throttle
        self._store = store
        self._environment = environment
        self._administration = administration
        self._audit = audit
        self._documents = Documents({b"/openapi.json": document, **documents})
        self._routes: dict[str, tuple[Route, dict[str, Endpoint]]] = {}  # by path
        for endpoint in ENDPOINTS:
            _, methods = self._routes.setdefault(endpoint.path, (Route(endpoint.path, _unused), {}))
            methods[endpoint.method] = endpoint
            if endpoint.method == "GET":
                methods["HEAD"] = endpoint

    def route(self, context: RequestContext, incoming: Incoming) -> tuple[RequestContext, _Route]:
        context = context.of("-", api="native")
        if incoming.raw_path in self._documents:
            is_read = incoming.method in _READS
            return context, _Document(incoming.raw_path) if is_read else _not_allowed(_READS)
        for route, methods in self._routes.values():
            match, found = route.matches({"type": "http", "method": "GET", "path": incoming.path})
            if match is Match.NONE:
                continue
            if (endpoint := methods.get(incoming.method)) is None:
                return context, _not_allowed(methods)
            return context.of(endpoint.operation, api="native"), _Found(endpoint, found["path_params"])
        return context, _answer_of(Problem(404, "NOT_FOUND", "There is nothing at this path; see /openapi.json"))

    async def authenticate(self, context: RequestContext, route: _Route, incoming: Incoming) -> RequestContext:
        if isinstance(route, _Document):
            return context
        return context.by(*await self._auth.authenticate(incoming.headers))

    def is_route_of(self, route: _Route, operation: str) -> bool:
        """True if the route is the one of the operation in the OpenAPI document."""
        return isinstance(route, _Found) and (route.endpoint.id or route.endpoint.operation) == operation

    def act_as(self, context: RequestContext, route: _Route, caller: Caller, scope: Scope) -> RequestContext:
        """The context of a request that ``caller`` makes in the console, without a token."""
        return context if isinstance(route, _Document) else context.by(caller, scope)

    async def decode(
        self, context: RequestContext, route: _Route, incoming: Incoming
    ) -> tuple[RequestContext, tuple[Any, Any]]:
        if isinstance(route, Answer):
            return context, (None, None)
        if isinstance(route, _Document):
            answer = Answer(200, [_JSON], await self._documents.read(route.path))
            if not incoming.hold(answer):
                raise Throttled("Too many large answers are not read; try again")
            return context, (answer, None)
        endpoint = route.endpoint
        assert context.scope is not None, "callers are authenticated first"
        self._throttle.take(context.scope.account, endpoint.operation)
        request = await incoming.whole()
        query = checked(endpoint.query, _parameters(request.query))
        body = checked(endpoint.body, _object(request.body))
        return endpoint.named(context, body), (query, body)

    async def serve(self, context: RequestContext, outcome: Outcome, route: _Route, given: tuple[Any, Any]) -> Answer:
        if isinstance(route, Answer):
            return route
        if isinstance(route, _Document):
            document: Answer = given[0]
            return document
        assert context.scope is not None, "callers are authenticated first"
        query, body = given
        call = Call(
            change=Change(context.scope, context.now, self._environment, authorizer(context, outcome, context.scope)),
            allows=lambda action, resource: is_allowed(context, action, (resource,), context.scope),
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
        # AWS has this path too: an AWS client that did not sign its request must be able to read the refusal.
        readable_by_aws = isinstance(error, Unauthenticated) and context.operation == _ISSUE
        return _answer_of(problem_of(error), headers, readable_by_aws=readable_by_aws)


def _not_allowed(methods: Iterable[str]) -> Answer:
    problem = Problem(405, "METHOD_NOT_ALLOWED", "This path does not take that method; see /openapi.json")
    return _answer_of(problem, [(b"allow", ", ".join(sorted(methods)).encode())])


def _answer_of(
    problem: Problem, headers: Sequence[tuple[bytes, bytes]] = (), *, readable_by_aws: bool = False
) -> Answer:
    body: dict[str, Any] = {"success": False, "error": {"code": problem.code, "message": problem.message}}
    headers = [_JSON, *headers]
    if readable_by_aws:
        body["message"] = problem.message
        headers.append((b"x-amzn-errortype", b"MissingAuthenticationTokenException"))
    return Answer(problem.status, headers, orjson.dumps(body), problem.code)


async def _unused(scope: object, receive: object, send: object) -> None:
    """Never called: only the matching of Starlette's routes is used."""


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
    if not body:
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
