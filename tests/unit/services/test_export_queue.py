"""The queue of a data stream export: its order, its bound, and which messages are put into it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from tests.unit.services.test_exports import added, delete
from thingmint.domain.errors import Unavailable
from thingmint.services.export_hooks import ExportHook
from thingmint.services.export_queue import (
    OVERHEAD,
    ExportMessage,
    QueueState,
    QueueWriter,
    drop_beyond,
    first_messages,
    put_messages,
    queue_state,
    queues_to_send,
    remove_sent,
)
from thingmint.services.exported_messages import Exports

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.world import World
    from thingmint.store.engine import Body

TOPIC = "$registries/r/events"
SIZE = len(TOPIC) + OVERHEAD + 1
HOOK = ExportHook("/ru/b1g/etn", "s", "http://localhost/")
HOOKS = {(HOOK.database, HOOK.stream): HOOK}


def message(payload: bytes = b"x", device: str = "", topic: str = TOPIC) -> ExportMessage:
    return ExportMessage(device, topic, payload)


async def state(world: World, export: str) -> QueueState:
    return await world.read(lambda tx: queue_state(tx, export))


async def put(world: World, export: str, messages: Sequence[ExportMessage], bound: int = 10**9) -> tuple[int, bool]:
    return await world.write(lambda tx: put_messages(tx, export, messages, bound))


async def numbers(world: World, export: str, limit: int = 1000) -> list[int]:
    return [each.number for each in await world.read(lambda tx: first_messages(tx, export, limit))]


async def test_messages_come_out_in_the_order_in_which_they_were_queued(world: World) -> None:
    one, two = await added(world, await world.registry()), await added(world, await world.registry())
    await put(world, one, [message(b"\xff", "are1"), message(b"b")])
    await put(world, two, [message(b"other")])
    await put(world, one, [message(b"c")])
    found = await world.read(lambda tx: first_messages(tx, one, 10))
    assert [(each.number, *each.message) for each in found] == [
        (1, "are1", TOPIC, b"\xff"),
        (2, "", TOPIC, b"b"),
        (3, "", TOPIC, b"c"),
    ]
    assert await numbers(world, one, 2) == [1, 2]
    waiting = await world.read(queues_to_send)
    assert waiting == {one: QueueState(3, 3 * SIZE, 0), two: QueueState(1, SIZE + 4, 0)} or set(waiting) == {one, two}
    await world.write(lambda tx: remove_sent(tx, one, 2))
    assert await numbers(world, one) == [3]
    await world.write(lambda tx: remove_sent(tx, one, 2))  # again: they are gone already
    assert await state(world, one) == QueueState(1, SIZE, 0)
    await world.write(lambda tx: remove_sent(tx, one, 3))
    assert set(await world.read(queues_to_send)) == {two}
    await put(world, one, [message()])
    assert await numbers(world, one) == [4], "numbers are not used again"


async def test_the_oldest_messages_are_dropped_when_the_queue_is_full(world: World) -> None:
    export = await added(world, await world.registry())
    bound = 10 * SIZE
    assert await put(world, export, [message()] * 10, bound) == (0, False)
    assert await put(world, export, [message()], bound) == (1, False)
    assert await put(world, export, [message(b"x" * (SIZE + 1))], bound) == (2, False)
    assert await numbers(world, export) == list(range(4, 13))
    held = await state(world, export)
    assert (held.messages, held.dropped) == (9, 3)
    assert held.bytes == 8 * SIZE + 2 * SIZE <= bound


async def test_a_transaction_drops_at_most_200_messages(world: World) -> None:
    export = await added(world, await world.registry())
    for _ in range(5):
        await put(world, export, [message()] * 100)
    assert await put(world, export, [message()], SIZE) == (200, True)
    assert await world.write(lambda tx: drop_beyond(tx, export, SIZE)) == (200, True)
    assert await world.write(lambda tx: drop_beyond(tx, export, SIZE)) == (100, False)
    assert await numbers(world, export) == [501]
    assert await world.write(lambda tx: drop_beyond(tx, export, SIZE)) == (0, False)
    assert await state(world, export) == QueueState(1, SIZE, 500)


async def test_a_writer_queues_what_arrives_at_once_in_few_transactions(world: World) -> None:
    export = await added(world, await world.registry())
    told: list[tuple[str, int]] = []
    writer = QueueWriter(world.store, lambda *of: told.append(of))
    before = world.store.writes
    await asyncio.gather(*(writer.put(export, message(b"%d" % number), 150 * SIZE) for number in range(250)))
    assert world.store.writes - before <= 1 + 3
    found = await world.read(lambda tx: first_messages(tx, export, 1000))
    last = [int(each.message.payload) for each in found]
    assert last == list(range(250 - len(last), 250))
    assert sum(dropped for _, dropped in told) == 250 - len(last) > 0


async def test_a_writer_drops_as_much_as_a_smaller_bound_needs(world: World) -> None:
    export = await added(world, await world.registry())
    for _ in range(5):
        await put(world, export, [message()] * 100)
    writer = QueueWriter(world.store, lambda *_: None)
    await writer.put(export, message(), SIZE)
    assert await numbers(world, export) == [501]


async def test_a_message_is_queued_although_its_publisher_has_gone(world: World) -> None:
    export = await added(world, await world.registry())
    writer = QueueWriter(world.store, lambda *_: None)
    writer.put(export, message(b"1"), 10**9).cancel()
    writer.put(export, message(b"2"), 10**9)
    await writer.close()
    assert await numbers(world, export) == [1, 2]


async def test_each_publisher_learns_that_its_message_was_not_stored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = await added(world, await world.registry())
    writer = QueueWriter(world.store, lambda *_: None)

    async def away(_: Body[Any], **__: Any) -> None:
        raise Unavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "write", away)
        waiting = [writer.put(export, message(), 10**9) for _ in range(3)]
        assert [type(each) for each in await asyncio.gather(*waiting, return_exceptions=True)] == [Unavailable] * 3
    await writer.put(export, message(), 10**9)
    assert await numbers(world, export) == [1]


class Feed:
    """Exports that follow the store of a world."""

    def __init__(self, world: World, hooks: dict[tuple[str, str], ExportHook] | None = None) -> None:
        self.world = world
        self.interruptions = 0
        self.now = 0.0
        hooks = HOOKS if hooks is None else hooks
        self.exports = Exports(world.store, hooks, lambda: self.interruptions, lambda: self.now)
        world.store.followers.append(self.exports.changed)

    async def keep(self, registry: str, topic: str, payload: bytes = b"x") -> bool:
        """Whether it was queued."""
        before = await self.world.count("export_messages")
        queued = self.exports.keep(registry, "", topic, payload)
        if queued is not None:
            await queued
        return await self.world.count("export_messages") > before


async def test_events_and_commands_that_match_the_filter_are_queued(world: World) -> None:
    registry = await world.registry()
    device = await world.device(registry)
    feed = Feed(world)
    await added(world, registry, mqtt_topic_filter="$devices/+/events/a/+")
    assert await feed.keep(registry, f"$devices/{device}/events/a/b")
    for topic in (f"$devices/{device}/events/a", f"$devices/{device}/commands/a/b", f"$registries/{registry}/events"):
        assert not await feed.keep(registry, topic), topic


async def test_without_a_filter_events_and_commands_are_queued(world: World) -> None:
    registry = await world.registry()
    device = await world.device(registry)
    feed = Feed(world)
    await added(world, registry)
    for space in (f"$devices/{device}", f"$registries/{registry}"):
        for rest in ("events", "commands", "events/a/b", "commands//"):
            assert await feed.keep(registry, f"{space}/{rest}")
        for rest in ("state", "config", "state/a"):
            assert not await feed.keep(registry, f"{space}/{rest}")
    assert not await feed.keep(registry, f"$monitoring/{device}/json")


async def test_a_registry_without_an_export_reads_nothing(world: World) -> None:
    one, two = await world.registry(), await world.registry()
    await added(world, one)
    feed = Feed(world)
    await feed.exports.refresh()
    world.store.statements.clear()
    assert feed.exports.keep(two, "", f"$registries/{two}/events", b"x") is None
    assert feed.exports.keep("", "", "free/topic", b"x") is None
    assert feed.exports.keep(one, "", f"$registries/{one}/state", b"x") is None
    assert not world.store.statements


async def test_changes_are_followed_from_the_next_message_on(world: World) -> None:
    registry = await world.registry()
    topic = f"$registries/{registry}/events"
    feed = Feed(world)
    assert not await feed.keep(registry, topic)
    export = await added(world, registry)
    assert await feed.keep(registry, topic)
    await delete(world, registry, export)
    assert not await feed.keep(registry, topic)
    await added(world, registry)
    assert await feed.keep(registry, topic)


async def test_missed_changes_are_found_after_an_interruption(world: World) -> None:
    registry = await world.registry()
    topic = f"$registries/{registry}/events"
    feed = Feed(world)
    assert not await feed.keep(registry, topic)
    world.store.followers.remove(feed.exports.changed)
    export = await added(world, registry)
    assert not await feed.keep(registry, topic)
    feed.interruptions += 1
    assert await feed.keep(registry, topic)
    await delete(world, registry, export)
    feed.interruptions += 1
    assert not await feed.keep(registry, topic)
    assert not feed.exports.with_hooks()


async def test_exports_are_read_again_after_the_store_was_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = await world.registry()
    topic = f"$registries/{registry}/events"
    feed = Feed(world)
    await feed.exports.refresh()
    await added(world, registry)

    async def away(_: Body[Any]) -> None:
        raise Unavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "read", away)
        queued = feed.exports.keep(registry, "", topic, b"x")
        assert queued is not None
        with pytest.raises(Unavailable):
            await queued
    assert await feed.keep(registry, topic)


async def test_nothing_is_queued_without_a_hook_and_the_log_says_so(world: World) -> None:
    one, two, three = [await world.registry() for _ in range(3)]
    export = await added(world, one)
    await added(world, two)
    await added(world, three, stream="another")
    feed = Feed(world, {})
    with capture_logs() as logged:
        assert not await feed.keep(one, f"$registries/{one}/events")
        assert not await feed.keep(two, f"$registries/{two}/events")
    assert {each["event"] for each in logged} == {"data_stream_export_without_hook"}
    assert sorted(each["stream"] for each in logged) == ["another", "s"], "one line for each stream"
    with capture_logs() as logged:
        feed.exports.replace_hooks(HOOKS)
    assert [each["stream"] for each in logged] == ["another"]
    assert await feed.keep(one, f"$registries/{one}/events")
    assert list(feed.exports.with_hooks()) == [export] or len(feed.exports.with_hooks()) == 2
    feed.exports.replace_hooks({})
    assert not await feed.keep(one, f"$registries/{one}/events")
    assert not feed.exports.with_hooks()


async def test_dropped_messages_are_counted_and_logged_once_a_minute(world: World) -> None:
    registry = await world.registry()
    topic = f"$registries/{registry}/events"
    size = len(topic) + OVERHEAD + 1
    feed = Feed(world, {(HOOK.database, HOOK.stream): ExportHook("/ru/b1g/etn", "s", "", queue_bytes=2 * size)})
    export = await added(world, registry)

    async def publish(times: int) -> list[tuple[str, int]]:
        with capture_logs() as logged:
            for _ in range(times):
                queued = feed.exports.keep(registry, "", topic, b"x")
                assert queued is not None
                await queued
        return [(each["export"], each["messages"]) for each in logged if each["event"] == "export_messages_dropped"]

    assert await publish(2) == []
    assert await publish(5) == [(export, 1)]
    feed.now = 59.0
    assert await publish(1) == []
    feed.now = 61.0
    assert await publish(2) == [(export, 6)]
    assert feed.exports.dropped == 8
