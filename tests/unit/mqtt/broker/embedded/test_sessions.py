"""Sessions that outlive their connections."""

from __future__ import annotations

import pytest

from tests.unit.vectors import FakeMonotonic
from thingmint.mqtt.protocol.reasons import Reason

from .helpers import HERE, Device, broker_with, expire, message


def test_a_session_is_resumed_with_its_messages() -> None:
    broker = broker_with()
    device = Device(broker)
    assert not device.link.session_present
    device.subscribe("a")
    device.link.close()
    broker.publish(HERE, message("a", "1"))
    broker.publish(HERE, message("a", "dropped", 0))
    again = Device(broker)
    assert again.link.session_present
    assert again.texts == ["1"]
    assert device.got == []
    assert device.losses == []


def test_unacknowledged_messages_come_first_with_their_packet_ids() -> None:
    broker = broker_with()
    device = Device(broker, receive_maximum=3)
    device.subscribe("a")
    for text in "12345":
        device.publish("a", text)
    device.link.acknowledge(device.got[1].packet_id or 0)
    assert device.texts == ["1", "2", "3", "4"]
    device.link.close()
    again = Device(broker, receive_maximum=2)
    assert [(got.text, got.again) for got in again.got] == [("1", True), ("3", True)]
    again.acknowledge()
    assert [(got.text, got.again) for got in again.got[2:]] == [("4", True), ("5", False)]
    ids = {got.text: got.packet_id for got in device.got}
    assert all(ids[got.text] == got.packet_id for got in again.got[:3])
    assert again.got[3].packet_id not in (None, ids["4"])
    again.link.close()
    third = Device(broker)
    assert [(got.text, got.again) for got in third.got] == [("4", True), ("5", True)]
    third.acknowledge()
    third.link.close()
    assert Device(broker).got == []


def test_delivery_waits_for_the_first_resume() -> None:
    broker = broker_with()
    device = Device(broker)
    device.subscribe("a")
    device.link.close()
    broker.publish(HERE, message("a", "1"))
    again = Device(broker, resume=False)
    again.publish("a", "2")
    again.publish("a", "dropped", 0)
    assert again.got == []
    again.link.resume()
    assert again.texts == ["1", "2"]


def test_clean_start_discards_the_session() -> None:
    broker = broker_with()
    device = Device(broker)
    device.subscribe("a")
    device.publish("a", "1")
    device.link.close()
    again = Device(broker, clean_start=True)
    assert not again.link.session_present
    assert again.publish("a", "2") is Reason.NO_MATCHING_SUBSCRIBERS
    assert again.got == []
    assert broker.usage.queued.count == 0
    assert broker.usage.sessions == 1


def test_a_takeover_resumes_the_session_and_disables_the_old_link() -> None:
    broker = broker_with()
    device = Device(broker)
    device.subscribe("a")
    device.publish("a", "1")
    again = Device(broker)
    assert device.losses == [Reason.SESSION_TAKEN_OVER]
    assert again.losses == []
    assert again.link.session_present
    assert [(got.text, got.again) for got in again.got] == [("1", True)]
    # The old link has no effect any more.
    assert device.publish("a", "2") is Reason.UNSPECIFIED_ERROR
    assert device.subscribe("b") is Reason.UNSPECIFIED_ERROR
    assert device.unsubscribe("a") == [Reason.UNSPECIFIED_ERROR]
    device.acknowledge()
    device.link.pause()
    device.link.set_expiry(0)
    device.link.close(discard=True)
    again.publish("a", "3")
    assert again.texts == ["1", "3"]
    device.link.resume()
    assert len(device.got) == 1
    third = Device(broker)
    assert third.texts == ["1", "3"]
    assert device.losses == [Reason.SESSION_TAKEN_OVER]


@pytest.mark.parametrize(("expiry", "clean_start"), [(0, False), (600, True), (0, True)])
def test_a_takeover_does_not_keep_expired_or_clean_sessions(expiry: int, clean_start: bool) -> None:
    broker = broker_with()
    device = Device(broker, expiry=expiry)
    device.subscribe("a")
    again = Device(broker, clean_start=clean_start)
    assert device.losses == [Reason.SESSION_TAKEN_OVER]
    assert not again.link.session_present
    assert again.publish("a") is Reason.NO_MATCHING_SUBSCRIBERS
    assert broker.usage.sessions == 1


def test_the_will_of_the_old_connection_reaches_the_new_one() -> None:
    broker = broker_with()

    class WithWill(Device):
        def lost(self, reason: Reason) -> None:
            self.link.close()
            broker.publish(HERE, message("will", "gone"))

    device = WithWill(broker)
    device.subscribe("will")
    again = Device(broker)
    assert device.got == []
    assert again.texts == ["gone"]


@pytest.mark.parametrize(
    ("expiry", "changed", "seconds", "present"),
    [
        (0, None, 0, False),
        (1, None, 0, True),
        (10, None, 9.9, True),
        (10, None, 10, False),
        (10_000, None, 3599, True),
        (10_000, None, 3600, False),  # the limit
        (10, 100, 99, True),
        (10, 0, 0, False),
        (10, 10_000, 3600, False),
    ],
)
@pytest.mark.parametrize("swept", [False, True])
def test_sessions_expire_after_their_connection(
    expiry: int, changed: int | None, seconds: float, present: bool, swept: bool
) -> None:
    clock = FakeMonotonic()
    broker = broker_with(clock)
    device = Device(broker, expiry=expiry)
    device.subscribe("a")
    clock.now += 100_000  # does not count: the device is connected
    expire(broker, clock.now)
    if changed is not None:
        device.link.set_expiry(changed)
    device.link.close()
    broker.publish(HERE, message("a"))
    clock.now += seconds
    if swept:
        expire(broker, clock.now)
        assert broker.usage.sessions == int(present)
        assert broker.usage.queued.count == int(present)
    again = Device(broker)
    assert again.link.session_present is present
    assert len(again.got) == int(present)


def test_a_resumed_session_does_not_expire_by_its_old_deadline() -> None:
    clock = FakeMonotonic()
    broker = broker_with(clock)
    Device(broker, expiry=10).link.close()
    clock.now += 5
    device = Device(broker, expiry=20)
    clock.now += 10
    expire(broker, clock.now)
    device.link.close()
    clock.now += 19
    expire(broker, clock.now)
    assert Device(broker).link.session_present


def test_the_expiry_of_the_latest_connection_counts() -> None:
    clock = FakeMonotonic()
    broker = broker_with(clock)
    Device(broker, expiry=600).link.close()
    Device(broker, expiry=0).link.close()
    assert not Device(broker).link.session_present


def test_discard_ends_the_session() -> None:
    broker = broker_with()
    device = Device(broker)
    device.subscribe("a")
    device.publish("a")
    device.link.close(discard=True)
    device.link.close()
    assert broker.usage.sessions == 0
    assert broker.usage.queued == type(broker.usage.queued)(0, 0)
    assert not Device(broker).link.session_present


def test_a_closed_link_gets_nothing() -> None:
    broker = broker_with()
    device = Device(broker)
    device.subscribe("a")
    device.link.close()
    device.link.resume()
    broker.publish(HERE, message("a"))
    assert device.got == []
    assert device.publish("a") is Reason.UNSPECIFIED_ERROR


def test_the_broker_forgets_filters_without_subscribers() -> None:
    broker = broker_with()
    device, other = Device(broker), Device(broker, "other")
    filters = ["a", "a/+", "$share/g/a", "$share/g/b/#"]
    for filter in filters:
        device.subscribe(filter)
        other.subscribe(filter)
    device.unsubscribe(*filters)
    other.link.close(discard=True)
    tree = broker._routers[HERE]._filters
    assert not tree._exact
    assert not tree._wild.root.children


def test_the_broker_forgets_empty_scopes() -> None:
    clock = FakeMonotonic()
    broker = broker_with(clock)
    device = Device(broker)
    device.publish("a", retain=True, message_expiry=5)
    device.link.close(discard=True)
    assert len(broker._routers) == 1
    clock.now += 5
    expire(broker, clock.now)
    assert len(broker._routers) == 0
    broker.publish(HERE, message("a", "", retain=True))
    broker.publish(HERE, message("a"))
    assert len(broker._routers) == 0
    assert len(broker._deadlines) == 0
    kept = Device(broker, expiry=5)
    kept.subscribe("a/+")
    kept.link.close()
    clock.now += 5
    expire(broker, clock.now)
    assert len(broker._routers) == 0
