"""Publishing queued events: at least once, each account in its turn, and not for ever."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest
from structlog.testing import capture_logs

from tests.world import OURS, THEIRS
from thingmint.domain.errors import Invalid, Throttled, Unavailable
from thingmint.services import event_publisher as module
from thingmint.services.event_publisher import EVENTS_LEASE, EventPublisher
from thingmint.services.event_queue import Event, queue_events
from thingmint.services.leases import LeasedStore

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.domain.arns import Scope
    from thingmint.store.engine import Transaction


class Broker:
    """Takes events. ``errors`` are raised for an account, ``reached`` says whether there is a subscriber."""

    def __init__(self) -> None:
        self.taken: list[tuple[Scope, str]] = []
        self.attempts = 0
        self.errors: dict[Scope, Exception] = {}
        self.reached = True
        self.new = asyncio.Event()

    async def publish_event(self, scope: Scope, topic: str, payload: bytes) -> bool:
        self.attempts += 1
        await asyncio.sleep(0)
        if scope in self.errors:
            raise self.errors[scope]
        assert orjson.loads(payload)["operation"] == "CREATED"
        self.taken.append((scope, topic.removeprefix("$aws/events/")))
        self.new.set()
        return self.reached

    def took(self) -> list[str]:
        taken, self.taken = self.taken, []
        return [topic for _, topic in taken]


class Holder:
    def __init__(self) -> None:
        self.has = True

    def holds(self, name: str) -> bool:
        assert name == EVENTS_LEASE
        return self.has

    async def still_holds(self, _tx: Transaction, _name: str) -> bool:
        return self.has


class Publishing:
    def __init__(self, world: World) -> None:
        self.world = world
        self.broker = Broker()
        self.holder = Holder()
        self.now = 1000.0
        self.publisher = self.start()

    def start(self) -> EventPublisher:
        store = LeasedStore(self.world.store, self.holder, EVENTS_LEASE)
        publisher = EventPublisher(store, cast("Any", self.broker), self.world.clock, lambda: self.now)
        self.world.store.followers.append(publisher.changed)
        return publisher

    async def queue(self, *topics: str, scope: Scope = OURS) -> None:
        events, now = [Event(topic, "THING_EVENT", "CREATED", {}) for topic in topics], self.world.clock()
        await self.world.write(lambda tx: queue_events(tx, scope, events, now))

    async def left(self) -> int:
        return await self.world.count("queued_events")


@pytest.fixture
def publishing(world: World) -> Publishing:
    return Publishing(world)


async def test_events_are_published_in_order_and_deleted(publishing: Publishing) -> None:
    await publishing.queue("a", "b")
    publishing.world.clock.advance(seconds=1)
    await publishing.queue("c")
    await publishing.queue("of-theirs", scope=THEIRS)
    await publishing.publisher.look()
    assert publishing.broker.taken == [(OURS, "a"), (OURS, "b"), (OURS, "c"), (THEIRS, "of-theirs")]
    assert (await publishing.left(), publishing.publisher.published) == (0, 4)


async def test_a_change_wakes_the_publisher(publishing: Publishing) -> None:
    task = asyncio.create_task(publishing.publisher.run())
    try:
        async with asyncio.timeout(30):
            for topic in ("a", "b"):
                await publishing.queue(topic)
                await publishing.broker.new.wait()
                publishing.broker.new.clear()
                assert publishing.broker.took() == [topic]
    finally:
        task.cancel()


async def test_only_the_process_with_the_lease_publishes(publishing: Publishing) -> None:
    await publishing.queue("a")
    publishing.holder.has = False
    await publishing.publisher.look()
    assert publishing.broker.took() == []
    publishing.holder.has = True
    await publishing.publisher.look()
    assert publishing.broker.took() == ["a"]


async def test_a_kill_before_the_deletion_publishes_again(publishing: Publishing, monkeypatch: Any) -> None:
    await publishing.queue("a")

    async def killed(*_: object, **__: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(module, "remove_events", killed)
        with pytest.raises(RuntimeError, match="killed"):
            await publishing.publisher.look()
    assert publishing.broker.took() == ["a"]
    await publishing.start().look()
    assert (publishing.broker.took(), await publishing.left()) == (["a"], 0)


async def test_a_throttled_account_does_not_hold_up_others(publishing: Publishing) -> None:
    publishing.broker.errors[OURS] = Throttled("no room")
    await publishing.queue(*(f"t{number}" for number in range(250)))
    await publishing.queue("of-theirs", scope=THEIRS)
    with capture_logs() as logs:
        await publishing.publisher.look()
        await publishing.publisher.look()  # within the pause
    assert publishing.broker.taken == [(THEIRS, "of-theirs")]
    assert publishing.broker.attempts == 101, "one page of the account is tried"
    assert [(line["event"], line["account"]) for line in logs] == [("events_delayed", OURS.account)]
    assert publishing.publisher.failing == 1
    publishing.broker.errors.clear()
    publishing.now += 1
    await publishing.publisher.look()
    assert (len(publishing.broker.taken), await publishing.left(), publishing.publisher.failing) == (251, 0, 0)


async def test_an_account_with_many_events_leaves_others_their_turn(
    publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TURN", 200)
    await publishing.queue(*(f"t{number}" for number in range(450)))
    await publishing.queue("of-theirs", scope=THEIRS)
    await publishing.publisher.look()
    assert publishing.broker.taken[200] == (THEIRS, "of-theirs")
    for _ in range(2):
        await publishing.publisher.look()
    assert (len(publishing.broker.taken), await publishing.left()) == (451, 0)


async def test_without_a_broker_events_wait_for_a_day(publishing: Publishing) -> None:
    await publishing.queue("old")
    publishing.world.clock.now += timedelta(hours=23)
    await publishing.queue("new")
    publishing.broker.errors[OURS] = Unavailable("away")
    with capture_logs() as logs:
        for _ in range(2):
            assert await publishing.publisher._look_and_log() > 0
    assert [line["event"] for line in logs] == ["events_not_published"]
    assert (await publishing.left(), publishing.publisher.failing) == (2, 1)
    publishing.world.clock.now += timedelta(hours=2)
    with capture_logs() as logs:
        await publishing.publisher._look_and_log()
        publishing.broker.errors.clear()
        await publishing.publisher._look_and_log()
    assert [line["event"] for line in logs] == ["events_dropped", "events_published_again"]
    assert (publishing.broker.took(), publishing.publisher.dropped) == (["new"], 1)


async def test_an_old_event_is_published_after_a_long_stop(publishing: Publishing) -> None:
    await publishing.queue("a")
    publishing.world.clock.now += timedelta(days=3)
    await publishing.start().look()
    assert publishing.broker.took() == ["a"]


async def test_an_event_that_the_broker_never_takes_is_dropped(publishing: Publishing) -> None:
    publishing.broker.errors[OURS] = Invalid("topic", "is not accepted by the broker")
    await publishing.queue("a")
    with capture_logs() as logs:
        await publishing.publisher.look()
    assert [(line["event"], line["topic"]) for line in logs] == [("event_refused", "$aws/events/a")]
    assert (await publishing.left(), publishing.publisher.dropped) == (0, 1)


async def test_events_of_before_the_start_wait_for_their_subscribers(publishing: Publishing) -> None:
    publishing.broker.reached = False
    await publishing.queue("before")
    publishing.world.clock.advance(seconds=1)
    publisher = publishing.start()
    await publisher.look()
    await publishing.queue("after")
    await publisher.look()
    assert (publishing.broker.took(), await publishing.left()) == (["before", "before", "after"], 1)
    publishing.broker.reached = True  # the device is back
    await publisher.look()
    await publisher.look()
    assert (publishing.broker.took(), await publishing.left()) == (["before"], 0)


async def test_events_do_not_wait_for_subscribers_for_ever(publishing: Publishing) -> None:
    publishing.broker.reached = False
    await publishing.queue("before")
    publishing.world.clock.advance(seconds=1)
    publisher = publishing.start()
    await publisher.look()
    publishing.world.clock.advance(seconds=60)
    await publisher.look()
    assert await publishing.left() == 0


async def test_nothing_is_published_after_the_stop(publishing: Publishing) -> None:
    await publishing.publisher.stop()
    await publishing.queue("a")
    await publishing.publisher.look()
    assert (publishing.broker.took(), await publishing.left()) == ([], 1)


async def test_the_stop_waits_for_events_underway_but_not_for_a_broker_without_answer(
    publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STOP_TIMEOUT", 0.01)
    answer = asyncio.Event()

    async def slow(*_: object) -> bool:
        publishing.broker.new.set()
        await answer.wait()
        return True

    monkeypatch.setattr(publishing.broker, "publish_event", slow)
    await publishing.queue("a")
    look = asyncio.create_task(publishing.publisher.look())
    await publishing.broker.new.wait()
    await publishing.publisher.stop()
    assert await publishing.left() == 1, "it is published again after the next start"
    monkeypatch.setattr(module, "_STOP_TIMEOUT", 30)
    stop = asyncio.create_task(publishing.publisher.stop())
    answer.set()
    await stop
    assert await publishing.left() == 0
    await look
