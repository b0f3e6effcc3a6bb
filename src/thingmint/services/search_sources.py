"""Where a search looks for things and groups: along indexes, or through all of them.

A source returns every document that satisfies one condition, and may return others. It is read in batches; a batch ends
at a position, where a later request continues.
"""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thingmint.domain.arns import Scope
    from thingmint.services.messages import Messages
    from thingmint.store.engine import Fetcher, Row

D = TypeVar("D")
D_contra = TypeVar("D_contra", contravariant=True)

Texts = tuple[str, ...]
Position = tuple[Texts, Texts]
"""A label, and a row of it. A position without a row is before the first row of the next label."""

START: Position = ((), ())
_SCOPE = "WHERE account = $1 AND region = $2"


class Candidate(NamedTuple):
    """A document that was found under ``label``, such as the name of a group. ``row``: what was read of it already."""

    name: str
    label: str
    position: Position
    row: Row | None = None


class Batch(NamedTuple):
    """``position`` is None if the source has no more. ``cost`` is the number of rows that were read."""

    candidates: list[Candidate]
    position: Position | None
    cost: int


class Source(Protocol[D_contra]):
    """Sources of a lower ``rank`` usually return less.

    ``label_of`` is the label under which the source returns a document; None if it does not return it. A source returns
    a document once under each label that it is in.
    """

    @property
    def rank(self) -> int: ...

    def label_of(self, document: D_contra) -> str | None: ...

    async def fetch(self, fetcher: Fetcher, scope: Scope, position: Position, limit: int) -> Batch: ...


class Labels(Protocol):
    async def after(self, fetcher: Fetcher, scope: Scope, label: Texts) -> Texts | None:
        """The next label: its name, and what else Rows need."""
        ...


class Rows(Protocol):
    async def after(self, fetcher: Fetcher, scope: Scope, label: Texts, row: Texts, limit: int) -> Sequence[Row]:
        """Rows after ``row``, which may be empty. The last part of a row's position is the document's name."""
        ...

    def position(self, row: Row) -> Texts: ...


@dataclass(frozen=True, slots=True)
class IndexSource(Generic[D]):
    labels: Labels
    rows: Rows
    label_of: Callable[[D], str | None]
    rank: int
    whole_rows: bool = False

    async def fetch(self, fetcher: Fetcher, scope: Scope, position: Position, limit: int) -> Batch:
        found: list[Candidate] = []
        cost, (label, row) = 0, position
        current = label if row else None
        while cost < limit:
            if current is None:
                current = await self.labels.after(fetcher, scope, label)
                if current is None:
                    return Batch(found, None, cost)
                label, row = current, ()
                cost += 1
            asked = max(1, limit - cost)
            rows = await self.rows.after(fetcher, scope, label, row, asked)
            for each in rows:
                row = self.rows.position(each)
                found.append(Candidate(row[-1], label[0], (label, row), each if self.whole_rows else None))
            cost += len(rows)
            if len(rows) == asked:
                return Batch(found, (label, row), cost)
            current, row = None, ()
        return Batch(found, (label, ()), cost)


@dataclass(frozen=True, slots=True)
class OneLabel:
    name: str = ""

    async def after(self, fetcher: Fetcher, scope: Scope, label: Texts) -> Texts | None:
        del fetcher, scope
        return None if label else (self.name,)


class Names:
    """The names of an index that begins with account, region and ``column``, each once, as labels."""

    def __init__(self, table: str, column: str) -> None:
        self._next = f"SELECT {column} FROM {table} {_SCOPE} AND {column} > $3 ORDER BY {column} LIMIT 1"

    async def after(self, fetcher: Fetcher, scope: Scope, label: Texts) -> Texts | None:
        rows = await fetcher.fetch_all(self._next, *scope, label[0] if label else "")
        return tuple(rows[0]) if rows else None


class Folded:
    """Reads along an index on (account, region, …, lower(``column``), ``tie``), between two folded texts.

    ``where`` may name $6, the label. Equal texts are read by a statement of their own, so that each begins where the
    one before ended.
    """

    def __init__(self, table: str, column: str, tie: str, *, further: str = "", where: str = "") -> None:
        text = f"lower({column})"
        begin = f"SELECT {text}, {tie}{further} FROM {table} {_SCOPE} {where}AND {text}"
        self._equal = f"{begin} = $3 AND {tie} > $4 ORDER BY {tie} LIMIT $5"
        self._later = f"{begin} > $3 AND {text} <= $4 ORDER BY {text}, {tie} LIMIT $5"

    async def read(
        self, fetcher: Fetcher, scope: Scope, after: tuple[str, str], high: str, limit: int, *label: str
    ) -> list[Row]:
        text, tie = after
        if text > high:
            return []
        rows = await fetcher.fetch_all(self._equal, *scope, text, tie, limit, *label)
        if len(rows) < limit and text < high:
            rows = rows + await fetcher.fetch_all(self._later, *scope, text, high, limit - len(rows), *label)
        return rows


@dataclass(frozen=True, slots=True)
class FoldedLabels:
    """The rows of a small table whose names are between two folded texts, with their names and ids, as labels."""

    names: Folded
    low: str
    high: str

    async def after(self, fetcher: Fetcher, scope: Scope, label: Texts) -> Texts | None:
        after = (label[0].lower(), label[0]) if label else (self.low, "")
        rows = await self.names.read(fetcher, scope, after, self.high, 1)
        return tuple(rows[0][1:]) if rows else None


@dataclass(frozen=True, slots=True)
class FoldedRows:
    """``takes_label``: the statement has the label as a parameter."""

    texts: Folded
    low: str
    high: str
    takes_label: bool = False

    async def after(self, fetcher: Fetcher, scope: Scope, label: Texts, row: Texts, limit: int) -> Sequence[Row]:
        further = label[:1] if self.takes_label else ()
        after = (row[0], row[1]) if row else (self.low, "")
        return await self.texts.read(fetcher, scope, after, self.high, limit, *further)

    def position(self, row: Row) -> Texts:
        return tuple(row[:2])


class NamedRows:
    """Reads by name, from ``low`` to ``high``. The first column is the name. ``where`` may name $7, the label's id."""

    def __init__(self, statement: str, name: str, low: str = "", high: str | None = None, where: str = "") -> None:
        last = "" if high is None else f"AND {name} <= $6 "
        # The row at which a batch begins is excluded by <>, so that the index is always entered there.
        self._statement = (
            f"{statement} {_SCOPE} AND {name} >= $3 AND {name} <> $4 {last}{where}ORDER BY {name} LIMIT $5"
        )
        self._low, self._high = low, () if high is None else (high,)
        self._takes_label = bool(where)

    async def after(self, fetcher: Fetcher, scope: Scope, label: Texts, row: Texts, limit: int) -> Sequence[Row]:
        after = row[0] if row else ""
        further: Any = (*self._high, label[-1]) if self._takes_label else self._high
        return await fetcher.fetch_all(self._statement, *scope, after or self._low, after, limit, *further)

    def position(self, row: Row) -> Texts:
        return (row[0],)


class ValueRows:
    """Reads the things with an attribute, the label, in the order of its values, from ``low`` to ``high``."""

    _STATEMENT = (
        f"SELECT value, thing FROM thing_attributes {_SCOPE} AND name = $3 AND (value, thing) > ($4, $5) "
        "AND value <= $6 ORDER BY value, thing LIMIT $7"
    )

    def __init__(self, low: str, high: str) -> None:
        self._low, self._high = low, high

    async def after(self, fetcher: Fetcher, scope: Scope, label: Texts, row: Texts, limit: int) -> Sequence[Row]:
        begin = row or (self._low, "")
        return await fetcher.fetch_all(self._STATEMENT, *scope, label[0], *begin, self._high, limit)

    def position(self, row: Row) -> Texts:
        return tuple(row[:2])


@dataclass(frozen=True, slots=True)
class ConnectedSource(Generic[D]):
    """Things whose clients are connected."""

    messages: Messages
    label_of: Callable[[D], str | None]
    rank: int

    async def fetch(self, fetcher: Fetcher, scope: Scope, position: Position, limit: int) -> Batch:
        del fetcher
        after = position[1][0] if position[1] else ""
        found = await self.messages.connected_after(scope, after, limit)
        candidates = [Candidate(name, "", ((), (at,))) for at, name in found if name is not None]
        return Batch(candidates, ((), (found[-1][0],)) if len(found) == limit else None, len(found))


@dataclass(frozen=True, slots=True)
class EndedSource(Generic[D]):
    """Things whose clients' connections ended a short time ago. They are few: one batch has all."""

    messages: Messages
    label_of: Callable[[D], str | None]
    rank: int

    async def fetch(self, fetcher: Fetcher, scope: Scope, position: Position, limit: int) -> Batch:
        del fetcher, limit
        after = position[1][0] if position[1] else ""
        names = sorted(name for name in self.messages.ended_clients(scope) if name > after)
        return Batch([Candidate(name, "", ((), (name,))) for name in names], None, len(names))
