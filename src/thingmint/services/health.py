"""A report on the health of the server, made of checks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 - in an alias and in annotations of data classes
from typing import Literal

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


HealthReport = Callable[[], Awaitable[Health]]
"""Returns the report on the health of this process and of what it shares with others. Never raises."""
