"""Limits for what a device sends, with a broker that accepts everything."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tests.unit.mqtt.test_sessions import PEER, accepted
from thingmint.mqtt.protocol.events import SubscribeRequested, UnsubscribeRequested
from thingmint.mqtt.protocol.packets import SubscriptionRequest
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thingmint.mqtt.broker.interface import Subscription


@dataclass
class Link:
    taken: list[str] = field(default_factory=list)

    def subscribe(self, subscriptions: Sequence[Subscription], done: Callable[[Sequence[Reason]], None]) -> None:
        self.taken += [subscription.filter for subscription in subscriptions]
        done([Reason.GRANTED_QOS_1] * len(subscriptions))

    def unsubscribe(self, filters: Sequence[str], done: Callable[[Sequence[Reason]], None]) -> None:
        done([Reason.SUCCESS] * len(filters))

    def congestion(self) -> None:
        return None


@dataclass
class Mqtt:
    version: int = 5
    answers: list[Reason] = field(default_factory=list)

    def suback(self, packet_id: int, reasons: Sequence[Reason]) -> None:
        self.answers += reasons

    def unsuback(self, packet_id: int, reasons: Sequence[Reason]) -> None:
        pass


async def test_a_connection_has_at_most_fifty_subscriptions() -> None:
    link, mqtt = Link(), Mqtt()
    told: list[tuple[str, list[str]]] = []
    host: Any = SimpleNamespace(flush=lambda: None, subscriptions=lambda kind, filters: told.append((kind, filters)))
    traffic = Traffic(host, PEER, "c", accepted(), mqtt, SimpleNamespace(), None)  # type: ignore[arg-type]
    traffic.link = link  # type: ignore[assignment]

    def subscribe(*names: str) -> None:
        requests = tuple(SubscriptionRequest(name, 1) for name in names)
        traffic.subscribe(SubscribeRequested(1, requests, (None,) * len(names)))

    for first in range(0, 56, 8):
        subscribe(*(f"t/{number}" for number in range(first, first + 8)))
    assert mqtt.answers == [Reason.GRANTED_QOS_1] * 50 + [Reason.QUOTA_EXCEEDED] * 6
    assert link.taken == [f"t/{number}" for number in range(50)]
    assert told[6:] == [("subscribed", ["t/48", "t/49"])]  # not those that were refused
    subscribe("t/0")  # subscribed already
    assert mqtt.answers[-1] is Reason.GRANTED_QOS_1
    traffic.unsubscribe(UnsubscribeRequested(1, ("t/0",), (None,)))
    assert told[-1] == ("unsubscribed", ["t/0"])
    subscribe("t/50", "t/51")
    assert mqtt.answers[-2:] == [Reason.GRANTED_QOS_1, Reason.QUOTA_EXCEEDED]
