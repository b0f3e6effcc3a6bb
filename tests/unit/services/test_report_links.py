"""Links to reports: which are opened, and for how long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest

from thingmint.services.report_links import ReportFile, ReportLinks

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FILE = ReportFile("0b9c2f0e-6a43-4c52-a4c4-8f2a4f3f5d11", "RESULTS", 12)
LINKS = ReportLinks(b"k" * 32)


def test_a_link_is_valid_for_an_hour() -> None:
    parts = urlsplit(LINKS.link("iot.example.org", FILE, NOW))
    assert parts.netloc == "iot.example.org:443"
    assert LINKS.open(parts.path, parts.query, NOW + timedelta(hours=1)) == FILE
    assert LINKS.open(parts.path, parts.query, NOW + timedelta(hours=1, seconds=1)) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("RESULTS", "ERRORS"),
        ("/12?", "/13?"),
        ("/12?", "/012?"),
        ("/12?", "/12/?"),
        ("0b9c", "0b9d"),
        ("0b9c", "0B9C"),
        ("Expires=1", "Expires=2"),
        ("Expires=", "expires="),
        ("&Signature", "&x=1&Signature"),
        ("Signature=", "Signature=0"),
    ],
)
def test_every_other_text_opens_nothing(old: str, new: str) -> None:
    link = LINKS.link("iot.example.org", FILE, NOW)
    assert old in link
    parts = urlsplit(link.replace(old, new))
    assert LINKS.open(parts.path, parts.query, NOW) is None


def test_another_instances_link_opens_nothing() -> None:
    parts = urlsplit(ReportLinks(b"o" * 32).link("iot.example.org", FILE, NOW))
    assert LINKS.open(parts.path, parts.query, NOW) is None


def test_the_beginning_of_a_link() -> None:
    assert LINKS.link("::1", FILE, NOW).startswith("https://[::1]:443/thing-registration-reports/")
    other = ReportLinks(b"k" * 32, "https://iot.example.org/api")
    assert other.link("localhost", FILE, NOW).startswith("https://iot.example.org/api/thing-registration-reports/")
