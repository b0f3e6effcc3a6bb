"""Open sessions follow changes: immediately in the process that makes them, in other processes after a poll."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.unit.mqtt.test_sessions import Transport
from tests.world import OURS
from thingmint.mqtt.connected_clients import ConnectedClients
from thingmint.mqtt.connection_index import ConnectionIndex
from thingmint.mqtt.connection_services import Services
from thingmint.mqtt.peer import Peer
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.limits import AWS_LIMITS
from thingmint.mqtt.protocol.packets import Connect
from thingmint.mqtt.rates import NO_RATES, RateLimit
from thingmint.mqtt.sessions import Session
from thingmint.mqtt.traffic import Traffic
from thingmint.services.change_feed import ChangeFeed
from thingmint.services.compiled_policies import PolicySets
from thingmint.services.device_authentication import DeviceAuthenticator
from thingmint.services.hostnames import HostNames
from thingmint.store.engine import StoreWrapper

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from tests.world import World
    from thingmint.store.engine import Body

    T = TypeVar("T")

pytestmark = pytest.mark.parametrize("world", ["sqlite", "postgres"], indirect=True)

ARN = f"arn:aws:iot:{OURS.region}:{OURS.account}:"


def document(*topics: str) -> str:
    resources = [f"{ARN}client/*", *(f"{ARN}topic/{topic}" for topic in topics)]
    statement = {"Effect": "Allow", "Action": ["iot:Connect", "iot:Publish"], "Resource": resources}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


class Process:
    """A gateway with one connected device, and a store to change the device's permissions."""

    def __init__(self, world: World, fingerprint: str) -> None:
        self.connections, self.sets = ConnectionIndex(), PolicySets()
        self.feed = ChangeFeed(world.store, self.connections, world.clock)
        self.feed.follow(self.sets.forget)
        self.store = self.feed.followed()
        names = ("connected", "disconnected", "refused", "ended_early", "warn")
        services = Services(
            authenticator=DeviceAuthenticator(
                world.store, HostNames({}), world.clock, OURS.account, policy_sets=self.sets
            ),
            broker=cast("Any", SimpleNamespace(open=_opened)),
            connections=self.connections,
            clients=ConnectedClients(world.clock),
            feed=self.feed,
            wills=cast("Any", SimpleNamespace(reconnected=_nothing, connection_ended=_nothing, forget=_nothing)),
            connection_log=cast("Any", SimpleNamespace(**dict.fromkeys(names, _nothing))),
            provisioning=None,
            limits=AWS_LIMITS,
            rate_limit=RateLimit(NO_RATES),
            slices=self.connections.slices,
            clock=world.clock,
        )
        self.session = Session(services, Peer("192.0.2.7", 4711, fingerprint))
        self.transport = Transport()

    async def connect(self) -> None:
        await self.feed.poll()
        connection = self.session.connection
        connection.connection_made(self.transport)
        connection.data_received(encode(Connect(5, "t"), 5))
        assert connection._busy is not None
        await asyncio.wait([connection._busy])
        assert self.session.is_accepted

    async def polls(self) -> None:
        """Polls the change feed, and waits until the sessions are reauthorized."""
        await self.feed.poll()
        while (task := self.session._reauthorizing) is not None:
            await asyncio.wait([task])

    def publishes(self, *topics: str) -> set[str]:
        traffic = self.session._traffic
        assert isinstance(traffic, Traffic)
        return {topic for topic in topics if traffic.permissions.allows("Publish", topic)}


class Writing(StoreWrapper):
    """The world's store, which writes through one process."""

    def __init__(self, world: World, process: Process) -> None:
        super().__init__(world.store)
        self._process = process

    async def write(self, body: Body[T], *, urgent: bool = False, once: bool = False) -> T:
        return await self._process.store.write(body, urgent=urgent, once=once)


def _nothing(*_: object, **__: object) -> None:
    pass


async def _opened(*_: object) -> Any:
    return SimpleNamespace(session_present=False, resume=_nothing, close=_nothing)


@pytest.fixture
async def processes(world: World) -> list[Process]:
    """Two processes, with the same device connected to each. The first one makes the changes."""
    fingerprint = await world.certificate()
    await world.aws("CreatePolicy", policyName="p", policyDocument=document("a"))
    await world.aws("AttachPolicy", policyName="p", target=f"{ARN}cert/{fingerprint}")
    made = [Process(world, fingerprint) for _ in range(2)]
    for process in made:
        await process.connect()
    world.store = cast("Any", Writing(world, made[0]))
    return made


async def test_a_default_version_reaches_open_sessions(world: World, processes: list[Process]) -> None:
    here, there = processes
    assert (here.publishes("a", "b"), there.publishes("a", "b")) == ({"a"}, {"a"})
    given = {"policyName": "p", "policyDocument": document("b"), "setAsDefault": True}
    await world.aws("CreatePolicyVersion", **given)
    assert here.publishes("a", "b") == {"b"}, "when the call returns"
    await there.polls()
    assert there.publishes("a", "b") == {"b"}
    assert not any(process.transport.closed for process in processes)


CHANGES: dict[str, Callable[[World, str], Awaitable[Any]]] = {
    "status": lambda world, its: world.aws("UpdateCertificate", certificateId=its, newStatus="REVOKED"),
    "attachment": lambda world, its: world.aws("DetachPolicy", policyName="p", target=f"{ARN}cert/{its}"),
    "version": lambda world, _: world.aws(
        "CreatePolicyVersion",
        policyName="p",
        policyDocument=document().replace("Allow", "Deny"),
        setAsDefault=True,
    ),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_lost_access_ends_open_sessions(world: World, processes: list[Process], change: str) -> None:
    here, there = processes
    fingerprint = here.session.peer.fingerprint
    assert fingerprint is not None
    await CHANGES[change](world, fingerprint)
    assert here.transport.closed, "when the call returns"
    await there.polls()
    assert there.transport.closed
    assert len(there.connections) == 0


async def test_a_changed_policy_leaves_the_cache(world: World, processes: list[Process]) -> None:
    here, there = processes
    assert (len(here.sets), len(there.sets)) == (1, 1)
    await world.aws("CreatePolicyVersion", policyName="p", policyDocument=document("b"), setAsDefault=True)
    await there.polls()
    assert (len(here.sets), len(there.sets)) == (1, 1), "the new one"
    for process in processes:
        process.session.connection.connection_lost(None)
    await world.aws("SetDefaultPolicyVersion", policyName="p", policyVersionId="1")
    await there.polls()
    assert (len(here.sets), len(there.sets)) == (0, 0)
