"""The places of the elements in the text of a JSON document."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from dataclasses import dataclass, field

Path = tuple[str | int, ...]

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_DEEPEST = 8  # parts of a path that is kept; policies have no more
_NO_NUMBERS = ("NaN", "Infinity", "-Infinity")  # which Python's reader accepts, and RFC 8259 does not


@dataclass(slots=True)
class _Open:
    """An object or array that has not ended. ``at`` is the name of the current element, or its number."""

    path: Path
    is_array: bool
    at: str | int | None
    names: set[str] = field(default_factory=set)


class Positions:
    """Of a text that is JSON. ``repeated`` are the offsets of names that their object has before."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = [0, *(found.end() for found in re.finditer("\n", text))]
        self._values: dict[Path, int] = {}
        self._names: dict[Path, int] = {}
        self.repeated: list[int] = []
        self.no_numbers: list[int] = []
        self._read()

    def place(self, offset: int) -> tuple[int, int]:
        """The line and the column of an offset, both from 1."""
        line = bisect_right(self._lines, offset)
        return line, offset - self._lines[line - 1] + 1

    def of_value(self, path: Path) -> tuple[int, int]:
        """The place of the value, or of the nearest known value that contains it."""
        while path and path not in self._values:
            path = path[:-1]
        return self.place(self._values.get(path, 0))

    def of_name(self, path: Path) -> tuple[int, int]:
        """The place of an element's name."""
        return self.place(self._names[path]) if path in self._names else self.of_value(path)

    def _read(self) -> None:
        stack: list[_Open] = []
        for found in _TOKEN.finditer(self._text):
            piece, offset = found[0], found.start()
            if piece in "}]":
                stack.pop()
            elif piece == ",":
                here = stack[-1]
                here.at = here.at + 1 if isinstance(here.at, int) else None
            elif piece == ":":
                continue
            elif piece[0] == '"' and stack and not stack[-1].is_array and stack[-1].at is None:
                self._name(stack[-1], json.loads(piece), offset)
            else:
                path = (*stack[-1].path, stack[-1].at) if stack and stack[-1].at is not None else ()
                if len(path) <= _DEEPEST:
                    self._values[path] = offset
                if piece in "{[":
                    stack.append(_Open(path[: _DEEPEST + 1], piece == "[", 0 if piece == "[" else None))
                elif piece in _NO_NUMBERS:
                    self.no_numbers.append(offset)

    def _name(self, here: _Open, name: str, offset: int) -> None:
        here.at = name
        if name in here.names:
            self.repeated.append(offset)
        here.names.add(name)
        self._names.setdefault((*here.path, name), offset)
