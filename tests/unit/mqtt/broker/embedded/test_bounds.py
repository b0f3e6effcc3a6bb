"""All memory is limited, and a publisher gets the reason of a refusal."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.vectors import FakeMonotonic
from thingmint.domain.arns import Scope
from thingmint.domain.errors import Throttled
from thingmint.mqtt.broker.limits import Bound
from thingmint.mqtt.broker.messages import size_of
from thingmint.mqtt.protocol.reasons import Reason

from .helpers import ELSEWHERE, HERE, Device, broker_with, expire, message

SIZE = size_of(message("a", "12345"))
PLENTY = Bound(1000, 1_000_000)


@pytest.mark.parametrize("which", ["queued", "queued_per_account", "queued_per_session"])
@pytest.mark.parametrize("bound", [Bound(3, 1_000_000), Bound(1000, 3 * SIZE + 1)])
@pytest.mark.parametrize("state", ["away", "paused", "slow"])
def test_full_queues_refuse_messages(which: str, bound: Bound, state: str) -> None:
    limits: dict[str, Any] = {"queued": PLENTY, "queued_per_account": PLENTY, "queued_per_session": PLENTY}
    broker = broker_with(**limits | {which: bound})
    device, other = Device(broker, receive_maximum=1), Device(broker, "other")
    device.subscribe("a")
    if state == "away":
        device.link.close()
    elif state == "paused":
        device.link.pause()
    answers = [other.publish("a", f"{number:05}") for number in range(5)]
    assert answers == [Reason.SUCCESS] * 3 + [Reason.QUOTA_EXCEEDED] * 2
    assert broker.usage.queued.count == 3
    assert broker.usage.queued.size == 3 * SIZE
    assert broker.usage.refused == 2
    again = Device(broker)
    assert again.texts == ["00000", "00001", "00002"]  # without gaps: later messages were refused
    again.acknowledge()
    assert broker.usage.queued == Bound(0, 0)
    assert other.publish("a") is Reason.SUCCESS


def test_publish_succeeds_if_one_subscriber_has_room() -> None:
    broker = broker_with(queued_per_session=Bound(1, 10_000))
    full, free = Device(broker, "full"), Device(broker, "free")
    for device in (full, free):
        device.subscribe("a")
    full.publish("a", "1")
    free.acknowledge()
    assert free.publish("a", "2") is Reason.SUCCESS
    assert (full.texts, free.texts) == (["1"], ["1", "2"])
    assert broker.usage.refused == 1


def test_qos_0_is_delivered_to_full_sessions() -> None:
    broker = broker_with(queued=Bound(0, 0))
    device = Device(broker)
    device.subscribe("a")
    assert device.publish("a", "1") is Reason.QUOTA_EXCEEDED
    assert device.publish("a", "2", 0) is Reason.SUCCESS
    assert device.texts == ["2"]


def test_an_account_at_its_limit_leaves_room_for_others() -> None:
    broker = broker_with(
        queued_per_account=Bound(1, 10_000), retained_per_account=Bound(1, 10_000), sessions_per_account=2
    )
    other_region = Scope(HERE.account, "us-east-1")
    for scope, answer in ((HERE, Reason.SUCCESS), (other_region, Reason.QUOTA_EXCEEDED), (ELSEWHERE, Reason.SUCCESS)):
        device = Device(broker, scope=scope)
        device.subscribe("a")
        assert device.publish("a") is answer, scope
        assert device.publish("b", qos=0, retain=True) is answer, scope
        if scope == other_region:
            with pytest.raises(Throttled):
                Device(broker, "third", scope)


@pytest.mark.parametrize("limits", [{"sessions": 2}, {"sessions_per_account": 2}])
def test_sessions_are_limited(limits: dict[str, Any]) -> None:
    broker = broker_with(**limits)
    device, other = Device(broker), Device(broker, "other")
    with pytest.raises(Throttled):
        Device(broker, "third")
    for clean_start in (False, True):  # existing client ids
        Device(broker, clean_start=clean_start)
        assert broker.usage.sessions == 2
    other.link.close()
    with pytest.raises(Throttled):
        Device(broker, "third")
    assert len(broker._routers) == 1
    Device(broker, "other").link.close(discard=True)
    Device(broker, "third")
    assert broker.usage.sessions == 2
    del device


def test_a_refused_session_leaves_nothing_behind() -> None:
    broker = broker_with(sessions=0)
    with pytest.raises(Throttled):
        Device(broker)
    assert len(broker._routers) == 0


def test_subscriptions_and_levels_are_limited() -> None:
    device = Device(broker_with(levels=4, subscriptions_per_session=50))
    answers = [device.subscribe(filter) for filter in ("a/b/c/d", "a/b/c/d/e", "a/b/c/#", "a/b/c/d/#")]
    assert answers == [Reason.GRANTED_QOS_1, Reason.QUOTA_EXCEEDED] * 2
    assert device.subscribe("$share/g/a/b/c/d") is Reason.GRANTED_QOS_1
    answers = [device.subscribe(f"$share/g/{number}" if number % 2 else f"{number}") for number in range(50)]
    assert answers == [Reason.GRANTED_QOS_1] * 47 + [Reason.QUOTA_EXCEEDED] * 3
    assert device.publish("47") is Reason.NO_MATCHING_SUBSCRIBERS
    assert device.unsubscribe("47", "46") == [Reason.NO_SUBSCRIPTION_EXISTED, Reason.SUCCESS]
    assert device.subscribe("48") is Reason.GRANTED_QOS_1


@pytest.mark.parametrize("which", ["retained", "retained_per_account"])
@pytest.mark.parametrize("bound", [Bound(2, 1_000_000), Bound(1000, 2 * (SIZE + 400))])
def test_retained_messages_are_limited(which: str, bound: Bound) -> None:
    limits: dict[str, Any] = {"retained": PLENTY, "retained_per_account": PLENTY}
    broker = broker_with(**limits | {which: bound})
    device = Device(broker)
    device.subscribe("3", 0)
    assert device.publish("1", "12345", retain=True) is Reason.NO_MATCHING_SUBSCRIBERS
    assert device.publish("2", "12345", retain=True) is Reason.NO_MATCHING_SUBSCRIBERS
    assert device.publish("3", "12345", retain=True) is Reason.QUOTA_EXCEEDED
    assert device.publish("3", "12345", 0, retain=True) is Reason.QUOTA_EXCEEDED
    assert device.got == []  # the message is not delivered either
    assert device.publish("2", "54321", retain=True) is Reason.NO_MATCHING_SUBSCRIBERS
    if bound.count > 2:
        assert device.publish("2", "123456", retain=True) is Reason.QUOTA_EXCEEDED
    assert broker.usage.retained.count == 2
    device.subscribe("#", 0)
    assert sorted(device.texts) == ["12345", "54321"]
    device.publish("1", "", retain=True)
    assert device.publish("3", "12345", retain=True) is Reason.SUCCESS


def test_levels_of_retained_topics_are_limited() -> None:
    broker = broker_with(levels=4)
    device = Device(broker)
    assert device.publish("a/b/c/d/e", retain=True) is Reason.QUOTA_EXCEEDED
    assert device.publish("a/b/c/d/e", "", 0, retain=True) is Reason.SUCCESS
    assert device.publish("a/b/c/d", retain=True) is Reason.NO_MATCHING_SUBSCRIBERS


def test_retained_messages_are_dropped_for_full_sessions() -> None:
    broker = broker_with(queued_per_session=Bound(2, 10_000))
    device = Device(broker, receive_maximum=1)
    for topic in "1234":
        device.publish(topic, topic, retain=True)
    device.subscribe("+")
    device.acknowledge()
    device.acknowledge()
    assert len(device.got) == 2
    device.link.pause()
    device.subscribe("+", 0)
    device.got.clear()
    device.link.resume()
    assert len(device.got) == 2
    assert broker.usage.refused == 4


def test_expired_messages_make_room() -> None:
    clock = FakeMonotonic()
    broker = broker_with(clock, queued_per_session=Bound(4, 10_000))
    device = Device(broker, receive_maximum=1)
    device.subscribe("a")
    device.publish("a", "delivered", message_expiry=1)
    device.publish("a", "expires", message_expiry=1)
    device.publish("a", "expires later", message_expiry=40)
    device.publish("a", "stays")
    clock.now += 2
    assert device.publish("a", "refused") is Reason.QUOTA_EXCEEDED
    clock.now += 28
    expire(broker, clock.now)
    assert broker.usage.queued.count == 3
    assert device.publish("a", "later") is Reason.SUCCESS
    clock.now += 30
    expire(broker, clock.now)
    assert broker.usage.queued.count == 3
    assert len(broker._deadlines) == 0
    for _ in range(3):
        device.acknowledge()
    assert device.texts == ["delivered", "stays", "later"]


def test_an_ended_session_is_not_swept() -> None:
    broker = broker_with()
    device = Device(broker)
    device.subscribe("a")
    device.link.pause()
    device.publish("a", message_expiry=100)
    assert len(broker._deadlines) == 1
    device.link.close(discard=True)
    assert len(broker._deadlines) == 0


def test_the_size_counts_all_parts_of_a_message() -> None:
    plain = size_of(message("topic", "payload"))
    assert plain > len("topicpayload")
    long = "x" * 10_000
    for properties in (
        {"content_type": long},
        {"response_topic": long},
        {"correlation_data": long.encode()},
        {"user_properties": ((long, ""),)},
        {"user_properties": (("", long),)},
        {"user_properties": (("", ""),) * 100},
    ):
        assert size_of(message("topic", "payload", **properties)) >= plain + 10_000
