"""What is told of every request, whichever wire it came over: a line of log, a count, and the audit record.

Connections that came to nothing are told of too: a line at once for each source, then their number now and again.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from thingmint.domain.names import source_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from thingmint.access.audit import AuditTrail
    from thingmint.access.context import Outcome, RequestContext
    from thingmint.metrics import Metrics


_WINDOW = 10.0  # seconds
_MAX_SOURCES = 50  # that get lines of their own within one window

_log = structlog.get_logger("thingmint.http")
_connections_log = structlog.get_logger("thingmint.gateway")


class RefusalLog:
    """In each window there are at most two lines for each of 50 sources, and one for all others.

    ``later`` calls a function after so many seconds; the running event loop's by default.
    """

    def __init__(self, later: Callable[[float, Callable[[], None]], object] | None = None) -> None:
        self._later = later
        self._sources: dict[tuple[str, str], tuple[str, int]] = {}  # the last reason, and how many since the last line
        self._others = 0

    def note(self, event: str, source: str, reason: str) -> None:
        """``event`` is what happened, as one of a few constant texts; ``source`` is where from."""
        if not self._sources:
            later = self._later or asyncio.get_running_loop().call_later
            later(_WINDOW, self._end_window)
        key = (event, source)
        if key in self._sources:
            self._sources[key] = (reason, self._sources[key][1] + 1)
        elif len(self._sources) < _MAX_SOURCES:
            _connections_log.info(event, source=source, reason=reason)
            self._sources[key] = (reason, 0)
        else:
            self._others += 1

    def _end_window(self) -> None:
        sources, others = self._sources, self._others
        self._sources, self._others = {}, 0
        for (event, source), (reason, count) in sources.items():
            if count:
                _connections_log.info(event, source=source, reason=reason, more=count)
        if others:
            _connections_log.warning("refused_from_many_addresses", more=others)


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
            api=context.api,
            method=context.method,
            account=caller and caller.account,
            principal=caller and caller.arn,
            client=context.address,
            request_id=context.id,
            **outcome.details,
        )
