"""The bytes of a connection: turns, rates, and what is held of a device that is not accepted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.unit.mqtt.test_sessions import Setting, settle
from thingmint.mqtt import connection as module
from thingmint.mqtt.protocol.connection import MAX_PACKETS
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.packets import Connect, Disconnect, PingReq, Publish, Will
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.rates import NO_RATES, Rates

if TYPE_CHECKING:
    import pytest


async def test_a_device_that_takes_no_answers_is_not_read_from() -> None:
    setting = Setting()
    await setting.connect()
    setting.transport.unread = 300 * 1024
    setting.send(PingReq())
    assert not setting.transport.reading
    setting.transport.unread = 0
    setting.connection.resume_writing()
    assert setting.transport.reading


async def test_devices_have_turns() -> None:
    setting = Setting()
    await setting.connect()
    before = len(setting.transport.sent)
    setting.connection.data_received(encode(PingReq(), 5) * 10_000)
    assert len(setting.transport.sent) - before == 2 * MAX_PACKETS
    assert not setting.transport.reading
    for _ in range(20):
        sent = len(setting.transport.sent)
        await asyncio.sleep(0)
        assert len(setting.transport.sent) - sent <= 2 * MAX_PACKETS
    await settle(100)
    assert len(setting.transport.sent) - before == 20_000
    assert setting.transport.reading


async def test_a_device_beyond_its_rates_is_not_read_for_a_while() -> None:
    setting = Setting(Rates(publishes=50))
    await setting.connect(keep_alive=30)
    for number in range(60):
        setting.connection.data_received(encode(Publish("$aws/x", b"", 1, packet_id=number + 1), 5))
    answered = setting.heard()[1:]
    assert len(answered) == 51  # a second's worth, and the one that was too much
    assert not setting.is_read()
    assert setting.rate_limit.exceeded == 1
    now = asyncio.get_running_loop().time()
    setting.session.check_deadlines(now + 46)  # it could not be heard
    assert Disconnect(Reason.KEEP_ALIVE_TIMEOUT) not in setting.heard()
    await asyncio.sleep(0.3)
    assert len(setting.heard()[1:]) == 60  # nothing was dropped
    assert setting.is_read()
    setting.session.check_deadlines(now + 92)
    assert setting.transport.closed


async def test_without_rates_nothing_waits() -> None:
    setting = Setting(NO_RATES)
    await setting.connect()
    for number in range(300):
        setting.connection.data_received(encode(Publish("$aws/x", b"", 1, packet_id=number + 1), 5))
    assert len(setting.heard()[1:]) == 300


async def test_what_waits_for_an_event_is_bounded() -> None:
    """While one takes time no packet is decoded, and soon nothing is read."""
    setting = Setting()
    await setting.connect()
    setting.connection._busy = asyncio.create_task(asyncio.sleep(10))
    setting.connection.data_received(encode(PingReq(), 5) * 4_000)
    assert setting.is_read()
    setting.connection.data_received(encode(PingReq(), 5) * 8_000)
    assert not setting.is_read()
    assert len(setting.heard()) == 1
    setting.connection._busy.cancel()


async def test_what_comes_before_connect_is_bounded_for_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_UNACCEPTED", 100_000)
    setting = Setting()
    setting.rate_limit.unaccepted = 95_000  # what others hold
    part = encode(Connect(5, "c", will=Will("w", b"x" * 60_000)), 5)[:8_000]
    setting.connection.data_received(part[:4_000])
    assert Reason.QUOTA_EXCEEDED not in [each.reason for each in setting.heard()]
    setting.rate_limit.unaccepted += 5_000
    setting.connection.data_received(part[4_000:])
    assert setting.transport.closed
    assert setting.rate_limit.unaccepted == 100_000
    other = Setting()
    other.rate_limit.unaccepted = 200_000
    await other.connect()  # a small one has room still
    assert other.rate_limit.unaccepted == 200_000
    assert other.broker.opened == 1
