"""How much one connection may send in a second."""

from __future__ import annotations

from dataclasses import dataclass

_BURST = 1.0  # seconds' worth of a rate that may come at once


@dataclass(frozen=True, slots=True)
class Rates:
    """Each by the second; None is as much as there is. ``subscribes`` counts UNSUBSCRIBE too, ``received`` bytes.

    100 messages and 512 KiB are AWS IoT's quotas of a connection. SUBSCRIBE it counts by account (500 a second); here
    a connection may send as many in a second as it may hold subscriptions.
    """

    publishes: float | None = 100
    subscribes: float | None = 50
    received: float | None = 512 * 1024


NO_RATES = Rates(None, None, None)


class RateLimit:
    """Of all connections. ``exceeded`` counts the times that one was not read for a while.

    ``unaccepted`` are the bytes that came from those whose CONNECT was not accepted yet.
    """

    def __init__(self, rates: Rates) -> None:
        self.exceeded = 0
        self.unaccepted = 0
        self.replace(rates)

    def replace(self, rates: Rates) -> None:
        """For connections that come from now on."""
        self.rates = rates
        self.is_on = rates != NO_RATES


class Meter:
    """What one connection has sent. Moments are seconds of any clock that does not jump.

    Each is the time until which what came so far would have kept the connection busy at its rate.
    """

    __slots__ = ("_publishes", "_rates", "_received", "_subscribes")

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._publishes = self._subscribes = self._received = 0.0

    def publish(self, now: float) -> float:
        """The excess, as of all of these."""
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
        """For how many seconds nothing more is to be taken."""
        return max(self._publishes, self._subscribes, self._received) - now - _BURST
