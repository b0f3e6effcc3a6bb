"""The Transaction of SQLite, the running of bodies in one step, and the translation of SQLite's errors."""

from __future__ import annotations

import functools
import re
import sqlite3
from typing import TYPE_CHECKING, Any

from thingmint.domain.errors import Unavailable
from thingmint.store.engine import ForeignKeyViolated, KeyTaken, Notes, UniqueViolated, UnstorableText, storable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from thingmint.store.engine import Row, Value


# The engine itself failed (disk full, I/O, memory, a broken file), which the caller cannot correct.
_ENGINE_FAILURES = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_READONLY,
    }
)


class SQLiteTransaction(Notes):
    __slots__ = ("_connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__()
        self._connection = connection

    async def execute(self, sql: str, *parameters: Value) -> int:
        return self._execute(sql, parameters).rowcount

    async def execute_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        try:
            self._connection.executemany(_statement(sql), map(storable, rows))
        except UnicodeEncodeError as error:
            raise UnstorableText from error

    async def fetch_one(self, sql: str, *parameters: Value) -> Row | None:
        row: Row | None = self._execute(sql, parameters).fetchone()
        return row

    async def fetch_all(self, sql: str, *parameters: Value) -> list[Row]:
        return self._execute(sql, parameters).fetchall()

    def _execute(self, sql: str, parameters: Sequence[Value]) -> sqlite3.Cursor:
        try:
            return self._connection.execute(_statement(sql), storable(parameters))
        except UnicodeEncodeError as error:
            raise UnstorableText from error


def run_body(body: Callable[[Any], Any], tx: SQLiteTransaction) -> Any:
    coroutine = body(tx)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise RuntimeError("a transaction's body awaited something other than its transaction")


@functools.cache
def _statement(sql: str) -> str:
    """The statement with ?1 for $1. Cached: statements are constants, so there are few."""
    return re.sub(r"\$(\d+)", r"?\1", sql)


def translated(error: sqlite3.Error) -> Exception:
    code = getattr(error, "sqlite_errorcode", 0)
    # Extended result codes carry the primary code in their low byte.
    if code & 0xFF in _ENGINE_FAILURES:
        return Unavailable("The store cannot keep changes now")
    if code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
        return KeyTaken(str(error))
    if code == sqlite3.SQLITE_CONSTRAINT_UNIQUE:
        return UniqueViolated(str(error))
    if code == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
        return ForeignKeyViolated(str(error))
    return error
