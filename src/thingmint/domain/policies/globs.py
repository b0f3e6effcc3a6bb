"""Glob matching whose cost is bounded by the lengths of pattern and text, whatever they are.

``*`` is any run of characters, ``/`` and ``:`` too, and ``?`` is exactly one; everything else stands for itself,
MQTT's ``+`` and ``#`` included. Patterns arrive as tokens, so that a substituted value is always literal text.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Wildcard(Enum):
    RUN = "*"
    ONE = "?"


class Glob:
    """A pattern without variables."""

    __slots__ = ("_machine", "_segments")

    def __init__(self, tokens: Iterable[str | Wildcard]) -> None:
        tokens = tuple(tokens)
        self._machine = _Machine(tokens) if Wildcard.ONE in tokens else None
        segments = [""]
        for token in tokens:
            if isinstance(token, str):
                segments[-1] += token
            elif token is Wildcard.RUN:
                segments.append("")
        self._segments = tuple(segments)

    def matches(self, text: str) -> bool:
        if self._machine is not None:
            return self._machine.matches(text)
        return match_segments(self._segments, text)


def match_segments(segments: Sequence[str], text: str) -> bool:
    """Whether ``text`` is the segments in order with any run between each two of them.

    The leftmost place for each inner segment is as good as any later one, so there is nothing to go back to.
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


class _Machine:
    """All positions of the pattern at once, one bit each: one step per character of the text, none taken back."""

    __slots__ = ("_accept", "_always", "_by_character", "_loops")

    def __init__(self, tokens: Iterable[str | Wildcard]) -> None:
        bit = 1
        self._always = 0  # positions that any character passes
        self._loops = 0  # positions that a run keeps alive
        self._by_character: dict[str, int] = {}
        for token in tokens:
            if token is Wildcard.RUN:
                self._loops |= bit
            elif token is Wildcard.ONE:
                self._always |= bit
                bit <<= 1
            else:
                for character in token:
                    self._by_character[character] = self._by_character.get(character, 0) | bit
                    bit <<= 1
        self._accept = bit

    def matches(self, text: str) -> bool:
        by_character, always, loops = self._by_character, self._always, self._loops
        state = 1
        for character in text:
            state = (state & (always | by_character.get(character, 0))) << 1 | state & loops
            if not state:
                return False
        return bool(state & self._accept)
