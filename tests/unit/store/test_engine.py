"""The behaviour that both engines must have."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.store.bodies import Refused, ids, insert
from thingmint.domain.errors import Invalid, Unavailable
from thingmint.store.engine import ForeignKeyViolated, KeyTaken

if TYPE_CHECKING:
    from tests.unit.store.bodies import OpenStore
    from thingmint.store.engine import Transaction


async def test_a_write_returns_its_result_and_is_stored(store: OpenStore) -> None:
    async with store() as opened:
        assert opened.ready
        assert await opened.write(insert("a")) == "a"
    async with store() as opened:
        assert await opened.read(ids) == ["a"]


async def test_statements_return_counts_and_rows(store: OpenStore) -> None:
    async def body(tx: Transaction) -> None:
        for account in "abc":
            assert await tx.execute("INSERT INTO accounts (id, name, created_at) VALUES ($1, $1, $2)", account, 1) == 1
        assert await tx.execute("UPDATE accounts SET name = $1 WHERE id > $2", "x", "a") == 2
        assert await tx.fetch_one("SELECT id, name FROM accounts WHERE id = $1", "b") == ("b", "x")
        assert await tx.fetch_one("SELECT id FROM accounts WHERE id = $1", "z") is None
        assert await tx.fetch_all("SELECT id FROM accounts WHERE name = $2 AND id > $1", "a", "x") == [("b",), ("c",)]

    async with store() as opened:
        await opened.write(body)


async def test_execute_many_runs_a_statement_for_each_row(store: OpenStore) -> None:
    async def body(tx: Transaction) -> None:
        rows = [(account, number) for number, account in enumerate("abc")]
        await tx.execute_many("INSERT INTO accounts (id, name, created_at) VALUES ($1, $1, $2)", rows)
        await tx.execute_many("UPDATE accounts SET name = $1", [])
        assert await tx.fetch_all("SELECT id, name, created_at FROM accounts ORDER BY id") == [
            ("a", "a", 0),
            ("b", "b", 1),
            ("c", "c", 2),
        ]

    async with store() as opened:
        await opened.write(body)


async def test_an_error_rolls_back_only_its_own_changes(store: OpenStore) -> None:
    async with store() as opened:
        outcomes = await asyncio.gather(
            opened.write(insert("a")),
            opened.write(insert("b", error=Refused("b"))),
            opened.write(insert("a")),  # breaks a constraint
            opened.write(insert("c")),
            opened.write(insert("d", error=Refused("d"))),
            return_exceptions=True,
        )
        first, refused, second, other, refused_too = outcomes
        assert {type(first), type(second)} == {str, KeyTaken}  # in either order
        assert (type(refused), type(refused_too), other) == (Refused, Refused, "c")
        assert await opened.read(ids) == ["a", "c"]
        assert await opened.write(insert("b")) == "b"


async def test_a_reference_to_a_missing_row_is_an_error(store: OpenStore) -> None:
    async def body(tx: Transaction) -> None:
        await tx.execute("INSERT INTO account_regions (account, region, position) VALUES ($1, $2, $3)", "none", "r", 0)

    async with store() as opened:
        with pytest.raises(ForeignKeyViolated):
            await opened.write(body)


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
async def test_text_that_postgresql_cannot_store_is_refused(store: OpenStore, text: str) -> None:
    async def find(tx: Transaction) -> None:
        await tx.fetch_one("SELECT id FROM accounts WHERE name = $1", text)

    async with store() as opened:
        alone = opened.fetch_all("SELECT id FROM accounts WHERE name = $1", text)
        for call in (opened.write(insert("a", name=text)), opened.read(find), alone):
            with pytest.raises(Invalid, match="cannot be stored"):
                await call
        assert await opened.write(insert("a")) == "a"


async def test_reads_see_every_write_that_was_answered(store: OpenStore) -> None:
    async def writer_and_reader(opened: Any, name: str) -> None:
        for number in range(20):
            written = await opened.write(insert(f"{name}{number}"))
            assert written in await opened.read(ids)

    async with store() as opened:
        await asyncio.gather(*(writer_and_reader(opened, name) for name in "abcd"))
        assert len(await opened.read(ids)) == 80


async def test_a_single_statement_sees_every_write_that_was_answered(store: OpenStore) -> None:
    async def writer_and_reader(opened: Any, name: str) -> None:
        for number in range(20):
            written = await opened.write(insert(f"{name}{number}"))
            assert await opened.fetch_all("SELECT id FROM accounts WHERE id = $1", written) == [(written,)]

    async with store() as opened:
        await asyncio.gather(*(writer_and_reader(opened, name) for name in "abcd"))
        assert await opened.fetch_all("SELECT count(*) FROM accounts") == [(80,)]


@pytest.mark.parametrize("patience", [0, 1, 2, 3])
async def test_cancelled_reads_do_not_disturb_other_reads(store: OpenStore, patience: int) -> None:
    async with store() as opened:
        await opened.write(insert("a"))
        leaving = [asyncio.create_task(opened.fetch_all("SELECT id FROM accounts")) for _ in range(20)]
        for _ in range(patience):
            await asyncio.sleep(0)
        for task in leaving:
            task.cancel()
        await asyncio.wait(leaving)
        for _ in range(20):
            assert await opened.fetch_all("SELECT id FROM accounts") == [("a",)]


async def test_a_read_cannot_change_anything(store: OpenStore) -> None:
    async with store() as opened:
        with pytest.raises(Unavailable):
            await opened.read(insert("a"))
        assert await opened.read(ids) == []
        assert await opened.write(insert("a")) == "a"


async def test_a_read_raises_the_errors_of_its_body(store: OpenStore) -> None:
    async def body(tx: Transaction) -> None:
        await ids(tx)
        raise Refused

    async with store() as opened:
        with pytest.raises(Refused):
            await opened.read(body)
        assert await opened.read(ids) == []


@pytest.mark.parametrize("patience", [0, 1, 2, 3])
async def test_a_cancelled_write_does_not_disturb_other_writes(store: OpenStore, patience: int) -> None:
    async with store() as opened:
        leaving = asyncio.create_task(opened.write(insert("leaving")))
        staying = [asyncio.create_task(opened.write(insert(name))) for name in "abc"]
        for _ in range(patience):
            await asyncio.sleep(0)
        leaving.cancel()
        assert await asyncio.gather(*staying) == ["a", "b", "c"]
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert {"a", "b", "c"} <= set(await opened.read(ids))
        assert await opened.write(insert("d")) == "d"


async def test_closing_waits_for_writes_in_progress(store: OpenStore) -> None:
    async with store() as opened:
        writes = [asyncio.create_task(opened.write(insert(f"{number:03}"))) for number in range(100)]
        await asyncio.sleep(0)
    assert [task.result() for task in writes] == [f"{number:03}" for number in range(100)]
    with pytest.raises(Unavailable):
        await opened.write(insert("late"))
    with pytest.raises(Unavailable):
        await opened.read(ids)
    assert not opened.ready
    async with store() as opened:
        assert len(await opened.read(ids)) == 100
