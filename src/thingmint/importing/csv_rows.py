"""Reads tables of devices in CSV (RFC 4180), as spreadsheets and scripts write them."""

from __future__ import annotations

import csv
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_DELIMITERS = ",;\t"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_UNDECODABLE = re.compile("[\udc80-\udcff]")
_BLOCK = 1024 * 1024


class UnreadableTable(Exception):
    """The file is no table of devices. The text says why, and where."""


@dataclass(frozen=True, slots=True)
class CsvRow:
    """``number`` counts the rows under the header from 1, ``line`` the lines of the file. ``flaw`` is what is wrong."""

    number: int
    line: int
    values: Mapping[str, str]
    flaw: str | None = None


class CsvTable:
    """A CSV file with a header. Its delimiter is a comma, a semicolon or a tab: that which the header has."""

    def __init__(self, path: Path) -> None:
        """Read the header. Raises UnreadableTable."""
        self.path = path
        try:
            with path.open("rb") as file:
                first = file.readline(_BLOCK)
        except OSError as error:
            raise UnreadableTable(f"{path} cannot be read: {error.strerror}") from None
        if first.startswith(_UTF16):
            raise UnreadableTable(f"{path} is UTF-16: save it as UTF-8")
        header = first.decode("utf-8-sig", "replace")
        self._delimiter = max(_DELIMITERS, key=header.count)
        with self._open() as text:
            self.columns = self._read_header(text)

    def sha256(self) -> str:
        """Return the SHA-256 of the file. Raises UnreadableTable."""
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UnreadableTable(f"{self.path} cannot be read: {error.strerror}") from None

    def rows(self, after: int = 0) -> Iterator[CsvRow]:
        """Yield the rows after that many. Empty lines are no rows. Raises UnreadableTable."""
        with self._open() as text:
            reader = csv.reader(text, delimiter=self._delimiter, strict=True)
            number, line = 0, 1
            try:
                next(reader)
                line = reader.line_num + 1
                for fields in reader:
                    if any(fields):
                        number += 1
                        if number > after:
                            yield self._row(number, line, fields)
                    line = reader.line_num + 1
            except (csv.Error, OSError) as error:
                reason = "a quotation mark is not closed, or has text behind it" if isinstance(error, csv.Error) else ""
                reason = reason or getattr(error, "strerror", None) or "it cannot be read"
                raise UnreadableTable(f"{self.path}, row {number + 1} (from line {line} on): {reason}") from None

    def _open(self) -> TextIO:
        try:
            # Cells that are not UTF-8 are found row by row, so that the error can name them.
            return self.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
        except OSError as error:
            raise UnreadableTable(f"{self.path} cannot be read: {error.strerror}") from None

    def _read_header(self, text: TextIO) -> list[str]:
        try:
            columns = next(csv.reader(text, delimiter=self._delimiter, strict=True), [])
        except csv.Error:
            columns = []
        columns = [column.strip() for column in columns]
        while columns and not columns[-1]:  # spreadsheets write empty columns at the end
            columns.pop()
        if not columns or not all(columns):
            raise UnreadableTable(f"{self.path} has no header: its first line must name the columns")
        if any(_UNDECODABLE.search(column) for column in columns):
            raise UnreadableTable(f"{self.path} is not UTF-8: its header has other bytes")
        if len(set(columns)) < len(columns):
            repeated = next(column for column in columns if columns.count(column) > 1)
            raise UnreadableTable(f"{self.path} has two columns {repeated}")
        return columns

    def _row(self, number: int, line: int, fields: list[str]) -> CsvRow:
        flaw = None
        if len(fields) < len(self.columns) or any(fields[len(self.columns) :]):
            flaw = f"has {len(fields)} fields, but the header has {len(self.columns)}"
        for column, value in zip(self.columns, fields, strict=False):
            if _UNDECODABLE.search(value):
                flaw = f"is not UTF-8 in column {column}"
            elif "\0" in value:
                flaw = f"has a NUL character in column {column}"
        return CsvRow(number, line, dict(zip(self.columns, fields, strict=False)), flaw)
