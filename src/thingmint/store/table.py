"""One table as one frozen record: the statements that every noun needs, written once.

Hand-written SQL stays where it says something of its own.
"""

# ruff: noqa: S608 - statements are made of the code's own constants
from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeVar, dataclass_transform

import orjson

from thingmint.domain.arns import Scope
from thingmint.domain.errors import NotFound
from thingmint.store.engine import UnstorableText
from thingmint.store.times import from_micros, to_micros

if TYPE_CHECKING:
    from thingmint.store.engine import Row, Transaction, Value


R = TypeVar("R")


@dataclass_transform(frozen_default=True)
def record(cls: type[R]) -> type[R]:
    """Makes a frozen dataclass of a class whose annotations a Table reads; ruff knows it by this name."""
    return dataclass(frozen=True, slots=True)(cls)


_Codec = tuple[Callable[[Any], Any] | None, Callable[[Any], Any] | None]


class Table(Generic[R]):
    """The columns are the record's fields in order, a ``scope`` being account and region.

    ``key`` names the columns that tell rows apart, which every statement takes in that order; a scope among them is
    passed as two values (``*scope``). ``columns`` gives a field's column another name than its own. ``unique`` is the
    index that ``insert`` answers False for, where that is not the key's; None if every conflict is an error. Statements
    are constants made at import, the same for every engine. ``noun`` is what errors call a row.
    """

    def __init__(
        self,
        record: type[R],
        name: str,
        noun: str,
        *,
        key: Sequence[str] = ("account", "region", "name"),
        columns: Mapping[str, str] | None = None,
        unique: str | None = "",
    ) -> None:
        hints = typing.get_type_hints(record)
        names = [field.name for field in fields(record)]  # type: ignore[arg-type]  # records are dataclasses
        self._record: Callable[..., R] = record
        self.noun = noun
        self._has_scope = "scope" in names
        assert not self._has_scope or names[0] == "scope", "account and region are the first columns"
        self._fields = [field for field in names if field != "scope"]
        codecs = [_codec(hints[field]) for field in self._fields]
        first = 2 if self._has_scope else 0
        self._dumps = [(at, to) for at, (to, _) in enumerate(codecs, first) if to is not None]
        self._loads = [(at, of) for at, (_, of) in enumerate(codecs, first) if of is not None]
        self.columns = [
            *(("account", "region") if self._has_scope else ()),
            *((columns or {}).get(field, field) for field in self._fields),
        ]
        self._key_at = [self.columns.index(column) for column in key]
        rest = [(at, column) for at, column in enumerate(self.columns) if column not in key]
        self._rest_at = [at for at, _ in rest]
        where = " AND ".join(f"{column} = ${n}" for n, column in enumerate(key, 1))
        marks = ", ".join(f"${n}" for n in range(1, len(self.columns) + 1))
        sets = ", ".join(f"{column} = ${n}" for n, (_, column) in enumerate(rest, len(key) + 1))
        self.select = f"SELECT {', '.join(self.columns)} FROM {name} "
        """Up to the table's name, for statements of a noun's own; ``load`` reads their rows."""
        self._get = f"{self.select}WHERE {where}"
        conflict = f"({', '.join(key)})" if unique == "" else unique
        self._insert = f"INSERT INTO {name} ({', '.join(self.columns)}) VALUES ({marks})"
        if conflict is not None:
            self._insert += f" ON CONFLICT {conflict} DO NOTHING"
        self._update = f"UPDATE {name} SET {sets} WHERE {where}"
        self._delete = f"DELETE FROM {name} WHERE {where}"
        owner, last = key[:-1], key[-1]
        before = "".join(f"{column} = ${n} AND " for n, column in enumerate(owner, 1))
        self._page = f"{self.select}WHERE {before}{last} > ${len(key)} ORDER BY {last} LIMIT ${len(key) + 1}"
        self._owner, self._last = owner, last

    async def find(self, tx: Transaction, *key: Value) -> R | None:
        try:
            row = await tx.fetch_one(self._get, *key)
        except UnstorableText:
            return None  # nothing is kept under such a key
        return self.load(row) if row is not None else None

    async def get(self, tx: Transaction, *key: Value) -> R:
        """Raises NotFound, with the last part of the key."""
        found = await self.find(tx, *key)
        if found is None:
            raise NotFound(self.noun, str(key[-1]))
        return found

    async def insert(self, tx: Transaction, record: R) -> bool:
        """False if there is one of that key, or of that ``unique`` index."""
        return await tx.execute(self._insert, *self.dump(record)) == 1

    async def update(self, tx: Transaction, record: R) -> bool:
        """False if there is none of that key."""
        values = self.dump(record)
        ordered = [values[at] for at in self._key_at] + [values[at] for at in self._rest_at]
        return await tx.execute(self._update, *ordered) == 1

    async def delete(self, tx: Transaction, *key: Value) -> bool:
        """False if there is none of that key."""
        return await tx.execute(self._delete, *key) == 1

    async def page(self, tx: Transaction, *owner: Value, after: str, limit: int) -> list[R]:
        """Up to ``limit`` rows of one owner, in order of the last part of the key and beyond ``after``."""
        return self.load_all(await tx.fetch_all(self._page, *owner, after, limit))

    async def page_by_age(
        self,
        tx: Transaction,
        *owner: Value,
        after: tuple[int, str] | None,
        limit: int,
        ascending: bool,
        **only: Value,
    ) -> list[R]:
        """The same by age: in order of ``created_at``, in microseconds, and the last part of the key, and beyond such
        a pair. ``only`` are columns and the values that they have."""
        conditions = [f"{column} = ${n}" for n, column in enumerate((*self._owner, *only), 1)]
        statement, values = f"{self.select}WHERE {' AND '.join(conditions)}", (*owner, *only.values())
        order = ("created_at", self._last)
        return self.load_all(
            await fetch_in_order(tx, statement, values, order, after or (), limit, ascending=ascending)
        )

    def dump(self, record: R) -> list[Value]:
        values: list[Any] = [*record.scope] if self._has_scope else []  # type: ignore[attr-defined]
        values += [getattr(record, field) for field in self._fields]
        for at, to in self._dumps:
            values[at] = to(values[at])
        return values

    def load(self, row: Row) -> R:
        """The record of a row that ``select`` begins with."""
        values = list(row)
        for at, of in self._loads:
            values[at] = of(values[at])
        if self._has_scope:
            return self._record(Scope(values[0], values[1]), *values[2:])
        return self._record(*values)

    def load_all(self, rows: Sequence[Row]) -> list[R]:
        return [self.load(row) for row in rows]


async def fetch_in_order(
    tx: Transaction,
    statement: str,
    parameters: Sequence[Value],
    columns: Sequence[str],
    after: Sequence[Value],
    limit: int,
    *,
    ascending: bool,
) -> list[Row]:
    """Up to ``limit`` rows of ``statement``, which ends in a condition, in order of ``columns``.

    Beyond the values of these in ``after``, or from the first row on if it is empty.
    """
    comparison, direction = (">", "ASC") if ascending else ("<", "DESC")
    marks = [f"${n}" for n in range(len(parameters) + 1, len(parameters) + len(after) + 2)]
    beyond = f"AND ({', '.join(columns)}) {comparison} ({', '.join(marks[:-1])}) " if after else ""
    order = ", ".join(f"{column} {direction}" for column in columns)
    return await tx.fetch_all(f"{statement} {beyond}ORDER BY {order} LIMIT {marks[-1]}", *parameters, *after, limit)


def _codec(hint: Any) -> _Codec:
    """How a field of that type becomes a column and comes back; None where the value is the same in both."""
    origin = typing.get_origin(hint) or hint
    if origin in (typing.Union, types.UnionType):
        (kind,) = (kind for kind in typing.get_args(hint) if kind is not types.NoneType)
        to, of = _codec(kind)
        return _unless_none(to), _unless_none(of)
    if origin is datetime:
        return to_micros, from_micros
    if origin is bool:
        return int, bool
    if origin in (Mapping, dict):
        return _to_json, orjson.loads
    if origin in (Sequence, tuple, list):
        return _to_json, _tuple_of_json
    if isinstance(origin, type) and issubclass(origin, Enum):
        return str, origin
    return None, None


def _unless_none(convert: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    if convert is None:
        return None
    return lambda value: None if value is None else convert(value)


def _to_json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _tuple_of_json(text: str) -> tuple[Any, ...]:
    return tuple(orjson.loads(text))
