"""The files of bulk registration's reports, over signed links: GET without credentials."""

from __future__ import annotations

import asyncio
import math
import zlib
from typing import TYPE_CHECKING, Any

import orjson

from thingmint.domain.errors import DomainError, Failed, NotFound, Throttled, Unauthenticated, Unavailable
from thingmint.http.messages import Answer
from thingmint.services.registration_tasks import report_file

if TYPE_CHECKING:
    from thingmint.access.context import Outcome, RequestContext
    from thingmint.access.throttle import Throttle
    from thingmint.http.messages import Incoming
    from thingmint.services.report_links import ReportFile, ReportLinks
    from thingmint.store.engine import Reader

_OPERATION = "GetThingRegistrationReport"
_AT_ONCE = 4  # files that are read and expanded
_JSON = (b"content-type", b"application/json")
_HEADERS = ((b"cache-control", b"private, no-store"), (b"x-content-type-options", b"nosniff"))
_CODES: dict[type[DomainError], tuple[int, str]] = {
    Unauthenticated: (403, "AccessDenied"),
    Failed: (500, "InternalError"),
    NotFound: (404, "NotFound"),
    Throttled: (429, "TooManyRequests"),
    Unavailable: (503, "ServiceUnavailable"),
}


class ReportsApi:
    """An HttpApi for the paths of links. A route is the request, with the file that its link names if it is valid."""

    def __init__(self, store: Reader, links: ReportLinks, throttle: Throttle) -> None:
        self._store = store
        self._links = links
        self._throttle = throttle
        self._reads = asyncio.Semaphore(_AT_ONCE)

    def route(
        self, context: RequestContext, incoming: Incoming
    ) -> tuple[RequestContext, tuple[Incoming, ReportFile | None]]:
        path, query = incoming.raw_path.decode("latin-1"), incoming.query.decode("latin-1")
        file = self._links.open(path, query, context.now) if incoming.method == "GET" else None
        return context.of(_OPERATION, api="aws"), (incoming, file)

    async def authenticate(
        self, context: RequestContext, route: tuple[Incoming, ReportFile | None], incoming: Incoming
    ) -> RequestContext:
        del incoming
        if route[1] is None:
            reason = "The link is not valid, or its hour is over: ListThingRegistrationTaskReports gives a new one"
            raise Unauthenticated("wrong", reason)
        return context

    async def decode(self, context: RequestContext, route: Any, incoming: Incoming) -> tuple[RequestContext, None]:
        del route, incoming
        return context, None

    async def serve(
        self, context: RequestContext, outcome: Outcome, route: tuple[Incoming, ReportFile], given: None
    ) -> Answer:
        del given
        incoming, file = route
        async with self._reads:
            task, parts = await self._store.read(lambda tx: report_file(tx, *file))
            self._throttle.take(task.scope.account, context.operation)
            outcome.resource, outcome.details = task.arn, {"account": task.scope.account}
            incoming.authenticated(task.scope.account)
            body = await asyncio.to_thread(lambda: b"".join(map(zlib.decompress, parts)))
        answer = Answer(200, [(b"content-type", b"application/x-ndjson"), *_HEADERS], body)
        if not incoming.hold(answer):
            raise Throttled("Too many large answers are not read; try again")
        return answer

    def refuse(self, context: RequestContext, error: DomainError) -> Answer:
        status, code = _CODES.get(type(error), (400, "InvalidRequest"))
        further = [(b"retry-after", b"%d" % math.ceil(error.retry_after))] if isinstance(error, Throttled) else []
        body = orjson.dumps({"code": code, "message": str(error), "requestId": context.id})
        return Answer(status, [_JSON, *_HEADERS, *further], body, code)
