"""Finds what is wrong with the text of a policy document, and what is valid but hardly meant."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from thingmint.domain import strict_json
from thingmint.domain.errors import MalformedPolicy
from thingmint.domain.policies import Kind, compile_policy
from thingmint.domain.policies.compiler import DOCUMENT_ELEMENTS, STATEMENT_ELEMENTS
from thingmint.domain.policy_lint.positions import Path, Positions
from thingmint.domain.policy_lint.sentences import listed, sentence_of, shown
from thingmint.domain.policy_lint.statements import StatementChecks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from thingmint.domain.policy_lint.sentences import Sentence
    from thingmint.domain.policy_lint.vocabulary import Vocabulary

MAX_FLAWS = 50
"""Flaws that a report has, at most."""

_MAX_STATEMENTS = 100  # that are checked for what is hardly meant
_MAX_LENGTH = 65_536  # characters
_ACTION = re.compile(r"\*|[A-Za-z0-9*?-]{1,64}:[A-Za-z0-9*?._-]{1,128}", re.ASCII)
_PART = re.compile(r"([A-Za-z:]+)(?:\[(\d+)\])?")
_PLAIN_TEXT = "variables such as ${aws:username} are plain text"
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


@dataclass(frozen=True, slots=True)
class Report:
    """``flaws`` are in the order of the text. ``sentences`` say what the document does; none if it is not valid."""

    flaws: Sequence[Flaw]
    sentences: Sequence[Sentence]
    more: int = 0

    @property
    def errors(self) -> int:
        return sum(flaw.kind == "error" for flaw in self.flaws)


def _sentence(message: str) -> str:
    return message if message.endswith("\N{HORIZONTAL ELLIPSIS}") else f"{message}."


class _Notes:
    """Collects flaws, one for each place and message."""

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
        place = self._positions.of_name(path) if at_name else self._positions.of_value(path)
        self._found[Flaw(kind, *place, shown(_sentence(message)))] = None

    def error_at(self, offset: int, message: str) -> None:
        self._found[Flaw("error", *self._positions.place(offset), f"{message}.")] = None

    @property
    def has_errors(self) -> bool:
        return any(flaw.kind == "error" for flaw in self._found)

    def report(self, sentences: Sequence[Sentence] = ()) -> Report:
        flaws = sorted(self._found, key=lambda flaw: (flaw.kind != "error", flaw.line, flaw.column))
        return Report(flaws[:MAX_FLAWS], sentences, max(0, len(flaws) - MAX_FLAWS))


def lint(text: str, kind: Kind, vocabulary: Vocabulary, max_size: int) -> Report:
    """The report about a document. It never raises, whatever the text is."""
    if not text.strip():
        return Report([Flaw("error", 1, 1, "The document is empty.")], ())
    if len(text) > _MAX_LENGTH:
        return Report([Flaw("error", 1, 1, f"The document must have at most {_MAX_LENGTH:,} characters.")], ())
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        why = next((why for begin, why in _SYNTAX if error.msg.startswith(begin)), "This is not JSON")
        return Report([Flaw("error", error.lineno, error.colno, f"{why}.")], ())
    except (ValueError, RecursionError):  # a number of thousands of digits, or brackets in brackets
        return Report([Flaw("error", 1, 1, "The document is not JSON that a policy can have.")], ())
    positions = Positions(text)
    notes = _Notes(positions)
    _check_text(text, positions, notes)
    statements = _check_document(document, notes)
    if statements is not None:
        for path, statement in statements:
            _check_statement(path, statement, document, kind, notes)
    if not notes.has_errors:
        try:
            compile_policy(text, kind=kind, max_size=max_size)
        except MalformedPolicy as error:
            notes.error(_path_of(error.field), _message(error, len(statements or ())))
    if notes.has_errors or statements is None:
        return notes.report()
    _warn(document, statements, kind, vocabulary, notes)
    return notes.report([sentence_of(statement, vocabulary) for _, statement in statements])


def _check_text(text: str, positions: Positions, notes: _Notes) -> None:
    for offset in positions.repeated:
        notes.error_at(offset, "This name is in the same object twice")
    for offset in positions.no_numbers:
        notes.error_at(offset, "This is not a number that JSON has")
    try:
        strict_json.load(text)
    except ValueError:
        if not notes.has_errors:
            notes.error((), "The document is not JSON that a policy can have")


def _check_document(document: Any, notes: _Notes) -> list[tuple[Path, Any]] | None:
    """The statements with their paths, or None if there are none."""
    if not isinstance(document, dict):
        notes.error((), "A policy is a JSON object: it begins with {")
        return None
    _check_names(document, DOCUMENT_ELEMENTS, (), "A policy", notes)
    if "Version" not in document:
        notes.warn((), f'The Version is missing, so {_PLAIN_TEXT}. Add "Version": "2012-10-17"')
    elif document["Version"] == "2008-10-17":
        notes.warn(("Version",), f"In this version {_PLAIN_TEXT}. Use 2012-10-17")
    given = document.get("Statement")
    if isinstance(given, dict):
        return [(("Statement",), given)]
    if isinstance(given, list) and given:
        return [(("Statement", number), each) for number, each in enumerate(given)]
    notes.error(("Statement",), "The policy needs a Statement, or a list of statements")
    return None


def _check_names(given: dict[str, Any], known: Iterable[str], path: Path, what: str, notes: _Notes) -> None:
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name[:64], list(known), 1)
            hint = f": did you mean {close[0]}" if close else f". It has {', '.join(sorted(known))}"
            notes.error((*path, name), f"{what} has no element {name[:64]}{hint}", at_name=True)


def _check_statement(path: Path, statement: Any, document: dict[str, Any], kind: Kind, notes: _Notes) -> None:
    """Notes all unknown elements and malformed actions, or else the first error of the compiler."""
    if not isinstance(statement, dict):
        notes.error(path, "A statement is a JSON object")
        return
    before = len(notes.places)
    _check_names(statement, STATEMENT_ELEMENTS, path, "A statement", notes)
    for element in ("Action", "NotAction"):
        for number, action in enumerate(listed(statement.get(element, []))):
            if isinstance(action, str) and action and not _ACTION.fullmatch(action):
                at = (*path, element, number) if isinstance(statement[element], list) else (*path, element)
                notes.error(at, f"{action[:64]} is no action: write service:Operation, such as iot:Connect, or *")
    if len(notes.places) > before:
        return
    alone = {"Version": document.get("Version", "2012-10-17"), "Statement": statement}
    try:
        compile_policy(json.dumps(alone), kind=kind)
    except MalformedPolicy as error:
        if error.field.startswith("Statement"):  # the others are found with the whole document
            place = (*path, *_path_of(error.field)[1:])
            notes.error(place, _message(error, 1), at_name=place == path)


def _message(error: MalformedPolicy, statements: int) -> str:
    """The error as a sentence. With one statement, it needs no number."""
    field = error.field if statements > 1 else re.sub(r"^Statement(\[\d+\])?\.", "", error.field)
    flaw = str(error).removeprefix(error.field).strip()
    return f"{'The document' if field == 'document' else field} {flaw}"


def _path_of(field: str) -> Path:
    """The path of a compiler's field, such as ``Statement[0].Condition.StringLike``."""
    path: list[str | int] = []
    for part in field.split("."):
        match = _PART.fullmatch(part)
        if match is None or part == "document":
            break
        path.append(match[1])
        if match[2] is not None:
            path.append(int(match[2]))
    return tuple(path)


def _warn(
    document: dict[str, Any],
    statements: list[tuple[Path, dict[str, Any]]],
    kind: Kind,
    vocabulary: Vocabulary,
    notes: _Notes,
) -> None:
    checks = StatementChecks(kind, vocabulary, notes.warn, variables=document.get("Version") == "2012-10-17")
    for path, statement in statements[:_MAX_STATEMENTS]:
        checks.check(path, statement)
    if len(statements) > _MAX_STATEMENTS:
        notes.warn(statements[_MAX_STATEMENTS][0], "From this statement on, only errors are looked for")
    checks.check_together()
