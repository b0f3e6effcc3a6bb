"""A device's session with a fake transport and fake services: authentication, and the end."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tests.unit.vectors import NOW
from thingmint.domain.arns import Scope
from thingmint.domain.errors import Throttled, Unavailable
from thingmint.mqtt import session_authentication as module
from thingmint.mqtt.connected_clients import ConnectedClients
from thingmint.mqtt.connection_index import ConnectionIndex
from thingmint.mqtt.connection_services import Services
from thingmint.mqtt.peer import Peer
from thingmint.mqtt.protocol.decoder import Decoder
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.limits import AWS_LIMITS
from thingmint.mqtt.protocol.packets import ConnAck, Connect, Disconnect, PubAck, Publish, Will
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.rates import NO_RATES, RateLimit, Rates
from thingmint.mqtt.sessions import Session
from thingmint.services.accounts import AccountSettings
from thingmint.services.authentication_decisions import Accepted, Rejected, RejectionReason
from thingmint.services.compiled_policies import PolicySet
from thingmint.services.device_permissions import DevicePermissions

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from thingmint.domain.messages import Message

SCOPE = Scope("111122223333", "us-east-1")
PEER = Peer("192.0.2.1", 40001, fingerprint="a" * 64)
EVERYTHING = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}'
ACCOUNT = ("111122223333", "", "account", "111122223333")


def accepted() -> Accepted:
    permissions = DevicePermissions(PolicySet(SCOPE, [("p", EVERYTHING)]), {}, lambda: NOW)
    return Accepted(SCOPE, "a" * 64, None, None, AccountSettings(), permissions, [ACCOUNT], None)


@dataclass
class Authenticator:
    """Answers when ``go`` is set."""

    go: asyncio.Event
    asked: int = 0
    error: Exception | None = None
    rejection: Rejected | None = None

    async def authenticate(self, *_: object) -> Accepted | Rejected:
        self.asked += 1
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return self.rejection or accepted()

    reauthenticate = authenticate


class Link:
    """``passes``: the broker may deliver."""

    session_present = False

    def __init__(self) -> None:
        self.passes = False
        self.published: list[str] = []

    def resume(self) -> None:
        self.passes = True

    def pause(self) -> None:
        self.passes = False

    def publish(self, message: Message, done: Callable[[Reason], None]) -> None:
        self.published.append(message.topic)
        done(Reason.SUCCESS)

    def congestion(self) -> None: ...

    def close(self) -> None: ...


@dataclass
class Broker:
    error: Exception | None = None
    opened: int = 0
    opening: Callable[[], None] = lambda: None
    link: Any = field(default_factory=Link)
    subscriber: Any = None

    async def open(self, opening: object, subscriber: object) -> Any:
        self.opened += 1
        self.subscriber = subscriber
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


class World:
    def __init__(self, rates: Rates = NO_RATES) -> None:
        self.authenticator = Authenticator(asyncio.Event())
        self.broker = Broker()
        self.connections = ConnectionIndex()
        self.clients = ConnectedClients(lambda: NOW)
        self.rate_limit = RateLimit(rates)
        self.feed: Any = SimpleNamespace(stale=False, fresh_until=math.inf, interruptions=0)
        quiet = SimpleNamespace(
            connected=_nothing, disconnected=_nothing, refused=_nothing, ended_early=_nothing, warn=_nothing
        )
        wills = SimpleNamespace(
            reconnected=_nothing,
            connection_ended=_nothing,
            refusal=_nothing,
            take=lambda *_: True,
            forget=_nothing,
        )
        services: dict[str, Any] = {
            "authenticator": self.authenticator,
            "broker": self.broker,
            "connections": self.connections,
            "clients": self.clients,
            "feed": self.feed,
            "wills": wills,
            "connection_log": quiet,
            "rate_limit": self.rate_limit,
            "slices": self.connections.slices,
        }
        self.session = Session(Services(provisioning=None, limits=AWS_LIMITS, clock=lambda: NOW, **services), PEER)
        self.connection = self.session.connection
        self.transport = Transport()
        self.connection.connection_made(self.transport)

    def is_read(self) -> bool:
        return self.transport.reading

    def send(self, packet: Any) -> None:
        self.connection.data_received(encode(packet, 5))

    def received(self) -> list[Any]:
        return list(Decoder(version=5).feed(self.transport.sent))

    async def connect(self, **fields: Any) -> None:
        self.authenticator.go.set()
        self.send(Connect(5, "c", **fields))
        await settle()


async def settle(turns: int = 10) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def test_a_peer_that_disconnects_during_authentication_is_forgotten() -> None:
    world = World()
    world.send(Connect(5, "c"))
    await settle()
    assert (len(world.connections), world.authenticator.asked) == (1, 1)
    world.connection.connection_lost(None)
    world.authenticator.go.set()
    await settle()
    assert len(world.connections) == 0
    assert world.broker.opened == 0  # no session was taken over


async def test_a_change_during_the_first_authentication_authenticates_again() -> None:
    """Before the session follows its dependencies, any change counts."""
    world = World()
    world.send(Connect(5, "c"))
    await settle()
    world.connections.generation += 1
    world.authenticator.go.set()
    await settle()
    assert world.authenticator.asked == 2


async def test_a_change_of_a_dependency_authenticates_again() -> None:
    world = World()
    await world.connect()
    assert world.authenticator.asked == 1
    world.connections.changed([ACCOUNT])
    await settle()
    assert world.authenticator.asked == 2


async def test_a_device_that_loses_access_while_its_session_opens_is_refused() -> None:
    world, closed = World(), []
    world.broker.link.close = lambda: closed.append(True)

    def end_access() -> None:
        world.authenticator.rejection = Rejected(RejectionReason.NOT_AUTHORIZED, "revoked")
        world.connections.changed([ACCOUNT])

    world.broker.opening = end_access
    await world.connect()
    assert world.received() == [ConnAck(Reason.NOT_AUTHORIZED)]
    assert (closed, len(world.connections)) == ([True], 0)


async def test_the_session_is_closed_if_authentication_fails() -> None:
    world, closed = World(), []
    world.broker.link.close = lambda: closed.append(True)

    def fail() -> None:
        world.authenticator.error = Unavailable("The store is gone")
        world.connections.changed([ACCOUNT])

    world.broker.opening = fail
    await world.connect()
    assert world.received() == [ConnAck(Reason.SERVER_UNAVAILABLE)]
    assert closed == [True]


async def test_unrelated_changes_do_not_authenticate_again() -> None:
    """Otherwise authentication would never end under a steady stream of changes."""
    world = World()
    await world.connect()
    world.authenticator.go.clear()
    world.connections.changed([ACCOUNT])
    await settle()
    world.connections.generation += 1
    world.authenticator.go.set()
    await settle()
    assert world.authenticator.asked == 2


async def test_a_change_during_reauthentication_authenticates_again() -> None:
    world = World()
    await world.connect()
    world.authenticator.go.clear()
    world.connections.changed([ACCOUNT])
    await settle()
    world.connections.changed([ACCOUNT])
    world.authenticator.go.set()
    await settle()
    assert world.authenticator.asked == 3


async def test_an_error_during_reauthentication_disconnects() -> None:
    world = World()
    await world.connect()
    world.authenticator.error = KeyError("a bug")
    world.connections.changed([ACCOUNT])
    await settle()
    assert world.received()[-1] == Disconnect(Reason.UNSPECIFIED_ERROR)
    assert world.transport.closed


async def test_traffic_waits_while_the_store_is_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_RETRY_AFTER", 0)
    world = World()
    await world.connect()
    world.authenticator.error = Unavailable("The store is gone")
    world.connections.changed([ACCOUNT])
    await settle()
    world.send(Publish("t", b"", 1, packet_id=1))
    passed = [(world.broker.link.passes, len(world.broker.link.published))]
    world.authenticator.error = None
    await settle()
    passed.append((world.broker.link.passes, len(world.broker.link.published)))
    assert passed == [(False, 0), (True, 1)]
    assert world.received()[1:] == [PubAck(1)]
    assert not world.transport.closed


async def test_a_silent_device_is_disconnected() -> None:
    world = World()
    await world.connect(keep_alive=60)
    now = asyncio.get_running_loop().time()
    world.session.check_deadlines(now + 89)
    assert world.received()[1:] == []
    world.session.check_deadlines(now + 91)
    assert world.transport.closed
    assert world.received()[-1] == Disconnect(Reason.KEEP_ALIVE_TIMEOUT)


async def test_connects_are_refused_while_changes_cannot_be_followed() -> None:
    async def refresh() -> None:
        raise Unavailable("The store is gone")

    world = World()
    world.feed.stale, world.feed.refresh = True, refresh
    await world.connect()
    assert world.received() == [ConnAck(Reason.SERVER_UNAVAILABLE)]
    assert (world.broker.opened, len(world.connections)) == (0, 0)


async def test_a_stale_feed_is_polled_before_authentication() -> None:
    async def refresh() -> None:
        world.feed.stale = False

    world = World()
    world.feed.stale, world.feed.refresh = True, refresh
    await world.connect()
    assert world.broker.opened == 1


async def test_a_full_broker_refuses_connects() -> None:
    world = World()
    world.broker.error = Throttled("Too many sessions")
    await world.connect()
    assert world.received() == [ConnAck(Reason.SERVER_BUSY)]
    assert world.transport.closed
    assert len(world.connections) == 0


async def test_a_will_without_room_refuses_connect() -> None:
    world = World()
    world.session._services.wills.take = lambda *_: False  # type: ignore[method-assign]
    await world.connect(will=Will("w", b"x"))
    assert world.received() == [ConnAck(Reason.QUOTA_EXCEEDED)]
    assert world.broker.opened == 0
