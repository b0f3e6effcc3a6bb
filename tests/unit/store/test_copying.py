"""All records of an instance are copied to another store, or the copy fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.world import OURS, World
from thingmint.store.copying import UNFINISHED, CopyError, copy_store, count_rows, read_schema
from thingmint.store.database import keep_instance_keys, list_instance_keys
from thingmint.store.postgres import PostgresStore
from thingmint.store.sqlite import SQLiteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from thingmint.store.engine import Store

KEYS = {"ca": "aa", "device-ca": "bb"}


async def rows_of(store: Store) -> dict[str, list[Any]]:
    return {
        table.name: sorted(
            await store.read(lambda tx, t=table: tx.fetch_all(f"SELECT {', '.join(t.columns)} FROM {t.name}")),  # type: ignore[misc]
            key=repr,
        )
        for table in read_schema()
    }


@pytest.fixture
async def source(world: World) -> Store:
    """A store with nested groups, and with more rows in a table than fit into a page."""
    for name, parent in (("z", None), ("a", "z"), ("m", "a")):
        await world.aws("CreateThingGroup", thingGroupName=name, **({"parentGroupName": parent} if parent else {}))
    await world.aws("CreateThing", thingName="lamp", attributePayload={"attributes": {"site": "berlin"}})
    await world.aws("AddThingToThingGroup", thingName="lamp", thingGroupName="m")
    await world.certificate()
    for number in range(1100):
        tag = {"Key": f"k{number}", "Value": "ü"}
        values = (*OURS, "thinggroup/z", tag["Key"], tag["Value"])
        await world.execute(
            "INSERT INTO tags (account, region, resource, key, value) VALUES ($1, $2, $3, $4, $5)", *values
        )
    await world.write(lambda tx: keep_instance_keys(tx, KEYS))
    return world.store


@pytest.fixture(params=["sqlite", "postgres"])
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "postgres":
        database = request.getfixturevalue("postgres_database")
        opened: Store = await PostgresStore.open(await database.emptied())
    else:
        file = tmp_path / "target.db"
        file.touch()
        opened = SQLiteStore(file)
    yield opened
    await opened.close()


async def test_every_row_of_every_table_is_copied(source: Store, target: Store) -> None:
    steps: dict[str, int] = {}
    await copy_store(source, target, lambda table, count: steps.update({table: steps.get(table, 0) + count}))
    expected = await rows_of(source)
    assert await rows_of(target) == expected
    assert steps == {name: len(rows) for name, rows in expected.items() if rows and name != "instance_keys"}


async def test_an_interrupted_copy_can_be_continued(source: Store, target: Store) -> None:
    def stop(table: str, count: int) -> None:
        if table == "tags":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await copy_store(source, target, stop)
    assert set(await target.read(list_instance_keys)) == {UNFINISHED}
    before, steps = await count_rows(target), list[int]()
    await copy_store(source, target, lambda _, count: steps.append(count))
    assert await rows_of(target) == await rows_of(source)
    assert before - 1 + sum(steps) == await count_rows(source) - len(KEYS)


async def test_copying_into_an_instance_or_from_an_unfinished_copy_is_refused(source: Store, target: Store) -> None:
    await copy_store(source, target, lambda *_: None)
    with pytest.raises(CopyError, match="holds an instance already"):
        await copy_store(source, target, lambda *_: None)
    await source.write(lambda tx: keep_instance_keys(tx, {UNFINISHED: "aa"}))
    with pytest.raises(CopyError, match="is itself an unfinished copy"):
        await copy_store(source, target, lambda *_: None)


async def test_copying_into_a_database_with_records_is_refused(source: Store, target: Store) -> None:
    await target.write(lambda tx: tx.execute("INSERT INTO hostnames (name, position) VALUES ($1, $2)", "x", 0))
    with pytest.raises(CopyError, match="is not empty"):
        await copy_store(source, target, lambda *_: None)


async def test_the_error_names_the_row_that_cannot_be_copied(source: Store, target: Store) -> None:
    """Earlier versions stored U+0000 in SQLite."""
    await source.write(lambda tx: tx.execute("UPDATE tags SET value = char(0) WHERE key = $1", "k7"))
    with pytest.raises(CopyError, match=r"tags has text with U\+0000 in it.*'thinggroup/z', 'k7'\)"):
        await copy_store(source, target, lambda *_: None)


async def test_a_difference_between_the_stores_is_reported(source: Store, target: Store) -> None:
    def alter(table: str, count: int) -> None:
        del count
        if table == "tags":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await copy_store(source, target, alter)
    await target.write(lambda tx: tx.execute("UPDATE accounts SET name = $1", "altered"))
    with pytest.raises(CopyError, match=r"accounts differs between the two stores, first at \('111111111111',\)"):
        await copy_store(source, target, lambda *_: None)
    assert set(await target.read(list_instance_keys)) == {UNFINISHED}
