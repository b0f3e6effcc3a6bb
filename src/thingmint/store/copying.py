"""Copies all records of one store into another, of the same or the other engine, and compares the two.

The schema is read from the migrations, which are run in a database in memory. So a new table is copied too.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.store.database import list_instance_keys
from thingmint.store.engine import UnstorableText
from thingmint.store.migrate import add_functions_to_sqlite, for_sqlite, migrations

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from thingmint.store.engine import Row, Store, Transaction

_ROWS_AT_ONCE = 500
UNFINISHED = "unfinished-copy"
"""The name of an instance key that marks an unfinished copy. No instance has it, so no server starts with the store."""


class CopyError(Exception):
    """The copy cannot be made, or differs from the original."""


@dataclass(frozen=True, slots=True)
class TableSchema:
    """``own`` are the columns that refer to rows of the same table, which are copied in a second pass."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    refers_to: frozenset[str]
    own: frozenset[str]

    def select(self) -> str:
        """SQL that reads a page of rows after a key, in the order of keys."""
        key = ", ".join(self.key)
        after = ", ".join(f"${number}" for number in range(2, len(self.key) + 2))
        columns = ", ".join(self.columns)
        return f"SELECT {columns} FROM {self.name} WHERE ({key}) > ({after}) ORDER BY {key} LIMIT $1"  # noqa: S608

    def first(self) -> str:
        return f"SELECT {', '.join(self.columns)} FROM {self.name} ORDER BY {', '.join(self.key)} LIMIT $1"  # noqa: S608

    def insert(self) -> str:
        values = ", ".join(f"${number}" for number in range(1, len(self.columns) + 1))
        columns = ", ".join(self.columns)
        return f"INSERT INTO {self.name} ({columns}) VALUES ({values}) ON CONFLICT ({', '.join(self.key)}) DO NOTHING"  # noqa: S608

    def update_own(self) -> str:
        """SQL that sets the columns in ``own``; its parameters are the values of ``own_of``."""
        number = {column: f"${n}" for n, column in enumerate([*sorted(self.own), *self.key], 1)}
        changes = ", ".join(f"{column} = {number[column]}" for column in sorted(self.own))
        return f"UPDATE {self.name} SET {changes} WHERE {' AND '.join(f'{c} = {number[c]}' for c in self.key)}"  # noqa: S608

    def key_of(self, row: Row) -> tuple[str | int | bytes, ...]:
        return tuple(row[self.columns.index(column)] for column in self.key)

    def without_own(self, row: Row) -> Row:
        return tuple(None if column in self.own else value for column, value in zip(self.columns, row, strict=True))

    def own_of(self, row: Row) -> Row:
        by_name = dict(zip(self.columns, row, strict=True))
        return tuple(by_name[column] for column in [*sorted(self.own), *self.key])


def read_schema() -> list[TableSchema]:
    """All tables except the history of migrations. Each comes after the tables that it refers to."""
    with closing(sqlite3.connect(":memory:")) as connection:
        add_functions_to_sqlite(connection)
        for migration in migrations():
            for statement in migration.statements:
                connection.execute(for_sqlite(statement))
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
        return list(_in_order({name: _table(connection, name) for (name,) in names}))


def _table(connection: sqlite3.Connection, name: str) -> TableSchema:
    columns = connection.execute(f"PRAGMA table_info({name})").fetchall()
    key = sorted((column[5], column[1]) for column in columns if column[5])
    references = connection.execute(f"PRAGMA foreign_key_list({name})").fetchall()
    in_key = {column for _, column in key}
    own = frozenset(row[3] for row in references if row[2] == name and row[3] not in in_key)
    refers_to = frozenset(row[2] for row in references if row[2] != name)
    return TableSchema(name, tuple(column[1] for column in columns), tuple(c for _, c in key), refers_to, own)


def _in_order(tables: dict[str, TableSchema]) -> Iterator[TableSchema]:
    done: set[str] = set()
    while left := [table for name, table in tables.items() if name not in done]:
        ready = [table for table in left if table.refers_to <= done]
        assert ready, "tables refer to each other in a circle"
        for table in ready:
            done.add(table.name)
            yield table


async def count_rows(store: Store) -> int:
    async def body(tx: Transaction) -> int:
        counts = [await tx.fetch_one(f"SELECT count(*) FROM {table.name}") for table in read_schema()]  # noqa: S608
        return sum(count[0] for count in counts if count is not None)

    return await store.read(body)


async def copy_store(source: Store, target: Store, step: Callable[[str, int], None]) -> None:
    """Copies the rows that are not copied yet, so that an interrupted copy can continue. Then compares the stores.

    ``step`` is called with a table and a number of rows. No process may use either store, and the source must have the
    fingerprints of its keys (instance.create.check_keys). Raises CopyError if the target has other records, or if the
    two differ in the end.
    """
    keys, there = await source.read(list_instance_keys), await target.read(list_instance_keys)
    if UNFINISHED in keys:
        raise CopyError("the store to copy from is itself an unfinished copy")
    if not there:
        if await count_rows(target):
            raise CopyError("the store to copy to is not empty")
        await target.write(lambda tx: _mark(tx, keys["ca"]))
    elif there.get(UNFINISHED) != keys["ca"]:
        raise CopyError("the store to copy to holds an instance already")
    tables = [table for table in read_schema() if table.name != "instance_keys"]
    for table in tables:
        await _copy_table(source, target, table, step)
    for table in tables:
        await _compare_table(source, target, table)
    await target.write(lambda tx: _finish(tx, keys))


async def _copy_table(source: Store, target: Store, table: TableSchema, step: Callable[[str, int], None]) -> None:
    async for rows in _pages(source, table, after=await _last_key(target, table)):
        inserted = [table.without_own(row) for row in rows]
        try:
            await target.write(lambda tx, rows=inserted: tx.execute_many(table.insert(), rows))  # type: ignore[misc]
        except UnstorableText:
            row = next(row for row in rows if any(isinstance(value, str) and "\0" in value for value in row))
            raise CopyError(
                f"{table.name} has text with U+0000 in it, which cannot be copied, at {table.key_of(row)}"
            ) from None
        step(table.name, len(rows))
    if table.own:  # in a second pass, when all rows that they can refer to are there
        async for rows in _pages(source, table):
            referring = [table.own_of(row) for row in rows]
            await target.write(lambda tx, rows=referring: tx.execute_many(table.update_own(), rows))  # type: ignore[misc]


async def _compare_table(source: Store, target: Store, table: TableSchema) -> None:
    ours, theirs = _pages(source, table), _pages(target, table)
    while True:
        here: list[Row] = await anext(ours, [])
        there: list[Row] = await anext(theirs, [])
        if here != there:
            different = next((row for row in here if row not in there), None) or next(iter(there), None)
            raise CopyError(f"{table.name} differs between the two stores, first at {table.key_of(different or ())}")
        if not here:
            return


async def _pages(
    store: Store, table: TableSchema, after: Sequence[str | int | bytes] | None = None
) -> AsyncIterator[list[Row]]:
    while True:
        statement, parameters = (table.first(), ()) if after is None else (table.select(), tuple(after))
        rows = await store.read(lambda tx, s=statement, p=parameters: tx.fetch_all(s, _ROWS_AT_ONCE, *p))  # type: ignore[misc]
        if not rows:
            return
        yield rows
        after = table.key_of(rows[-1])


async def _last_key(target: Store, table: TableSchema) -> Sequence[str | int | bytes] | None:
    """The last key in the target, or None. Rows are copied in the order of keys, so all earlier rows are there."""
    descending = ", ".join(f"{column} DESC" for column in table.key)
    statement = f"SELECT {', '.join(table.key)} FROM {table.name} ORDER BY {descending} LIMIT 1"  # noqa: S608
    return await target.read(lambda tx: tx.fetch_one(statement))


async def _mark(tx: Transaction, ca: str) -> None:
    await tx.execute("INSERT INTO instance_keys (name, sha256) VALUES ($1, $2)", UNFINISHED, ca)


async def _finish(tx: Transaction, keys: dict[str, str]) -> None:
    await tx.execute("DELETE FROM instance_keys WHERE name = $1", UNFINISHED)
    await tx.execute_many("INSERT INTO instance_keys (name, sha256) VALUES ($1, $2)", list(keys.items()))
