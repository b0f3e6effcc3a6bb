"""The Transaction of PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.store.engine import Notes, storable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from thingmint.store.engine import Row, Value


class PostgresTransaction(Notes):
    """``translated`` turns errors of the driver into errors of the store."""

    __slots__ = ("_connection", "_translated")

    def __init__(
        self, connection: Any, translated: Callable[[Exception], Exception], lane: int, *, perhaps_kept: bool
    ) -> None:
        super().__init__(lane, perhaps_kept=perhaps_kept)
        self._connection = connection
        self._translated = translated

    async def execute(self, sql: str, *parameters: Value) -> int:
        status: str = await self._done(self._connection.execute(sql, *storable(parameters)))
        return int(status.rpartition(" ")[2]) if status[-1].isdigit() else 0

    async def execute_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        await self._done(self._connection.executemany(sql, [storable(row) for row in rows]))

    async def fetch_one(self, sql: str, *parameters: Value) -> Row | None:
        row = await self._done(self._connection.fetchrow(sql, *storable(parameters)))
        return None if row is None else tuple(row)

    async def fetch_all(self, sql: str, *parameters: Value) -> list[Row]:
        return [tuple(row) for row in await self._done(self._connection.fetch(sql, *storable(parameters)))]

    async def _done(self, work: Awaitable[Any]) -> Any:
        try:
            return await work
        except Exception as error:
            raise self._translated(error) from error
