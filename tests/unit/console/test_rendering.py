"""Texts for people."""

from __future__ import annotations

import pytest

from thingmint.console import rendering


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no statement allows it", "No statement allows it"),
        ("iot:Connect is missing", "iot:Connect is missing"),
        ("lamp-7 may not connect", "lamp-7 may not connect"),
        ("the <b>", "The &lt;b&gt;"),
        ("", ""),
    ],
)
def test_reasons_begin_like_sentences(text: str, shown: str) -> None:
    assert rendering.sentence(text) == shown
