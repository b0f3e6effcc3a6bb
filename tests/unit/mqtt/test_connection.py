"""The bytes of a connection: turns, rates, suspension, and memory before CONNECT is accepted."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, cast

from tests.unit.mqtt.test_sessions import World, settle
from thingmint.domain.messages import Message
from thingmint.mqtt import connection as module
from thingmint.mqtt.protocol.connection import MAX_PACKETS
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.packets import Connect, Disconnect, PingReq, PingResp, PubAck, Publish, Will
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.rates import NO_RATES, Rates
from thingmint.services.authentication_decisions import Rejected, RejectionReason

if TYPE_CHECKING:
    import pytest


async def test_a_device_that_does_not_read_is_not_read() -> None:
    world = World()
    await world.connect()
    world.transport.unread = 300 * 1024
    world.send(PingReq())
    assert not world.transport.reading
    world.transport.unread = 0
    world.connection.resume_writing()
    assert world.transport.reading


async def test_devices_take_turns() -> None:
    world = World()
    await world.connect()
    before = len(world.transport.sent)
    world.connection.data_received(encode(PingReq(), 5) * 10_000)
    assert len(world.transport.sent) - before == 2 * MAX_PACKETS
    assert not world.transport.reading
    for _ in range(20):
        sent = len(world.transport.sent)
        await asyncio.sleep(0)
        assert len(world.transport.sent) - sent <= 2 * MAX_PACKETS
    await settle(100)
    assert len(world.transport.sent) - before == 20_000
    assert world.transport.reading


class StandingLoop:
    """The event loop with a clock that the test moves, so that the speed of the machine does not matter."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time()

    def time(self) -> float:
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


async def test_a_device_above_its_rates_is_not_read_for_a_while() -> None:
    world, loop = World(Rates(publishes=64)), StandingLoop()  # a power of two adds up exactly
    world.connection._loop = cast("Any", loop)
    await world.connect(keep_alive=30)
    for number in range(80):
        world.connection.data_received(encode(Publish("$aws/x", b"", 1, packet_id=number + 1), 5))
    answered = world.received()[1:]
    assert len(answered) == 65  # the messages of one second, and the one that exceeded the rate
    assert not world.is_read()
    assert world.rate_limit.exceeded == 1
    world.session.check_deadlines(loop.now + 46)  # no time-out: the device is not read
    assert Disconnect(Reason.KEEP_ALIVE_TIMEOUT) not in world.received()
    loop.now += 1
    async with asyncio.timeout(10):
        while not world.is_read():  # noqa: ASYNC110 - the timer has no event
            await asyncio.sleep(0.01)
    assert len(world.received()[1:]) == 80  # nothing was dropped
    world.session.check_deadlines(loop.now + 92)
    assert world.transport.closed


async def test_without_rates_packets_do_not_wait() -> None:
    world = World(NO_RATES)
    await world.connect()
    for number in range(300):
        world.connection.data_received(encode(Publish("$aws/x", b"", 1, packet_id=number + 1), 5))
    assert len(world.received()[1:]) == 300


async def test_data_that_waits_for_an_event_is_limited() -> None:
    """While an event takes time, no packet is decoded, and above the limit nothing is read."""
    world = World()
    await world.connect()
    world.connection._busy = asyncio.create_task(asyncio.sleep(10))
    world.connection.data_received(encode(PingReq(), 5) * 4_000)
    assert world.is_read()
    world.connection.data_received(encode(PingReq(), 5) * 8_000)
    assert not world.is_read()
    assert len(world.received()) == 1
    world.connection._busy.cancel()


async def test_data_before_connect_is_limited_over_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_UNACCEPTED", 100_000)
    world = World()
    world.rate_limit.unaccepted = 95_000  # bytes of other connections
    part = encode(Connect(5, "c", will=Will("w", b"x" * 60_000)), 5)[:8_000]
    world.connection.data_received(part[:4_000])
    assert Reason.QUOTA_EXCEEDED not in [each.reason for each in world.received()]
    world.rate_limit.unaccepted += 5_000
    world.connection.data_received(part[4_000:])
    assert world.transport.closed
    assert world.rate_limit.unaccepted == 100_000
    other = World()
    other.rate_limit.unaccepted = 200_000
    await other.connect()  # a small CONNECT still has room
    assert other.rate_limit.unaccepted == 200_000
    assert other.broker.opened == 1


async def suspended(world: World) -> None:
    await world.connect(keep_alive=30)
    world.feed.stale, world.feed.fresh_until = True, -math.inf
    world.session.check_deadlines(0)
    assert not world.broker.link.passes


async def resumed(world: World) -> None:
    world.feed.stale, world.feed.fresh_until = False, math.inf
    world.feed.interruptions += 1
    world.connections.reauthorize_all()
    await settle(30)


async def test_a_suspended_device_gets_only_pingresp() -> None:
    world = World()
    await suspended(world)
    for number in range(1, 4):
        world.send(Publish(f"t/{number}", b"", 1, packet_id=number))
        world.connection.data_received(encode(PingReq(), 5) * 200)  # more than one call decodes
    await settle(30)
    assert world.received()[1:] == [PingResp()] * 600
    assert (world.broker.link.published, world.is_read()) == ([], True)
    world.session.check_deadlines(asyncio.get_running_loop().time() + 3600)
    assert not world.transport.closed
    await resumed(world)
    assert world.broker.link.published == ["t/1", "t/2", "t/3"]
    assert world.broker.link.passes
    assert world.received()[601:] == [PubAck(1), PubAck(2), PubAck(3)]
    assert world.rate_limit.unaccepted == 0


async def test_data_of_a_suspended_device_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_UNACCEPTED", 8 * 1024)
    world = World()
    await suspended(world)
    world.send(Publish("t", b"x" * 3_000, 1, packet_id=1))
    assert world.is_read()
    world.send(Publish("t", b"x" * 6_000, 1, packet_id=2))
    assert not world.is_read()
    await resumed(world)
    assert (world.broker.link.published, world.is_read()) == (["t", "t"], True)
    assert world.rate_limit.unaccepted == 0


async def test_a_suspended_device_without_access_gets_and_sends_nothing() -> None:
    world = World()
    await suspended(world)
    world.send(Publish("t", b"", 1, packet_id=1))
    world.authenticator.rejection = Rejected(RejectionReason.NOT_AUTHORIZED, "revoked")
    await resumed(world)
    assert (world.broker.link.published, world.broker.link.passes) == ([], False)
    assert world.received()[1:] == [Disconnect(Reason.NOT_AUTHORIZED)]
    assert world.rate_limit.unaccepted == 0


async def test_disconnect_of_a_suspended_device_removes_its_will() -> None:
    world, left = World(), []
    world.session._services.wills.connection_ended = lambda *_: left.append(True)  # type: ignore[method-assign]
    world.authenticator.go.set()
    world.send(Connect(5, "c", will=Will("w", b"x")))
    await settle()
    world.feed.stale, world.feed.fresh_until = True, -math.inf
    world.session.check_deadlines(0)
    world.send(Publish("t", b"", 0))
    world.send(Disconnect())
    assert (world.transport.closed, left, world.broker.link.published) == (True, [], [])
    world.connection.connection_lost(None)
    assert left == []


async def test_a_resumed_device_that_does_not_read_stays_paused() -> None:
    world = World()
    await suspended(world)
    world.connection.pause_writing()
    await resumed(world)
    assert not world.broker.link.passes
    world.connection.resume_writing()
    assert world.broker.link.passes


async def interrupted(world: World) -> None:
    """Interrupts the feed so shortly that the monitor does not suspend the session."""
    await world.connect()
    world.feed.interruptions += 1
    for id in (None, 1):
        world.broker.subscriber.deliver(Message("t", b"%d" % (id or 0), 1 if id else 0), id, again=False)
    world.send(Publish("mine", b"", 1, packet_id=1))
    await settle()
    assert (world.received()[1:], world.broker.link.published, world.broker.link.passes) == ([], [], False)


async def test_after_an_interruption_traffic_waits_for_authentication() -> None:
    world = World()
    await interrupted(world)
    world.connections.reauthorize_all()
    await settle(30)
    assert [(each.payload, each.packet_id) for each in world.received()[1:3]] == [(b"0", None), (b"1", 1)]
    assert (world.broker.link.published, world.broker.link.passes) == (["mine"], True)


async def test_after_an_interruption_a_device_without_access_gets_nothing() -> None:
    world = World()
    await interrupted(world)
    world.authenticator.rejection = Rejected(RejectionReason.NOT_AUTHORIZED, "revoked")
    world.connections.reauthorize_all()
    await settle(30)
    assert world.received()[1:] == [Disconnect(Reason.NOT_AUTHORIZED)]
    assert world.broker.link.published == []


async def test_an_interruption_while_a_session_opens_authenticates_again() -> None:
    world = World()

    def interrupt() -> None:
        world.feed.interruptions += 1

    world.broker.opening = interrupt
    await world.connect()
    assert world.authenticator.asked == 2
    world.send(Publish("t", b"", 1, packet_id=1))
    assert world.broker.link.published == ["t"]
