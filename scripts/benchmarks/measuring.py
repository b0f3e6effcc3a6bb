"""Measures the cost of a load at the server."""

from __future__ import annotations

import os
import statistics
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Cost
from benchmarks.machine import usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.load import Outcome

__all__ = ["POOL", "SCRATCH", "SERVE", "mean_cost", "measured", "quantile"]

# Not /tmp, which is in memory on many machines: durable changes must reach a disk.
SCRATCH = Path(__file__).resolve().parent.parent.parent / "build"
POOL = 32  # the server's default; servers started by tests have another one
SERVE = ("--log-format=json", f"--key-pool={POOL}")


def measured(pid: int, run: Callable[[], Outcome]) -> tuple[float, Cost]:
    """Answers per second, and the cost of one answer. ``pid`` is the server's process."""
    before = usage(pid)
    outcome = run()
    used = usage(pid) - before
    others = max(0.0, used.machine - used.process - outcome.cpu)
    cost = Cost(
        server=used.process / outcome.answered,
        client=outcome.cpu / outcome.answered,
        p50=quantile(outcome.latencies, 0.5),
        p99=quantile(outcome.latencies, 0.99),
        elsewhere=others / (outcome.seconds * (os.cpu_count() or 1)),
    )
    return outcome.rate, cost


def quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def mean_cost(costs: Sequence[Cost]) -> Cost:
    return Cost(*(statistics.mean(column) for column in zip(*map(astuple, costs), strict=True)))
