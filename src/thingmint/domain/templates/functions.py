"""From JSON to expressions: which function stands where, and whether its arguments have the right form."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from thingmint.domain.errors import InvalidTemplate
from thingmint.domain.templates.documents import entries, inside, name_of
from thingmint.domain.templates.expressions import FindInMap, Join, Literal, Ref, Select, Several, Split, Sub

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from thingmint.domain.templates.expressions import Text, Texts


# ${Name}, and ${!Name} for what shall stand as ${Name} (AWS CloudFormation, Fn::Sub).
_VARIABLE = re.compile(r"\$\{(?!!)([^}]*)\}")
_ESCAPE = "${!"


def read_literal(given: object) -> str | None:
    """A scalar's text, or None for anything else. Numbers and booleans count as the text that JSON writes."""
    if isinstance(given, str):
        return given
    if isinstance(given, bool):
        return "true" if given else "false"
    return str(given) if isinstance(given, int | float) else None


def read_text(given: object, path: str) -> Text:
    """Raises InvalidTemplate for what cannot be text."""
    literal = read_literal(given)
    if literal is not None:
        return Literal(literal)
    name, argument = _function(given)
    if name is None or name not in _GIVES_TEXT:
        raise InvalidTemplate(f"{path} must be text, or a function that gives text")
    return _GIVES_TEXT[name](argument, inside(path, name))


def read_texts(given: object, path: str) -> Texts:
    """Raises InvalidTemplate for what cannot be a list of texts."""
    if isinstance(given, list):
        return Several(tuple(read_text(item, f"{path}[{index}]") for index, item in enumerate(given)))
    name, argument = _function(given)
    if name is None or name not in _GIVES_LISTS:
        raise InvalidTemplate(f"{path} must be a list, or a function that gives one")
    return _GIVES_LISTS[name](argument, inside(path, name))


def read_tree(given: Any, path: str) -> Any:
    """JSON of any form, with an expression in place of every function."""
    name, _ = _function(given)
    if name is not None:
        return read_texts(given, path) if name == "Fn::Split" else read_text(given, path)
    if isinstance(given, dict):
        return {key: read_tree(value, inside(path, key)) for key, value in given.items()}
    if isinstance(given, list):
        return [read_tree(value, f"{path}[{index}]") for index, value in enumerate(given)]
    return given


def _function(given: object) -> tuple[str | None, object]:
    """The name and the argument of the function that ``given`` calls. One that does not exist is a function too."""
    if isinstance(given, dict) and len(given) == 1:
        ((name, argument),) = given.items()
        if name == "Ref" or name.startswith("Fn::"):
            return name, argument
    return None, None


def _arguments(given: object, count: int, path: str) -> list[Any]:
    if not isinstance(given, list) or len(given) != count:
        raise InvalidTemplate(f"{path} must be a list of {count}")
    return given


def _delimiter(given: object, path: str) -> str:
    if not isinstance(given, str):
        raise InvalidTemplate(f"{path} must have a delimiter that is text")
    return given


def _ref(given: object, path: str) -> Text:
    return Ref(name_of(given, path))


def _join(given: object, path: str) -> Text:
    delimiter, items = _arguments(given, 2, path)
    return Join(_delimiter(delimiter, path), read_texts(items, f"{path}[1]"))


def _select(given: object, path: str) -> Text:
    index, items = _arguments(given, 2, path)
    return Select(read_text(index, f"{path}[0]"), read_texts(items, f"{path}[1]"))


def _split(given: object, path: str) -> Texts:
    delimiter, source = _arguments(given, 2, path)
    if not _delimiter(delimiter, path):
        raise InvalidTemplate(f"{path} must have a delimiter that is not empty")
    return Split(delimiter, read_text(source, f"{path}[1]"))


def _find_in_map(given: object, path: str) -> FindInMap:
    mapping, key, name = (read_text(part, f"{path}[{n}]") for n, part in enumerate(_arguments(given, 3, path)))
    return FindInMap(mapping, key, name)


def _sub(given: object, path: str) -> Text:
    pattern, variables = given, {}
    if isinstance(given, list):
        pattern, variables = _arguments(given, 2, path)
    if not isinstance(pattern, str):
        raise InvalidTemplate(f"{path} must be text, or a list of text and an object")
    own = {name: read_text(value, inside(path, name)) for name, value in entries(variables, path).items()}
    pieces = _VARIABLE.split(pattern)
    for name in pieces[1::2]:
        name_of(name, path)
    pieces[::2] = [piece.replace(_ESCAPE, "${") for piece in pieces[::2]]
    return Sub(tuple(pieces), own)


_GIVES_TEXT: Mapping[str, Callable[[object, str], Text]] = {
    "Ref": _ref,
    "Fn::Join": _join,
    "Fn::Select": _select,
    "Fn::FindInMap": _find_in_map,
    "Fn::Sub": _sub,
}
_GIVES_LISTS: Mapping[str, Callable[[object, str], Texts]] = {
    "Fn::Split": _split,
    "Fn::FindInMap": _find_in_map,
}
