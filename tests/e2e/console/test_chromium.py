"""The pages in Chromium: with and without JavaScript, wide and narrow, light and dark, and what axe-core finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.console.conftest import AXE

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

PATHS = ["/"]
WIDE, NARROW = {"width": 1360, "height": 900}, {"width": 390, "height": 844}


def violations(page: Page) -> list[tuple[str, str]]:
    page.evaluate(AXE.read_text())
    found: dict[str, Any] = page.evaluate("axe.run(document)")
    return [(each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_pages_have_no_violation_and_do_not_scroll_sideways(
    open_console: Callable[..., Page], scheme: str, viewport: dict[str, int]
) -> None:
    page = open_console(color_scheme=scheme, viewport=viewport)
    for path in PATHS:
        page.goto(f"/console{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], path
        if AXE.exists():
            assert violations(page) == [], path
    if not AXE.exists():
        pytest.skip("axe-core was not found: make services fetches it")


def test_without_javascript(open_console: Callable[..., Page]) -> None:
    page = open_console(java_script_enabled=False)
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/console/sign-in")


def test_by_keyboard(open_console: Callable[..., Page]) -> None:
    page = open_console()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
