"""A report on the health of the server, made of checks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 - in an alias and in annotations of data classes
from typing import Any, Literal

State = Literal["ok", "unknown", "warning", "error"]
"""``unknown``: nothing tells whether it is as it should be."""

_BY_SEVERITY: Sequence[State] = ("ok", "unknown", "warning", "error")


@dataclass(frozen=True, slots=True)
class Check:
    """``name`` is store, broker, changes, audit, listeners, authorities, disk, jobs or backup.

    ``message`` is a sentence for operators. ``facts`` are what was measured: times, numbers and names.
    """

    name: str
    state: State
    message: str
    facts: Mapping[str, datetime | int | str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Health:
    """``state`` is that of the worst check. Checks that are unknown do not count."""

    checked_at: datetime
    version: str
    checks: Sequence[Check]

    @property
    def state(self) -> State:
        known = [check.state for check in self.checks if check.state != "unknown"]
        return max(known, key=_BY_SEVERITY.index, default="unknown")


HealthReport = Callable[[], Coroutine[Any, Any, Health]]
"""Returns the report on the health of this process and of what it shares with others. Never raises."""


class RecentHealth:
    """Returns a report that is at most ``seconds`` old, so that many callers cost one report."""

    def __init__(self, report: HealthReport, seconds: float) -> None:
        self._report = report
        self._seconds = seconds
        self._made: asyncio.Task[Health] | None = None
        self._until = 0.0

    async def __call__(self) -> Health:
        if self._made is None or self._made.cancelled() or (self._made.done() and time.monotonic() > self._until):
            self._made = asyncio.create_task(self._report())
            self._until = time.monotonic() + self._seconds
        return await asyncio.shield(self._made)  # the others wait for it, too
