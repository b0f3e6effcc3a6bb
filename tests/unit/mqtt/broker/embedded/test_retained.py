"""Retained messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.vectors import FakeMonotonic
from thingmint.mqtt.broker.interface import Subscription
from thingmint.mqtt.protocol.reasons import Reason

from .helpers import HERE, Device, Got, broker_with, expire, message

if TYPE_CHECKING:
    from thingmint.domain.messages import QoS


@pytest.mark.parametrize(("published", "granted", "delivered"), [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 1)])
@pytest.mark.parametrize("as_published", [False, True])
def test_a_new_subscription_gets_retained_messages(
    published: QoS, granted: QoS, delivered: QoS, as_published: bool
) -> None:
    device = Device(broker_with())
    for topic in ("a/b", "a/c", "a", "b/b", "$a/b"):
        device.publish(topic, topic, published, retain=True)
    device.subscribe("a/+", granted, retain_as_published=as_published)
    assert sorted(device.texts) == ["a/b", "a/c"]
    assert {(got.message.qos, got.message.retain) for got in device.got} == {(delivered, True)}


def test_a_retained_message_is_replaced_and_removed_by_an_empty_one() -> None:
    broker = broker_with()
    device = Device(broker)
    device.publish("a", "1", retain=True)
    device.publish("a", "2", retain=True)
    device.publish("a", "3")
    device.subscribe("a", 0)
    assert device.take() == ["2"]
    device.publish("a", "", retain=True)
    assert device.take() == [""]  # the empty message is delivered too
    device.subscribe("a", 0)
    assert device.got == []
    assert broker.usage.retained == type(broker.usage.retained)(0, 0)


def test_messages_of_the_gateway_are_retained() -> None:
    broker = broker_with()
    broker.publish(HERE, message("a", "1", retain=True))
    device = Device(broker)
    device.subscribe("a")
    assert device.texts == ["1"]


@pytest.mark.parametrize(("handling", "first", "again"), [(0, ["m"], ["m"]), (1, ["m"], []), (2, [], [])])
def test_retain_handling_selects_retained_messages(handling: int, first: list[str], again: list[str]) -> None:
    device = Device(broker_with())
    device.publish("a", retain=True)
    for expected in (first, again):
        device.subscribe("a", retain_handling=handling)
        assert device.take() == expected
    device.unsubscribe("a")
    device.subscribe("a", retain_handling=handling)
    assert device.take() == first


def test_done_is_called_before_retained_messages() -> None:
    device = Device(broker_with())
    device.publish("a", retain=True)
    order: list[object] = []
    device.on_deliver = lambda _, got: order.append(got.text)
    device.link.subscribe([Subscription("a", 1), Subscription("#", 0)], order.append)
    assert order == [[Reason.GRANTED_QOS_1, Reason.SUCCESS], "m", "m"]


def test_a_link_closed_in_done_gets_no_retained_messages() -> None:
    broker = broker_with()
    device = Device(broker)
    device.publish("a", retain=True)
    device.link.subscribe([Subscription("a", 1)], lambda _: device.link.close())
    assert device.got == []
    assert broker.usage.queued.count == 0


def test_shared_subscriptions_get_no_retained_messages() -> None:
    device = Device(broker_with())
    for topic in ("a", "$share/g/a"):
        device.publish(topic, retain=True)
    device.subscribe("$share/g/a")
    assert device.got == []


def test_no_local_applies_to_retained_messages() -> None:
    broker = broker_with()
    device, other = Device(broker), Device(broker, "other")
    device.publish("own", "own", retain=True)
    other.publish("theirs", "theirs", retain=True)
    device.subscribe("+", no_local=True)
    assert device.texts == ["theirs"]


@pytest.mark.parametrize(("seconds", "remaining"), [(0, 10), (3.5, 7), (9.9, 1), (10, None), (11, None)])
@pytest.mark.parametrize("swept", [False, True])
def test_retained_messages_expire(seconds: float, remaining: int | None, swept: bool) -> None:
    clock = FakeMonotonic()
    broker = broker_with(clock)
    device = Device(broker)
    device.publish("a", retain=True, message_expiry=10)
    device.publish("b", "stays", retain=True)
    clock.now += seconds
    if swept:
        expire(broker, clock.now)
        assert broker.usage.retained.count == (2 if remaining else 1)
    device.subscribe("a")
    assert [got.message.properties.message_expiry for got in device.got] == ([remaining] if remaining else [])
    device.subscribe("b")
    assert device.texts[-1] == "stays"


def test_a_replaced_retained_message_does_not_expire_by_the_old_deadline() -> None:
    clock = FakeMonotonic()
    broker = broker_with(clock)
    device = Device(broker)
    device.publish("a", "1", retain=True, message_expiry=10)
    device.publish("a", "2", retain=True)
    clock.now += 10
    expire(broker, clock.now)
    device.publish("b", "3", retain=True, message_expiry=10)
    device.publish("b", "", retain=True)
    clock.now += 10
    expire(broker, clock.now)
    device.subscribe("#")
    assert device.texts == ["2"]
    assert broker.usage.retained.count == 1


def test_a_retained_message_with_expiry_0_only_removes() -> None:
    broker = broker_with()
    device = Device(broker)
    device.publish("a", "1", retain=True)
    device.publish("a", "2", retain=True, message_expiry=0)
    device.subscribe("a")
    assert device.got == []
    assert broker.usage.retained.count == 0


@pytest.mark.parametrize("qos", [0, 1])
def test_retained_messages_wait_for_paused_devices(qos: QoS) -> None:
    broker = broker_with()
    device = Device(broker)
    for text in "123":
        device.publish(f"a/{text}", text, qos, retain=True)
    device.on_deliver = lambda device, _: device.link.pause()
    device.subscribe("a/+")
    assert device.texts == ["1"]
    assert broker.usage.queued.count == (3 if qos else 2)
    device.publish("a/3", "3'", 0)  # dropped: not retained, and QoS 0
    device.on_deliver = None
    device.link.resume()
    assert device.texts == ["1", "2", "3"]
    device.acknowledge()
    assert broker.usage.queued.count == 0


def test_retained_qos_0_messages_ignore_the_window() -> None:
    device = Device(broker_with(), receive_maximum=1)
    for topic in ("a/1", "a/2"):
        device.publish(topic, topic, 0, retain=True)
    device.subscribe("b")
    device.publish("b", "1")
    device.publish("b", "2")
    device.link.pause()
    device.subscribe("a/+")
    device.link.resume()
    assert device.texts == ["1", "a/1", "a/2"]


def test_waiting_retained_qos_0_messages_keep_their_order() -> None:
    device = Device(broker_with())
    device.publish("a", "old", 0, retain=True)
    device.publish("b", "b", 0, retain=True)
    device.link.pause()
    device.subscribe("b")
    device.subscribe("a")

    def publish_newer(device: Device, got: Got) -> None:
        device.on_deliver = None
        device.publish("a", "new", 0)

    device.on_deliver = publish_newer
    device.link.resume()
    assert device.texts == ["b", "old", "new"]


def test_waiting_retained_qos_0_messages_end_with_the_connection() -> None:
    broker = broker_with()
    device = Device(broker)
    device.publish("a", "1", 0, retain=True)
    device.link.pause()
    device.subscribe("a")
    assert broker.usage.queued.count == 1
    device.link.close()
    assert broker.usage.queued.count == 0
    assert Device(broker).got == []


def test_waiting_retained_qos_0_messages_expire() -> None:
    clock = FakeMonotonic()
    broker = broker_with(clock)
    device = Device(broker)
    device.publish("a", "expires", 0, retain=True, message_expiry=10)
    device.publish("b", "lasts", 0, retain=True, message_expiry=20)
    device.link.pause()
    device.subscribe("+")
    clock.now += 10
    device.link.resume()
    assert [(got.text, got.message.properties.message_expiry) for got in device.got] == [("lasts", 10)]
    assert broker.usage.queued.count == 0
