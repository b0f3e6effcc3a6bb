"""Patterns with wildcards and policy variables, and sets of patterns that refuse quickly.

The lengths of pattern and text bound the cost of matching. ``*`` matches any run of characters, including ``/`` and
``:``; ``?`` matches exactly one character; every other character matches itself, including MQTT's ``+`` and ``#``.

Variables expand only in documents of version 2012-10-17. A substituted value is literal: its ``*`` and ``?`` match
themselves. A pattern with a variable that has no value matches nothing (IAM user guide, "Using policy variables
without values").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from operator import length_hint
from typing import TYPE_CHECKING

from thingmint.domain.policies.decisions import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from thingmint.domain.policies.decisions import Request


ARN_PARTS = 6

_MAX_MASKS = 64  # characters whose masks a machine caches; ARNs have hardly more different ones


class Wildcard(Enum):
    RUN = "*"
    ONE = "?"


def segments_of(tokens: Iterable[str | Wildcard]) -> tuple[str, ...]:
    """Return the texts between the ``*`` of a pattern without ``?``."""
    segments = [""]
    for token in tokens:
        if isinstance(token, str):
            segments[-1] += token
        else:
            segments.append("")
    return tuple(segments)


def match_segments(segments: Sequence[str], text: str) -> bool:
    """True if ``text`` consists of the segments in order, with any characters between two of them.

    Each inner segment takes its leftmost match, which leaves the most text for the others, so there is no backtracking.
    """
    if len(segments) == 1:
        return text == segments[0]
    start, end = len(segments[0]), len(text) - len(segments[-1])
    if start > end or not text.startswith(segments[0]) or not text.endswith(segments[-1]):
        return False
    for segment in segments[1:-1]:
        found = text.find(segment, start, end)
        if found < 0:
            return False
        start = found + len(segment)
    return True


class Machine:
    """Matches a text with several patterns at the same time. The state has one bit for each position in each pattern.

    It takes one step for each character of the text, without backtracking. With ``in_parts``, as for ARNs, a wildcard
    does not match beyond one of the first five colons.
    """

    __slots__ = ("_bounded", "_cells", "_ends", "_masks", "_ones", "_runs", "_starts", "_width")

    def __init__(self, patterns: Iterable[Iterable[str | Wildcard]], *, in_parts: bool = False) -> None:
        # A cell for each character that a pattern matches, and one at its end, which is reached by a match.
        cells: list[str] = []
        here = 0
        starts, ends, ones, runs, bounded = [], [], [], [], []
        for tokens in patterns:
            starts.append(here)
            colons = 0
            for token in tokens:
                if isinstance(token, str):
                    cells.append(token)
                    here += len(token)
                    colons += token.count(":")
                    continue
                if in_parts and colons < ARN_PARTS - 1:
                    bounded.append(here)
                if token is Wildcard.RUN:
                    runs.append(here)
                else:
                    ones.append(here)
                    cells.append("?")
                    here += 1
            ends.append(here)
            cells.append("\0")
            here += 1
        self._cells = "".join(cells)
        self._starts, self._ends = self._bits(starts), self._bits(ends)
        self._ones, self._runs, self._bounded = self._bits(ones), self._bits(runs), self._bits(bounded)
        self._masks: dict[str, tuple[int, int]] = {}
        self._width = here

    def matches(self, text: str, request: Request) -> bool:
        """True if one of the patterns matches the whole text. Raises TooManySteps."""
        cost = 8 + self._width // 128  # per character: integers of many digits take longer
        most = request.steps // cost
        characters = iter(text if len(text) <= most else text[:most])
        masks, state = self._masks, self._starts
        for character in characters:
            passed, kept = masks.get(character) or self._mask(character)
            state = (state & passed) << 1 | state & kept
            if not state:
                break
        else:
            request.spend(len(text) * cost)
            return bool(state & self._ends)
        request.spend((min(len(text), most) - length_hint(characters)) * cost)
        return False

    @property
    def start(self) -> int:
        """The state before any character."""
        return self._starts

    def advance(self, state: int, text: str) -> int:
        """The state after ``text``; 0 if no pattern matches a text that goes on so."""
        for character in text:
            passed, kept = self._masks.get(character) or self._mask(character)
            state = (state & passed) << 1 | state & kept
        return state

    def is_match(self, state: int) -> bool:
        return bool(state & self._ends)

    def can_go_on(self, state: int, never: str) -> bool:
        """True if a text of one or more characters leads from ``state`` to a match, none of which is ``never``.

        Only for a machine of one pattern.
        """
        after = self._cells.rfind(never) + 1 if never else 0
        return bool(state >> after << after & ~(self._ends & ~self._runs))

    def _mask(self, character: str) -> tuple[int, int]:
        """Return the positions that move on by the character, and those that stay because they are at a ``*``."""
        cells, found, position = self._cells, [], self._cells.find(character)
        while position >= 0:
            found.append(position)
            position = cells.find(character, position + 1)
        literal = self._bits(found) & ~self._ends
        apart = self._bounded if character == ":" else 0
        if len(self._masks) >= _MAX_MASKS:
            self._masks.clear()
        mask = self._masks[character] = literal | self._ones & ~apart, self._runs & ~apart
        return mask

    def _bits(self, positions: Iterable[int]) -> int:
        out = bytearray(len(self._cells) // 8 + 1)
        for position in positions:
            out[position >> 3] |= 1 << (position & 7)
        return int.from_bytes(out, "little")


_ESCAPES = frozenset("*?$")
_NEVER_IN_A_NAME = frozenset("${}'\"*?")
_GUARDED = frozenset("*$+?#")
_GUARDED_LENGTH = 1024

_WILDCARD, _VARIABLE = "[*?]", r"\$\{[^}]*\}?"
_SPECIAL = {  # by (has variables, has wildcards)
    (False, False): re.compile(r"(?!)"),
    (False, True): re.compile(_WILDCARD),
    (True, False): re.compile(_VARIABLE),
    (True, True): re.compile(f"{_WILDCARD}|{_VARIABLE}"),
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the strings of one document are read.

    With ``guarded``, a value that contains one of ``* $ + ? #`` or is longer than 1024 characters is not substituted,
    as AWS IoT does for devices.
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
        if len(values) != 1:  # AWS substitutes single-valued keys only
            return None
        text = text_of(values[0])
        if self.guarded and (len(text) > _GUARDED_LENGTH or not _GUARDED.isdisjoint(text)):
            return None
        return text


Token = str | Wildcard | Variable


def read_tokens(text: str, dialect: Dialect, *, wildcards: bool) -> tuple[Token, ...]:
    """Split ``text`` into literals, wildcards and variables. Raises ValueError with a phrase that does not quote it."""
    tokens: list[Token] = []
    literal, position = "", 0
    for found in _SPECIAL[dialect.variables, wildcards].finditer(text):
        literal += text[position : found.start()]
        position = found.end()
        token = Wildcard(found[0]) if len(found[0]) == 1 else _read_variable(found[0], dialect)
        if isinstance(token, str):
            literal += token
            continue
        tokens += [literal, token] if literal else [token]
        literal = ""
    literal += text[position:]
    return (*tokens, literal) if literal else tuple(tokens)


def _read_variable(written: str, dialect: Dialect) -> str | Variable:
    if not written.endswith("}"):
        raise ValueError("has a variable that does not end")
    inner = written[2:-1]
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
    """Replace the variables by their values. Returns None if a variable has no value."""
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


def unresolved(tokens: Sequence[Token], request: Request) -> tuple[str, ...]:
    """Return the names of the variables without a value. Raises TooManySteps."""
    request.spend(32 * len(tokens))
    return tuple(t.name for t in tokens if isinstance(t, Variable) and t.resolve(request) is None)


def match_once(tokens: Sequence[str | Wildcard], text: str, request: Request, *, in_parts: bool = False) -> bool:
    """Match ``text`` with a pattern that is used for this request only. Raises TooManySteps."""
    shortest = sum(len(token) if isinstance(token, str) else token is Wildcard.ONE for token in tokens)
    if shortest > len(text):
        return False
    request.spend(2048 + 16 * shortest)
    return Machine([tokens], in_parts=in_parts).matches(text, request)


class PatternSet:
    """Several patterns, one of which must match the whole text. ``fold`` ignores case.

    The request counts the work before it is done (``Request.spend``).
    """

    __slots__ = ("_exact", "_fold", "_machine", "_prefixes", "_segmented", "_templates", "variable")

    def __init__(self, patterns: Iterable[Sequence[Token]], *, fold: bool = False) -> None:
        exact: set[str] = set()
        prefixes: list[str] = []
        segmented: list[Sequence[str]] = []
        with_question_marks: list[Sequence[str | Wildcard]] = []
        templates: list[_Template] = []
        for pattern in patterns:
            tokens = tuple(t.casefold() if fold and isinstance(t, str) else t for t in pattern)
            static = tuple(t for t in tokens if not isinstance(t, Variable))
            literals = tuple(t for t in static if isinstance(t, str))
            if len(static) < len(tokens):
                templates.append(_Template(tokens, fold=fold))
            elif len(literals) == len(static):
                exact.add("".join(literals))
            elif Wildcard.ONE in static:
                with_question_marks.append(static)
            elif static[: len(literals)] == literals:
                prefixes.append("".join(literals))
            else:
                segmented.append(segments_of(static))
        self._exact = frozenset(exact)
        self._prefixes = tuple(prefixes)
        self._segmented = tuple(segmented)
        self._machine = Machine(with_question_marks) if with_question_marks else None
        self._templates = tuple(templates)
        self._fold = fold
        self.variable = bool(templates)

    def matches(self, text: str, request: Request) -> bool:
        """True if one of the patterns matches the whole text. Raises TooManySteps."""
        if self._fold:
            request.spend(len(text) // 8)
            text = text.casefold()
        if text in self._exact or text.startswith(self._prefixes):
            return True
        if self._segmented:
            request.spend(len(self._segmented) * (16 + len(text) // 32))
            for segments in self._segmented:
                if match_segments(segments, text):
                    return True
        if self._machine is not None and self._machine.matches(text, request):
            return True
        return bool(self._templates) and any(template.matches(text, request) for template in self._templates)

    def unresolved(self, request: Request) -> tuple[str, ...]:
        return tuple(name for template in self._templates for name in unresolved(template.tokens, request))


class _Template:
    """A pattern with variables. Its literal beginning is compared before variables are substituted."""

    __slots__ = ("_fold", "_has_question_marks", "_lead", "_segments", "tokens")

    def __init__(self, tokens: tuple[Token, ...], *, fold: bool) -> None:
        self.tokens = tokens
        self._fold = fold
        self._lead = tokens[0] if isinstance(tokens[0], str) else ""
        self._has_question_marks = Wildcard.ONE in tokens
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
        request.spend(128 + 16 * len(self.tokens) + len(text) // 4)
        if self._has_question_marks:
            tokens = resolve_tokens(self.tokens, request)
            return tokens is not None and match_once(tokens, text, request)
        segments, room = [], len(text)
        for segment in self._segments:
            out = ""
            for piece in segment:
                value = piece if isinstance(piece, str) else piece.resolve(request)
                if value is None:
                    return False
                out += value.casefold() if self._fold else value
            room -= len(out)
            if room < 0:
                return False
            segments.append(out)
        return match_segments(segments, text)
