"""Devices that record their messages, and a clock that only the test moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from tests.unit.vectors import FakeMonotonic
from thingmint.domain.arns import Scope
from thingmint.domain.messages import Message, MessageProperties, QoS
from thingmint.mqtt.broker.embedded import EmbeddedBroker
from thingmint.mqtt.broker.interface import Broker, Opening, Subscription
from thingmint.mqtt.broker.limits import EmbeddedLimits
from thingmint.mqtt.slices import Slices

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from thingmint.mqtt.broker.interface import Link
    from thingmint.mqtt.protocol.reasons import Reason

Answer = TypeVar("Answer")

HERE = Scope("111122223333", "eu-central-1")
ELSEWHERE = Scope("444455556666", "eu-central-1")


class Got(NamedTuple):
    message: Message
    packet_id: int | None
    again: bool

    @property
    def text(self) -> str:
        return self.message.payload.decode()


def answer_of(coroutine: Coroutine[Any, Any, Answer]) -> Answer:
    """Returns the result of a coroutine that awaits nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        answer: Answer = stop.value
        return answer
    raise AssertionError("it awaits")


class Turns:
    """Turns of the event loop that the test starts."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []

    def __call__(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def one(self) -> bool:
        """Runs one turn. False if there was nothing to do."""
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
        return bool(callbacks)

    def all(self) -> int:
        """Runs turns until nothing is left to do. Returns their number."""
        return len(list(iter(self.one, False)))


TURNS = Turns()
"""Of the brokers of ``broker_with``: each call of a device is done when it returns."""


class Device:
    """A device, connected and resumed. ``on_deliver`` is called with each message, inside ``deliver``."""

    def __init__(
        self,
        broker: Broker,
        client_id: str = "device",
        scope: Scope = HERE,
        *,
        clean_start: bool = False,
        expiry: int = 600,
        receive_maximum: int = 100,
        resume: bool = True,
        on_deliver: Callable[[Device, Got], object] | None = None,
    ) -> None:
        self.got: list[Got] = []
        self.losses: list[Reason] = []
        self.on_deliver = on_deliver
        opening = Opening(scope, client_id, 5, clean_start, expiry, receive_maximum)
        self.link: Link = answer_of(broker.open(opening, self))
        if resume:
            self.link.resume()
        TURNS.all()

    def deliver(self, message: Message, packet_id: int | None, *, again: bool) -> None:
        got = Got(message, packet_id, again)
        self.got.append(got)
        if self.on_deliver is not None:
            self.on_deliver(self, got)

    def lost(self, reason: Reason) -> None:
        self.losses.append(reason)

    @property
    def texts(self) -> list[str]:
        return [got.text for got in self.got]

    def take(self) -> list[str]:
        """Returns the texts since the last call."""
        texts = self.texts
        self.got.clear()
        return texts

    def acknowledge(self) -> None:
        """Acknowledges all messages."""
        for got in list(self.got):
            if got.packet_id is not None:
                self.link.acknowledge(got.packet_id)
        TURNS.all()

    def publish(self, topic: str, text: str = "m", qos: QoS = 1, *, retain: bool = False, **properties: Any) -> Reason:
        answers: list[Reason] = []
        self.link.publish(message(topic, text, qos, retain=retain, **properties), answers.append)
        TURNS.all()
        (answer,) = answers
        return answer

    def subscribe(self, filter: str, qos: QoS = 1, **options: Any) -> Reason:
        (reason,) = self.subscribe_all([Subscription(filter, qos, **options)])
        return reason

    def subscribe_all(self, subscriptions: Sequence[Subscription]) -> Sequence[Reason]:
        answers: list[Sequence[Reason]] = []
        self.link.subscribe(subscriptions, answers.append)
        TURNS.all()
        (answer,) = answers
        return answer

    def unsubscribe(self, *filters: str) -> Sequence[Reason]:
        answers: list[Sequence[Reason]] = []
        self.link.unsubscribe(filters, answers.append)
        TURNS.all()
        (answer,) = answers
        return answer


def message(topic: str, text: str = "m", qos: QoS = 1, *, retain: bool = False, **properties: Any) -> Message:
    if properties:
        return Message(topic, text.encode(), qos, retain, MessageProperties(**properties))
    return Message(topic, text.encode(), qos, retain)


def broker_with(clock: FakeMonotonic | None = None, **limits: Any) -> EmbeddedBroker:
    return EmbeddedBroker(EmbeddedLimits(**limits), clock or FakeMonotonic(), slices=Slices(TURNS, lambda: 0.0))


def expire(broker: EmbeddedBroker, now: float) -> None:
    for _ in broker.expire(now):
        pass


def naive_match(filter: str, topic: str) -> bool:
    """True if the filter matches, by AWS's rule, level by level."""
    filter_levels, topic_levels = filter.split("/"), topic.split("/")
    if topic.startswith("$") and filter_levels[0] in ("+", "#"):
        return False
    for index, level in enumerate(filter_levels):
        if level == "#":
            return len(topic_levels) > index
        if index >= len(topic_levels) or level not in ("+", topic_levels[index]):
            return False
    return len(filter_levels) == len(topic_levels)
