"""The playground's pages in Chromium: searching with and without JavaScript, trees, forms, and what axe-core finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.console.conftest import AXE
from tests.e2e.console.test_chromium import EVIL, NARROW, WIDE, ZOOMED, violations

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

PAGES = (
    "/playground",
    "/playground?tag=aws/Things",
    "/playground?q=certificate",
    "/playground?q=nothing-has-this",
    "/playground/aws/CreateKeysAndCertificate",
    "/playground/aws/CreateTopicRule",
    "/playground/aws/RegisterCACertificate",
    "/playground/yandex/RegistryService.AddCertificate",
    "/playground/yandex/RegistryService.AddDataStreamExport",
    "/playground/native/AddCertificate",
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW, ZOOMED], ids=["wide", "narrow", "zoomed"])
def test_pages_have_no_violation_and_do_not_scroll_sideways(
    open_console: Callable[..., Page], scheme: str, viewport: dict[str, int]
) -> None:
    page = open_console(color_scheme=scheme, viewport=viewport, reduced_motion="reduce")
    for path in PAGES:
        page.goto(f"/console{path}")
        for details in page.locator("main details").all():
            details.evaluate("each => each.open = true")
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], path
        if AXE.exists():
            assert violations(page) == [], path
    if not AXE.exists():
        pytest.skip("axe-core was not found: make services fetches it")


@pytest.mark.parametrize("has_script", [True, False], ids=["with JavaScript", "without"])
def test_an_operation_is_found_by_words(open_console: Callable[..., Page], has_script: bool) -> None:
    page = open_console("/playground", java_script_enabled=has_script)

    def apply() -> None:
        if not has_script:
            page.get_by_role("button", name="Apply").click()

    page.get_by_label("Search", exact=True).fill("add certificate")
    apply()
    page.wait_for_url("**/playground?q=add**")
    page.get_by_role("link", name="DeviceService.AddCertificate", exact=True).wait_for()
    page.get_by_label("API", exact=True).select_option("Native API")
    apply()
    page.wait_for_url("**api=native**")
    page.get_by_role("link", name="DeviceService.AddCertificate", exact=True).wait_for(state="detached")
    page.get_by_role("link", name="AddCertificate", exact=True).click()
    page.wait_for_url("**/playground/native/AddCertificate")
    assert page.get_by_label("csr", exact=True).evaluate("each => each.tagName") == "TEXTAREA"
    assert page.get_by_label("status", exact=True).locator("option").all_inner_texts() == [
        "Not given",
        "ACTIVE",
        "INACTIVE",
        "REVOKED",
    ]


@pytest.mark.parametrize("has_script", [True, False], ids=["with JavaScript", "without"])
def test_groups_and_trees_open_by_keyboard(open_console: Callable[..., Page], has_script: bool) -> None:
    page = open_console("/playground", java_script_enabled=has_script)
    group = page.locator("summary", has_text="Thing types")
    group.focus()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="DescribeThingType", exact=True).click()
    answer = page.locator("section", has=page.get_by_role("heading", name="Answer"))
    tree = answer.locator("summary", has_text="thingTypeMetadata")
    tree.focus()
    page.keyboard.press("Enter")
    answer.get_by_text("deprecationDate", exact=True).wait_for()


def test_hostile_words_stay_text(open_console: Callable[..., Page]) -> None:
    page = open_console("/playground")
    page.get_by_label("Search", exact=True).fill(EVIL)
    page.get_by_text("No operation matches.").wait_for()
    page.goto(f"/console/playground/aws/CreateThing?thingName={EVIL}")
    assert page.get_by_label("thingName").input_value() == EVIL
    assert not page.evaluate("window.changed")
