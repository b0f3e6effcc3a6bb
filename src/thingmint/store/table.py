"""Maps a table to a frozen record, and writes the statements that most tables need.

Other statements are written by hand. Records have fingerprints and UUIDs as text, the store has them as bytes. For a
certificate's fingerprint in a record, most tables have the certificate's id (``id_of``). Times are whole microseconds
since 1970, UTC.
"""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Generic, NamedTuple, TypeVar, dataclass_transform

import orjson

from thingmint.domain.arns import Scope
from thingmint.domain.errors import NotFound
from thingmint.store.engine import UnstorableText

if TYPE_CHECKING:
    from thingmint.store.engine import Row, Store, Transaction, Value


R = TypeVar("R")

DELETED_AT_ONCE = 500
"""Rows that one transaction deletes, in some milliseconds. No transaction may touch more than twice as many."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_micros(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


@dataclass_transform(frozen_default=True)
def record(cls: type[R]) -> type[R]:
    """A decorator that makes a class a frozen dataclass for a Table. The configuration of ruff names it."""
    return dataclass(frozen=True, slots=True)(cls)


class _Form(NamedTuple):
    """How a field is stored: ``dump`` turns the record's value into the column's, ``load`` the reverse.

    None if both are the same. ``refers``: the field is a certificate's fingerprint, the column its id.
    """

    dump: Callable[[Any], Any] | None = None
    load: Callable[[Any], Any] | None = None
    refers: bool = False

    @property
    def dump_key(self) -> Callable[[Any], Any] | None:
        """``dump`` for a key part that is a fingerprint or a UUID. Callers give other parts as the column has them."""
        return self.dump if self.load in (bytes.hex, uuid_text) else None


class NoUuid(ValueError): ...


def uuid_bytes(text: str) -> bytes:
    """Raises NoUuid."""
    try:
        return bytes.fromhex(text.replace("-", ""))
    except ValueError:
        raise NoUuid(text) from None


def uuid_text(content: bytes) -> str:
    digits = content.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def fingerprint_bytes(text: str) -> bytes:
    """The bytes of lower-case hexadecimal digits. For other text they are empty, which matches no certificate."""
    try:
        content = bytes.fromhex(text)
    except ValueError:
        return b""
    return content if content.hex() == text else b""


Fingerprint = Annotated[str, _Form(fingerprint_bytes, bytes.hex)]
"""Hexadecimal digits in the record, 32 bytes in the store."""
CertificateReference = Annotated[str, _Form(fingerprint_bytes, bytes.hex, refers=True)]
"""The fingerprint of a certificate in the table ``certificates``; the column has the certificate's id. The field
``fingerprint`` is read through the column ``certificate``; a field with another name has a column of that name."""
Uuid = Annotated[str, _Form(uuid_bytes, uuid_text)]


def id_of(parameter: str) -> str:
    """SQL for a certificate's id. The parameter is its fingerprint, as bytes."""
    return f"(SELECT id FROM certificates WHERE fingerprint = {parameter})"


def fingerprint_of(column: str) -> str:
    """SQL for a certificate's fingerprint, as bytes. The column has its id."""
    return f"(SELECT fingerprint FROM certificates WHERE id = {column})"


class _Column(NamedTuple):
    field: str
    name: str
    form: _Form

    @property
    def derived(self) -> bool:
        """True for ``fingerprint``, which is only read: the field ``certificate`` is written to the column."""
        return self.form.refers and self.field == "fingerprint"

    def read(self, table: str) -> str:
        column = f"{table}.{self.name}"
        return fingerprint_of(column) if self.form.refers else column

    def equals(self, number: int) -> str:
        return f"{self.name} = {self.mark(number)}"

    def mark(self, number: int) -> str:
        return id_of(f"${number}") if self.form.refers else f"${number}"


class Table(Generic[R]):
    """The columns are the record's fields in order; a ``scope`` is two columns, account and region.

    ``key`` has the fields that identify a row. Every statement takes them in this order, a scope as two values
    (``*scope``). ``columns`` maps fields to columns with other names, ``types`` maps fields to other types than the
    record's. ``insert`` returns False for a conflict in the index ``unique``, by default that of the key; if it is
    None, every conflict is an error. ``further`` are columns for searches, which no record has: ``insert`` takes their
    values. ``noun`` is the name of a row in errors. Statements are constants made at import, the same for both engines.
    """

    def __init__(
        self,
        record: type[R],
        name: str,
        noun: str,
        *,
        key: Sequence[str] = ("account", "region", "name"),
        columns: Mapping[str, str] | None = None,
        types: Mapping[str, Any] | None = None,
        unique: str | None = "",
        further: Sequence[str] = (),
    ) -> None:
        hints = {**typing.get_type_hints(record, include_extras=True), **(types or {})}
        names = [field.name for field in fields(record)]  # type: ignore[arg-type]  # records are dataclasses
        self._record: Callable[..., R] = record
        self.noun = noun
        self._has_scope = "scope" in names
        assert not self._has_scope or names[0] == "scope", "account and region are the first columns"
        self._fields = [field for field in names if field != "scope"]
        plain = [_Column(field, field, _Form()) for field in ("account", "region") if self._has_scope]
        all_columns = plain + [_column(field, hints[field], columns or {}) for field in self._fields]
        self._columns = {column.field: column for column in all_columns}
        self._dumps = [(at, column.form.dump) for at, column in enumerate(all_columns) if column.form.dump is not None]
        self._loads = [(at, column.form.load) for at, column in enumerate(all_columns) if column.form.load is not None]
        self._name = name
        by_name = {column.name: column for column in all_columns if not column.derived}
        keys = [self._columns.get(part) or by_name[part] for part in key]
        self._key_at = [all_columns.index(column) for column in keys]
        self._key_dumps = [(at, dump) for at, column in enumerate(keys) if (dump := column.form.dump_key) is not None]
        kept = {column.name for column in keys}
        rest = [(at, column) for at, column in enumerate(all_columns) if not column.derived and column.name not in kept]
        self._rest_at = [at for at, _ in rest]
        stored = [(at, column) for at, column in enumerate(all_columns) if not column.derived]
        self._stored_at = [at for at, _ in stored]
        where = " AND ".join(column.equals(n) for n, column in enumerate(keys, 1))
        marks = ", ".join(
            [column.mark(n) for n, (_, column) in enumerate(stored, 1)]
            + [f"${n}" for n in range(len(stored) + 1, len(stored) + len(further) + 1)]
        )
        sets = ", ".join(column.equals(n) for n, (_, column) in enumerate(rest, len(keys) + 1))
        self.select = f"SELECT {', '.join(self.reads(name))} FROM {name} "
        """SELECT … FROM the table, for statements written by hand; ``load`` reads their rows."""
        self._get = f"{self.select}WHERE {where}"
        conflict = f"({', '.join(column.name for column in keys)})" if unique == "" else unique
        inserted = ", ".join([*(column.name for _, column in stored), *further])
        self._insert = f"INSERT INTO {name} ({inserted}) VALUES ({marks})"
        if conflict is not None:
            self._insert += f" ON CONFLICT {conflict} DO NOTHING"
        self._update = f"UPDATE {name} SET {sets} WHERE {where}"
        self._delete = f"DELETE FROM {name} WHERE {where}"
        self._owner, self._last = keys[:-1], keys[-1]
        before = "".join(f"{column.equals(n)} AND " for n, column in enumerate(self._owner, 1))
        last = self._last.name
        self._page = f"{self.select}WHERE {before}{last} > ${len(keys)} ORDER BY {last} LIMIT ${len(keys) + 1}"

    def reads(self, table: str) -> list[str]:
        """The SQL expressions of the columns that ``load`` takes; ``table`` is the table's name in the statement."""
        return [column.read(table) for column in self._columns.values()]

    async def find(self, tx: Transaction, *key: Value) -> R | None:
        try:
            row = await tx.fetch_one(self._get, *self._dump_key(key))
        except (UnstorableText, NoUuid):
            return None  # no row can have such a key
        return self.load(row) if row is not None else None

    async def get(self, tx: Transaction, *key: Value) -> R:
        """The record with this key. Raises NotFound with the last part of the key."""
        found = await self.find(tx, *key)
        if found is None:
            raise NotFound(self.noun, str(key[-1]))
        return found

    async def insert(self, tx: Transaction, record: R, *further: Value) -> bool:
        """False if a row has the same key, or conflicts in the index ``unique``."""
        return await tx.execute(self._insert, *self._inserted((record, *further))) == 1

    async def insert_many(self, tx: Transaction, rows: Iterable[tuple[R, *tuple[Value, ...]]]) -> None:
        """Insert records, each with its ``further`` values, of which none is there yet."""
        await tx.execute_many(self._insert, map(self._inserted, rows))

    def _inserted(self, row: tuple[R, *tuple[Value, ...]]) -> Sequence[Value]:
        record, *further = row
        values = self.dump(record)
        return [*(values[at] for at in self._stored_at), *further]

    async def update(self, tx: Transaction, record: R) -> bool:
        """False if no row has this key."""
        values = self.dump(record)
        ordered = [values[at] for at in self._key_at] + [values[at] for at in self._rest_at]
        return await tx.execute(self._update, *ordered) == 1

    async def delete(self, tx: Transaction, *key: Value) -> bool:
        """False if no row has this key."""
        return await tx.execute(self._delete, *self._dump_key(key)) == 1

    async def page(self, tx: Transaction, *owner: Value, after: str, limit: int) -> list[R]:
        """Up to ``limit`` records of one owner, in order of the last part of the key, after the value ``after``."""
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
        """Up to ``limit`` records of one owner, in order of ``created_at`` and the last part of the key.

        ``after`` is such a pair: microseconds, and the key (for certificates the id). ``only`` are fields with the
        values that they must have.
        """
        columns = [*self._owner, *(self._columns[field] for field in only)]
        conditions = [column.equals(n) for n, column in enumerate(columns, 1)]
        statement = f"{self.select}WHERE {' AND '.join(conditions)}"
        values = (*owner, *(_dumped(self._columns[field].form, value) for field, value in only.items()))
        beyond: Sequence[Value] = ()
        if after is not None:
            beyond = (after[0], int(after[1])) if self._last.form.refers else after
        order = ("created_at", self._last.name)
        return self.load_all(await fetch_in_order(tx, statement, values, order, beyond, limit, ascending=ascending))

    def dump(self, record: R) -> list[Value]:
        values: list[Any] = [*record.scope] if self._has_scope else []  # type: ignore[attr-defined]
        values += [getattr(record, field) for field in self._fields]
        for at, to in self._dumps:
            values[at] = to(values[at])
        return values

    def load(self, row: Row) -> R:
        """The record of a row with the columns of ``select``."""
        values = list(row)
        for at, of in self._loads:
            values[at] = of(values[at])
        if self._has_scope:
            return self._record(Scope(values[0], values[1]), *values[2:])
        return self._record(*values)

    def _dump_key(self, key: Sequence[Value]) -> Sequence[Value]:
        if not self._key_dumps:
            return key
        values: list[Any] = list(key)
        for at, dump in self._key_dumps:
            values[at] = dump(values[at])
        return values

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

    Starts after the values ``after`` of these columns, or with the first row if that is empty.
    """
    comparison, direction = (">", "ASC") if ascending else ("<", "DESC")
    marks = [f"${n}" for n in range(len(parameters) + 1, len(parameters) + len(after) + 2)]
    beyond = f"AND ({', '.join(columns)}) {comparison} ({', '.join(marks[:-1])}) " if after else ""
    order = ", ".join(f"{column} {direction}" for column in columns)
    return await tx.fetch_all(f"{statement} {beyond}ORDER BY {order} LIMIT {marks[-1]}", *parameters, *after, limit)


def _column(field: str, hint: Any, names: Mapping[str, str]) -> _Column:
    form = _form(hint)
    name = "certificate" if form.refers and field == "fingerprint" else names.get(field, field)
    return _Column(field, name, form)


def _dumped(form: _Form, value: Any) -> Any:
    return value if form.dump is None else form.dump(value)


def _form(hint: Any) -> _Form:
    """The _Form of a field with this type."""
    origin = typing.get_origin(hint) or hint
    if origin is Annotated:
        (form,) = hint.__metadata__
        assert isinstance(form, _Form)
        return form
    if origin in (typing.Union, types.UnionType):
        (kind,) = (kind for kind in typing.get_args(hint) if kind is not types.NoneType)
        form = _form(kind)
        return form._replace(dump=_unless_none(form.dump), load=_unless_none(form.load))
    if origin is datetime:
        return _Form(to_micros, from_micros)
    if origin is bool:
        return _Form(int, bool)
    if origin in (Mapping, dict):
        return _Form(_to_json, orjson.loads)
    if origin in (Sequence, tuple, list):
        return _Form(_to_json, _tuple_of_json)
    if isinstance(origin, type) and issubclass(origin, Enum):
        return _Form(str, origin)
    return _Form()


def _unless_none(convert: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    if convert is None:
        return None
    return lambda value: None if value is None else convert(value)


def _to_json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _tuple_of_json(text: str) -> tuple[Any, ...]:
    return tuple(orjson.loads(text))


class BoundedDelete:
    """Deletes the rows of ``table`` that satisfy ``condition``. ``key`` are the columns that identify a row."""

    def __init__(self, table: str, key: Sequence[str], condition: str) -> None:
        columns = ", ".join(key)
        self._is_there = f"SELECT 1 FROM {table} WHERE {condition} LIMIT 1"
        some = f"SELECT {columns} FROM {table} WHERE {condition} LIMIT {DELETED_AT_ONCE}"
        self._delete = f"DELETE FROM {table} WHERE ({columns}) IN ({some})"

    async def step(self, tx: Transaction, *parameters: Value) -> bool:
        """Deletes up to DELETED_AT_ONCE rows. True if some may be left."""
        return await self.some(tx, *parameters) == DELETED_AT_ONCE

    async def some(self, tx: Transaction, *parameters: Value) -> int:
        """Deletes up to DELETED_AT_ONCE rows, and returns their number."""
        return await tx.execute(self._delete, *parameters)

    async def run(self, store: Store, *parameters: Value) -> None:
        """Deletes all rows, in as many transactions as needed."""
        # Read first: a write would cost a sync of the disk even if there is nothing to delete.
        while await store.read(lambda tx: tx.fetch_one(self._is_there, *parameters)):
            await store.write(lambda tx: self.step(tx, *parameters))
