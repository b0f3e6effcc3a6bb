"""A change is answered once the sessions of this process follow what it announced."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.world import OURS
from thingmint.services.messages import FollowedStore
from thingmint.store.outbox import announce

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.world import World
    from thingmint.store.engine import Transaction
    from thingmint.store.outbox import Notice


class Sessions:
    """A Messages that takes its time, and notes what had been committed by then."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.closed: list[str] = []
        self.committed: list[str] = []

    async def close(self, notices: Sequence[Notice]) -> None:
        self.committed = [row[0] for row in await self.world.rows("SELECT name FROM outbox ORDER BY name")]
        await asyncio.sleep(0)
        self.closed += [notice.name for notice in notices]


async def test_a_change_returns_once_sessions_are_closed(world: World) -> None:
    sessions = Sessions(world)
    store = FollowedStore(world.store, sessions)

    async def change(tx: Transaction) -> str:
        for name in ("a", "b"):
            await announce(tx, OURS, "certificate", name, world.clock())
        return "done"

    assert await store.write(change) == "done"
    assert (sessions.closed, sessions.committed) == (["a", "b"], ["a", "b"])


async def test_a_change_that_failed_closes_nothing(world: World) -> None:
    sessions = Sessions(world)

    async def change(tx: Transaction) -> None:
        await announce(tx, OURS, "certificate", "a", world.clock())
        raise KeyError

    with pytest.raises(KeyError):
        await FollowedStore(world.store, sessions).write(change)
    assert sessions.closed == []
    await FollowedStore(world.store, sessions).write(lambda tx: tx.execute("DELETE FROM outbox"))
    assert sessions.closed == []
