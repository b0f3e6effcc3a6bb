"""The contrast of every pair of colours that the stylesheet uses (WCAG 2.2: 1.4.3 and 1.4.11)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import thingmint.console

STYLES = (Path(thingmint.console.__file__).parent / "static" / "console.css").read_text()
TEXT, EDGE = 4.5, 3.0

PAIRS: list[tuple[str, str, float]] = [
    *((text, ground, TEXT) for text in ("ink", "soft", "accent") for ground in ("bg", "panel")),
    ("ink", "line2", TEXT),  # under the pointer
    ("accent-ink", "accent", TEXT),
    ("accent", "accent-bg", TEXT),
    *((state, f"{state}-bg", TEXT) for state in ("ok", "warn", "bad", "mute")),
    *((state, ground, TEXT) for state in ("ok", "warn", "bad") for ground in ("bg", "panel")),
    *((edge, ground, EDGE) for edge in ("edge", "focus", "bar", "bar-near", "bar-soon") for ground in ("panel",)),
    ("edge", "bg", EDGE),
    ("focus", "bg", EDGE),
    ("accent", "panel", EDGE),  # the edge of the primary button, and of a box that is ticked
    ("bad", "panel", EDGE),  # of the button that destroys
]
DECORATION = {"line"}
"""Hairlines, which say nothing."""


def palettes() -> dict[str, dict[str, str]]:
    light, dark = re.findall(r":root \{(.*?)\n\}", STYLES, re.DOTALL)[:2]
    return {
        name: dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", text))
        for name, text in (("light", light), ("dark", dark))
    }


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(scheme: str) -> None:
    palette = palettes()[scheme]
    found = {(one, other): round(contrast(palette[one], palette[other]), 2) for one, other, _ in PAIRS}
    low = {(one, other): found[one, other] for one, other, least in PAIRS if found[one, other] < least}
    assert low == {}


def test_each_colour_of_the_palette_is_in_a_pair_and_has_a_dark_one() -> None:
    both = palettes()
    assert set(both["light"]) == set(both["dark"])
    assert set(both["light"]) - DECORATION == {name for one, other, _ in PAIRS for name in (one, other)}


def test_the_stylesheet_uses_colours_of_the_palette_only() -> None:
    rules = re.sub(r":root \{.*?\n\}", "", STYLES, flags=re.DOTALL)
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b|\brgba?\(|\bhsl\(", rules) == []
    used = set(re.findall(r"var\(--([\w-]+)\)", STYLES))
    assert used <= set(palettes()["light"]) | {"sans", "mono"}


def test_black_on_white_is_21() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
