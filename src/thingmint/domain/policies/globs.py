"""Glob matching whose cost is bounded by the lengths of pattern and text, whatever they are.

``*`` is any run of characters, ``/`` and ``:`` too, and ``?`` is exactly one; everything else stands for itself,
MQTT's ``+`` and ``#`` included. Patterns arrive as tokens, so that a substituted value is always literal text.
"""

from __future__ import annotations

from enum import Enum
from operator import length_hint
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from thingmint.domain.policies.requests import Request


ARN_PARTS = 6

_MAX_MASKS = 64  # characters that a machine has met and remembers; ARNs have hardly more


class Wildcard(Enum):
    RUN = "*"
    ONE = "?"


def segments_of(tokens: Iterable[str | Wildcard]) -> tuple[str, ...]:
    """The texts between the runs of a pattern without holes."""
    segments = [""]
    for token in tokens:
        if isinstance(token, str):
            segments[-1] += token
        else:
            segments.append("")
    return tuple(segments)


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


class Machine:
    """Patterns of which one has to match: all positions of all of them at once, one bit each.

    It takes one step for each character of the text, none of which is taken back. ``in_parts``: as in ARNs, no wildcard
    reaches over one of the first five colons.
    """

    __slots__ = ("_bounded", "_cells", "_ends", "_masks", "_ones", "_runs", "_starts", "_width")

    def __init__(self, patterns: Iterable[Iterable[str | Wildcard]], *, in_parts: bool = False) -> None:
        # A cell for each character that a pattern takes, and one behind its last: that is reached when it has matched.
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
        """Raises TooManySteps."""
        cost = 8 + self._width // 128  # of a character: integers of many digits take longer
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

    def _mask(self, character: str) -> tuple[int, int]:
        """The positions that the character passes, and those that it leaves where they are."""
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
