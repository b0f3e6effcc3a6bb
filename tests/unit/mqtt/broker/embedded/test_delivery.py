"""Delivery of messages to connected devices."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.vectors import FakeMonotonic
from thingmint.domain.messages import MessageProperties, QoS
from thingmint.mqtt.broker.interface import Subscription
from thingmint.mqtt.protocol.reasons import Reason

from .helpers import HERE, TURNS, Device, broker_with, expire, message


@pytest.mark.parametrize(("published", "granted", "delivered"), [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 1)])
def test_delivery_uses_the_lower_qos(published: QoS, granted: QoS, delivered: QoS) -> None:
    broker = broker_with()
    device, other = Device(broker), Device(broker, "other")
    assert device.subscribe("a/b", granted) == (Reason.GRANTED_QOS_1 if granted else Reason.SUCCESS)
    assert other.publish("a/b", "x", published) is Reason.SUCCESS
    (got,) = device.got
    assert (got.message.topic, got.text, got.message.qos) == ("a/b", "x", delivered)
    assert (got.packet_id is not None) is bool(delivered)
    assert not got.again


@pytest.mark.parametrize("filter", ["a", "+", "#", "$share/g/+"])
def test_publish_reports_whether_there_are_subscribers(filter: str) -> None:
    device = Device(broker_with())
    assert device.publish("a") is Reason.NO_MATCHING_SUBSCRIBERS
    assert device.publish("a", qos=0) is Reason.SUCCESS  # QoS 0 has no answer
    device.subscribe(filter)
    assert device.publish("a") is Reason.SUCCESS
    assert device.publish("a/b/c", qos=1) is (Reason.SUCCESS if filter == "#" else Reason.NO_MATCHING_SUBSCRIBERS)
    device.got.clear()
    assert device.unsubscribe(filter, filter) == [Reason.SUCCESS, Reason.NO_SUBSCRIPTION_EXISTED]
    assert device.publish("a") is Reason.NO_MATCHING_SUBSCRIBERS
    assert device.got == []


def test_properties_are_delivered() -> None:
    device = Device(broker_with())
    device.subscribe("a", 0)
    properties: dict[str, Any] = {
        "payload_is_utf8": True,
        "message_expiry": 5,
        "content_type": "text/plain",
        "response_topic": "r",
        "correlation_data": b"c",
        "user_properties": (("k", "v"), ("k", "w")),
    }
    device.publish("a", **properties)
    assert device.got[0].message.properties == MessageProperties(**properties)


@pytest.mark.parametrize("filters", [("a/b", "a/+"), ("a/+", "#"), ("a/#", "a/b", "+/b")])
@pytest.mark.parametrize("best", [0, 1, 2])
def test_overlapping_subscriptions_give_one_copy_with_the_highest_qos(filters: tuple[str, ...], best: int) -> None:
    device = Device(broker_with())
    for index, filter in enumerate(filters):
        device.subscribe(filter, 1 if index == best else 0)
    device.publish("a/b")
    assert [got.message.qos for got in device.got] == [1 if best < len(filters) else 0]


def test_subscribing_again_replaces_the_subscription() -> None:
    device = Device(broker_with(subscriptions_per_session=1))
    device.subscribe("a", 1)
    assert device.subscribe("a", 0) is Reason.SUCCESS
    device.publish("a")
    assert [got.message.qos for got in device.got] == [0]


def test_no_local_excludes_the_publisher() -> None:
    broker = broker_with()
    device, other = Device(broker), Device(broker, "other")
    device.subscribe("a", no_local=True)
    assert device.publish("a", "own") is Reason.NO_MATCHING_SUBSCRIBERS
    assert other.publish("a", "theirs") is Reason.SUCCESS
    broker.publish(HERE, message("a", "the gateway's"))
    assert device.take() == ["theirs", "the gateway's"]
    device.subscribe("+", 0)  # overlaps, without no_local
    assert device.publish("a", "own") is Reason.SUCCESS
    assert [(got.text, got.message.qos) for got in device.got] == [("own", 0)]
    other.publish("a", "theirs")
    assert [(got.text, got.message.qos) for got in device.got[1:]] == [("theirs", 1)]


@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("as_published", [False, True])
@pytest.mark.parametrize("qos", [0, 1])
def test_retain_as_published_keeps_the_flag(retain: bool, as_published: bool, qos: QoS) -> None:
    device = Device(broker_with())
    device.subscribe("a", qos, retain_as_published=as_published)
    device.publish("a", retain=retain)
    assert [got.message.retain for got in device.got] == [retain and as_published]


@pytest.mark.parametrize(("first", "second"), [("a", "+"), ("+", "a")])
def test_retain_as_published_of_one_overlapping_subscription_is_enough(first: str, second: str) -> None:
    device = Device(broker_with())
    device.subscribe(first, 1)
    device.subscribe(second, 0, retain_as_published=True)
    device.publish("a", retain=True)
    assert [(got.message.retain, got.message.qos) for got in device.got] == [(True, 1)]


def test_the_receive_maximum_limits_unacknowledged_messages() -> None:
    device = Device(broker_with(), receive_maximum=2)
    device.subscribe("a")
    for text in "12345":
        device.publish("a", text)
    assert device.texts == ["1", "2"]
    device.publish("a", "unnumbered", 0)  # the window limits only QoS 1
    assert device.texts == ["1", "2", "unnumbered"]
    first, second = device.got[0].packet_id, device.got[1].packet_id
    assert first is not None
    assert second is not None
    assert first != second
    device.link.acknowledge(second)
    assert device.texts[3:] == ["3"]
    device.link.acknowledge(second)  # acknowledged already
    device.link.acknowledge(60_000)  # unknown
    assert device.texts[3:] == ["3"]
    assert device.got[3].packet_id not in (None, first)
    device.link.acknowledge(first)
    device.acknowledge()
    assert device.texts[3:] == ["3", "4", "5"]
    device.publish("a", "6")
    assert device.texts[-1] == "6"


def test_packet_ids_wrap_and_skip_ids_in_use() -> None:
    device = Device(broker_with(), receive_maximum=70_000)
    device.subscribe("a")
    device.publish("a", "kept")
    for _ in range(65_534 + 3):
        device.publish("a")
        device.link.acknowledge(device.got.pop().packet_id or 0)
    device.publish("a", "last")
    assert [got.packet_id for got in device.got] == [1, 5]
    device.got.clear()
    for _ in range(70_000 - 2):
        device.publish("a")
    assert len(device.got) <= 5_000


def test_paused_devices_get_qos_1_after_resume() -> None:
    device = Device(broker_with())
    device.subscribe("a")
    device.link.pause()
    for text, qos in (("1", 1), ("dropped", 0), ("2", 1)):
        assert device.publish("a", text, 1 if qos else 0) is Reason.SUCCESS
    assert device.texts == []
    device.link.resume()
    assert device.texts == ["1", "2"]
    device.publish("a", "3", 0)
    assert device.texts == ["1", "2", "3"]


def test_a_paused_device_gets_nothing_when_it_acknowledges() -> None:
    device = Device(broker_with(), receive_maximum=1)
    device.subscribe("a")
    device.publish("a", "1")
    device.publish("a", "2")
    device.link.pause()
    device.acknowledge()
    assert device.texts == ["1"]
    device.link.resume()
    assert device.texts == ["1", "2"]


def test_new_messages_wait_behind_older_ones() -> None:
    device = Device(broker_with())
    device.subscribe("a")
    device.link.pause()
    for text in "12":
        device.publish("a", text)
    device.on_deliver = lambda device, got: device.publish("a", got.text + "'") if len(got.text) < 2 else None
    device.link.resume()
    assert device.texts == ["1", "2", "1'", "2'"]


def test_a_subscriber_may_acknowledge_during_delivery() -> None:
    device = Device(broker_with(), receive_maximum=1)
    device.on_deliver = lambda device, got: device.link.acknowledge(got.packet_id or 0)
    device.subscribe("a")
    device.link.pause()
    for number in range(3_000):  # more than the maximum depth of recursion
        device.publish("a", str(number))
    device.link.resume()
    TURNS.all()
    assert device.texts == [str(number) for number in range(3_000)]


def test_a_subscriber_may_pause_during_delivery() -> None:
    device = Device(broker_with())
    device.on_deliver = lambda device, _: device.link.pause()
    device.subscribe("a")
    for text in "123":
        device.publish("a", text)
    assert device.texts == ["1"]
    device.link.resume()
    assert device.texts == ["1", "2"]


def test_a_subscriber_may_close_during_delivery() -> None:
    broker = broker_with()
    device = Device(broker)
    device.subscribe("a")
    device.link.pause()
    for text in "123":
        device.publish("a", text)
    device.on_deliver = lambda device, _: device.link.close()
    device.link.resume()
    assert device.texts == ["1"]
    again = Device(broker)
    assert [(got.text, got.again) for got in again.got] == [("1", True), ("2", False), ("3", False)]


def test_a_subscriber_closed_during_a_fan_out_uses_no_memory() -> None:
    broker = broker_with()
    second = Device(broker, "second")

    def close_second(device: Device, got: object) -> None:
        second.link.close(discard=True)

    first = Device(broker, "first", on_deliver=close_second)
    first.subscribe("a")
    second.subscribe("a")
    assert first.publish("a") is Reason.SUCCESS
    assert second.got == []
    assert broker.usage.queued.count == 1  # the message for the first device
    first.acknowledge()
    assert broker.usage.queued.count == 0


def test_each_filter_of_a_subscribe_is_answered() -> None:
    device = Device(broker_with())
    reasons = device.subscribe_all([Subscription("a", 0), Subscription("b", 1), Subscription("$share/g/c", 1)])
    assert reasons == [Reason.SUCCESS, Reason.GRANTED_QOS_1, Reason.GRANTED_QOS_1]


@pytest.mark.parametrize("waits", [0.0, 1.0, 9.1, 9.9])
def test_waiting_reduces_the_message_expiry(waits: float) -> None:
    clock = FakeMonotonic()
    device = Device(broker_with(clock))
    device.subscribe("a")
    device.link.pause()
    device.publish("a", message_expiry=10, content_type="text/plain")
    clock.now += waits
    device.link.resume()
    properties = device.got[0].message.properties
    assert properties == MessageProperties(
        message_expiry={0.0: 10, 1.0: 9, 9.1: 1, 9.9: 1}[waits], content_type="text/plain"
    )


@pytest.mark.parametrize("waits", [10.0, 11.0])
def test_expired_messages_are_not_delivered(waits: float) -> None:
    clock = FakeMonotonic()
    broker = broker_with(clock)
    device = Device(broker)
    device.subscribe("a")
    device.link.pause()
    device.publish("a", "expires", message_expiry=10)
    device.publish("a", "stays")
    clock.now += waits
    device.link.resume()
    assert device.texts == ["stays"]
    device.acknowledge()
    assert broker.usage.queued.count == 0


def test_delivered_messages_are_repeated_even_if_expired() -> None:
    clock = FakeMonotonic()
    broker = broker_with(clock)
    device = Device(broker, receive_maximum=1)
    device.subscribe("a")
    device.publish("a", message_expiry=10)
    device.publish("a", "expires unseen", message_expiry=10)
    device.link.close()
    broker.publish(HERE, message("a", "expires unseen", message_expiry=10))
    clock.now += 60
    expire(broker, clock.now)
    assert broker.usage.queued.count == 1
    again = Device(broker)
    assert [(got.again, got.message.properties.message_expiry) for got in again.got] == [(True, 0)]
