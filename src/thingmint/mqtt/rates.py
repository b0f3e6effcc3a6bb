"""The rates at which one connection may send."""

from __future__ import annotations

from dataclasses import dataclass

_BURST = 1.0  # seconds: a burst may have as much as the rate allows in this time


@dataclass(frozen=True, slots=True)
class Rates:
    """Limits per second; None is unlimited. ``subscribes`` counts UNSUBSCRIBE too. ``received`` counts bytes.

    100 messages and 512 KiB are AWS IoT's quotas for a connection. AWS limits SUBSCRIBE by account (500 a second). Here
    the limit is by connection: as many a second as a connection may have subscriptions.
    """

    publishes: float | None = 100
    subscribes: float | None = 50
    received: float | None = 512 * 1024


NO_RATES = Rates(None, None, None)


class RateLimit:
    """The rates and counters that all connections share.

    ``exceeded`` counts how often a connection was not read for a while, because it exceeded a rate. ``unaccepted`` is
    the number of bytes in memory from connections whose CONNECT is not accepted yet.
    """

    def __init__(self, rates: Rates) -> None:
        self.exceeded = 0
        self.unaccepted = 0
        self.replace(rates)

    def replace(self, rates: Rates) -> None:
        """Sets the rates of new connections. Open connections keep theirs."""
        self.rates = rates
        self.is_on = rates != NO_RATES


class Meter:
    """Measures what one connection sends. Times are seconds of a monotonic clock.

    Each attribute is the time at which the data so far would end, if it came exactly at the rate.
    """

    __slots__ = ("_publishes", "_rates", "_received", "_subscribes")

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._publishes = self._subscribes = self._received = 0.0

    def publish(self, now: float) -> float:
        """Counts a PUBLISH; returns ``excess``."""
        if self._rates.publishes is not None:
            self._publishes = max(self._publishes, now) + 1 / self._rates.publishes
        return self.excess(now)

    def subscribe(self, now: float) -> float:
        if self._rates.subscribes is not None:
            self._subscribes = max(self._subscribes, now) + 1 / self._rates.subscribes
        return self.excess(now)

    def receive(self, size: int, now: float) -> float:
        if self._rates.received is not None:
            self._received = max(self._received, now) + size / self._rates.received
        return self.excess(now)

    def excess(self, now: float) -> float:
        """Returns for how many seconds the connection must not be read."""
        return max(self._publishes, self._subscribes, self._received) - now - _BURST
