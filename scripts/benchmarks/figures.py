"""The results of measurements: figures, their budgets and costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Budget", "Cost", "Figure"]

Unit = Literal["/s", "us", "ms", "KB", "MB", "s", "ratio", ""]


@dataclass(frozen=True, slots=True)
class Budget:
    limit: float
    at_most: bool

    def holds(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds of one request at server and client, and its latency at the client in seconds (p50, p99).

    ``elsewhere`` is the share of the machine that other processes used.
    """

    server: float
    client: float
    p50: float
    p99: float
    elsewhere: float


@dataclass(frozen=True, slots=True)
class Figure:
    """``case`` is the name of the measurement."""

    case: str
    what: str
    value: float
    unit: Unit
    budget: Budget | None = None
    cost: Cost | None = None

    @property
    def verdict(self) -> str:
        if self.budget is None:
            return ""
        return "met" if self.budget.holds(self.value) else "MISSED"

    @property
    def missed(self) -> bool:
        return self.verdict == "MISSED"
