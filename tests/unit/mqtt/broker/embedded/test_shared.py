"""Shared subscriptions: each message goes to one member of the group."""

from __future__ import annotations

import pytest

from tests.unit.vectors import FakeMonotonic
from thingmint.mqtt.broker.limits import Bound
from thingmint.mqtt.protocol.reasons import Reason

from .helpers import HERE, Device, broker_with, expire, message


def test_members_take_turns() -> None:
    broker = broker_with()
    devices = [Device(broker, f"device-{number}") for number in range(3)]
    for device in devices:
        device.subscribe("$share/g/a/+")
    for number in range(6):
        assert devices[0].publish("a/b", str(number)) is Reason.SUCCESS
    assert [device.texts for device in devices] == [["0", "3"], ["1", "4"], ["2", "5"]]


@pytest.mark.parametrize("qos", [0, 1])
def test_disconnected_and_paused_members_are_skipped(qos: int) -> None:
    broker = broker_with()
    here, paused, away = (Device(broker, name) for name in ("here", "paused", "away"))
    for device in (away, paused, here):
        device.subscribe("$share/g/a")
    paused.link.pause()
    away.link.close()
    for number in range(3):
        here.publish("a", str(number), 1 if qos else 0)
    assert here.texts == ["0", "1", "2"]
    assert broker.usage.queued.count == (3 if qos else 0)


def test_qos_1_waits_for_a_member_if_all_are_disconnected() -> None:
    broker = broker_with()
    first, second = Device(broker, "first"), Device(broker, "second")
    first.subscribe("$share/g/a", 0)
    second.subscribe("$share/g/a", 1)
    first.link.close()
    second.link.close()
    broker.publish(HERE, message("a", "waits"))
    broker.publish(HERE, message("a", "dropped", 0))
    assert Device(broker, "first").got == []
    assert Device(broker, "second").texts == ["waits"]


def test_groups_and_plain_subscriptions_are_separate() -> None:
    broker = broker_with()
    device, other = Device(broker), Device(broker, "other")
    for filter in ("$share/g/a", "$share/h/a", "$share/g/+", "a"):
        device.subscribe(filter, 0)
    other.publish("a")
    assert len(device.got) == 4  # MQTT 5, 4.8.2
    device.unsubscribe("a")
    device.got.clear()
    other.publish("a")
    assert len(device.got) == 3
    assert device.unsubscribe("$share/g/a", "a", "$share/x/a") == [
        Reason.SUCCESS,
        Reason.NO_SUBSCRIPTION_EXISTED,
        Reason.NO_SUBSCRIPTION_EXISTED,
    ]


@pytest.mark.parametrize("retained_shown", [False, True])
def test_each_member_has_separate_options(retained_shown: bool) -> None:
    device = Device(broker_with())
    device.subscribe("$share/g/a", 0, retain_as_published=retained_shown)
    device.publish("a", retain=True)
    assert [(got.message.qos, got.message.retain) for got in device.got] == [(0, retained_shown)]


def test_full_members_are_skipped() -> None:
    broker = broker_with(queued_per_session=Bound(1, 10_000))
    first, second = Device(broker, "first"), Device(broker, "second")
    first.subscribe("$share/g/a")
    second.subscribe("$share/g/a")
    first.subscribe("fill")
    first.publish("fill", "fill")
    assert first.publish("a", "1") is Reason.SUCCESS
    assert (first.texts, second.texts) == (["fill"], ["1"])
    assert first.publish("a", "2") is Reason.QUOTA_EXCEEDED
    assert first.publish("a", "3", 0) is Reason.SUCCESS
    assert (first.texts + second.texts).count("3") == 1


@pytest.mark.parametrize("how", ["discard", "expiry", "clean start", "taken over"])
def test_unacknowledged_messages_of_an_ended_member_go_to_another(how: str) -> None:
    clock = FakeMonotonic()
    broker = broker_with(clock)
    device = Device(broker, expiry=0 if how == "taken over" else 10, receive_maximum=2)
    device.subscribe("$share/g/a")
    device.subscribe("own")
    for text in ("acknowledged", "2", "3", "waits"):
        device.publish("a", text)
    device.link.acknowledge(device.got[0].packet_id or 0)
    device.publish("a", "expires", message_expiry=10)
    device.publish("own", "own")
    other = Device(broker, "other")
    other.subscribe("$share/g/a")
    if how == "discard":
        device.link.close(discard=True)
    elif how == "expiry":
        device.link.close()
        assert other.got == []  # the member may reconnect
        clock.now += 10
        expire(broker, clock.now)
    else:
        Device(broker, clean_start=how == "clean start")
    expected = ["2", "3", "waits"] if how == "expiry" else ["2", "3", "waits", "expires"]
    assert [(got.text, got.again) for got in other.got] == [(text, False) for text in expected]
    assert broker.usage.queued.count == len(expected)


def test_a_member_that_unsubscribes_keeps_its_messages() -> None:
    broker = broker_with()
    device, other = Device(broker), Device(broker, "other")
    device.subscribe("$share/g/a")
    device.publish("a", "1")
    device.unsubscribe("$share/g/a")
    other.subscribe("$share/g/a")
    device.publish("a", "2")
    device.link.close()
    assert other.texts == ["2"]
    again = Device(broker)
    assert again.texts == ["1"]
    again.link.close(discard=True)
    assert other.texts == ["2", "1"]  # the group is found by its name


def test_a_group_without_members_drops_messages() -> None:
    broker = broker_with()
    device = Device(broker)
    device.subscribe("$share/g/a/+")
    device.publish("a/b")
    device.link.close(discard=True)
    assert broker.usage.queued.count == 0
    assert len(broker._routers) == 0


def test_redistributed_messages_have_the_options_of_the_new_member() -> None:
    broker = broker_with()
    device, other = Device(broker), Device(broker, "other")
    device.subscribe("$share/g/a")
    device.publish("a", "1", retain=True)
    other.subscribe("$share/g/a", 0, retain_as_published=True)
    device.link.close(discard=True)
    assert [(got.message.retain, got.message.qos) for got in other.got] == [(True, 0)]
