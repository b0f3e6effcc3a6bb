"""Last messages of permanent topics: what is kept, found and deleted, and the quota of a registry."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

import pytest
from structlog.testing import capture_logs

from tests.unit.vectors import FakeMonotonic
from thingmint.domain.errors import Unavailable
from thingmint.services.jobs import JobRunner
from thingmint.services.last_messages import MAX_SENT, OVERHEAD, LastMessages, is_permanent, keep_last, size_of
from thingmint.services.quotas import give_amount_back, take_amount
from thingmint.store.engine import StoreWrapper

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.store.engine import Transaction


class Away(StoreWrapper):
    is_away = True

    async def write(self, body: Any, **options: Any) -> Any:
        if self.is_away:
            raise Unavailable("away")
        return await super().write(body, **options)


async def found(last: LastMessages, registry: str, filter: str) -> dict[str, bytes]:
    return {topic: payload async for topic, payload in last.matching(registry, filter)}


async def used(world: World, registry: str) -> int:
    rows = await world.rows(
        "SELECT max(quota) - sum(room) FROM quota_shares WHERE kind = 'last_messages' AND owner = $1", registry
    )
    return int(rows[0][0] or 0)


async def kept(world: World, registry: str) -> int:
    rows = await world.rows("SELECT coalesce(sum(size), 0) FROM last_messages WHERE registry = $1", registry)
    return int(rows[0][0])


async def test_the_last_message_of_each_exact_topic_is_found(world: World) -> None:
    last = world.environment.last_messages
    registry = await world.registry()
    one, two = sorted([await world.device(registry), await world.device(registry)])
    for topic, payload in (
        (f"$devices/{one}/state", b"old"),
        (f"$devices/{one}/state", b"1"),
        (f"$devices/{one}/state/a", b"2"),
        (f"$devices/{one}/state/a/b", b""),
        (f"$devices/{two}/state/a", b"4"),
        (f"$devices/{one}/config", b"5"),
        (f"$registries/{registry}/state", b"6"),
    ):
        await last.keep(registry, topic, payload)
    whole = {f"$devices/{one}/state": b"1", f"$devices/{one}/state/a": b"2", f"$devices/{one}/state/a/b": b""}
    for filter, expected in {
        f"$devices/{one}/state": {f"$devices/{one}/state": b"1"},
        f"$devices/{one}/state/#": whole,
        f"$devices/{one}/state/+": {f"$devices/{one}/state/a": b"2"},
        f"$devices/{one}/state/x": {},
        f"$devices/{one}/config": {f"$devices/{one}/config": b"5"},
        f"$devices/{one}/events/#": {},
        "$devices/+/state/a": {f"$devices/{one}/state/a": b"2", f"$devices/{two}/state/a": b"4"},
        "$devices/+/state/#": {**whole, f"$devices/{two}/state/a": b"4"},
        f"$registries/{registry}/state/#": {f"$registries/{registry}/state": b"6"},
        "$monitoring/+/json": {},
    }.items():
        assert await found(last, registry, filter) == expected, filter
    assert await found(last, await world.registry(), "$devices/+/state/#") == {}
    assert await used(world, registry) == await kept(world, registry) > 6 * OVERHEAD


@pytest.mark.parametrize(
    ("topic", "permanent"),
    [
        ("$devices/d/state", True),
        ("$devices/d/config/a", True),
        ("$registries/r/state/", True),
        ("$devices/d/events", False),
        ("$registries/r/commands/state", False),
        ("$monitoring/d/json", False),
    ],
)
def test_topics_of_state_and_config_are_permanent(topic: str, permanent: bool) -> None:
    assert is_permanent(topic) is permanent


async def test_messages_that_are_kept_soon_are_kept_in_order(world: World) -> None:
    last, registry = world.environment.last_messages, await world.registry()
    topics = [f"$registries/{registry}/state/{number}" for number in range(150)]
    for payload in (b"1", b"2"):
        for topic in topics:
            assert last.keep_soon(registry, topic, payload) is None
    await last.keep(registry, topics[0], b"3")
    await asyncio.sleep(0)  # the first batch begins
    last.keep_soon(registry, topics[1], b"3")
    await last.keep(registry, topics[1], b"4")
    assert last.keep_soon(registry, topics[2], b"5") is None
    everything = await found(last, registry, f"$registries/{registry}/state/#")
    assert everything == dict.fromkeys(topics, b"2") | {topics[0]: b"3", topics[1]: b"4", topics[2]: b"5"}
    assert await used(world, registry) == await kept(world, registry)


async def test_messages_wait_for_a_store_that_is_away(world: World) -> None:
    registry = await world.registry()
    store = Away(world.store)
    last = LastMessages(store)
    topic = f"$registries/{registry}/state"
    with mock.patch("thingmint.services.last_message_queue._RETRY_AFTER", 0.01), capture_logs() as logs:
        last.keep_soon(registry, topic, b"1")
        await last.settle()
        with pytest.raises(Unavailable):
            await last.keep(registry, f"{topic}/b", b"x")
        refused = [last.keep_soon(registry, f"{topic}/{n}", b"x" * 2**20) for n in range(17)]
        assert [each is None for each in refused] == [True] * 15 + [False] * 2
        for each in refused[-2:]:
            with pytest.raises(Unavailable):
                await cast("Any", each)
        last.keep_soon(registry, topic, b"2")
        store.is_away = False
        while (await found(last, registry, f"{topic}/#")).get(topic) != b"2":  # noqa: ASYNC110 - the store has no event
            await asyncio.sleep(0.01)
    assert {log["event"] for log in logs} == {"last_messages_not_stored"}


async def test_messages_of_owners_that_are_not_there_are_not_kept(world: World) -> None:
    registry, other = await world.registry(), await world.registry()
    device = await world.device(other)
    for topic in (f"$devices/{device}/state", "$devices/none/state", "$registries/none/state"):
        await world.environment.last_messages.keep(registry, topic, b"x")
    assert await world.count("last_messages") == 0


async def test_filters_of_others_find_nothing(world: World) -> None:
    """Those of another registry, and of a broker, whose topics are free."""
    last = world.environment.last_messages
    registry, other = await world.registry(), await world.registry()
    device = await world.device(registry)
    for topic in (f"$devices/{device}/state", f"$devices/{device}/state/a"):
        await last.keep(registry, topic, b"1")
    for filter in (f"$devices/{device}/state", f"$devices/{device}/state/#", "$devices/+/state/#"):
        assert await found(last, registry, filter) != {}
        assert await found(last, other, filter) == {}
        assert await found(last, "", filter) == {}
    for filter in ("a", "#", "+/#", f"+/{device}/state/#", f"+/{device}/state", f"x/{device}/state", "+/+/state/#"):
        assert await found(last, registry, filter) == await found(last, "", filter) == {}


async def test_a_filter_gets_a_thousand_messages(world: World) -> None:
    last, registry = world.environment.last_messages, await world.registry()
    device = await world.device(registry)
    statement = "INSERT INTO last_messages (owner, kind, topic, registry, size, payload) VALUES ($1, $2, $3, $4, 1, $5)"
    topics = [f"$devices/{device}/state/{number:04}" for number in range(MAX_SENT + 200)]
    rows = [(device, "state", topic, registry, topic.encode()) for topic in topics]
    await world.write(lambda tx: tx.execute_many(statement, rows))
    for filter in ("$devices/+/state/#", f"$devices/{device}/state/#"):
        assert await found(last, registry, filter) == {topic: topic.encode() for topic in topics[:MAX_SENT]}
    assert await found(last, registry, "$devices/+/state/1199") == {topics[-1]: topics[-1].encode()}


async def test_deletions_delete_the_messages_and_free_the_quota(world: World) -> None:
    last, registry = world.environment.last_messages, await world.registry()
    few, many = await world.device(registry), await world.device(registry)
    await last.keep(registry, f"$registries/{registry}/config", b"x")
    await last.keep(registry, f"$devices/{few}/state", b"x")
    for number in range(150):
        await last.keep(registry, f"$devices/{many}/state/{number}", b"x" * number)
    for device in (few, many):
        await world.yandex("DeviceService.Delete", device_id=device)
        assert await used(world, registry) == await kept(world, registry)
    assert await world.count("last_messages") == 51, "a transaction deletes a limited number"
    await JobRunner(world.store, world.clock).run_due()
    assert await world.count("last_messages") == 1
    assert await used(world, registry) == await kept(world, registry)
    for number in range(150):
        await last.keep(registry, f"$registries/{registry}/config/{number}", b"")
    await world.yandex("RegistryService.Delete", registry_id=registry)
    await JobRunner(world.store, world.clock).run_due()
    assert await world.count("last_messages") == await world.count("quota_shares") == await world.count("jobs") == 0


async def test_what_exceeds_the_quota_is_not_kept_and_logged_once_in_a_window(world: World) -> None:
    registry = await world.registry()
    topics = [f"$registries/{registry}/state/{number}" for number in range(4)]
    size, clock = size_of(topics[0], b"x" * 1000), FakeMonotonic()
    last = LastMessages(world.store, quota=2 * size, clock=clock)
    with capture_logs() as logs:
        for topic in topics:
            await last.keep(registry, topic, b"x" * 1000)
    assert [(log["event"], log["topic"], log["more"]) for log in logs] == [("last_message_not_kept", topics[2], 0)]
    everything = f"$registries/{registry}/state/#"
    assert set(await found(last, registry, everything)) == set(topics[:2])
    await last.keep(registry, topics[0], b"y" * 1000)
    assert (await found(last, registry, topics[0])) == {topics[0]: b"y" * 1000}
    with capture_logs() as logs:
        clock.now += 61
        await last.keep(registry, topics[1], b"x" * 1001)
    assert [log["more"] for log in logs] == [1]
    assert set(await found(last, registry, everything)) == {topics[0]}, "the one before would be taken for the last"
    await last.keep(registry, topics[3], b"x" * 900)
    await last.keep(registry, topics[0], b"")
    await last.keep(registry, topics[2], b"x" * 400)
    assert set(await found(last, registry, everything)) == {topics[0], topics[2], topics[3]}
    assert await used(world, registry) == await kept(world, registry)


async def test_amounts_of_a_quota_are_exact_with_any_lanes(world: World) -> None:
    chosen, quota, taken = random.Random(3), 3000, 0

    async def body(tx: Transaction, lane: int, amount: int) -> bool:
        cast("Any", tx)._tx.lane = tx.lane = lane
        if amount < 0:
            await give_amount_back(tx, "k", "o", -amount)
            return True
        return await take_amount(tx, "k", "o", amount, quota)

    for _ in range(400):
        amount = chosen.randint(-min(taken, 500), 900) or 1
        done = await world.write(partial(body, lane=chosen.randint(1, 5), amount=amount))
        assert done == (taken + amount <= quota), "refused only if less is left"
        taken += amount if done else 0
        assert await world.rows("SELECT max(quota) - sum(room), min(room) >= 0 FROM quota_shares") == [(taken, True)]


async def test_concurrent_messages_keep_the_count_exact(world: World) -> None:
    registry = await world.registry()
    devices = [await world.device(registry) for _ in range(8)]
    quota = 60 * size_of(f"$devices/{devices[0]}/state/00", b"")
    chosen = random.Random(1)

    async def send(device: str) -> None:
        for number in range(12):
            payload = b"x" * chosen.randint(0, 20)
            body = partial(
                keep_last, registry=registry, name=f"$devices/{device}/state/{number:02}", payload=payload, quota=quota
            )
            await world.write(body)

    await asyncio.gather(*map(send, devices))
    assert await used(world, registry) == await kept(world, registry)
    assert 50 * OVERHEAD < await kept(world, registry) <= quota
