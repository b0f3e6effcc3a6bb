"""A device's connection between a transport and services that are not real."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.vectors import NOW
from thingmint.access.callers import Caller
from thingmint.domain.arns import Scope
from thingmint.domain.door import DoorSettings
from thingmint.domain.errors import Throttled, Unavailable
from thingmint.mqtt import intake
from thingmint.mqtt.admission import Admitted, Refused
from thingmint.mqtt.connection_index import ConnectionIndex
from thingmint.mqtt.device import DeviceConnection, Services
from thingmint.mqtt.messages import ConnectedClients
from thingmint.mqtt.peer import Peer
from thingmint.mqtt.protocol.connection import MAX_PACKETS
from thingmint.mqtt.protocol.decoder import Decoder
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.limits import AWS_LIMITS
from thingmint.mqtt.protocol.packets import ConnAck, Connect, Disconnect, PingReq, Publish, Will
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.rates import NO_RATES, RateLimit, Rates
from thingmint.services.device_permissions import DevicePermissions

if TYPE_CHECKING:
    from collections.abc import Callable

SCOPE = Scope("111122223333", "us-east-1")
PEER = Peer("192.0.2.1", 40001, fingerprint="a" * 64)
EVERYTHING = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}'
ACCOUNT = ("111122223333", "", "account", "111122223333")


def admitted() -> Admitted:
    permissions = DevicePermissions(SCOPE, [("p", EVERYTHING)], {}, lambda: NOW)
    caller = Caller(SCOPE.account, (SCOPE.region,), "c", "c", "arn", "c", ())
    return Admitted(SCOPE, [ACCOUNT], permissions, caller, DoorSettings(), None)


@dataclass
class Admission:
    """Answers once ``go`` is set."""

    go: asyncio.Event
    asked: int = 0
    error: Exception | None = None
    refusal: Refused | None = None

    def dependencies(self, peer: Peer) -> set[Any]:
        return {("", "", "certificate", peer.fingerprint)}

    async def judge(
        self, peer: Peer, client_id: str, scope: Scope | None = None, *, connecting: bool = False
    ) -> Admitted | Refused:
        self.asked += 1
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return self.refusal or admitted()


@dataclass
class Broker:
    error: Exception | None = None
    opened: int = 0
    opening: Callable[[], None] = lambda: None
    link: Any = field(default_factory=lambda: SimpleNamespace(session_present=False, resume=_nothing, close=_nothing))

    async def open(self, opening: object, subscriber: object) -> Any:
        self.opened += 1
        self.opening()
        if self.error is not None:
            raise self.error
        return self.link


def _nothing(*args: object, **fields: object) -> None:
    pass


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.unread = 0
        self.reading = True
        self.closed = False

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class Setting:
    def __init__(self, rates: Rates = NO_RATES) -> None:
        self.admission = Admission(asyncio.Event())
        self.broker = Broker()
        self.connections = ConnectionIndex()
        self.clients = ConnectedClients(lambda: NOW)
        self.rate_limit = RateLimit(rates)
        self.feed = SimpleNamespace(stale=False)
        quiet = SimpleNamespace(
            connected=_nothing, disconnected=_nothing, refused=_nothing, ended_early=_nothing, warn=_nothing
        )
        wills = SimpleNamespace(came_back=_nothing, leave=_nothing, take=lambda *_: True, forget=_nothing)
        services: dict[str, Any] = {
            "admission": self.admission,
            "broker": self.broker,
            "connections": self.connections,
            "clients": self.clients,
            "feed": self.feed,
            "wills": wills,
            "connection_log": quiet,
            "rate_limit": self.rate_limit,
            "slices": self.connections.slices,
        }
        self.device = DeviceConnection(
            Services(provisioning=None, limits=AWS_LIMITS, clock=lambda: NOW, **services), PEER
        )
        self.transport = Transport()
        self.device.connection_made(self.transport)

    def is_read(self) -> bool:
        return self.transport.reading

    def send(self, packet: Any) -> None:
        self.device.data_received(encode(packet, 5))

    def heard(self) -> list[Any]:
        return list(Decoder(version=5).feed(self.transport.sent))

    async def connect(self, **fields: Any) -> None:
        self.admission.go.set()
        self.send(Connect(5, "c", **fields))
        await settle()


async def settle(turns: int = 10) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def test_a_peer_that_goes_while_it_is_judged_is_forgotten() -> None:
    setting = Setting()
    setting.send(Connect(5, "c"))
    await settle()
    assert (len(setting.connections), setting.admission.asked) == (1, 1)
    setting.device.connection_lost(None)
    setting.admission.go.set()
    await settle()
    assert len(setting.connections) == 0
    assert setting.broker.opened == 0  # and takes nobody's session over


async def test_a_change_that_comes_before_it_is_followed_is_seen() -> None:
    """What was read is read again if anything at all changed meanwhile."""

    setting = Setting()
    setting.send(Connect(5, "c"))
    await settle()
    setting.connections.generation += 1
    setting.admission.go.set()
    await settle()
    assert setting.admission.asked == 2


async def test_a_change_of_what_is_followed_is_judged_again() -> None:
    setting = Setting()
    await setting.connect()
    assert setting.admission.asked == 1
    setting.connections.changed([ACCOUNT])
    await settle()
    assert setting.admission.asked == 2


async def test_a_device_whose_access_ends_while_its_session_is_opened_is_not_let_in() -> None:
    setting, closed = Setting(), []
    setting.broker.link.close = lambda: closed.append(True)

    def end_access() -> None:
        setting.admission.refusal = Refused(Reason.NOT_AUTHORIZED, "revoked")
        setting.connections.changed([ACCOUNT])

    setting.broker.opening = end_access
    await setting.connect()
    assert setting.heard() == [ConnAck(Reason.NOT_AUTHORIZED)]
    assert (closed, len(setting.connections)) == ([True], 0)


async def test_a_session_is_not_left_open_if_its_device_cannot_be_judged() -> None:
    setting, closed = Setting(), []
    setting.broker.link.close = lambda: closed.append(True)

    def fail() -> None:
        setting.admission.error = Unavailable("The store is gone")
        setting.connections.changed([ACCOUNT])

    setting.broker.opening = fail
    await setting.connect()
    assert setting.heard() == [ConnAck(Reason.SERVER_UNAVAILABLE)]
    assert closed == [True]


async def test_other_news_are_no_reason_to_judge_again() -> None:
    """Else nobody would ever be done with it while others are changed all the time."""

    setting = Setting()
    await setting.connect()
    setting.admission.go.clear()
    setting.connections.changed([ACCOUNT])
    await settle()
    setting.connections.generation += 1
    setting.admission.go.set()
    await settle()
    assert setting.admission.asked == 2


async def test_a_change_while_it_is_judged_again() -> None:
    setting = Setting()
    await setting.connect()
    setting.admission.go.clear()
    setting.connections.changed([ACCOUNT])
    await settle()
    setting.connections.changed([ACCOUNT])
    setting.admission.go.set()
    await settle()
    assert setting.admission.asked == 3


@pytest.mark.parametrize(
    ("error", "reason"),
    [(Unavailable("The store is gone"), Reason.SERVER_BUSY), (KeyError("a bug"), Reason.UNSPECIFIED_ERROR)],
)
async def test_whoever_cannot_be_judged_again_does_not_stay(error: Exception, reason: Reason) -> None:
    setting = Setting()
    await setting.connect()
    setting.admission.error = error
    setting.connections.changed([ACCOUNT])
    await settle()
    assert setting.heard()[-1] == Disconnect(reason)
    assert setting.transport.closed


async def test_keep_alive() -> None:
    setting = Setting()
    await setting.connect(keep_alive=60)
    now = asyncio.get_running_loop().time()
    setting.device.check_deadlines(now + 89)
    assert setting.heard()[1:] == []
    setting.device.check_deadlines(now + 91)
    assert setting.transport.closed
    assert setting.heard()[-1] == Disconnect(Reason.KEEP_ALIVE_TIMEOUT)


async def test_a_gateway_that_cannot_follow_lets_nobody_in() -> None:
    async def poll() -> None:
        raise Unavailable("The store is gone")

    setting = Setting()
    setting.feed.stale, setting.feed.poll = True, poll
    await setting.connect()
    assert setting.heard() == [ConnAck(Reason.SERVER_UNAVAILABLE)]
    assert (setting.broker.opened, len(setting.connections)) == (0, 0)


async def test_a_gateway_that_was_held_up_looks_first() -> None:
    async def poll() -> None:
        setting.feed.stale = False

    setting = Setting()
    setting.feed.stale, setting.feed.poll = True, poll
    await setting.connect()
    assert setting.broker.opened == 1


async def test_a_broker_that_is_full() -> None:
    setting = Setting()
    setting.broker.error = Throttled("Too many sessions")
    await setting.connect()
    assert setting.heard() == [ConnAck(Reason.SERVER_BUSY)]
    assert setting.transport.closed
    assert len(setting.connections) == 0


async def test_a_device_that_takes_no_answers_is_not_read_from() -> None:
    setting = Setting()
    await setting.connect()
    setting.transport.unread = 300 * 1024
    setting.send(PingReq())
    assert not setting.transport.reading
    setting.transport.unread = 0
    setting.device.resume_writing()
    assert setting.transport.reading


async def test_devices_have_turns() -> None:
    setting = Setting()
    await setting.connect()
    before = len(setting.transport.sent)
    setting.device.data_received(encode(PingReq(), 5) * 10_000)
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
        setting.device.data_received(encode(Publish("$aws/x", b"", 1, packet_id=number + 1), 5))
    answered = setting.heard()[1:]
    assert len(answered) == 51  # a second's worth, and the one that was too much
    assert not setting.is_read()
    assert setting.rate_limit.exceeded == 1
    now = asyncio.get_running_loop().time()
    setting.device.check_deadlines(now + 46)  # it could not be heard
    assert Disconnect(Reason.KEEP_ALIVE_TIMEOUT) not in setting.heard()
    await asyncio.sleep(0.3)
    assert len(setting.heard()[1:]) == 60  # nothing was dropped
    assert setting.is_read()
    setting.device.check_deadlines(now + 92)
    assert setting.transport.closed


async def test_without_rates_nothing_waits() -> None:
    setting = Setting(NO_RATES)
    await setting.connect()
    for number in range(300):
        setting.device.data_received(encode(Publish("$aws/x", b"", 1, packet_id=number + 1), 5))
    assert len(setting.heard()[1:]) == 300


async def test_what_waits_for_an_event_is_bounded() -> None:
    """While one takes time no packet is decoded, and soon nothing is read."""
    setting = Setting()
    await setting.connect()
    setting.device._busy = asyncio.create_task(asyncio.sleep(10))
    setting.device.data_received(encode(PingReq(), 5) * 4_000)
    assert setting.is_read()
    setting.device.data_received(encode(PingReq(), 5) * 8_000)
    assert not setting.is_read()
    assert len(setting.heard()) == 1
    setting.device._busy.cancel()


async def test_a_will_for_which_there_is_no_room() -> None:
    setting = Setting()
    setting.device._services.wills.take = lambda *_: False  # type: ignore[method-assign]
    await setting.connect(will=Will("w", b"x"))
    assert setting.heard() == [ConnAck(Reason.QUOTA_EXCEEDED)]
    assert setting.broker.opened == 0


async def test_what_comes_before_connect_is_bounded_for_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "_MAX_UNACCEPTED", 100_000)
    setting = Setting()
    setting.rate_limit.unaccepted = 95_000  # what others hold
    part = encode(Connect(5, "c", will=Will("w", b"x" * 60_000)), 5)[:8_000]
    setting.device.data_received(part[:4_000])
    assert Reason.QUOTA_EXCEEDED not in [each.reason for each in setting.heard()]
    setting.rate_limit.unaccepted += 5_000
    setting.device.data_received(part[4_000:])
    assert setting.transport.closed
    assert setting.rate_limit.unaccepted == 100_000
    other = Setting()
    other.rate_limit.unaccepted = 200_000
    await other.connect()  # a small one has room still
    assert other.rate_limit.unaccepted == 200_000
    assert other.broker.opened == 1
