"""Reads a table of devices (CSV), as people write them and as `thingmint fleet export` does.

csv_columns.py describes the columns.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson

from thingmint.importing.batches import SourceError, in_batches
from thingmint.importing.csv_rows import CsvTable, UnreadableTable
from thingmint.importing.sources.csv_columns import ATTRIBUTE, COLUMNS, OTHER_NAMES, SHOWN_COLUMNS
from thingmint.importing.sources.csv_items import Gathered, RowReader
from thingmint.importing.sources.scratch import Scratch
from thingmint.services.imports import Result

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from thingmint.importing.batches import Batch, Item, Place
    from thingmint.importing.csv_rows import CsvRow

_DEFINITIONS = ("thing_type", "policy", "group", "template", "ca", "folder", "registry", "broker")
_MAX_DEFINITION = 512 * 1024


class CsvDevices:
    """A Source. ``region`` is that of rows without one. ``definitions`` has items that the rows need: lines of JSON."""

    name = "csv"

    def __init__(self, path: Path, region: str, definitions: Path | None = None) -> None:
        """Raises SourceError."""
        try:
            self._table = CsvTable(path)
            self._sha256 = self._table.sha256()
        except UnreadableTable as error:
            raise SourceError(str(error)) from None
        self._names = [OTHER_NAMES.get(column, column) for column in self._table.columns]
        self._region = region
        self._definitions = definitions
        self._folder = path.absolute().parent
        self._total: int | None = None
        self.origin = str(path.absolute())
        if "name" not in self._names and "certificate" not in self._names:
            raise SourceError(
                f"{path} has no column name and no column certificate; the columns are {', '.join(COLUMNS)}"
            )
        if len(set(self._names)) < len(self._names):
            twice = next(name for name in self._names if self._names.count(name) > 1)
            raise SourceError(f"{path} has column {twice} twice, under two names")

    def identity(self) -> str:
        digest = hashlib.sha256(f"{self.origin}\n{self._sha256}\n{self._region}\n".encode("utf-8", "surrogateescape"))
        if self._definitions is not None:
            digest.update(self._definitions.read_bytes())
        return digest.hexdigest()

    def check(self) -> Iterator[int]:
        """Read the whole table once. Raises SourceError."""
        total = 0
        try:
            for row in self._table.rows():
                total = row.number
                if total % 1000 == 0:
                    yield total
        except UnreadableTable as error:
            raise SourceError(str(error)) from None
        self._total = total

    def total(self) -> int | None:
        return self._total

    def batches(self, place: Place) -> Generator[Batch]:
        if "row" not in place:
            for batch in in_batches(self._defined(place.get("definition", 0))):
                yield replace(batch, size=0)  # the total counts rows only
        scratch = Scratch()
        try:
            yield from self._rows(scratch, place)
        except UnreadableTable as error:
            raise SourceError(str(error)) from None
        finally:
            scratch.close()

    # Definitions

    def _defined(self, done: int) -> Iterator[tuple[Item | None, Sequence[Result], Place, int]]:
        yield None, self._unknown_columns() if not done else (), {"definition": done}, 0
        if self._definitions is None:
            return
        try:
            with self._definitions.open("rb") as file:
                for number, line in enumerate(iter(lambda: file.readline(_MAX_DEFINITION), b""), 1):
                    if number > done and line.strip():
                        yield self._definition(number, line), (), {"definition": number}, 20
        except OSError as error:
            raise SourceError(f"{self._definitions} cannot be read: {error.strerror}") from None

    def _definition(self, number: int, line: bytes) -> Item:
        try:
            item = orjson.loads(line)
        except orjson.JSONDecodeError:
            item = None
        if not isinstance(item, dict) or item.get("kind") not in _DEFINITIONS:
            kinds = ", ".join(_DEFINITIONS)
            raise SourceError(
                f"{self._definitions}, line {number}: it must be a JSON object whose kind is one of {kinds}"
            )
        return item

    def _unknown_columns(self) -> list[Result]:
        known = {*COLUMNS, *SHOWN_COLUMNS}
        unknown = [name for name in self._names if name not in known and not name.startswith(ATTRIBUTE)]
        reason = f"the column is not known, and was left out: the columns are {', '.join(COLUMNS)} and {ATTRIBUTE}NAME"
        return [Result("table", "noted", f"column {name[:100]}", reason) for name in unknown]

    # Rows

    def _rows(self, scratch: Scratch, place: Place) -> Iterator[Batch]:
        done = place.get("row", 0)
        reader = RowReader(self._folder, self._region, scratch, self._sha256)
        batch, last = Gathered(), place
        for row in self._table.rows():
            values = [row.values.get(column, "").strip() for column in self._table.columns]
            cells = dict(zip(self._names, values, strict=True))
            gathered = reader.gathered(cells, row.number, row.flaw, is_done=row.number <= done)
            if row.number <= done:
                if row.number == done and _digest(row) != place.get("digest"):
                    raise SourceError(f"{self._table.path} was changed: row {done} is another now")
                continue
            if batch.rows and not batch.fits(gathered):
                yield batch.batch(last)
                batch = Gathered()
            batch.add(gathered)
            last = {"row": row.number, "digest": _digest(row)}
        if batch.rows:
            yield batch.batch(last)


def _digest(row: CsvRow) -> str:
    return hashlib.sha256(orjson.dumps(list(row.values.values()))).hexdigest()[:16]
