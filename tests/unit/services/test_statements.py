"""Statements that scan a table fail the tests. tests/plans.py checks every statement that unit tests run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.plans import Unindexed
from thingmint.services.jobs import JOBS
from thingmint.services.things import THINGS
from thingmint.store.table import BoundedDelete, fetch_in_order

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.store.engine import Row, Transaction


@pytest.mark.parametrize(
    ("statement", "order"),
    [
        ("SELECT version FROM things WHERE version > $1", "version"),  # a scan
        ("SELECT created_at FROM things WHERE account = 'a' AND version > $1", "created_at"),  # sorted
    ],
)
async def test_a_statement_without_an_index_fails(world: World, statement: str, order: str) -> None:
    async def body(tx: Transaction) -> list[Row]:
        return await fetch_in_order(tx, statement, (1,), (order,), (), 10, ascending=True)

    for _ in range(2):
        with pytest.raises(Unindexed, match="things"):
            await world.read(body)


async def test_a_deletion_without_an_index_fails(world: World) -> None:
    with pytest.raises(Unindexed, match="jobs"):
        await BoundedDelete("jobs", ("id",), "failures > $1").run(world.store, 1)


async def test_statements_with_an_index_pass(world: World) -> None:
    assert await world.read(lambda tx: THINGS.page(tx, "a", "r", after="", limit=1)) == []
    assert await world.read(lambda tx: JOBS.find(tx, "x")) is None
    assert await world.rows("SELECT count(*) FROM things WHERE version = 1") == [(0,)], "a test's own may read all"
