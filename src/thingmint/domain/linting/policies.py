"""Finds what is wrong with the text of a policy document, and what is valid but hardly meant."""

from __future__ import annotations

import difflib
import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from thingmint.domain.errors import MalformedPolicy
from thingmint.domain.linting.policy_sentences import listed, sentence_of
from thingmint.domain.linting.policy_statements import StatementChecks
from thingmint.domain.linting.reading import Notes, Report, read_document
from thingmint.domain.policies import Kind, compile_policy
from thingmint.domain.policies.compiler import DOCUMENT_ELEMENTS, STATEMENT_ELEMENTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thingmint.domain.linting.policy_vocabulary import Vocabulary
    from thingmint.domain.linting.positions import Path

_MAX_STATEMENTS = 100  # that are checked for what is hardly meant
_MAX_LENGTH = 65_536  # characters
_ACTION = re.compile(r"\*|[A-Za-z0-9*?-]{1,64}:[A-Za-z0-9*?._-]{1,128}", re.ASCII)
_PART = re.compile(r"([A-Za-z:]+)(?:\[(\d+)\])?")
_VARIABLES = defaultdict(lambda: "${aws:username}", {Kind.DEVICE: "${iot:Connection.Thing.ThingName}"})


def lint_policy(text: str, kind: Kind, vocabulary: Vocabulary, max_size: int) -> Report:
    """The report about a document. It never raises, whatever the text is."""
    found = read_document(text, _MAX_LENGTH)
    if isinstance(found, Report):
        return found
    document, notes = found
    statements = _check_document(document, kind, notes)
    valid = []
    for path, statement in statements or ():
        if notes.is_full:
            break
        if _is_valid(path, statement, document, kind, notes):
            valid.append((path, statement))
    if not notes.has_errors:
        try:
            compile_policy(text, kind=kind, max_size=max_size)
        except MalformedPolicy as error:
            notes.error(_path_of(error.field), _message(error, len(statements or ())))
    if statements is None:
        return notes.report()
    _warn(document, valid, kind, vocabulary, notes)
    if notes.has_errors:
        return notes.report()
    return notes.report([sentence_of(statement, vocabulary) for _, statement in statements])


def _check_document(document: Any, kind: Kind, notes: Notes) -> list[tuple[Path, Any]] | None:
    """The statements with their paths, or None if there are none."""
    if not isinstance(document, dict):
        notes.error((), "A policy is a JSON object: it begins with {")
        return None
    _check_names(document, DOCUMENT_ELEMENTS, (), "A policy", notes)
    plain = f"variables such as {_VARIABLES[kind]} are plain text"
    if "Version" not in document:
        notes.warn((), f'The Version is missing, so {plain}. Add "Version": "2012-10-17"')
    elif document["Version"] == "2008-10-17":
        notes.warn(("Version",), f"In this version {plain}. Use 2012-10-17")
    given = document.get("Statement")
    if isinstance(given, dict):
        return [(("Statement",), given)]
    if isinstance(given, list) and given:
        return [(("Statement", number), each) for number, each in enumerate(given)]
    notes.error(("Statement",), "The policy needs a Statement, or a list of statements")
    return None


def _check_names(given: dict[str, Any], known: Iterable[str], path: Path, what: str, notes: Notes) -> None:
    for name in given:
        if notes.is_full:
            return
        if name not in known:
            close = difflib.get_close_matches(name[:64], list(known), 1)
            hint = f": did you mean {close[0]}?" if close else f". It has {', '.join(sorted(known))}"
            notes.error((*path, name), f"{what} has no element {name[:64]}{hint}", at_name=True)


def _is_valid(path: Path, statement: Any, document: dict[str, Any], kind: Kind, notes: Notes) -> bool:
    """True for a valid statement. Notes unknown elements and malformed actions, or else the compiler's first error."""
    if not isinstance(statement, dict):
        notes.error(path, "A statement is a JSON object")
        return False
    before = len(notes.places)
    _check_names(statement, STATEMENT_ELEMENTS, path, "A statement", notes)
    for element in ("Action", "NotAction"):
        for number, action in enumerate(listed(statement.get(element, []))):
            if notes.is_full:
                return False
            if isinstance(action, str) and action and not _ACTION.fullmatch(action):
                at = (*path, element, number) if isinstance(statement[element], list) else (*path, element)
                notes.error(at, f"{action[:64]} is no action: write service:Operation, such as iot:Connect, or *")
    if len(notes.places) > before:
        return False
    alone = {"Version": document.get("Version", "2012-10-17"), "Statement": statement}
    try:
        compile_policy(json.dumps(alone), kind=kind)
    except MalformedPolicy as error:
        if error.field.startswith("Statement"):  # the others are found with the whole document
            place = (*path, *_path_of(error.field)[1:])
            notes.error(place, _message(error, 1), at_name=place == path)
        return False
    return True


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
    notes: Notes,
) -> None:
    checks = StatementChecks(kind, vocabulary, notes.warn, variables=document.get("Version") == "2012-10-17")
    for path, statement in statements[:_MAX_STATEMENTS]:
        if notes.is_full:
            return
        checks.check(path, statement)
    if len(statements) > _MAX_STATEMENTS:
        notes.warn(statements[_MAX_STATEMENTS][0], "From this statement on, only errors are looked for")
    checks.check_together()
