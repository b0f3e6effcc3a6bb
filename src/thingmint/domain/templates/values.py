"""Text values that record the origin of each character: the template's author, or a parameter."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


PIECE_COST = 64
"""The cost of a piece or of a list item in addition to its text, in characters."""


class Piece(NamedTuple):
    """``parameter`` is the name of the parameter that the text is from, or None for the template author's text."""

    text: str
    parameter: str | None


@dataclass(frozen=True, slots=True)
class Value:
    """A text in pieces. No piece is empty, and neighbours have different origins."""

    pieces: tuple[Piece, ...]

    def __str__(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def cost(self) -> int:
        return sum(len(piece.text) + PIECE_COST for piece in self.pieces)

    @property
    def parameter(self) -> str | None:
        """The name of the first parameter in the value, or None."""
        return next((piece.parameter for piece in self.pieces if piece.parameter is not None), None)


@dataclass(frozen=True, slots=True)
class Values:
    """A list. ``divided_by`` is the parameter whose value decides the number of items, if any."""

    items: tuple[Value, ...]
    divided_by: str | None = None


def authored(text: str) -> Value:
    """Return the value of text that the template's author wrote."""
    return _value([Piece(text, None)])


def from_parameter(parameter: str, text: str) -> Value:
    return _value([Piece(text, parameter)])


def concat(values: Iterable[Value]) -> Value:
    return _value(piece for value in values for piece in value.pieces)


def join(delimiter: str, values: Values) -> Value:
    """Join the items. If a parameter decided the number of items, the delimiters count as text of that parameter."""
    between = _value([Piece(delimiter, values.divided_by)])
    parts = [part for item in values.items for part in (between, item)]
    return concat(parts[1:])


def split(value: Value, delimiter: str) -> Values:
    """Split the text at each delimiter."""
    ends = list(accumulate(len(piece.text) for piece in value.pieces))
    items, start, divided_by = [], 0, None
    for part in str(value).split(delimiter):
        end = start + len(part)
        items.append(_cut(value, ends, start, end))
        start = end + len(delimiter)
        divided_by = divided_by or _cut(value, ends, end, start).parameter
    return Values(tuple(items), divided_by)


def _cut(value: Value, ends: Sequence[int], start: int, end: int) -> Value:
    """Return the characters from ``start`` to ``end``. ``ends`` are the ends of the pieces.

    The time it takes depends on the size of the result only.
    """
    pieces = []
    position = bisect_right(ends, start)
    while position < len(ends) and start < end:
        text, parameter = value.pieces[position]
        begins = ends[position] - len(text)
        pieces.append(Piece(text[start - begins : end - begins], parameter))
        start = ends[position]
        position += 1
    return _value(pieces)


def _value(pieces: Iterable[Piece]) -> Value:
    by_origin = groupby((piece for piece in pieces if piece.text), key=lambda piece: piece.parameter)
    return Value(tuple(Piece("".join(piece.text for piece in group), origin) for origin, group in by_origin))
