"""Runs a request for a signed-in caller through the steps of its API. Such a request has no signature and no token.

The console's playground makes these requests. Everything after authentication is the same as in a request over the
network: throttles, authorization, log line, metrics, audit record, and the API's own form of answers and errors.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote

import structlog

from thingmint.access.context import Outcome, RequestContext
from thingmint.domain.errors import DomainError, Failed, Invalid, Throttled
from thingmint.http.front import HttpApi
from thingmint.http.messages import MAX_BODY_BYTES, Answer, Incoming

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from thingmint.access.context import Caller
    from thingmint.access.request_log import RequestLog
    from thingmint.access.throttle import FailureThrottle
    from thingmint.domain.arns import Scope
    from thingmint.http.memory import RequestMemory
    from thingmint.http.messages import Header, Message

MAX_TARGET_BYTES = 16 * 1024
"""Of path and query together."""
_AGENT = "Thingmint console"
_MAX_AGENT = 256  # characters
# Of these the server sets its own, or they would claim another caller.
_RESERVED = frozenset(
    {"authorization", "cookie", "host", "content-length", "transfer-encoding", "x-amz-security-token", "user-agent"}
)

_log = structlog.get_logger("thingmint.http")


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A request of an API, complete except for the caller's credentials.

    ``path`` and ``query`` are percent-encoded; ``query`` has no question mark.
    """

    method: str
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Invoked:
    """An answered request. ``context.id`` is the id of the request in log and audit record."""

    context: RequestContext
    outcome: Outcome
    answer: Answer = field(repr=False)


class InvokedApi(HttpApi, Protocol):
    """An API whose requests a caller can make that is authenticated already."""

    def is_route_of(self, route: Any, operation: str) -> bool:
        """True if the route is the one of the operation with this id in the API's OpenAPI document."""
        ...

    def act_as(self, context: RequestContext, route: Any, caller: Caller, scope: Scope) -> RequestContext:
        """What ``authenticate`` returns for a request with valid credentials of ``caller``, in the scope's region."""
        ...


class Invoker:
    """``apis`` are by the names under which requests choose them. ``port`` is the one of the HTTPS listener."""

    def __init__(
        self,
        apis: Mapping[str, InvokedApi],
        request_log: RequestLog,
        failures: FailureThrottle,
        memory: RequestMemory,
        clock: Callable[[], datetime],
        port: int,
    ) -> None:
        self._apis = apis
        self._request_log = request_log
        self._failures = failures
        self._memory = memory
        self._clock = clock
        self._port = port

    async def __call__(self, by: RequestContext, api: str, operation: str, prepared: PreparedRequest) -> Invoked:
        """The API's answer to the request, made by the caller of ``by`` in the region of ``by``.

        Raises Invalid for a request that could not be sent over the network, or that another operation would serve.
        """
        chosen = self._apis[api]
        incoming = _incoming(prepared, by, self._memory, self._port)
        context = RequestContext(
            method=prepared.method, address=by.address, user_agent=_agent(by.user_agent), now=self._clock()
        )
        context, route = chosen.route(context, incoming)
        if not chosen.is_route_of(route, operation):
            raise Invalid("path", f"does not lead to {operation}: a value of the path must be one segment of it")
        outcome = Outcome()
        try:
            return Invoked(*await self._run(chosen, context, route, incoming, outcome, by))
        finally:
            incoming.release()

    async def _run(
        self,
        api: InvokedApi,
        context: RequestContext,
        route: Any,
        incoming: Incoming,
        outcome: Outcome,
        by: RequestContext,
    ) -> tuple[RequestContext, Outcome, Answer]:
        assert by.caller is not None
        assert by.scope is not None
        try:
            try:
                context = api.act_as(context, route, by.caller, by.scope)
                incoming.authenticated(by.caller.account)
                context, given = await api.decode(context, route, incoming)
                answer = await api.serve(context, outcome, route, given)
                if not incoming.hold(answer) and incoming.method == "GET":
                    raise Throttled("Too many large answers are not read; try again")
            except DomainError as error:
                answer = api.refuse(context, self._failures.count(context, outcome, error))
            outcome.status, outcome.code = answer.status, answer.code
        except Exception:  # noqa: BLE001 - the page shows an answer, and the server keeps running
            _log.exception("request_failed", request_id=context.id, operation=context.operation)
            outcome.code, outcome.status = "Internal", 500
            answer = replace(api.refuse(context, Failed(context.id)), code="Internal")
        except BaseException:
            outcome.code = "Cancelled"
            raise
        finally:
            self._request_log.record(context, outcome)
        return context, outcome, answer


def _incoming(prepared: PreparedRequest, by: RequestContext, memory: RequestMemory, port: int) -> Incoming:
    """The request as a server receives it. Raises Invalid."""
    path, query = _ascii(prepared.path, "path"), _ascii(prepared.query, "query")
    if not path.startswith(b"/") or b"?" in path or b"#" in path or b"#" in query:
        raise Invalid("path", "must be a path without a query")
    if len(path) + len(query) > MAX_TARGET_BYTES:
        raise Invalid("path", f"and query must have at most {MAX_TARGET_BYTES} characters")
    if len(prepared.body) > MAX_BODY_BYTES:
        raise Invalid("body", f"must be at most {MAX_BODY_BYTES} bytes")
    headers = [_header(name, value) for name, value in prepared.headers]
    headers.append((b"content-length", b"%d" % len(prepared.body)))
    scope: Message = {
        "type": "http",
        "method": prepared.method,
        "raw_path": path,
        "path": unquote(prepared.path),
        "query_string": query,
        "headers": headers,
        "client": (by.address, 0) if by.address is not None else None,
        "server": ("localhost", port),
        "scheme": "https",
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": prepared.body}

    return Incoming(scope, receive, memory)


def _ascii(text: str, part: str) -> bytes:
    """Raises Invalid for text that a request line cannot contain."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise Invalid(part, "must be percent-encoded")
    return text.encode("ascii")


def _header(name: str, value: str) -> Header:
    lower = name.lower()
    if lower in _RESERVED:
        raise Invalid(name, "is set by the server")
    if not (value.isprintable() and value == value.strip(" ")):
        raise Invalid(name, "must be one line of text")
    try:
        return lower.encode("ascii"), value.encode("latin-1")
    except UnicodeEncodeError:
        raise Invalid(name, "must be text in Latin-1") from None


def _agent(browser: str | None) -> str:
    """The user agent of the audit record: the console, and the browser that it acts for."""
    return f"{_AGENT}; {browser}"[:_MAX_AGENT] if browser else _AGENT
