"""A process is notified of its own changes before the write returns, and of others' changes by polling."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tests.world import OURS
from thingmint.domain.arns import Scope
from thingmint.domain.errors import Unavailable
from thingmint.services import change_feed as module
from thingmint.services.change_feed import ChangeFeed
from thingmint.store.outbox import publish_change

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.world import World
    from thingmint.store.engine import Body, PublishedChange, Transaction


class Process:
    """A change feed that records its notifications to followers, and to sessions of own and of others' changes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.told: list[str] = []
        self.closed: list[str] = []
        self.reauthorized: list[str] = []
        self.feed = ChangeFeed(world.store, self, world.clock)
        self.feed.follow(lambda changes: self.told.extend(change.name for change in changes))
        self.store = self.feed.followed()

    async def close(self, changes: Sequence[PublishedChange]) -> None:
        committed = [row[0] for row in await self.world.rows("SELECT id FROM outbox")]
        await asyncio.sleep(0)
        self.closed += [change.name for change in changes if change.id in committed]

    def reauthorize(self, changes: Sequence[PublishedChange]) -> None:
        self.reauthorized += [change.name for change in changes]

    def published(self, *names: str, error: Exception | None = None) -> Body[str]:
        async def change(tx: Transaction) -> str:
            for name in names:
                await publish_change(tx, OURS, "certificate", name, self.world.clock())
            if error is not None:
                raise error
            return "done"

        return change


async def test_a_write_returns_after_its_process_was_notified(world: World) -> None:
    process = Process(world)
    assert await process.store.write(process.published("a", "b")) == "done"
    assert (process.told, process.closed, process.reauthorized) == (["a", "b"], ["a", "b"], [])


async def test_a_failed_write_notifies_nothing(world: World) -> None:
    process = Process(world)
    with pytest.raises(KeyError):
        await process.store.write(process.published("a", error=KeyError()))
    await process.store.write(lambda tx: tx.execute("DELETE FROM outbox"))
    await process.feed.poll()
    assert (process.told, process.closed, process.reauthorized) == ([], [], [])


async def test_what_a_transaction_notes_is_told_after_it(world: World) -> None:
    process, heard = Process(world), list[tuple[str, Scope, int]]()
    process.feed.listen(lambda name, scope: heard.append((name, scope, world.store.writes)))

    async def note(tx: Transaction) -> None:
        tx.noted.add((OURS, "certificates"))

    async def fail(tx: Transaction) -> None:
        await note(tx)
        raise KeyError

    before = world.store.writes
    await process.store.write(note)
    assert heard == [("certificates", OURS, before + 1)]
    with pytest.raises(KeyError):
        await process.store.write(fail)
    assert len(heard) == 1


async def test_each_process_is_notified_once(world: World) -> None:
    here, there = Process(world), Process(world)
    await here.store.write(here.published("a"))
    for _ in range(module._LONG_EVERY + 1):
        for process in (here, there):
            await process.feed.poll()
    assert (here.told, here.closed, here.reauthorized) == (["a"], ["a"], [])
    assert (there.told, there.closed, there.reauthorized) == (["a"], [], ["a"])


@pytest.mark.parametrize(("late", "polls"), [(4, 1), (50, module._LONG_EVERY)])
async def test_a_change_that_becomes_visible_late_is_notified(world: World, late: int, polls: int) -> None:
    """Its time is that of its beginning; its COMMIT may have waited for a standby."""
    here, there = Process(world), Process(world)
    await there.feed.poll()
    body = here.published("a")
    world.clock.advance(seconds=late)
    await there.feed.poll()
    began = world.clock()
    world.clock.now -= timedelta(seconds=late)
    await here.store.write(body)
    world.clock.now = began
    for _ in range(polls):
        await there.feed.poll()
    assert there.reauthorized == ["a"]


async def test_a_period_without_polls_is_an_interruption(world: World) -> None:
    feed = Process(world).feed
    await feed.poll()
    before = feed.interruptions
    await feed.poll()
    assert feed.interruptions == before
    feed.fresh_until = 0.0
    await feed.poll()
    assert feed.interruptions == before + 1


async def test_no_change_is_missed_while_the_store_cannot_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = Process(world), Process(world)
    await there.feed.poll()
    await here.store.write(here.published("a"))
    world.clock.advance(minutes=5)

    async def fails(body: object) -> None:
        raise Unavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "read", fails)
        with pytest.raises(Unavailable):
            await there.feed.poll()
    await there.feed.poll()
    assert there.reauthorized == ["a"]


async def test_the_feed_is_stale_until_the_first_poll(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Process(world).feed
    stale = [feed.stale]
    await feed.poll()
    stale.append(feed.stale)
    monkeypatch.setattr(module, "_STALE_AFTER", -1)
    await feed.poll()
    assert [*stale, feed.stale] == [True, False, True]


@pytest.mark.parametrize("error", [Unavailable("gone"), KeyError("a bug")])
async def test_polling_continues_after_an_error(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    process, poll, failures = Process(world), ChangeFeed.poll, [error, error]

    async def sometimes(feed: ChangeFeed) -> None:
        if failures:
            raise failures.pop()
        await poll(feed)

    monkeypatch.setattr(module, "POLL_EVERY", 0)
    monkeypatch.setattr(ChangeFeed, "poll", sometimes)
    with capture_logs() as logs:
        task = asyncio.create_task(process.feed.run())
        async with asyncio.timeout(10):
            while process.feed.stale:  # noqa: ASYNC110 - there is no event for the property
                await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])
    assert [line["event"] for line in logs] == ["outbox_not_followed"]


async def test_a_credential_that_another_process_changed_is_read_again(world: World) -> None:
    """The directory follows changes and drops its cached entries."""
    world.store.followers.clear()
    there = Process(world)
    there.feed.follow(world.directory.changed)
    await there.feed.poll()
    await world.directory.authenticate_token(world.ours.token)
    statement = "UPDATE credentials SET status = 'inactive' WHERE kind = 'api-token'"
    await world.execute(statement)
    await world.directory.authenticate_token(world.ours.token)
    await world.admin("user.create", name="someone")
    await there.feed.poll()
    with pytest.raises(Exception, match="no longer valid"):
        await world.directory.authenticate_token(world.ours.token)


async def test_a_store_that_does_not_answer_is_unavailable(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(world)

    async def hangs(body: object) -> None:
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(module, "_REFRESH_TIMEOUT", 0.01)
        patch.setattr(world.store, "read", hangs)
        with pytest.raises(Unavailable):
            await process.feed.refresh()
    await process.feed.poll()
    assert not process.feed.stale
