"""Which connections read again after a change, and for which of them the change waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.mqtt.broker.embedded.helpers import Turns
from thingmint.mqtt import hub as module
from thingmint.mqtt.hub import Hub
from thingmint.mqtt.slices import STEPS, Slices
from thingmint.store.engine import Notice

if TYPE_CHECKING:
    from thingmint.mqtt.protocol.reasons import Reason


class Connection:
    def __init__(self) -> None:
        self.told = 0

    def reconsider(self) -> asyncio.Future[None] | None:
        self.told += 1
        return None

    def throw_out(self, reason: Reason, why: str) -> None:
        raise AssertionError

    def check(self, now: float) -> None:
        raise AssertionError


A = ("1", "r", "policy", "a")
B = ("1", "r", "policy", "b")
CERTIFICATE = ("1", "r", "certificate", "c")
OTHER_ACCOUNT = ("2", "r", "policy", "a")


def test_only_those_concerned_are_told_and_once() -> None:
    hub, one, two = Hub(), Connection(), Connection()
    hub.follow(one, [A, B])
    hub.follow(two, [OTHER_ACCOUNT])
    hub.changed([A, B, A])
    assert (one.told, two.told) == (1, 0)
    hub.changed([OTHER_ACCOUNT])
    assert (one.told, two.told) == (1, 1)


def test_following_anew_replaces_what_was_followed() -> None:
    hub, one = Hub(), Connection()
    hub.follow(one, [A])
    hub.follow(one, [B])
    hub.changed([A])
    assert one.told == 0
    hub.changed([B])
    assert one.told == 1
    assert len(hub) == 1


def test_nothing_is_kept_of_a_connection_that_is_gone() -> None:
    hub, one = Hub(), Connection()
    hub.follow(one, [A, B])
    hub.remove(one)
    hub.remove(one)
    hub.changed([A, B])
    assert one.told == 0
    assert len(hub) == 0
    assert not hub._sole
    assert not hub._dependents


def test_a_connection_that_leaves_while_others_are_told_does_no_harm() -> None:
    hub, two = Hub(), Connection()

    class Leaving(Connection):
        def reconsider(self) -> None:
            hub.remove(self)

    hub.follow(Leaving(), [A])
    hub.follow(two, [A])
    hub.changed([A])
    assert two.told == 1


def test_what_several_hang_on_and_then_one() -> None:
    hub, one, two = Hub(), Connection(), Connection()
    hub.follow(one, [A, B])
    hub.follow(two, [A])
    assert set(hub.followed_by(one)) == {A, B}
    hub.changed([A])
    hub.remove(one)
    hub.changed([A, B])
    assert (one.told, two.told) == (1, 2)
    hub.follow(one, [A])
    hub.remove(two)
    hub.changed([A])
    assert (one.told, two.told) == (2, 2)
    hub.remove(one)
    assert not hub._sole
    assert not hub._dependents


class Slow(Connection):
    """Reads again until ``go`` is set."""

    def __init__(self, go: asyncio.Event) -> None:
        super().__init__()
        self.go = go
        self.done = False

    def reconsider(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        await self.go.wait()
        self.done = True


def notice(kind: Any, name: str = "a") -> Notice:
    return Notice(f"{kind} {name}", 0, "1", "r", kind, name)


@pytest.mark.parametrize("dependency", [("1", "r", "certificate", "a"), ("", "", "certificate", "a")])
async def test_a_change_waits_until_connections_are_judged(dependency: tuple[str, str, str, str]) -> None:
    hub, slow = Hub(), Slow(asyncio.Event())
    hub.follow(slow, [dependency])
    closing = asyncio.create_task(hub.close([notice("certificate")]))
    await asyncio.sleep(0.01)
    assert not closing.done()
    slow.go.set()
    await closing
    assert slow.done


async def test_a_change_waits_for_one_that_is_judged_already() -> None:
    """Two changes of one certificate: neither is answered before the connection is closed."""
    hub, go = Hub(), asyncio.Event()
    underway = asyncio.get_running_loop().create_task(go.wait())

    class Underway(Connection):
        def reconsider(self) -> Any:
            return underway

    hub.follow(Underway(), [("1", "r", "certificate", "a")])
    both = [asyncio.create_task(hub.close([notice("certificate")])) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert not any(each.done() for each in both)
    go.set()
    await asyncio.gather(*both)


async def test_a_change_does_not_wait_for_many_connections_but_for_their_own_certificates() -> None:
    hub, never, go = Hub(), asyncio.Event(), asyncio.Event()
    many = [Slow(never) for _ in range(101)]
    for slow in many:
        hub.follow(slow, [("1", "r", "policy", "a")])
    own = Slow(go)
    hub.follow(own, [("1", "r", "policy", "a"), ("1", "r", "certificate", "a")])
    await asyncio.wait_for(hub.close([notice("policy")]), 0.2)
    closing = asyncio.create_task(hub.close([notice("policy"), notice("certificate")]))
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
    hub, slow = Hub(), Slow(asyncio.Event())
    hub.follow(slow, [("1", "r", "certificate", "a")])
    await hub.close([notice("certificate")])
    slow.go.set()
    await asyncio.sleep(0.01)
    assert slow.done, "nor does it end the judgement"


class Reading(Connection):
    """Takes until ``go`` to read again. ``most`` is how many did at the same time."""

    under_way = most = 0

    def __init__(self, go: asyncio.Event) -> None:
        super().__init__()
        self.go = go

    def reconsider(self) -> asyncio.Future[None]:
        self.told += 1
        Reading.under_way += 1
        Reading.most = max(Reading.most, Reading.under_way)
        return asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        await self.go.wait()
        Reading.under_way -= 1


async def test_of_many_that_depend_on_a_change_a_few_at_a_time_read_again() -> None:
    hub, go = Hub(), asyncio.Event()
    members = [Reading(go) for _ in range(10_000)]
    for member in members:
        hub.follow(member, [A])
    urgent = members[-1]
    hub.follow(urgent, [A, CERTIFICATE])
    assert hub.changed([A]) == []
    assert sum(member.told for member in members) == 32
    assert len(hub.changed([A, CERTIFICATE])) == 1  # whose certificate changed does not wait for the others
    assert urgent.told == 1
    hub.remove(members[-2])  # which has gone meanwhile
    go.set()
    for _ in range(100_000):  # a slow machine has more turns, as each is bounded by time too
        await asyncio.sleep(0)
        if not hub._untold:
            break
    assert Reading.most <= 33
    assert members[-2].told == 0
    assert all(member.told for member in members[:-2])


async def test_telling_many_is_done_in_slices() -> None:
    hub = Hub(Slices(turns := Turns()))
    members = [Connection() for _ in range(10_000)]  # of which none is open yet
    for member in members:
        hub.follow(member, [A])
    hub.changed([A])
    told = [sum(member.told for member in members)]
    while turns.one():
        told.append(sum(member.told for member in members))
    assert max(after - before for before, after in zip([0, *told], told, strict=False)) <= STEPS
    assert told[-1] == 10_000


async def test_a_change_waits_for_all_connections_of_its_certificate_however_many() -> None:
    """They come before others that are told a few at a time, and have been told of something else already."""
    hub, others = Hub(), [Slow(asyncio.Event()) for _ in range(101)]
    for other in others:
        hub.follow(other, [("1", "r", "policy", "a")])
        other.go.set()
    await hub.close([notice("policy")])
    many = [Slow(asyncio.Event()) for _ in range(150)]
    for slow in many:
        hub.follow(slow, [("1", "r", "certificate", "a"), ("1", "r", "policy", "a")])
    closing = asyncio.create_task(hub.close([notice("policy"), notice("certificate")]))
    for slow in many:
        assert not closing.done()
        slow.go.set()
        await asyncio.sleep(0)
    await asyncio.wait_for(closing, 0.9)
    assert all(slow.done for slow in many)


async def test_a_change_does_not_wait_for_ever_for_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAIT_AT_MOST", 0.05)
    hub, never = Hub(), asyncio.Event()
    for _ in range(101):
        hub.follow(Slow(never), [("1", "r", "certificate", "a")])
    await asyncio.wait_for(hub.close([notice("certificate")]), 0.5)
    never.set()
    await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("notice", "told"),
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
async def test_whom_a_notice_concerns(notice: tuple[str, str, Any, str], told: int) -> None:
    hub, one = Hub(), Connection()
    hub.follow(one, [("1", "r", "policy", "p"), ("1", "", "account", "1"), ("", "", "certificate", "c")])
    hub.reconsider([Notice("n", 0, *notice)])
    assert (one.told, hub.news) == (told, 1)
