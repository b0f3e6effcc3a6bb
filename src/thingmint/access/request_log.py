"""The log line, the metrics and the audit record of every request, whatever API it is for.

Refused connections are logged too: the first of each source immediately, then their number every 10 seconds.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from thingmint.domain.names import source_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from thingmint.access.audit import AuditLog
    from thingmint.access.context import Outcome, RequestContext
    from thingmint.metrics import Metrics


_WINDOW = 10.0  # seconds
_MAX_SOURCES = 50  # with their own log lines in one window

_log = structlog.get_logger("thingmint.http")
_connections_log = structlog.get_logger("thingmint.gateway")


class RefusalLog:
    """Logs at most two lines for each of 50 sources in a window, and one line for all other sources.

    ``later`` calls a function after a number of seconds; the default is the running event loop's call_later().
    """

    def __init__(self, later: Callable[[float, Callable[[], None]], object] | None = None) -> None:
        self._later = later
        self._sources: dict[tuple[str, str], tuple[str, int]] = {}  # the last reason, and how many since the last line
        self._others = 0

    def note(self, event: str, source: str, reason: str) -> None:
        """``event`` is one of a few constant names; ``source`` is the address that the event is counted under."""
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
    """Counts the requests of an address that fails too often instead of logging each, which would fill the disk."""

    def __init__(self, metrics: Metrics, trail: AuditLog, refusals: RefusalLog | None = None) -> None:
        self._metrics = metrics
        self._trail = trail
        self._refusals = refusals or RefusalLog()
        self._log = _log.bind()  # faster than the module's logger, which is a proxy

    def record(self, context: RequestContext, outcome: Outcome) -> None:
        """Records an answered request. Path and query are left out: they may contain secrets.

        Every successful request except probes gets a log line: the caller's rate limit bounds their number. Updates
        of a page that has a record already are only counted, unless they are refused.
        """
        seconds = time.perf_counter() - context.started
        self._metrics.observe(context.api, context.operation, outcome.status, seconds)
        if outcome.is_update and outcome.code is None:
            return
        is_first = self._trail.add(context, outcome)
        if outcome.throttled:
            self._refusals.note("unauthenticated_requests_throttled", source_of(context.address or ""), context.api)
            return
        if not is_first:
            return  # counted, and reported with others
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
