"""What is told of every request, whichever wire it came over: a line of log, a count, and the audit record."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from thingmint.access.refusals import RefusalLog
from thingmint.domain.names import source_of

if TYPE_CHECKING:
    from thingmint.access.audit import AuditTrail
    from thingmint.access.context import Outcome, RequestContext
    from thingmint.metrics import Metrics


_log = structlog.get_logger("thingmint.http")


class RequestLog:
    """Requests of an address that fails too often are counted instead of told one by one, as that would fill disks."""

    def __init__(self, metrics: Metrics, trail: AuditTrail, refusals: RefusalLog | None = None) -> None:
        self._metrics = metrics
        self._trail = trail
        self._refusals = refusals or RefusalLog()
        self._log = _log.bind()  # the module's own one is a proxy

    def record(self, context: RequestContext, outcome: Outcome) -> None:
        """Once the request is answered. Path and query stay out: they may hold secrets.

        Every request that succeeded has a line, but for probes: how many there are is bounded by the caller's rate.
        """
        seconds = time.perf_counter() - context.started
        self._metrics.observe(context.api, context.operation, outcome.status, seconds)
        is_first = self._trail.add(context, outcome)
        if outcome.throttled:
            self._refusals.note("unauthenticated_requests_throttled", source_of(context.address or ""), context.api)
            return
        if not is_first:
            return  # one of many that are told of together
        caller = outcome.caller or context.caller
        self._log.info(
            "request",
            operation=context.operation,
            status=outcome.status,
            code=outcome.code,
            ms=round(seconds * 1000, 2),
            face=context.api,
            method=context.method,
            account=caller and caller.account,
            principal=caller and caller.arn,
            client=context.address,
            request_id=context.id,
            **outcome.details,
        )
