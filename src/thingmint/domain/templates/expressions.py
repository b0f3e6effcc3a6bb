"""The functions of the template language: reads them from JSON, and evaluates them in a scope."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from thingmint.domain.errors import InvalidParameters, InvalidTemplate
from thingmint.domain.templates.documents import entries, inside, name_of
from thingmint.domain.templates.values import PIECE_COST, Values, authored, concat, join, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from thingmint.domain.templates.values import Value


class Scope(Protocol):
    """Where an expression is evaluated. All methods raise InvalidParameters."""

    def value_of(self, name: str) -> Value: ...

    def find(self, mapping: str, key: str, name: str) -> str | tuple[str, ...]: ...

    def spend(self, cost: int) -> None:
        """Count the size of a result before it is made: functions can multiply the size of their arguments."""
        ...


class Expression(Protocol):
    def references(self) -> Iterator[str]:
        """Yield every name whose value is needed."""
        ...


class Text(Expression, Protocol):
    def text(self, scope: Scope) -> Value: ...


class Texts(Expression, Protocol):
    def texts(self, scope: Scope) -> Values: ...


@dataclass(frozen=True, slots=True)
class Literal:
    value: str

    def text(self, _scope: Scope) -> Value:
        return authored(self.value)

    def references(self) -> Iterator[str]:
        return iter(())


@dataclass(frozen=True, slots=True)
class Ref:
    name: str

    def text(self, scope: Scope) -> Value:
        value = scope.value_of(self.name)
        scope.spend(value.cost)
        return value

    def references(self) -> Iterator[str]:
        yield self.name


@dataclass(frozen=True, slots=True)
class Several:
    """A literal list."""

    items: tuple[Text, ...]

    def texts(self, scope: Scope) -> Values:
        return Values(tuple(item.text(scope) for item in self.items))

    def references(self) -> Iterator[str]:
        for item in self.items:
            yield from item.references()


@dataclass(frozen=True, slots=True)
class Join:
    delimiter: str
    items: Texts

    def text(self, scope: Scope) -> Value:
        items = self.items.texts(scope)
        scope.spend(sum(item.cost + len(self.delimiter) for item in items.items))
        return join(self.delimiter, items)

    def references(self) -> Iterator[str]:
        return self.items.references()


@dataclass(frozen=True, slots=True)
class Split:
    delimiter: str
    source: Text

    def texts(self, scope: Scope) -> Values:
        source = self.source.text(scope)
        scope.spend(source.cost + PIECE_COST * str(source).count(self.delimiter))
        return split(source, self.delimiter)

    def references(self) -> Iterator[str]:
        return self.source.references()


@dataclass(frozen=True, slots=True)
class Select:
    index: Text
    items: Texts

    def text(self, scope: Scope) -> Value:
        index, items = str(self.index.text(scope)), self.items.texts(scope).items
        # At most 5 digits: the list is never longer, and int() of thousands of them is slow.
        if not (index.isascii() and index.isdigit() and len(index) <= 5 and int(index) < len(items)):
            raise InvalidParameters("Cannot resolve Fn::Select: its list has no item at that index")
        return items[int(index)]

    def references(self) -> Iterator[str]:
        yield from self.index.references()
        yield from self.items.references()


@dataclass(frozen=True, slots=True)
class FindInMap:
    mapping: Text
    key: Text
    name: Text

    def text(self, scope: Scope) -> Value:
        found = self._find(scope)
        if not isinstance(found, str):
            raise InvalidParameters("Cannot resolve Fn::FindInMap: it finds a list where text is needed")
        return authored(found)

    def texts(self, scope: Scope) -> Values:
        found = self._find(scope)
        if isinstance(found, str):
            raise InvalidParameters("Cannot resolve Fn::FindInMap: it finds text where a list is needed")
        return Values(tuple(map(authored, found)))

    def _find(self, scope: Scope) -> str | tuple[str, ...]:
        mapping, key, name = (str(part.text(scope)) for part in (self.mapping, self.key, self.name))
        found = scope.find(mapping, key, name)
        scope.spend(len(found) if isinstance(found, str) else sum(map(len, found)))
        return found

    def references(self) -> Iterator[str]:
        for part in (self.mapping, self.key, self.name):
            yield from part.references()


@dataclass(frozen=True, slots=True)
class Sub:
    """``pieces`` alternate between literal text and the name of a variable: text, name, text, …, text.

    Each of ``variables`` is evaluated once, however often it occurs. Otherwise nested calls would multiply the work.
    """

    pieces: tuple[str, ...]
    variables: Mapping[str, Text]

    def text(self, scope: Scope) -> Value:
        own = {name: value.text(scope) for name, value in self.variables.items()}
        values = [
            authored(piece) if not position % 2 else own[piece] if piece in own else scope.value_of(piece)
            for position, piece in enumerate(self.pieces)
        ]
        scope.spend(sum(value.cost for value in values))
        return concat(values)

    def references(self) -> Iterator[str]:
        for value in self.variables.values():
            yield from value.references()
        yield from (name for name in self.pieces[1::2] if name not in self.variables)


def evaluate(tree: Any, scope: Scope) -> Any:
    """Return ``tree``, which is JSON with expressions in it, with a Value or Values in place of each expression."""
    if isinstance(tree, dict):
        return {key: evaluate(value, scope) for key, value in tree.items()}
    if isinstance(tree, list):
        return [evaluate(value, scope) for value in tree]
    if isinstance(tree, Split):
        return tree.texts(scope)
    if tree is None or isinstance(tree, str | int | float):
        return tree
    expression: Text = tree
    return expression.text(scope)


def texts_of(expressions: Mapping[str, Text], scope: Scope) -> dict[str, str]:
    return {name: str(expression.text(scope)) for name, expression in expressions.items()}


def references_in(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict | list):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from references_in(value)
    elif tree is not None and not isinstance(tree, str | int | float):
        expression: Expression = tree
        yield from expression.references()


# ${Name} is a variable; ${!Name} is the literal text ${Name} (AWS CloudFormation, Fn::Sub).
_BEGIN, _END, _ESCAPE = "${", "}", "${!"


def pieces_of(pattern: str) -> list[str]:
    """Return the pieces of a pattern of Fn::Sub: text, name of a variable, text, …, text. Escapes stay in the texts.

    It takes linear time. A regular expression would read the rest of the pattern again for each ``${`` without ``}``.
    """
    pieces, last, begin = [], 0, pattern.find(_BEGIN)
    while begin >= 0:
        after = begin + len(_BEGIN)
        if not pattern.startswith(_ESCAPE, begin):
            end = pattern.find(_END, after)
            if end < 0:
                break
            pieces += [pattern[last:begin], pattern[after:end]]
            last = after = end + len(_END)
        begin = pattern.find(_BEGIN, after)
    return [*pieces, pattern[last:]]


def read_literal(given: object) -> str | None:
    """Return a scalar's text, or None for other values. Numbers and booleans become the text that JSON writes."""
    if isinstance(given, str):
        return given
    if isinstance(given, bool):
        return "true" if given else "false"
    return str(given) if isinstance(given, int | float) else None


def read_text(given: object, path: str) -> Text:
    """Return the expression in ``given``. Raises InvalidTemplate if it cannot be text."""
    literal = read_literal(given)
    if literal is not None:
        return Literal(literal)
    name, argument = _function(given)
    if name is None or name not in _GIVES_TEXT:
        raise InvalidTemplate(f"{path} must be text, or a function that gives text")
    return _GIVES_TEXT[name](argument, inside(path, name))


def read_texts(given: object, path: str) -> Texts:
    """Return the expression in ``given``. Raises InvalidTemplate if it cannot be a list of texts."""
    if isinstance(given, list):
        return Several(tuple(read_text(item, f"{path}[{index}]") for index, item in enumerate(given)))
    name, argument = _function(given)
    if name is None or name not in _GIVES_LISTS:
        raise InvalidTemplate(f"{path} must be a list, or a function that gives one")
    return _GIVES_LISTS[name](argument, inside(path, name))


def read_tree(given: Any, path: str) -> Any:
    """Return JSON of any form with an expression in place of every function."""
    name, _ = _function(given)
    if name is not None:
        return read_texts(given, path) if name == "Fn::Split" else read_text(given, path)
    if isinstance(given, dict):
        return {key: read_tree(value, inside(path, key)) for key, value in given.items()}
    if isinstance(given, list):
        return [read_tree(value, f"{path}[{index}]") for index, value in enumerate(given)]
    return given


def _function(given: object) -> tuple[str | None, object]:
    """Return the name and the argument of the function that ``given`` calls, even if no such function exists."""
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
    pieces = pieces_of(pattern)
    for name in pieces[1::2]:
        name_of(name, path)
    pieces[::2] = [piece.replace(_ESCAPE, _BEGIN) for piece in pieces[::2]]
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
