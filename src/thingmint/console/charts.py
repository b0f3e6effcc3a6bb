"""Charts as SVG with attributes and classes only: the pages' policy refuses style attributes.

Each chart is drawn twice, for wide and for narrow pages, as one drawing scaled to a phone cannot be read. The
stylesheet shows one of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Sequence

_STEPS = (1, 2, 5)
_LINES = 4  # at most, above the axis
_DATES = 7  # at most
_HALF_TICK = 18  # of a date's width
_LEFT, _BOTTOM, _TOP = 44, 26, 10


@dataclass(frozen=True, slots=True)
class Bar:
    """``tick`` is written below the bar if there is room, ``title`` is what a pointer shows. ``kind``: soon or near."""

    value: int
    tick: str
    title: str
    kind: str = ""


def bars(values: Sequence[Bar], title: str, *, narrow: int, id: str = "chart", last: bool = False) -> Markup:
    """A bar chart, and another one for narrow pages: of the first ``narrow`` bars, or the ``last``."""
    few = values[-narrow:] if last else values[:narrow]
    return _drawing(values, title, id, "wide", 760, 300) + _drawing(few, title, id, "narrow", 340, 200)


def steps_of(most: int) -> tuple[int, int]:
    """The distance between the lines of an axis up to ``most``, and the axis's end: round numbers."""
    rough = max(1, most) / _LINES
    size = 10 ** math.floor(math.log10(rough)) if rough >= 1 else 1
    step = next((size * each for each in (*_STEPS, 10) if size * each >= rough), size)
    return step, step * max(1, -(-most // step))


def _drawing(values: Sequence[Bar], title: str, id: str, kind: str, width: int, height: int) -> Markup:
    step, peak = steps_of(max((bar.value for bar in values), default=0))
    base, each = height - _BOTTOM, (width - _LEFT) / max(1, len(values))
    head = f'<svg class="chart {kind}" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{id}-{kind}">'
    parts = [head, f'<title id="{id}-{kind}">{escape(title)}</title>']
    for line in range(0, peak + 1, step):
        y = base - (base - _TOP) * line / peak
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{width}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{line:,}</text>'
        )
    every = max(1, math.ceil(len(values) / _DATES))
    for number, bar in enumerate(values):
        tall, x = (base - _TOP) * bar.value / peak, _LEFT + number * each
        place = f'x="{x + 2:.1f}" y="{base - tall:.1f}" width="{max(1, each - 4):.1f}" height="{tall:.1f}"'
        parts.append(f'<rect class="bar {escape(bar.kind)}" {place} rx="2"><title>{escape(bar.title)}</title></rect>')
        if number % every == 0:
            middle = x + each / 2
            is_last = middle > width - _HALF_TICK
            at, anchor = (float(width), "end") if is_last else (middle, "middle")
            begin = f'<text class="tick" x="{at:.1f}" y="{height - 8}" text-anchor="{anchor}">'
            parts.append(f"{begin}{escape(bar.tick)}</text>")
    return Markup("".join(parts) + "</svg>")  # noqa: S704 - every text in it is escaped
