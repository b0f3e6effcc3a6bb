"""The bytes of a connection: turns, rates, and what is held of a device that is not accepted."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, cast

from tests.unit.mqtt.test_sessions import Setting, settle
from thingmint.domain.messages import Message
from thingmint.mqtt import connection as module
from thingmint.mqtt.protocol.connection import MAX_PACKETS
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.packets import Connect, Disconnect, PingReq, PingResp, PubAck, Publish, Will
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.rates import NO_RATES, Rates
from thingmint.services.device_authentication import Rejected, RejectionReason

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


class StandingLoop:
    """The event loop, but for its clock, which a test moves: how fast the machine is changes nothing."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time()

    def time(self) -> float:
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


async def test_a_device_beyond_its_rates_is_not_read_for_a_while() -> None:
    setting, loop = Setting(Rates(publishes=64)), StandingLoop()  # a power of two adds up exactly
    setting.connection._loop = cast("Any", loop)
    await setting.connect(keep_alive=30)
    for number in range(80):
        setting.connection.data_received(encode(Publish("$aws/x", b"", 1, packet_id=number + 1), 5))
    answered = setting.heard()[1:]
    assert len(answered) == 65  # a second's worth, and the one that was too much
    assert not setting.is_read()
    assert setting.rate_limit.exceeded == 1
    setting.session.check_deadlines(loop.now + 46)  # it could not be heard
    assert Disconnect(Reason.KEEP_ALIVE_TIMEOUT) not in setting.heard()
    loop.now += 1
    async with asyncio.timeout(10):
        while not setting.is_read():  # noqa: ASYNC110 - the device has a timer
            await asyncio.sleep(0.01)
    assert len(setting.heard()[1:]) == 80  # nothing was dropped
    setting.session.check_deadlines(loop.now + 92)
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


async def suspended(setting: Setting) -> None:
    await setting.connect(keep_alive=30)
    setting.feed.stale, setting.feed.fresh_until = True, -math.inf
    setting.session.check_deadlines(0)
    assert not setting.broker.link.passes


async def resumed(setting: Setting) -> None:
    setting.feed.stale, setting.feed.fresh_until = False, math.inf
    setting.feed.interruptions += 1
    setting.connections.reauthorize_all()
    await settle(30)


async def test_a_suspended_device_gets_answers_to_its_pings_and_nothing_else() -> None:
    setting = Setting()
    await suspended(setting)
    for number in range(1, 4):
        setting.send(Publish(f"t/{number}", b"", 1, packet_id=number))
        setting.connection.data_received(encode(PingReq(), 5) * 200)  # more than are taken at once
    await settle(30)
    assert setting.heard()[1:] == [PingResp()] * 600
    assert (setting.broker.link.published, setting.is_read()) == ([], True)
    setting.session.check_deadlines(asyncio.get_running_loop().time() + 3600)
    assert not setting.transport.closed
    await resumed(setting)
    assert setting.broker.link.published == ["t/1", "t/2", "t/3"]
    assert setting.broker.link.passes
    assert setting.heard()[601:] == [PubAck(1), PubAck(2), PubAck(3)]
    assert setting.rate_limit.unaccepted == 0


async def test_what_a_suspended_device_may_send_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_UNACCEPTED", 8 * 1024)
    setting = Setting()
    await suspended(setting)
    setting.send(Publish("t", b"x" * 3_000, 1, packet_id=1))
    assert setting.is_read()
    setting.send(Publish("t", b"x" * 6_000, 1, packet_id=2))
    assert not setting.is_read()
    await resumed(setting)
    assert (setting.broker.link.published, setting.is_read()) == (["t", "t"], True)
    assert setting.rate_limit.unaccepted == 0


async def test_a_suspended_device_that_lost_its_access_gets_and_sends_nothing_more() -> None:
    setting = Setting()
    await suspended(setting)
    setting.send(Publish("t", b"", 1, packet_id=1))
    setting.authenticator.rejection = Rejected(RejectionReason.NOT_AUTHORIZED, "revoked")
    await resumed(setting)
    assert (setting.broker.link.published, setting.broker.link.passes) == ([], False)
    assert setting.heard()[1:] == [Disconnect(Reason.NOT_AUTHORIZED)]
    assert setting.rate_limit.unaccepted == 0


async def test_a_suspended_device_may_leave_and_takes_its_will_with_it() -> None:
    setting, left = Setting(), []
    setting.session._services.wills.leave = lambda *_: left.append(True)  # type: ignore[method-assign]
    setting.authenticator.go.set()
    setting.send(Connect(5, "c", will=Will("w", b"x")))
    await settle()
    setting.feed.stale, setting.feed.fresh_until = True, -math.inf
    setting.session.check_deadlines(0)
    setting.send(Publish("t", b"", 0))
    setting.send(Disconnect())
    assert (setting.transport.closed, left, setting.broker.link.published) == (True, [], [])
    setting.connection.connection_lost(None)
    assert left == []


async def test_a_device_that_does_not_read_stays_paused_when_it_is_resumed() -> None:
    setting = Setting()
    await suspended(setting)
    setting.connection.pause_writing()
    await resumed(setting)
    assert not setting.broker.link.passes
    setting.connection.resume_writing()
    assert setting.broker.link.passes


async def interrupted(setting: Setting) -> None:
    """Changes are followed again before the session was seen to be one of those to suspend."""
    await setting.connect()
    setting.feed.interruptions += 1
    for id in (None, 1):
        setting.broker.subscriber.deliver(Message("t", b"%d" % (id or 0), 1 if id else 0), id, again=False)
    setting.send(Publish("mine", b"", 1, packet_id=1))
    await settle()
    assert (setting.heard()[1:], setting.broker.link.published, setting.broker.link.passes) == ([], [], False)


async def test_after_an_interruption_nothing_passes_before_the_device_was_authenticated_again() -> None:
    setting = Setting()
    await interrupted(setting)
    setting.connections.reauthorize_all()
    await settle(30)
    assert [(each.payload, each.packet_id) for each in setting.heard()[1:3]] == [(b"0", None), (b"1", 1)]
    assert (setting.broker.link.published, setting.broker.link.passes) == (["mine"], True)


async def test_after_an_interruption_nothing_passes_for_a_device_that_lost_its_access() -> None:
    setting = Setting()
    await interrupted(setting)
    setting.authenticator.rejection = Rejected(RejectionReason.NOT_AUTHORIZED, "revoked")
    setting.connections.reauthorize_all()
    await settle(30)
    assert setting.heard()[1:] == [Disconnect(Reason.NOT_AUTHORIZED)]
    assert setting.broker.link.published == []


async def test_a_device_is_authenticated_again_if_changes_were_not_followed_while_its_session_was_opened() -> None:
    setting = Setting()

    def interrupt() -> None:
        setting.feed.interruptions += 1

    setting.broker.opening = interrupt
    await setting.connect()
    assert setting.authenticator.asked == 2
    setting.send(Publish("t", b"", 1, packet_id=1))
    assert setting.broker.link.published == ["t"]
