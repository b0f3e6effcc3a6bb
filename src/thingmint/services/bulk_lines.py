"""Reads the lines of a bulk registration's file, in bounded memory, and parses their parameters."""

from __future__ import annotations

import asyncio
import codecs
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from thingmint.domain import strict_json
from thingmint.domain.errors import DomainError, Invalid
from thingmint.services.registration_tasks import Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.services.bulk_buckets import Buckets
    from thingmint.services.registration_tasks import RegistrationTask

MAX_LINE: Final = 256 * 1024
"""Characters of a line, without its end."""
_MOST_BYTES = 4 * MAX_LINE  # of a line: a character of UTF-8 has 4 bytes at most
_READ_BYTES = 1024 * 1024
_LINES_AT_ONCE = 64


class FileChanged(DomainError):
    """The file is not the one with which the task began."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line, or a further part of one that is too long. ``place`` is the place after it.

    ``given`` are the parameters, or the error of a line that has none. It is None for an empty line or a further part.
    """

    number: int
    place: Place
    given: Mapping[str, str] | Invalid | None


class LineReader:
    """Reads on from a task's place. At most some 2 MiB of the file are in memory."""

    def __init__(self, buckets: Buckets, task: RegistrationTask) -> None:
        self._buckets = buckets
        self._task = task
        self._place = task.place
        self._buffer = b""

    async def lines(self) -> list[Line]:
        """Return the next lines; none at the file's end. Raises FileChanged, and what Buckets.read raises."""
        while (end := self._end_of_first()) is None:
            await self._fill()
        if not self._buffer:
            return []
        return await asyncio.to_thread(self._parse, end)

    def _end_of_first(self) -> int | None:
        """Return where the first line in the buffer ends, or 0 for one that is too long. None: more must be read."""
        end = self._buffer.find(b"\n") + 1
        if end or self._is_last:
            return end or len(self._buffer)
        return 0 if len(self._buffer) > _MOST_BYTES + 2 or (self._place.within_line and self._buffer) else None

    @property
    def _is_last(self) -> bool:
        """True if the buffer has all of the file that is left."""
        return self._place.position + len(self._buffer) >= self._task.size

    async def _fill(self) -> None:
        task, start = self._task, self._place.position + len(self._buffer)
        length = min(_READ_BYTES, task.size - start)
        file, content = await self._buckets.read(task.scope.account, task.bucket, task.key, start, length)
        if file.version != task.file_version or len(content) != length:
            raise FileChanged
        self._buffer += content

    def _parse(self, end: int) -> list[Line]:
        """Take lines from the buffer. Called in a thread: a line can take milliseconds."""
        found: list[Line] = []
        start = 0
        while end > start and len(found) < _LINES_AT_ONCE:
            found.append(self._line(self._buffer[start:end], ended=True))
            start, end = end, self._buffer.find(b"\n", end) + 1
            if not end and self._is_rest(start):
                end = len(self._buffer)
        if not found:
            start = len(self._buffer)
            found.append(self._line(self._buffer, ended=False))
        self._buffer = self._buffer[start:]
        return found

    def _is_rest(self, start: int) -> bool:
        return self._place.position + len(self._buffer) - start >= self._task.size

    def _line(self, content: bytes, *, ended: bool) -> Line:
        """Return the first line of the buffer, and move the place behind it."""
        before = self._place
        given = None if before.within_line else parsed(content, is_first=before.position == 0)
        number = before.line
        self._place = Place(before.position + len(content), number + ended, not ended)
        return Line(number, self._place, given)


def parsed(line: bytes, *, is_first: bool = False) -> Mapping[str, str] | Invalid | None:
    """Return the parameters of a line, the error that it has, or None if it is empty."""
    try:
        return _parameters(line.removeprefix(codecs.BOM_UTF8) if is_first else line)
    except Invalid as error:
        return error


def _parameters(line: bytes) -> Mapping[str, str] | None:
    """Raises Invalid."""
    if len(line) > _MOST_BYTES + 2:
        raise _too_long()
    try:
        text = line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise Invalid("The line", "is not UTF-8") from None
    if len(text) > MAX_LINE:
        raise _too_long()
    if not text.strip(" \t\r"):
        return None
    if strict_json.has_too_many_values(line):
        raise Invalid("The line", f"has more than {strict_json.MAX_VALUES} values")
    try:
        document = strict_json.load(text)
    except strict_json.RepeatedName:
        raise Invalid("The line", "has a name twice") from None
    except ValueError:
        raise Invalid("The line", "is not JSON") from None
    if not isinstance(document, dict):
        raise Invalid("The line", "must be a JSON object")
    for value in document.values():
        if not isinstance(value, str):
            raise Invalid("The line", "must have texts as values, in quotation marks")
    return document


def _too_long() -> Invalid:
    return Invalid("The line", f"has more than {MAX_LINE} characters")
