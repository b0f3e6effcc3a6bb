"""What /metrics tells, in Prometheus' text format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable


class Metrics:
    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "thingmint_requests", "Requests answered.", ["face", "operation", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "thingmint_request_seconds",
            "Time from a request's head to its answer, in seconds.",
            ["face"],
            buckets=(0.0005, 0.001, 0.003, 0.005, 0.015, 0.05, 0.15, 0.5, 1, 5, 30),
            registry=self._registry,
        )
        # Looking children up by labels costs more than counting; operations are as many as the contracts have.
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def observe(self, face: str, operation: str, status: int, seconds: float) -> None:
        key = (face, operation, status)
        children = self._children.get(key)
        if children is None:
            children = (self._requests.labels(face, operation, str(status)), self._seconds.labels(face))
            self._children[key] = children
        children[0].inc()
        children[1].observe(seconds)

    def gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        Gauge(f"thingmint_{name}", description, registry=self._registry).set_function(read)

    def render(self) -> bytes:
        return generate_latest(self._registry)
