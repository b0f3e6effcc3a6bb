"""The applications of HTTP listeners: they choose a request's API, run the API's steps, and record the request."""

from __future__ import annotations

import abc
import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from thingmint.access.context import Outcome, RequestContext
from thingmint.access.sigv4 import claimed_service
from thingmint.domain.errors import DomainError, Failed, Throttled, Unauthenticated
from thingmint.http.documents import DOCUMENTS_PATH
from thingmint.http.messages import Answer, ClientGone, Incoming, send_answer, send_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from thingmint.access.request_log import RequestLog
    from thingmint.access.throttle import FailureThrottle
    from thingmint.http.memory import RequestMemory
    from thingmint.http.messages import Message, Receive, Send


_log = structlog.get_logger("thingmint.http")

_NATIVE_ISSUE_PATH = b"/keys-and-certificate"
CONSOLE_PATH = b"/console"
_MAX_AGENT = 256  # bytes of a user agent's name that are kept


class HttpApi(Protocol):
    """An API over HTTP. Its steps run in the order below. Each step gets the context that the previous one returned.

    All steps except ``route`` and ``refuse`` raise DomainErrors. A step that needs the body awaits
    ``incoming.whole()``; ``authenticate`` checks everything in the head before that.
    """

    def route(self, context: RequestContext, incoming: Incoming) -> tuple[RequestContext, Any]:
        """The context with the names of API and operation, and the route in the API's own form.

        An unknown path is not refused here. The record of an unauthenticated request names its operation, but the
        answer must not depend on it.
        """
        ...

    async def authenticate(self, context: RequestContext, route: Any, incoming: Incoming) -> RequestContext:
        """The context with the caller."""
        ...

    async def decode(self, context: RequestContext, route: Any, incoming: Incoming) -> tuple[RequestContext, Any]:
        """The input, if the caller's rate allows another call."""
        ...

    async def serve(self, context: RequestContext, outcome: Outcome, route: Any, given: Any) -> Answer:
        """Authorizes and runs the operation, and encodes the answer."""
        ...

    def refuse(self, context: RequestContext, error: DomainError) -> Answer: ...


class SignedApi(HttpApi, Protocol):
    """An API with signed requests. ``signing_names`` are the services that they may be signed for."""

    @property
    def signing_names(self) -> Sequence[str]: ...

    def is_route(self, method: str, raw_path: bytes) -> bool:
        """True if the API has an operation at this method and path."""
        ...


class HttpApp(abc.ABC):
    """An ASGI application of one API or several."""

    def __init__(
        self, request_log: RequestLog, failures: FailureThrottle, memory: RequestMemory, clock: Callable[[], datetime]
    ) -> None:
        self._request_log = request_log
        self._failures = failures
        self._memory = memory
        self._clock = clock

    @abc.abstractmethod
    def _choose(self, incoming: Incoming) -> HttpApi: ...

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        incoming, outcome = Incoming(scope, receive, self._memory), Outcome()
        context = _arrived(incoming, self._clock())
        stream, is_recorded = None, False
        api = self._choose(incoming)
        try:
            try:
                context, route = api.route(context, incoming)
                context = await api.authenticate(context, route, incoming)
                if context.caller is not None:
                    incoming.authenticated(context.caller.account)
                context, given = await api.decode(context, route, incoming)
                answer = await api.serve(context, outcome, route, given)
                # The answer to a change is always sent, as the change was made.
                if context.caller is not None and not incoming.hold(answer) and incoming.method == "GET":
                    raise Throttled("Too many large answers are not read; try again")
            except DomainError as error:
                if isinstance(error, Unauthenticated) and error.advice is not None:
                    outcome.details = {"reason": error.advice}
                answer = api.refuse(context, self._failures.count(context, outcome, error))
                if context.caller is None and incoming.has_large_body:
                    # The buffers of the connection have grown, and never shrink.
                    answer = replace(answer, headers=[*answer.headers, (b"connection", b"close")])
            outcome.status, outcome.code, stream = answer.status, answer.code, answer.stream
            if stream is None or incoming.method == "HEAD":
                await send_answer(send, answer)
            else:
                is_recorded = True  # now, because the stream can take hours
                self._request_log.record(context, outcome)
                incoming.serve_no_further()
                await send_stream(receive, send, answer, stream)
        except ClientGone:
            outcome.code = "ClientGone"
        except asyncio.CancelledError:
            outcome.code = "Cancelled"
            raise
        except Exception:  # noqa: BLE001 - the client gets an answer, and the server keeps running
            _log.exception("request_failed", request_id=context.id, operation=context.operation)
            outcome.code = "Internal"
            if not outcome.status:
                answer = api.refuse(context, Failed(context.id))
                outcome.status = answer.status
                await send_answer(send, answer)
        finally:
            if stream is not None:
                stream.close()
            incoming.release()
            if not is_recorded:
                self._request_log.record(context, outcome)


class SingleApi(HttpApp):
    """The application of a listener that has one API."""

    def __init__(
        self,
        api: HttpApi,
        request_log: RequestLog,
        failures: FailureThrottle,
        memory: RequestMemory,
        clock: Callable[[], datetime],
    ) -> None:
        super().__init__(request_log, failures, memory, clock)
        self._api = api

    def _choose(self, incoming: Incoming) -> HttpApi:
        del incoming
        return self._api


class Front(HttpApp):
    """The application of the listeners for HTTPS and plain HTTP.

    ``aws`` are the APIs of AWS's services; the first one gets the requests that are signed for an unknown service.
    ``is_yandex_route`` is True for a raw path of a Yandex operation. ``probes`` are by raw path. ``console`` is None if
    the settings turn it off. ``documents`` serves the documentation site. ``linked`` are the APIs of signed links by
    the beginning of their paths, ``/NAME/``.
    """

    def __init__(
        self,
        *,
        aws: Sequence[SignedApi],
        native: HttpApi,
        probes: Mapping[bytes, HttpApi],
        yandex: HttpApi,
        is_yandex_route: Callable[[bytes], bool],
        console: HttpApi | None = None,
        documents: HttpApi | None = None,
        request_log: RequestLog,
        failures: FailureThrottle,
        memory: RequestMemory,
        clock: Callable[[], datetime],
        linked: Mapping[bytes, HttpApi] | None = None,
    ) -> None:
        super().__init__(request_log, failures, memory, clock)
        self._aws = aws
        self._linked = linked or {}
        self._signed_for = {name: api for api in aws for name in api.signing_names}
        self._native = native
        self._probes = probes
        self._yandex = yandex
        self._is_yandex_route = is_yandex_route
        self._console = console
        self._documents = documents

    def _choose(self, incoming: Incoming) -> HttpApi:
        path = incoming.raw_path
        if probe := self._probes.get(path):
            return probe
        if link := self._linked.get(path[: path.find(b"/", 1) + 1]):
            return link
        authorization = incoming.header(b"authorization") or b""
        if authorization.startswith(b"AWS4") or b"X-Amz-Signature=" in incoming.query:
            return self._signed_for.get(claimed_service(authorization, incoming.query) or "", self._aws[0])
        if self._console is not None and _is_for_console(incoming, path, authorization):
            return self._console
        if self._documents is not None and _is_below(path, DOCUMENTS_PATH):
            return self._documents
        if self._is_yandex_route(path):
            return self._yandex
        if authorization:
            return self._native
        if path != _NATIVE_ISSUE_PATH:
            for api in self._aws:
                if api.is_route(incoming.method, path):
                    return api
        return self._native


def _is_for_console(incoming: Incoming, path: bytes, authorization: bytes) -> bool:
    """True for the console's paths, and for a browser that opens the server's address."""
    if _is_below(path, CONSOLE_PATH):
        return True
    if path != b"/" or incoming.method not in ("GET", "HEAD") or authorization or incoming.query:
        return False
    return b"text/html" in (incoming.header(b"accept") or b"")


def _is_below(path: bytes, root: bytes) -> bool:
    return path == root or path.startswith(root + b"/")


def _arrived(incoming: Incoming, now: datetime) -> RequestContext:
    agent = incoming.header(b"user-agent")
    return RequestContext(
        method=incoming.method,
        address=incoming.client,
        user_agent=agent[:_MAX_AGENT].decode("latin-1") if agent else None,
        now=now,
    )
