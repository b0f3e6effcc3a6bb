"""What is told of every request, whichever wire it came over: a line of log, a count, and the audit trail's record."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from thingmint.access.audit import AuditTrail
    from thingmint.access.exchange import Exchange
    from thingmint.metrics import Metrics

__all__ = ["Journal"]

_log = structlog.get_logger("thingmint.http")


class Journal:
    def __init__(self, metrics: Metrics, trail: AuditTrail) -> None:
        self._metrics = metrics
        self._trail = trail
        self._log = _log.bind()  # the module's own one is a proxy

    def record(self, exchange: Exchange) -> None:
        """Once the request is answered. Path and query stay out: a stranger wrote them, and they may carry secrets."""
        seconds = time.perf_counter() - exchange.started
        self._metrics.observe(exchange.face, exchange.operation, exchange.status, seconds)
        caller = exchange.caller
        self._log.info(
            "request",
            operation=exchange.operation,
            status=exchange.status,
            code=exchange.error_code,
            ms=round(seconds * 1000, 2),
            face=exchange.face,
            method=exchange.method,
            account=caller and caller.account,
            principal=caller and caller.arn,
            client=exchange.source,
            request_id=exchange.id,
        )
        self._trail.add(exchange)
