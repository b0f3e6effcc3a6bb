"""The conditions of a search: on one value (matchers), and on a thing or a thing group."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

ONE = "\x02"
"""The wildcard for one character in the pieces of a Pattern. Queries have no control characters."""

LAST = "~"
"""Sorts after every character that names and values of attributes can have."""

_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?")


class Document(Protocol):
    """What is searched: a thing or a thing group."""

    def values(self, field: str | None) -> Sequence[str]:
        """The folded values of a field; of all fields that are searched without a name, if it is None."""
        ...


class Matcher(Protocol):
    """A condition on a folded value. ``bounds``: values that match are between these two, in the order of text."""

    @property
    def bounds(self) -> tuple[str, str]: ...

    def matches(self, value: str) -> bool: ...


class Condition(Protocol):
    def matches(self, document: Document) -> bool: ...


def fold(text: str) -> str:
    """Text as it is compared: without differences of case. For ASCII it is what ``lower`` gives in SQL."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


@dataclass(frozen=True, slots=True)
class Present:
    """Matches every value."""

    bounds: tuple[str, str] = ("", LAST)

    def matches(self, value: str) -> bool:
        del value
        return True


@dataclass(frozen=True, slots=True)
class Exact:
    """Matches a value that is the text, or that has it as one or more whole words."""

    text: str

    @property
    def bounds(self) -> tuple[str, str]:
        return self.text, self.text

    def matches(self, value: str) -> bool:
        return value == self.text or (" " in value and f" {self.text} " in f" {' '.join(value.split())} ")


class Pattern:
    """Matches a value, or one word of it, that has the wildcards ``*`` and ``?``.

    ``pieces`` are the texts between the asterisks, with ONE for each question mark.
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        expressions = list(map(_expression, pieces))
        self._first, self._middle, self._last = expressions[0], expressions[1:-1], expressions[-1]
        self._least = sum(map(len, pieces))
        self._lengths = len(pieces[0]), len(pieces[-1])
        self._is_whole = len(pieces) == 1
        prefix = pieces[0].partition(ONE)[0]
        self.bounds = prefix, prefix + LAST

    def matches(self, value: str) -> bool:
        return self._fits(value) or (" " in value and any(map(self._fits, value.split())))

    def _fits(self, value: str) -> bool:
        first, last = self._lengths
        if self._is_whole:
            return len(value) == first and self._first.match(value) is not None
        end = len(value) - last
        if len(value) < self._least or not self._first.match(value) or not self._last.match(value, end):
            return False
        for middle in self._middle:  # each after the one before, as early as possible
            if (found := middle.search(value, first, end)) is None:
                return False
            first = found.end()
        return True


def _expression(piece: str) -> re.Pattern[str]:
    """Only characters and dots, no repetition: there is nothing to backtrack into."""
    return re.compile(re.escape(piece).replace(re.escape(ONE), "."), re.DOTALL)


class Range:
    """Matches values between two bounds; None for no bound.

    If the value and the bounds are numbers, they are compared as numbers, otherwise as text.
    """

    def __init__(self, low: str | None, high: str | None, *, with_low: bool, with_high: bool) -> None:
        self._text = low, high
        self._included = with_low, with_high
        numbers = [_number(each) for each in self._text]
        self._is_numeric = all(
            number is not None or text is None for number, text in zip(numbers, self._text, strict=True)
        )
        self._numbers = numbers[0], numbers[1]
        self.bounds = ("", LAST) if self._is_numeric else (low or "", LAST if high is None else high)

    def matches(self, value: str) -> bool:
        if self._is_numeric and (number := _number(value)) is not None:
            return _is_between(number, *self._numbers, *self._included)
        return _is_between(value, *self._text, *self._included)


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and _NUMBER.fullmatch(text) else None


def _is_between(value: Any, low: Any, high: Any, with_low: bool, with_high: bool) -> bool:
    if low is not None and (value < low or (value == low and not with_low)):
        return False
    return high is None or value < high or (value == high and with_high)


@dataclass(frozen=True, slots=True)
class Every:
    """Matches every document."""

    def matches(self, document: Document) -> bool:
        del document
        return True


@dataclass(frozen=True, slots=True)
class Term:
    """``field`` is None if the term has no field."""

    field: str | None
    matcher: Matcher

    def matches(self, document: Document) -> bool:
        return any(map(self.matcher.matches, document.values(self.field)))


@dataclass(frozen=True, slots=True)
class Not:
    condition: Condition

    def matches(self, document: Document) -> bool:
        return not self.condition.matches(document)


@dataclass(frozen=True, slots=True)
class All:
    conditions: Sequence[Condition]

    def matches(self, document: Document) -> bool:
        return all(condition.matches(document) for condition in self.conditions)


@dataclass(frozen=True, slots=True)
class Either:
    conditions: Sequence[Condition]

    def matches(self, document: Document) -> bool:
        return any(condition.matches(document) for condition in self.conditions)
