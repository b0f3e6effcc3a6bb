"""Writes a policy document with parameters' values in it, safely.

A parameter's value cannot become an element, a statement, an effect, a wildcard or a policy variable, whatever
characters it has. The text of the template's author is not restricted.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from thingmint.domain import strict_json
from thingmint.domain.errors import InvalidParameters, MalformedPolicy
from thingmint.domain.templates.values import Value, Values, authored, concat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The wildcards of policies and of MQTT's topic filters, and the characters of policy variables.
_SPECIAL = frozenset("*?${}+#")
_PATTERNS = frozenset({"Action", "NotAction", "Resource", "NotResource"})
_LABELS = frozenset({"Id", "Sid"})

# While a text with parameters is parsed as JSON, these two characters and a number replace each parameter's piece. They
# are halves of surrogate pairs, which templates cannot contain. Outside of a JSON string, or inside an escape sequence,
# they make the text invalid JSON, so a parameter cannot be there.
_MARK, _END = "\ud800", "\udbff"
_MARKED = re.compile(f"({_MARK}[0-9]+{_END})", re.ASCII)


def write_document(tree: Any) -> str:
    """Return the document's text. ``tree`` is JSON, or text of JSON, with a Value or Values for each function.

    Raises InvalidParameters if a parameter is in a place where none is allowed, or has characters that are not allowed.
    Raises MalformedPolicy.
    """
    if isinstance(tree, str):
        return tree
    if not isinstance(tree, Value):
        _check_document(_with_origins(tree, authored))
        return json.dumps(tree, ensure_ascii=False, separators=(",", ":"), default=_plain)
    if tree.parameter is not None:
        _check_document(_read(tree))
    # Keep the author's text unchanged: its hash is the policy's name.
    return "".join(text if parameter is None else _escaped(text) for text, parameter in tree.pieces)


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _plain(value: Value | Values) -> str | tuple[Value, ...]:
    return str(value) if isinstance(value, Value) else value.items


def _read(text: Value) -> Any:
    """Parse JSON, with a Value for each string."""
    marks = [f"{_MARK}{number}{_END}" for number in range(len(text.pieces))]
    marked = "".join(
        piece.text if piece.parameter is None else mark for piece, mark in zip(text.pieces, marks, strict=True)
    )
    known = {mark: Value((piece,)) for piece, mark in zip(text.pieces, marks, strict=True) if piece.parameter}

    def origins(string: str) -> Value:
        return concat(known.get(part) or authored(part) for part in _MARKED.split(string))

    try:
        return _with_origins(strict_json.load(marked), origins)
    except strict_json.RepeatedName:
        raise MalformedPolicy("document", "has an element twice in one object") from None
    except json.JSONDecodeError as error:
        outside = _MARKED.match(marked, error.pos)
        if outside is not None and outside[0] in known:
            _check_authored(known[outside[0]])
        raise MalformedPolicy("document", "is not JSON") from None
    except (ValueError, RecursionError):
        raise MalformedPolicy("document", "is not JSON") from None


def _with_origins(node: Any, origins: Callable[[str], Value]) -> Any:
    if isinstance(node, dict):
        return {origins(name): _with_origins(value, origins) for name, value in node.items()}
    if isinstance(node, Values):
        if node.divided_by is not None:
            raise _refused(node.divided_by)
        return list(node.items)
    if isinstance(node, list):
        return [_with_origins(value, origins) for value in node]
    return origins(node) if isinstance(node, str) else node


def _check_document(document: Any) -> None:
    for name, value in _elements(document):
        if name == "Statement":
            for statement in _items(value):
                _check_statement(statement)
        elif name not in _LABELS:
            _check_authored(value)


def _check_statement(statement: Any) -> None:
    for name, value in _elements(statement):
        if name in _PATTERNS:
            _check_values(value)
        elif name == "Condition":
            for _operator, keys in _elements(value):
                _check_keys(keys)
        elif name not in _LABELS:
            _check_authored(value)


def _check_keys(keys: Any) -> None:
    if not isinstance(keys, dict):
        _check_authored(keys)
        return
    for key, values in keys.items():
        _check_values([key, *_items(values)])


def _elements(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of an object, once no name is from a parameter.

    A node that should be an object but is something else must not contain a parameter.
    """
    if not isinstance(node, dict):
        _check_authored(node)
        return
    for name, value in node.items():
        _check_authored(name)
        yield str(name), value


def _items(node: Any) -> list[Any]:
    return node if isinstance(node, list) else [node]


def _check_values(values: Any) -> None:
    for value in _items(values):
        if isinstance(value, Value):
            _check_value(value)
        else:
            _check_authored(value)


def _check_value(value: Value) -> None:
    """Refuse special characters in a parameter, and parameters inside of a policy variable, which they would change."""
    in_variable = False
    for text, parameter in value.pieces:
        if parameter is None:
            opened, closed = text.rfind("${"), text.rfind("}")
            in_variable = opened > closed or (in_variable and closed < 0)
        elif in_variable or not _SPECIAL.isdisjoint(text):
            raise _refused(parameter)


def _check_authored(node: Any) -> None:
    if isinstance(node, Value):
        if node.parameter is not None:
            raise _refused(node.parameter)
    elif isinstance(node, dict):
        _check_authored([*node, *node.values()])
    elif isinstance(node, list):
        for item in node:
            _check_authored(item)


def _refused(parameter: str) -> InvalidParameters:
    return InvalidParameters(f"Parameter {parameter} cannot be used in a policy")
