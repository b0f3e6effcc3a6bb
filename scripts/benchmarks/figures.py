"""What a measurement gives: a figure, the budget that it is held against, and what it cost."""

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
    """Of one request, in CPU seconds, and what it looked like from the client, in seconds.

    ``elsewhere`` is the share of the machine that went to processes which are no part of this.
    """

    server: float
    client: float
    p50: float
    p99: float
    elsewhere: float


@dataclass(frozen=True, slots=True)
class Figure:
    """``case`` is the measurement that it comes from."""

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
