"""Patterns with wildcards and policy variables, and sets of them made for fast refusal.

Variables expand in documents of version 2012-10-17 only. A substituted value is literal: its ``*`` and ``?`` match
themselves. A pattern with a variable that has no value matches nothing (IAM user guide, "Using policy variables
without values").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.domain.policies.globs import Glob, Wildcard, match_segments
from thingmint.domain.policies.requests import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from thingmint.domain.policies.requests import Request


_ESCAPES = frozenset("*?$")
_NEVER_IN_A_NAME = frozenset("${}'\"*?")
_GUARDED = frozenset("*$+?#")
_GUARDED_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the strings of one document are read.

    ``guarded``: as AWS IoT does for devices, a value that holds one of ``* $ + ? #`` or is longer than 1024 characters
    is not substituted.
    """

    variables: bool
    guarded: bool


@dataclass(frozen=True, slots=True)
class Variable:
    name: str  # as written
    key: str  # in lower case
    default: str | None
    guarded: bool

    def resolve(self, request: Request) -> str | None:
        values = request.values(self.key)
        if not values:
            return self.default
        if len(values) != 1:  # AWS takes single-valued keys only
            return None
        text = text_of(values[0])
        if self.guarded and (len(text) > _GUARDED_LENGTH or not _GUARDED.isdisjoint(text)):
            return None
        return text


Token = str | Wildcard | Variable


def read_tokens(text: str, dialect: Dialect, *, wildcards: bool) -> tuple[Token, ...]:
    """Raises ValueError with a phrase that does not quote ``text``."""
    tokens: list[Token] = []
    literal: list[str] = []
    position = 0
    while position < len(text):
        character = text[position]
        token: Token = character
        position += 1
        if wildcards and character in "*?":
            token = Wildcard(character)
        elif dialect.variables and character == "$" and text.startswith("{", position):
            end = text.find("}", position)
            if end < 0:
                raise ValueError("has a variable that does not end")
            token = _read_variable(text[position + 1 : end], dialect)
            position = end + 1
        if isinstance(token, str):
            literal.append(token)
            continue
        if literal:
            tokens.append("".join(literal))
            literal = []
        tokens.append(token)
    if literal:
        tokens.append("".join(literal))
    return tuple(tokens)


def _read_variable(inner: str, dialect: Dialect) -> str | Variable:
    if inner in _ESCAPES:
        return inner
    name, comma, default = inner.partition(",")
    name, default = name.strip(), default.strip()
    if not name or not _NEVER_IN_A_NAME.isdisjoint(name) or not name.isprintable():
        raise ValueError("has a variable without a proper name")
    if not comma:
        return Variable(name, name.lower(), None, dialect.guarded)
    if len(default) < 2 or default[0] != "'" or default[-1] != "'" or "'" in default[1:-1]:
        raise ValueError("has a variable whose default is not in single quotes")
    return Variable(name, name.lower(), default[1:-1], dialect.guarded)


def resolve_tokens(tokens: Iterable[Token], request: Request) -> list[str | Wildcard] | None:
    """None if a variable has no value."""
    out: list[str | Wildcard] = []
    for token in tokens:
        if isinstance(token, Variable):
            value = token.resolve(request)
            if value is None:
                return None
            out.append(value)
        else:
            out.append(token)
    return out


def unresolved(tokens: Iterable[Token], request: Request) -> tuple[str, ...]:
    """The names of the variables without a value."""
    return tuple(t.name for t in tokens if isinstance(t, Variable) and t.resolve(request) is None)


class PatternSet:
    """Several patterns, one of which has to match the whole of a text. ``fold`` ignores case."""

    __slots__ = ("_exact", "_fold", "_globs", "_prefixes", "_templates", "variable")

    def __init__(self, patterns: Iterable[Sequence[Token]], *, fold: bool = False) -> None:
        exact: set[str] = set()
        prefixes: list[str] = []
        globs: list[Glob] = []
        templates: list[_Template] = []
        for pattern in patterns:
            tokens = tuple(t.casefold() if fold and isinstance(t, str) else t for t in pattern)
            static = tuple(t for t in tokens if not isinstance(t, Variable))
            literals = tuple(t for t in static if isinstance(t, str))
            if len(static) < len(tokens):
                templates.append(_Template(tokens, fold=fold))
            elif len(literals) == len(static):
                exact.add("".join(literals))
            elif static[: len(literals)] == literals and Wildcard.ONE not in static:
                prefixes.append("".join(literals))
            else:
                globs.append(Glob(static))
        self._exact = frozenset(exact)
        self._prefixes = tuple(prefixes)
        self._globs = tuple(globs)
        self._templates = tuple(templates)
        self._fold = fold
        self.variable = bool(templates)

    def matches(self, text: str, request: Request) -> bool:
        if self._fold:
            text = text.casefold()
        if text in self._exact or text.startswith(self._prefixes):
            return True
        for glob in self._globs:
            if glob.matches(text):
                return True
        return bool(self._templates) and any(template.matches(text, request) for template in self._templates)

    def unresolved(self, request: Request) -> tuple[str, ...]:
        return tuple(name for template in self._templates for name in unresolved(template.tokens, request))


class _Template:
    """A pattern with variables: what is literal in front is compared before anything is substituted."""

    __slots__ = ("_fold", "_holes", "_lead", "_segments", "tokens")

    def __init__(self, tokens: tuple[Token, ...], *, fold: bool) -> None:
        self.tokens = tokens
        self._fold = fold
        self._lead = tokens[0] if isinstance(tokens[0], str) else ""
        self._holes = Wildcard.ONE in tokens
        segments: list[list[str | Variable]] = [[]]
        for token in tokens:
            if isinstance(token, Wildcard):
                segments.append([])
            else:
                segments[-1].append(token)
        self._segments = tuple(map(tuple, segments))

    def matches(self, text: str, request: Request) -> bool:
        if not text.startswith(self._lead):
            return False
        if self._holes:
            tokens = resolve_tokens(self.tokens, request)
            return tokens is not None and Glob(tokens).matches(text)
        segments = []
        for segment in self._segments:
            out = ""
            for piece in segment:
                value = piece if isinstance(piece, str) else piece.resolve(request)
                if value is None:
                    return False
                out += value
            segments.append(out.casefold() if self._fold else out)
        return match_segments(segments, text)
