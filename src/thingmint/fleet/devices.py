"""The devices of a run: their names and parameters, from patterns and from a table."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from string import Formatter
from typing import TYPE_CHECKING

from thingmint.importing.csv_rows import UnreadableTable
from thingmint.importing.sources.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from thingmint.importing.csv_rows import CsvTable

NUMBER = "n"
_WIDTH = re.compile(r"(0?[1-9][0-9]?)?d?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@+=-]{0,63}")  # a folder, and the common name of a certificate
RESERVED = frozenset({"ca.pem", "manifest.csv", "run.json", "devices.zip"})
_MAX_FLAWS = 10


class PatternError(ValueError):
    """A pattern cannot be used. The text says why."""


class DevicesUnusable(Exception):
    """Some devices cannot be made. ``flaws`` says of each which it is and why; there may be more."""

    def __init__(self, flaws: list[str], *, more: bool = False) -> None:
        super().__init__("; ".join(flaws))
        self.flaws = flaws
        self.more = more


@dataclass(frozen=True, slots=True)
class Device:
    """``place`` counts from 0, ``number`` from the run's start."""

    place: int
    number: int
    name: str
    parameters: Mapping[str, str]


class Pattern:
    """Text with {n}, {n:06} for the device's number, and {Column} for a cell of its row. {{ is a brace."""

    def __init__(self, text: str) -> None:
        """Raises PatternError."""
        self.text = text
        try:
            self._parts = [(before, name, form) for before, name, form, _ in Formatter().parse(text)]
        except ValueError as error:
            raise PatternError(f"{text} is no pattern: {error}") from None
        for _, name, form in self._parts:
            if name is None:
                continue
            if not name:
                raise PatternError(f"{text} is no pattern: {{}} needs a name, such as {{n}}")
            if not _WIDTH.fullmatch(form or "") or (form and name != NUMBER):
                raise PatternError(f"{text} is no pattern: only {{n}} takes a width, such as {{n:06}}")

    @property
    def names(self) -> set[str]:
        """The columns that it uses, and n."""
        return {name for _, name, _ in self._parts if name is not None}

    def text_of(self, number: int, row: Mapping[str, str]) -> str:
        out = []
        for before, name, form in self._parts:
            out.append(before)
            if name == NUMBER and NUMBER not in row:
                out.append(format(number, form or ""))
            elif name is not None:
                out.append(row[name])
        return "".join(out)


@dataclass(frozen=True, slots=True)
class DeviceList:
    """``columns`` are the columns of the table that are parameters themselves."""

    count: int
    start: int
    name: Pattern
    parameters: Mapping[str, Pattern]
    table: CsvTable | None = None
    columns: frozenset[str] = field(default_factory=frozenset)

    def devices(self, after: int = 0) -> Iterator[Device]:
        """Yield the devices after that many. Raises DevicesUnusable and UnreadableTable."""
        if self.table is None:
            for place in range(after, self.count):
                yield self._device(place, {})
            return
        place = after
        for row in self.table.rows(after):
            if row.flaw:
                raise DevicesUnusable([f"row {row.number} (line {row.line}) {row.flaw}"])
            yield self._device(place, row.values)
            place += 1
        if place != self.count:
            raise UnreadableTable(f"{self.table.path} was changed: it has {place} rows now instead of {self.count}")

    def check_names(self) -> None:
        """Raises DevicesUnusable if devices have no usable name, or the same name."""
        seen = Scratch()
        flaws: list[str] = []
        for device in self.devices():
            if not _NAME.fullmatch(device.name) or device.name in RESERVED:
                flaws.append(f"device {device.number} would be named {device.name[:80]!r}: {NAME_RULE}")
            elif seen.seen(device.name.casefold(), b"") != "new":
                flaws.append(f"device {device.number} would be named {device.name}, as another device is")
            if len(flaws) == _MAX_FLAWS:
                break
        seen.close()
        if flaws:
            raise DevicesUnusable(flaws, more=len(flaws) == _MAX_FLAWS)

    def _device(self, place: int, row: Mapping[str, str]) -> Device:
        number = self.start + place
        parameters = {column: row[column] for column in self.columns}
        parameters |= {name: pattern.text_of(number, row) for name, pattern in self.parameters.items()}
        return Device(place, number, self.name.text_of(number, row), parameters)


NAME_RULE = "names have 1 to 64 letters, digits and _.:@+=-, and begin with a letter or digit"


def count_rows(table: CsvTable) -> int:
    """Raises DevicesUnusable if rows have flaws, and UnreadableTable."""
    count = 0
    flaws: list[str] = []
    for row in table.rows():
        count += 1
        if row.flaw and len(flaws) < _MAX_FLAWS:
            flaws.append(f"row {row.number} (line {row.line}) {row.flaw}")
    if flaws:
        raise DevicesUnusable(flaws, more=len(flaws) == _MAX_FLAWS)
    return count
