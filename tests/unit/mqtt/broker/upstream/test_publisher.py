"""Messages of the gateway: kept until the broker acknowledges them, up to a limit."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, cast

from structlog.testing import capture_logs

from tests.unit.mqtt.broker.upstream.fake_upstream import FakeTarget, settle
from thingmint.domain.arns import Scope
from thingmint.domain.messages import Message
from thingmint.mqtt.broker.limits import Bound
from thingmint.mqtt.broker.upstream import Upstream, UpstreamBroker, publisher
from thingmint.mqtt.protocol.packets import PubAck, Publish
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    import pytest

    from tests.unit.mqtt.broker.upstream.fake_upstream import FakeTransport
    from thingmint.domain.messages import QoS
    from thingmint.mqtt.broker.upstream.target import Target

HOME, OTHER = Scope("123456789012", "us-east-1"), Scope("210987654321", "us-east-1")


def published(transport: FakeTransport) -> list[bytes]:
    return [packet.payload for packet in transport.received if isinstance(packet, Publish)]


def acknowledge_all(transport: FakeTransport) -> None:
    ids = [packet.packet_id for packet in transport.received if isinstance(packet, Publish)]
    transport.send(*(PubAck(id) for id in ids if id is not None))


async def until(transports: list[FakeTransport], count: int) -> None:
    while len(transports) < count:  # noqa: ASYNC110  # the list has no event
        await asyncio.sleep(0.01)
    await settle()


def broker_at(target: FakeTarget) -> UpstreamBroker:
    return UpstreamBroker(Upstream(cast("Target", target)), open_timeout=0.2)


async def test_messages_wait_for_the_broker() -> None:
    target = FakeTarget()
    target.down = True
    broker = broker_at(target)
    with capture_logs() as logs:
        await broker.start()
        await settle()
        broker.publish(HOME, Message("a", b"1", 1, retain=True))
        broker.publish(OTHER, Message("a", b"2", 0))
        target.down = False
        await until(target.transports, 1)
    assert [line["event"] for line in logs] == ["broker_unreachable", "broker_reachable_again"]
    (transport,) = target.transports
    names = [packet.topic for packet in transport.received if isinstance(packet, Publish)]
    assert names == ["123456789012/us-east-1/a", "210987654321/us-east-1/a"]
    await broker.stop()


async def test_unacknowledged_messages_are_sent_again() -> None:
    target = FakeTarget()
    broker = broker_at(target)
    await broker.start()
    await until(target.transports, 1)
    for number in range(3):
        broker.publish(HOME, Message("a", b"%d" % number, 1))
    await settle()
    assert published(target.transports[0]) == [b"0", b"1", b"2"]
    target.transports[0].send(PubAck(1))
    await settle()
    target.transports[0].close()
    await until(target.transports, 2)
    assert published(target.transports[1]) == [b"1", b"2"]
    acknowledge_all(target.transports[1])
    await settle()
    target.transports[1].close()
    await until(target.transports, 3)
    assert published(target.transports[2]) == []
    await broker.stop()


async def test_a_message_is_dropped_after_three_lost_connections() -> None:
    target = FakeTarget()
    broker = broker_at(target)
    await broker.start()
    broker.publish(HOME, Message("a", b"poison", 1))
    with capture_logs() as logs:
        for number in range(1, 4):
            await until(target.transports, number)
            assert published(target.transports[-1]) == [b"poison"]
            target.transports[-1].close()
        await until(target.transports, 4)
    assert published(target.transports[-1]) == []
    errors = [line["event"] for line in logs if line["log_level"] == "error"]
    assert errors == ["publication_dropped", "publication_refused"]
    await broker.stop()


async def test_an_account_at_its_limit_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "_BOUND_PER_ACCOUNT", Bound(3, 10**6))
    target = FakeTarget()
    target.down = True
    broker = broker_at(target)
    with capture_logs() as logs:
        for number in range(10):
            broker.publish(HOME, Message("a", b"%d" % number, 1))
        broker.publish(OTHER, Message("a", b"other", 1))
        target.down = False
        await broker.start()
        await until(target.transports, 1)
    assert published(target.transports[0]) == [b"0", b"1", b"2", b"other"]
    assert [line["reason"] for line in logs if line["event"] == "publication_refused"] == ["QUOTA_EXCEEDED"] * 7
    acknowledge_all(target.transports[0])
    await settle()
    broker.publish(HOME, Message("a", b"room again", 1))
    await settle()
    assert published(target.transports[0])[-1] == b"room again"
    await broker.stop()


async def test_more_messages_than_the_window_are_sent_in_order() -> None:
    target = FakeTarget()
    broker = broker_at(target)
    await broker.start()
    for number in range(500):
        broker.publish(HOME, Message("a", b"%d" % number, 1))
    await until(target.transports, 1)
    seen = 0
    while seen < 500:
        transport = target.transports[0]
        new = [packet for packet in transport.received if isinstance(packet, Publish)][seen:]
        assert new
        seen += len(new)
        transport.send(*(PubAck(packet.packet_id) for packet in new if packet.packet_id))
        await settle()
    assert published(target.transports[0]) == [b"%d" % number for number in range(500)]
    await broker.stop()


async def test_topics_without_a_name_are_refused() -> None:
    broker = broker_at(FakeTarget())
    with capture_logs() as logs:
        broker.publish(HOME, Message("a\x01", b"", 1))
    assert len(logs) == 1


async def test_the_caller_gets_the_result_of_each_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "_BOUND_PER_ACCOUNT", Bound(3, 10**6))
    target = FakeTarget()
    broker = broker_at(target)
    await broker.start()
    answers: dict[str, Reason] = {}

    def publish(text: str, qos: QoS = 1, topic: str = "a") -> None:
        broker.publish(HOME, Message(topic, text.encode(), qos), partial(answers.__setitem__, text))

    publish("no name", topic="a\x01")
    for text in ("taken", "refused", "lost"):
        publish(text)
    publish("no room")
    assert answers == {"no name": Reason.TOPIC_NAME_INVALID, "no room": Reason.QUOTA_EXCEEDED}
    answers.clear()
    await until(target.transports, 1)
    assert answers == {}
    target.transports[0].send(PubAck(1), PubAck(2, Reason.NOT_AUTHORIZED))
    await settle()
    assert answers == {"taken": Reason.SUCCESS, "refused": Reason.NOT_AUTHORIZED}
    publish("at once", 0)
    await settle()
    assert answers.pop("at once") is Reason.SUCCESS
    for number in range(1, 4):
        await until(target.transports, number)
        target.transports[-1].close()
    await settle()
    assert answers.pop("lost").failed
    publish("left")
    await broker.stop()
    assert answers.pop("left").failed
    publish("too late")
    assert answers.pop("too late").failed
