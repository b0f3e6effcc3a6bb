"""What each page has that a signed-in person opens."""

from __future__ import annotations

from pathlib import Path

import thingmint.console

_TEMPLATES = Path(thingmint.console.__file__).parent / "templates"


def test_each_page_shows_the_command_that_does_the_same() -> None:
    pages = {file.name: file.read_text() for file in _TEMPLATES.rglob("*.html")}
    signed_in = {
        name: text
        for name, text in pages.items()
        if "{% block main %}" in text and name not in ("base.html", "error.html")
    }
    assert len(signed_in) > 20
    assert [name for name, text in signed_in.items() if "ui.same(" not in text] == []


def test_no_address_has_data() -> None:
    """Browsers keep the addresses of downloads: a private key in one would stay on disk."""
    pages = {file.name: file.read_text() for file in _TEMPLATES.rglob("*.html")}
    assert [name for name, text in pages.items() if "data:" in text] == []
