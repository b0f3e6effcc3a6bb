"""The connections that are reauthorized after a change, and those that the change waits for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.mqtt.broker.embedded.helpers import Turns
from thingmint.mqtt import connection_index as module
from thingmint.mqtt.connection_index import ConnectionIndex
from thingmint.mqtt.slices import STEPS, Slices
from thingmint.store.engine import PublishedChange

if TYPE_CHECKING:
    from thingmint.mqtt.protocol.reasons import Reason


class Connection:
    is_accepted = True

    def __init__(self) -> None:
        self.reauthorized = 0

    def reauthorize(self) -> asyncio.Future[None] | None:
        self.reauthorized += 1
        return None

    def suspend(self) -> None: ...

    def disconnect(self, reason: Reason, why: str, *, with_will: bool = False) -> None:
        raise AssertionError

    def check_deadlines(self, now: float) -> None:
        raise AssertionError


A = ("1", "r", "policy", "a")
B = ("1", "r", "policy", "b")
CERTIFICATE = ("1", "r", "certificate", "c")
OTHER_ACCOUNT = ("2", "r", "policy", "a")


def test_a_change_reauthorizes_each_dependent_connection_once() -> None:
    connections, one, two = ConnectionIndex(), Connection(), Connection()
    connections.follow(one, [A, B])
    connections.follow(two, [OTHER_ACCOUNT])
    connections.changed([A, B, A])
    assert (one.reauthorized, two.reauthorized) == (1, 0)
    connections.changed([OTHER_ACCOUNT])
    assert (one.reauthorized, two.reauthorized) == (1, 1)


def test_follow_replaces_the_dependencies() -> None:
    connections, one = ConnectionIndex(), Connection()
    connections.follow(one, [A])
    connections.follow(one, [B])
    connections.changed([A])
    assert one.reauthorized == 0
    connections.changed([B])
    assert one.reauthorized == 1
    assert len(connections) == 1


def test_remove_forgets_the_connection() -> None:
    connections, one = ConnectionIndex(), Connection()
    connections.follow(one, [A, B])
    connections.remove(one)
    connections.remove(one)
    connections.changed([A, B])
    assert one.reauthorized == 0
    assert len(connections) == 0
    assert not connections._sole
    assert not connections._dependents


def test_a_connection_may_end_during_a_change() -> None:
    connections, two = ConnectionIndex(), Connection()

    class Leaving(Connection):
        def reauthorize(self) -> None:
            connections.remove(self)

    connections.follow(Leaving(), [A])
    connections.follow(two, [A])
    connections.changed([A])
    assert two.reauthorized == 1


def test_a_dependency_of_two_connections_may_become_one_of_a_single_connection() -> None:
    connections, one, two = ConnectionIndex(), Connection(), Connection()
    connections.follow(one, [A, B])
    connections.follow(two, [A])
    assert set(connections.followed_by(one)) == {A, B}
    connections.changed([A])
    connections.remove(one)
    connections.changed([A, B])
    assert (one.reauthorized, two.reauthorized) == (1, 2)
    connections.follow(one, [A])
    connections.remove(two)
    connections.changed([A])
    assert (one.reauthorized, two.reauthorized) == (2, 2)
    connections.remove(one)
    assert not connections._sole
    assert not connections._dependents


class Slow(Connection):
    """Is reauthorized when ``go`` is set."""

    def __init__(self, go: asyncio.Event) -> None:
        super().__init__()
        self.go = go
        self.done = False

    def reauthorize(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_task(self._reauthorize())

    async def _reauthorize(self) -> None:
        await self.go.wait()
        self.done = True


def change(kind: Any, name: str = "a") -> PublishedChange:
    return PublishedChange(f"{kind} {name}", 0, "1", "r", kind, name)


@pytest.mark.parametrize("dependency", [("1", "r", "certificate", "a"), ("", "", "certificate", "a")])
async def test_close_waits_until_connections_are_reauthorized(dependency: tuple[str, str, str, str]) -> None:
    connections, slow = ConnectionIndex(), Slow(asyncio.Event())
    connections.follow(slow, [dependency])
    closing = asyncio.create_task(connections.close([change("certificate")]))
    await asyncio.sleep(0.01)
    assert not closing.done()
    slow.go.set()
    await closing
    assert slow.done


async def test_close_waits_for_a_reauthorization_under_way() -> None:
    """Two changes of one certificate: both wait until the connection is closed."""
    connections, go = ConnectionIndex(), asyncio.Event()
    underway = asyncio.get_running_loop().create_task(go.wait())

    class Underway(Connection):
        def reauthorize(self) -> Any:
            return underway

    connections.follow(Underway(), [("1", "r", "certificate", "a")])
    both = [asyncio.create_task(connections.close([change("certificate")])) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert not any(each.done() for each in both)
    go.set()
    await asyncio.gather(*both)


async def test_close_waits_for_queued_connections_only_if_their_certificate_changed() -> None:
    connections, never, go = ConnectionIndex(), asyncio.Event(), asyncio.Event()
    many = [Slow(never) for _ in range(101)]
    for slow in many:
        connections.follow(slow, [("1", "r", "policy", "a")])
    own = Slow(go)
    connections.follow(own, [("1", "r", "policy", "a"), ("1", "r", "certificate", "a")])
    await asyncio.wait_for(connections.close([change("policy")]), 0.2)
    closing = asyncio.create_task(connections.close([change("policy"), change("certificate")]))
    await asyncio.sleep(0.01)
    assert not closing.done()
    go.set()
    await closing
    assert own.done
    assert not any(slow.done for slow in many)
    never.set()
    await asyncio.sleep(0.01)
    assert all(slow.done for slow in many), "the queued connections are reauthorized too"


async def test_close_waits_for_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAIT_AT_MOST", 0.01)
    connections, slow = ConnectionIndex(), Slow(asyncio.Event())
    connections.follow(slow, [("1", "r", "certificate", "a")])
    await connections.close([change("certificate")])
    slow.go.set()
    await asyncio.sleep(0.01)
    assert slow.done, "the reauthorization goes on"


class SlowAndCounted(Connection):
    """Is reauthorized when ``go`` is set. ``most`` is the highest number at the same time."""

    under_way = most = 0

    def __init__(self, go: asyncio.Event) -> None:
        super().__init__()
        self.go = go

    def reauthorize(self) -> asyncio.Future[None]:
        self.reauthorized += 1
        SlowAndCounted.under_way += 1
        SlowAndCounted.most = max(SlowAndCounted.most, SlowAndCounted.under_way)
        return asyncio.ensure_future(self._reauthorize())

    async def _reauthorize(self) -> None:
        await self.go.wait()
        SlowAndCounted.under_way -= 1


async def test_many_dependent_connections_are_reauthorized_a_few_at_a_time() -> None:
    connections, go = (
        ConnectionIndex(Slices(clock=lambda: 0.0)),
        asyncio.Event(),
    )  # turns end after a number of steps, never by time
    members = [SlowAndCounted(go) for _ in range(10_000)]
    for member in members:
        connections.follow(member, [A])
    urgent = members[-1]
    connections.follow(urgent, [A, CERTIFICATE])
    assert connections.changed([A]) == []
    assert sum(member.reauthorized for member in members) == 32
    assert len(connections.changed([A, CERTIFICATE])) == 1  # a connection whose certificate changed is not queued
    assert urgent.reauthorized == 1
    connections.remove(members[-2])  # disconnects meanwhile
    go.set()
    for _ in range(100_000):  # a slow machine needs more turns, as time limits each of them too
        await asyncio.sleep(0)
        if not connections._queued:
            break
    assert SlowAndCounted.most <= 33
    assert members[-2].reauthorized == 0
    assert all(member.reauthorized for member in members[:-2])


async def test_many_connections_are_reauthorized_in_slices() -> None:
    connections = ConnectionIndex(Slices(turns := Turns()))
    members = [Connection() for _ in range(10_000)]  # none is open yet
    for member in members:
        connections.follow(member, [A])
    connections.changed([A])
    reauthorized = [sum(member.reauthorized for member in members)]
    while turns.one():
        reauthorized.append(sum(member.reauthorized for member in members))
    assert max(after - before for before, after in zip([0, *reauthorized], reauthorized, strict=False)) <= STEPS
    assert reauthorized[-1] == 10_000


async def test_close_waits_for_all_connections_of_a_changed_certificate() -> None:
    """They are reauthorized before queued connections, even if they are queued for another change already."""
    connections, others = ConnectionIndex(), [Slow(asyncio.Event()) for _ in range(101)]
    for other in others:
        connections.follow(other, [("1", "r", "policy", "a")])
        other.go.set()
    await connections.close([change("policy")])
    many = [Slow(asyncio.Event()) for _ in range(150)]
    for slow in many:
        connections.follow(slow, [("1", "r", "certificate", "a"), ("1", "r", "policy", "a")])
    closing = asyncio.create_task(connections.close([change("policy"), change("certificate")]))
    for slow in many:
        assert not closing.done()
        slow.go.set()
        await asyncio.sleep(0)
    await asyncio.wait_for(closing, 0.9)
    assert all(slow.done for slow in many)


async def test_close_waits_for_many_connections_for_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAIT_AT_MOST", 0.05)
    connections, never = ConnectionIndex(), asyncio.Event()
    for _ in range(101):
        connections.follow(Slow(never), [("1", "r", "certificate", "a")])
    await asyncio.wait_for(connections.close([change("certificate")]), 0.5)
    never.set()
    await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("change", "reauthorized"),
    [
        (("1", "r", "policy", "p"), 1),
        (("1", "r", "policy", "q"), 0),
        (("1", "r", "thing", "p"), 0),
        (("1", "elsewhere", "policy", "p"), 0),
        (("2", "r", "policy", "p"), 0),
        (("1", "", "account", "1"), 1),
        (("2", "", "account", "2"), 0),
        # The account may be unknown yet, so the certificate is followed in all accounts.
        (("2", "elsewhere", "certificate", "c"), 1),
        (("1", "r", "certificate", "d"), 0),
        (("", "", "access", ""), 0),
    ],
)
async def test_a_published_change_concerns_connections_that_depend_on_it(
    change: tuple[str, str, Any, str], reauthorized: int
) -> None:
    connections, one = ConnectionIndex(), Connection()
    connections.follow(one, [("1", "r", "policy", "p"), ("1", "", "account", "1"), ("", "", "certificate", "c")])
    connections.reauthorize([PublishedChange("n", 0, *change)])
    assert (one.reauthorized, connections.generation) == (reauthorized, 1)
