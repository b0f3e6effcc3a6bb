"""The metrics of requests and connections, and /metrics in Prometheus' text format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Samples = Iterable[tuple[Sequence[str], float]]
    """The labels' values, and the number."""


class ConnectionCounts(Protocol):
    @property
    def total(self) -> int: ...
    @property
    def half_open(self) -> int: ...


class Metrics:
    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "thingmint_requests",
            "Requests that were answered.",
            ["api", "operation", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "thingmint_request_seconds",
            "Time from a request's head to its answer.",
            ["api"],
            buckets=(0.0005, 0.001, 0.003, 0.005, 0.015, 0.05, 0.15, 0.5, 1, 5, 30),
            registry=self._registry,
        )
        self._connections = Gauge("thingmint_connections", "Open connections.", ["listener"], registry=self._registry)
        self._handshakes = Gauge(
            "thingmint_handshakes",
            "Connections whose TLS handshake is in progress.",
            ["listener"],
            registry=self._registry,
        )
        self._refused = Counter(
            "thingmint_connections_refused",
            "Connections that were closed at once because of a limit.",
            ["listener", "reason"],
            registry=self._registry,
        )
        # Looking children up by labels costs more than counting. The contracts bound the number of operations.
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def observe(self, api: str, operation: str, status: int, seconds: float | None) -> None:
        """``seconds`` is None for an event that has no answer, such as the end of a connection."""
        key = (api, operation, status)
        children = self._children.get(key)
        if children is None:
            children = (self._requests.labels(api, operation, str(status)), self._seconds.labels(api))
            self._children[key] = children
        children[0].inc()
        if seconds is not None:
            children[1].observe(seconds)

    def connection_refused(self, listener: str, reason: str) -> None:
        self._refused.labels(listener, reason).inc()

    def watch_connections(self, listener: str, limits: ConnectionCounts) -> None:
        self._connections.labels(listener).set_function(lambda: limits.total)
        self._handshakes.labels(listener).set_function(lambda: limits.half_open)

    def gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        Gauge(f"thingmint_{name}", description, registry=self._registry).set_function(read)

    def gauges(self, name: str, description: str, labels: Sequence[str], read: Callable[[], Samples]) -> None:
        """Adds a gauge with labels."""
        self._registry.register(_Labelled(GaugeMetricFamily, f"thingmint_{name}", description, labels, read))

    def count(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Adds a counter whose value is kept elsewhere; its name will end in ``_total``."""
        self._registry.register(_Count(f"thingmint_{name}", description, read))

    def counts(self, name: str, description: str, labels: Sequence[str], read: Callable[[], Samples]) -> None:
        """Adds a counter with labels whose values are kept elsewhere; its name will end in ``_total``."""
        self._registry.register(_Labelled(CounterMetricFamily, f"thingmint_{name}", description, labels, read))

    def render(self) -> bytes:
        return generate_latest(self._registry)


class _Count(Collector):
    def __init__(self, name: str, description: str, read: Callable[[], float]) -> None:
        self._described = (name, description)
        self._read = read

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(*self._described, value=self._read())


class _Labelled(Collector):
    def __init__(
        self,
        family: type[CounterMetricFamily | GaugeMetricFamily],
        name: str,
        description: str,
        labels: Sequence[str],
        read: Callable[[], Samples],
    ) -> None:
        self._family = family
        self._described = (name, description)
        self._labels = labels
        self._read = read

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        family = self._family(*self._described, labels=self._labels)
        for values, number in self._read():
            family.add_metric(values, number)
        yield family
