"""Scopes, start and stop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.unit.vectors import FakeMonotonic
from thingmint.domain.arns import Scope
from thingmint.domain.errors import Unavailable
from thingmint.mqtt.broker.embedded import EmbeddedBroker
from thingmint.mqtt.protocol.reasons import Reason

from .helpers import ELSEWHERE, HERE, Device, broker_with, message

if TYPE_CHECKING:
    from thingmint.mqtt.broker.interface import Broker


def test_the_embedded_broker_implements_broker() -> None:
    broker: Broker = EmbeddedBroker()
    assert broker is not None


@pytest.mark.parametrize("other", [ELSEWHERE, Scope(HERE.account, "us-east-1")])
def test_scopes_are_separate(other: Scope) -> None:
    broker = broker_with()
    here, there = Device(broker, scope=HERE), Device(broker, scope=other)
    assert here.losses == []
    assert not there.link.session_present
    here.publish("kept", "here's", retain=True)
    for device in (here, there):
        device.subscribe("#")
        device.subscribe("$share/g/a")
    assert here.take() == ["here's"]
    assert there.take() == []
    for _ in range(2):
        here.publish("a", "from here")
    broker.publish(HERE, message("b", "of here"))
    assert here.texts == ["from here"] * 4 + ["of here"]
    assert there.got == []
    there.unsubscribe("#")
    assert there.publish("b") is Reason.NO_MATCHING_SUBSCRIBERS
    there.link.close(discard=True)
    assert here.publish("b") is Reason.SUCCESS
    assert Device(broker, scope=HERE).link.session_present
    assert not Device(broker, scope=other).link.session_present


async def test_stop_ends_sessions_and_refuses_requests() -> None:
    broker = broker_with()
    device, away = Device(broker), Device(broker, "away")
    device.subscribe("$share/g/a")
    away.subscribe("$share/g/a")
    for _ in range(2):
        device.publish("a", qos=1)
    away.link.close()
    count = len(device.got)
    await broker.stop()
    assert device.losses == [Reason.SERVER_SHUTTING_DOWN]
    assert away.losses == []
    assert len(device.got) == count
    assert device.publish("a") is Reason.UNSPECIFIED_ERROR
    device.link.close()
    broker.publish(HERE, message("a", retain=True))
    assert broker.usage.sessions == 0
    assert broker.usage.queued.count == 0
    with pytest.raises(Unavailable):
        Device(broker)
    await broker.stop()


async def test_started_broker_expires_sessions() -> None:
    before = asyncio.all_tasks()
    clock = FakeMonotonic()
    broker = EmbeddedBroker(clock=clock, tick=0)
    await broker.start()
    Device(broker, expiry=5).link.close()
    for _ in range(5):
        await asyncio.sleep(0)
    assert broker.usage.sessions == 1
    clock.now += 5
    for _ in range(5):
        await asyncio.sleep(0)
    assert broker.usage.sessions == 0
    await broker.stop()
    assert asyncio.all_tasks() == before
