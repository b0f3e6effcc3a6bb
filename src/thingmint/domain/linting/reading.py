"""Reads the text of a JSON document for a linter, and collects what is wrong with it by place."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from thingmint.domain import strict_json
from thingmint.domain.linting.positions import Path, Positions

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_FLAWS = 50
"""Flaws that a report has, at most. With so many, a linter looks for no more."""

_SYNTAX = (
    (
        "Expecting property name",
        "A name in double quotes is missing here. A comma before } is too many",
    ),
    ("Expecting value", "A value is missing here. A comma before ] is too many, and text needs double quotes"),
    ("Expecting ',' delimiter", "A comma or a closing bracket is missing here"),
    ("Expecting ':' delimiter", "A colon is missing here"),
    ("Extra data", "The document ends before this place"),
    ("Unterminated string", "The text that begins here has no closing quote"),
    ("Invalid control character", "The closing quote is missing: text ends on the line on which it begins"),
    ("Invalid", "After a backslash there has to be one of the characters that JSON allows there"),
)


@dataclass(frozen=True, slots=True)
class Flaw:
    """With an ``error`` the document cannot be saved. ``line`` and ``column`` begin at 1."""

    kind: Literal["error", "warning"]
    line: int
    column: int
    message: str


class Sentence(NamedTuple):
    """What a part of a valid document does. ``effect`` is Allow or Deny in policies; ``sid`` is the part's name."""

    effect: str
    sid: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """``flaws`` are in the order of the text. ``sentences`` say what the document does; none if it is not valid.

    With ``more``, the document can have further flaws.
    """

    flaws: Sequence[Flaw]
    sentences: Sequence[Sentence]
    more: bool = False

    @property
    def errors(self) -> int:
        return sum(flaw.kind == "error" for flaw in self.flaws)


def shown(text: str) -> str:
    """The text as it can be sent: JSON can have one half of a character that UTF-16 writes in two."""
    return text.encode("utf-8", "replace").decode()


def _sentence(message: str) -> str:
    return message if message.endswith(("\N{HORIZONTAL ELLIPSIS}", "?")) else f"{message}."


class Notes:
    """Collects flaws, one for each place and message, until it is full."""

    def __init__(self, positions: Positions) -> None:
        self._positions = positions
        self._found: dict[Flaw, None] = {}
        self.places: set[Path] = set()

    def error(self, path: Path, message: str, *, at_name: bool = False) -> None:
        self.places.add(path)
        self._add("error", path, message, at_name)

    def warn(self, path: Path, message: str, *, at_name: bool = False) -> None:
        self._add("warning", path, message, at_name)

    def _add(self, kind: Literal["error", "warning"], path: Path, message: str, at_name: bool) -> None:
        if self.is_full:
            return
        place = self._positions.of_name(path) if at_name else self._positions.of_value(path)
        self._found[Flaw(kind, *place, shown(_sentence(message)))] = None

    def error_at(self, offset: int, message: str) -> None:
        if not self.is_full:
            self._found[Flaw("error", *self._positions.place(offset), f"{message}.")] = None

    @property
    def is_full(self) -> bool:
        """True if it takes no more. A linter that takes many steps then stops."""
        return len(self._found) >= MAX_FLAWS

    @property
    def has_errors(self) -> bool:
        return any(flaw.kind == "error" for flaw in self._found)

    def report(self, sentences: Sequence[Sentence] = ()) -> Report:
        flaws = sorted(self._found, key=lambda flaw: (flaw.kind != "error", flaw.line, flaw.column))
        return Report(flaws, sentences, self.is_full)


def read_document(text: str, longest: int) -> tuple[Any, Notes] | Report:
    """The document and notes about it, which may have errors; or the report about a text that is no JSON."""
    if not text.strip():
        return Report([Flaw("error", 1, 1, "The document is empty.")], ())
    if len(text) > longest:
        return Report([Flaw("error", 1, 1, f"The document must have at most {longest:,} characters.")], ())
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        why = next((why for begin, why in _SYNTAX if error.msg.startswith(begin)), "This is not JSON")
        return Report([Flaw("error", error.lineno, error.colno, f"{why}.")], ())
    except (ValueError, RecursionError):  # a number of thousands of digits, or brackets in brackets
        return Report([Flaw("error", 1, 1, "The document is not JSON that can be used.")], ())
    positions = Positions(text)
    notes = Notes(positions)
    for offset in positions.repeated[:MAX_FLAWS]:
        notes.error_at(offset, "This name is in the same object twice")
    for offset in positions.no_numbers[:MAX_FLAWS]:
        notes.error_at(offset, "This is not a number that JSON has")
    try:
        strict_json.load(text)
    except ValueError:
        if not notes.has_errors:
            notes.error((), "The document is not JSON that can be used")
    return document, notes
