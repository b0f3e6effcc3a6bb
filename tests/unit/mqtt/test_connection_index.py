"""Which connections read again after a change, and for which of them the change waits."""

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
    def __init__(self) -> None:
        self.told = 0

    def reauthorize(self) -> asyncio.Future[None] | None:
        self.told += 1
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


def test_only_those_concerned_are_told_and_once() -> None:
    connections, one, two = ConnectionIndex(), Connection(), Connection()
    connections.follow(one, [A, B])
    connections.follow(two, [OTHER_ACCOUNT])
    connections.changed([A, B, A])
    assert (one.told, two.told) == (1, 0)
    connections.changed([OTHER_ACCOUNT])
    assert (one.told, two.told) == (1, 1)


def test_following_anew_replaces_what_was_followed() -> None:
    connections, one = ConnectionIndex(), Connection()
    connections.follow(one, [A])
    connections.follow(one, [B])
    connections.changed([A])
    assert one.told == 0
    connections.changed([B])
    assert one.told == 1
    assert len(connections) == 1


def test_nothing_is_kept_of_a_connection_that_is_gone() -> None:
    connections, one = ConnectionIndex(), Connection()
    connections.follow(one, [A, B])
    connections.remove(one)
    connections.remove(one)
    connections.changed([A, B])
    assert one.told == 0
    assert len(connections) == 0
    assert not connections._sole
    assert not connections._dependents


def test_a_connection_that_leaves_while_others_are_told_does_no_harm() -> None:
    connections, two = ConnectionIndex(), Connection()

    class Leaving(Connection):
        def reauthorize(self) -> None:
            connections.remove(self)

    connections.follow(Leaving(), [A])
    connections.follow(two, [A])
    connections.changed([A])
    assert two.told == 1


def test_what_several_hang_on_and_then_one() -> None:
    connections, one, two = ConnectionIndex(), Connection(), Connection()
    connections.follow(one, [A, B])
    connections.follow(two, [A])
    assert set(connections.followed_by(one)) == {A, B}
    connections.changed([A])
    connections.remove(one)
    connections.changed([A, B])
    assert (one.told, two.told) == (1, 2)
    connections.follow(one, [A])
    connections.remove(two)
    connections.changed([A])
    assert (one.told, two.told) == (2, 2)
    connections.remove(one)
    assert not connections._sole
    assert not connections._dependents


class Slow(Connection):
    """Reads again until ``go`` is set."""

    def __init__(self, go: asyncio.Event) -> None:
        super().__init__()
        self.go = go
        self.done = False

    def reauthorize(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        await self.go.wait()
        self.done = True


def change(kind: Any, name: str = "a") -> PublishedChange:
    return PublishedChange(f"{kind} {name}", 0, "1", "r", kind, name)


@pytest.mark.parametrize("dependency", [("1", "r", "certificate", "a"), ("", "", "certificate", "a")])
async def test_a_change_waits_until_connections_are_judged(dependency: tuple[str, str, str, str]) -> None:
    connections, slow = ConnectionIndex(), Slow(asyncio.Event())
    connections.follow(slow, [dependency])
    closing = asyncio.create_task(connections.close([change("certificate")]))
    await asyncio.sleep(0.01)
    assert not closing.done()
    slow.go.set()
    await closing
    assert slow.done


async def test_a_change_waits_for_one_that_is_judged_already() -> None:
    """Two changes of one certificate: neither is answered before the connection is closed."""
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


async def test_a_change_does_not_wait_for_many_connections_but_for_their_own_certificates() -> None:
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
    assert all(slow.done for slow in many), "they were told all the same"


async def test_a_change_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAIT_AT_MOST", 0.01)
    connections, slow = ConnectionIndex(), Slow(asyncio.Event())
    connections.follow(slow, [("1", "r", "certificate", "a")])
    await connections.close([change("certificate")])
    slow.go.set()
    await asyncio.sleep(0.01)
    assert slow.done, "nor does it end the judgement"


class Reading(Connection):
    """Takes until ``go`` to read again. ``most`` is how many did at the same time."""

    under_way = most = 0

    def __init__(self, go: asyncio.Event) -> None:
        super().__init__()
        self.go = go

    def reauthorize(self) -> asyncio.Future[None]:
        self.told += 1
        Reading.under_way += 1
        Reading.most = max(Reading.most, Reading.under_way)
        return asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        await self.go.wait()
        Reading.under_way -= 1


async def test_of_many_that_depend_on_a_change_a_few_at_a_time_read_again() -> None:
    connections, go = ConnectionIndex(Slices(clock=lambda: 0.0)), asyncio.Event()  # turns end by their steps alone
    members = [Reading(go) for _ in range(10_000)]
    for member in members:
        connections.follow(member, [A])
    urgent = members[-1]
    connections.follow(urgent, [A, CERTIFICATE])
    assert connections.changed([A]) == []
    assert sum(member.told for member in members) == 32
    assert len(connections.changed([A, CERTIFICATE])) == 1  # whose certificate changed does not wait for the others
    assert urgent.told == 1
    connections.remove(members[-2])  # which has gone meanwhile
    go.set()
    for _ in range(100_000):  # a slow machine has more turns, as each is bounded by time too
        await asyncio.sleep(0)
        if not connections._queued:
            break
    assert Reading.most <= 33
    assert members[-2].told == 0
    assert all(member.told for member in members[:-2])


async def test_telling_many_is_done_in_slices() -> None:
    connections = ConnectionIndex(Slices(turns := Turns()))
    members = [Connection() for _ in range(10_000)]  # of which none is open yet
    for member in members:
        connections.follow(member, [A])
    connections.changed([A])
    told = [sum(member.told for member in members)]
    while turns.one():
        told.append(sum(member.told for member in members))
    assert max(after - before for before, after in zip([0, *told], told, strict=False)) <= STEPS
    assert told[-1] == 10_000


async def test_a_change_waits_for_all_connections_of_its_certificate_however_many() -> None:
    """They come before others that are told a few at a time, and have been told of something else already."""
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


async def test_a_change_does_not_wait_for_ever_for_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAIT_AT_MOST", 0.05)
    connections, never = ConnectionIndex(), asyncio.Event()
    for _ in range(101):
        connections.follow(Slow(never), [("1", "r", "certificate", "a")])
    await asyncio.wait_for(connections.close([change("certificate")]), 0.5)
    never.set()
    await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("1", "r", "policy", "p"), 1),
        (("1", "r", "policy", "q"), 0),
        (("1", "r", "thing", "p"), 0),
        (("1", "elsewhere", "policy", "p"), 0),
        (("2", "r", "policy", "p"), 0),
        (("1", "", "account", "1"), 1),
        (("2", "", "account", "2"), 0),
        # Whose certificate it is may not be known yet, so it is followed in all accounts.
        (("2", "elsewhere", "certificate", "c"), 1),
        (("1", "r", "certificate", "d"), 0),
        (("", "", "access", ""), 0),
    ],
)
async def test_whom_a_published_change_concerns(change: tuple[str, str, Any, str], told: int) -> None:
    connections, one = ConnectionIndex(), Connection()
    connections.follow(one, [("1", "r", "policy", "p"), ("1", "", "account", "1"), ("", "", "certificate", "c")])
    connections.reauthorize([PublishedChange("n", 0, *change)])
    assert (one.told, connections.generation) == (told, 1)
