"""Work that grows with subscribers, retained messages or sessions is done in slices, without loss or repetition."""

from __future__ import annotations

from collections import Counter as Counts
from typing import TYPE_CHECKING

import pytest

from tests.unit.vectors import FakeMonotonic
from thingmint.mqtt.broker.interface import Subscription
from thingmint.mqtt.broker.limits import Bound
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.slices import STEPS

from .helpers import ELSEWHERE, HERE, TURNS, Device, Got, broker_with, expire, message

if TYPE_CHECKING:
    from thingmint.domain.messages import QoS
    from thingmint.mqtt.broker.embedded import EmbeddedBroker

MANY = 5 * STEPS


class Counter:
    """Counts the messages of all devices in each turn."""

    def __init__(self, broker: EmbeddedBroker, count: int, filter: str = "a", qos: QoS = 1) -> None:
        self.count = 0
        self.devices = [Device(broker, f"d{number}", on_deliver=self._count) for number in range(count)]
        for device in self.devices:
            device.subscribe(filter, qos)

    def _count(self, device: Device, got: Got) -> None:
        self.count += 1

    def each_turn(self) -> list[int]:
        counts = [self.count]
        while TURNS.one():
            counts.append(self.count)
        return [after - before for before, after in zip([0, *counts], counts, strict=False)]


@pytest.mark.parametrize("qos", [0, 1])
def test_a_message_reaches_many_subscribers_in_slices(qos: QoS) -> None:
    broker = broker_with()
    counter = Counter(broker, 10_000, qos=qos)
    publisher = Device(broker, "publisher")
    answers: list[Reason] = []
    publisher.link.publish(message("a", "m", qos), answers.append)
    assert answers == []  # PUBACK is sent when all have the message
    congestion = publisher.link.congestion()
    assert congestion is not None
    congestion.close()
    turns = counter.each_turn()
    assert max(turns) <= STEPS
    assert answers == [Reason.SUCCESS]
    assert publisher.link.congestion() is None
    assert all(device.texts == ["m"] for device in counter.devices)


def test_other_accounts_get_turns_during_a_large_fan_out() -> None:
    broker = broker_with()
    counter = Counter(broker, MANY)
    publisher, other = Device(broker, "publisher"), Device(broker, "other", ELSEWHERE)
    other.subscribe("b")
    publisher.link.publish(message("a"), lambda _: None)
    other.link.publish(message("b", "between"), lambda _: None)
    TURNS.one()
    assert other.texts == ["between"]
    assert counter.count < MANY
    TURNS.all()


@pytest.mark.parametrize("filters", [("a",), ("a", "+", "#")])
def test_messages_keep_their_order(filters: tuple[str, ...]) -> None:
    broker = broker_with()
    counter = Counter(broker, MANY)
    for device in counter.devices:
        for filter in filters:
            device.subscribe(filter)
    one, two = Device(broker, "one"), Device(broker, "two")
    for number in range(3):
        one.link.publish(message("a", f"one {number}"), lambda _: None)
        two.link.publish(message("a", f"two {number}"), lambda _: None)
    TURNS.all()
    expected = [f"{who} {number}" for number in range(3) for who in ("one", "two")]
    assert all(device.texts == expected for device in counter.devices)


def test_subscribers_changed_during_a_fan_out_get_one_copy() -> None:
    broker = broker_with()
    counter = Counter(broker, MANY)
    for device in counter.devices[::2]:
        device.subscribe("+")
    publisher, late = Device(broker, "publisher"), Device(broker, "late")
    publisher.link.publish(message("a", "m", retain=True), lambda _: None)
    TURNS.one()
    done = [device for device in counter.devices if device.got]
    left = [device for device in counter.devices if not device.got]
    assert done
    assert left
    for device in (done[0], left[0]):
        device.link.unsubscribe(["a"], lambda _: None)
    for device, filter in ((late, "+"), (done[1], "#"), (left[1], "#")):
        device.link.subscribe([_subscription(filter)], lambda _: None)
    TURNS.all()
    assert late.texts == ["m"]
    assert late.got[0].message.retain
    for device in counter.devices:
        live = [got for got in device.got if not got.message.retain]
        assert len(live) <= 1
        assert len(live) == 1 or device in (done[0], left[0])


def test_a_new_subscription_gets_the_current_message_first() -> None:
    broker = broker_with()
    counter = Counter(broker, MANY)
    publisher = Device(broker, "publisher")
    publisher.link.publish(message("a", "m", retain=True), lambda _: None)
    last = counter.devices[-1]
    assert last.got == []
    last.link.subscribe([_subscription("+")], lambda _: None)
    assert [(got.text, got.message.retain) for got in last.got] == [("m", False)]
    TURNS.all()
    assert [(got.text, got.message.retain) for got in last.got] == [("m", False), ("m", True)]


def test_messages_that_wait_for_a_fan_out_are_retained_in_order() -> None:
    broker = broker_with()
    counter = Counter(broker, MANY)
    one, two = Device(broker, "one"), Device(broker, "two")
    one.link.publish(message("a", "1", retain=True), lambda _: None)
    two.link.publish(message("a", "2", retain=True), lambda _: None)
    late = Device(broker, "late", resume=False)
    late.link.resume()
    late.link.subscribe([_subscription("a")], lambda _: None)
    TURNS.all()
    assert late.texts[-1] == "2"
    assert late.texts.count("2") == 1
    assert all(device.texts == ["1", "2"] for device in counter.devices)


def test_retained_messages_of_a_wildcard_are_sent_in_slices() -> None:
    broker = broker_with(queued_per_session=Bound(10_000, 10**9))
    device = Device(broker)
    for number in range(MANY):
        device.publish(f"r/{number}", str(number), 0, retain=True)
    filler = Device(broker, "filler")
    counter = Counter(broker, 1, "other")
    subscriber = counter.devices[0]
    order: list[object] = []
    subscriber.link.subscribe([_subscription("#"), _subscription("r/+")], order.append)
    assert order == [[Reason.GRANTED_QOS_1] * 2]
    assert len(subscriber.got) < STEPS
    for topic in ("r/0", f"r/{MANY - 1}", "r/new"):
        filler.link.publish(message(topic, "changed", 0, retain=True), lambda _: None)
    filler.link.publish(message(f"r/{MANY - 2}", "", 0, retain=True), lambda _: None)
    assert max(counter.each_turn()) <= STEPS
    live = [got.message.topic for got in subscriber.got if not got.message.retain]
    assert sorted(live) == sorted(["r/0", f"r/{MANY - 1}", "r/new", f"r/{MANY - 2}"])
    retained = Counts(got.message.topic for got in subscriber.got if got.message.retain)
    expected = {f"r/{number}": 2 for number in range(1, MANY - 2)}  # once for each filter
    assert retained == expected | {"r/0": 1}  # the first was sent before it was changed
    assert "changed" not in [got.text for got in subscriber.got if got.message.retain]


@pytest.mark.parametrize("how", ["unsubscribe", "close"])
def test_sending_retained_messages_stops_with_the_subscription(how: str) -> None:
    broker = broker_with()
    device = Device(broker)
    for number in range(MANY):
        device.publish(f"r/{number}", str(number), 0, retain=True)
    subscriber = Device(broker, "subscriber")
    subscriber.link.subscribe([_subscription("#")], lambda _: None)
    assert len(subscriber.got) < MANY
    if how == "close":
        subscriber.link.close()
    else:
        subscriber.link.unsubscribe(["#"], lambda _: None)
    seen = len(subscriber.got)
    TURNS.all()
    assert len(subscriber.got) == seen


def test_a_full_queue_is_delivered_in_slices() -> None:
    broker = broker_with()
    counter = Counter(broker, 1)
    counter.devices[0].link.close()
    for number in range(MANY):
        broker.publish(HERE, message("a", str(number)))
        TURNS.all()
    again = Device(broker, "d0", receive_maximum=65_535, resume=False, on_deliver=counter._count)
    again.link.resume()
    assert max(counter.each_turn()) <= STEPS
    assert again.texts == [str(number) for number in range(MANY)]


def test_messages_of_an_ended_group_member_are_redistributed_in_slices() -> None:
    broker = broker_with()
    leaving = Device(broker, "leaving", receive_maximum=1)
    leaving.subscribe("$share/g/a")
    for number in range(MANY):
        leaving.publish("a", str(number))
    counter = Counter(broker, 1, "$share/g/a")
    heir = Device(broker, "d0", receive_maximum=65_535, on_deliver=counter._count)
    leaving.link.close(discard=True)
    assert max(counter.each_turn()) <= STEPS
    assert heir.texts == [str(number) for number in range(MANY)]


def test_disconnected_group_members_do_not_slow_delivery() -> None:
    broker = broker_with()
    counter = Counter(broker, MANY, "$share/g/a")
    for device in counter.devices[:-1]:
        device.link.close()
    for number in range(3):
        broker.publish(HERE, message("a", str(number)))
        assert counter.devices[-1].texts[-1] == str(number)  # without slices


def test_a_full_group_is_refused_after_limited_attempts() -> None:
    broker = broker_with(queued_per_session=Bound(0, 0))
    counter = Counter(broker, MANY, "$share/g/a")
    publisher = Device(broker, "publisher")
    assert publisher.publish("a") is Reason.QUOTA_EXCEEDED
    assert broker.usage.refused == 64
    assert counter.count == 0


def test_many_sessions_expire_in_slices() -> None:
    clock = FakeMonotonic()
    broker = broker_with(clock)
    for number in range(MANY):
        Device(broker, f"d{number}", expiry=10).link.close()
    clock.now += 10
    steps = broker.expire(clock.now)
    next(steps)
    assert broker.usage.sessions == MANY - 1
    assert not Device(broker, "d9").link.session_present  # although it is not removed yet
    expire(broker, clock.now)
    assert broker.usage.sessions == 1


def test_messages_of_the_gateway_are_limited() -> None:
    broker = broker_with(unsent_per_scope=2)
    counter = Counter(broker, MANY)
    answers: list[Reason] = []
    for text in "1234":
        broker.publish(HERE, message("a", text), answers.append)
    assert answers == [Reason.QUOTA_EXCEEDED] * 2
    TURNS.all()
    assert answers == [Reason.QUOTA_EXCEEDED] * 2 + [Reason.SUCCESS] * 2
    assert counter.devices[0].texts == ["1", "2"]
    broker.publish(HERE, message("a", "5"))
    TURNS.all()
    assert counter.devices[-1].texts == ["1", "2", "5"]


def _subscription(filter: str) -> Subscription:

    return Subscription(filter, 1)
