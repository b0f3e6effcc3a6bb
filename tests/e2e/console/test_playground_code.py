"""The code for other clients in Chromium: it follows what is typed, stays open, and is there without JavaScript."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.console.conftest import AXE
from tests.e2e.console.test_chromium import NARROW, violations
from tests.e2e.material import self_signed_pem

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

THING = "/playground/aws/CreateThing"
ADD = "/playground/yandex/DeviceService.AddCertificate"


@pytest.mark.parametrize("has_script", [True, False], ids=["with JavaScript", "without"])
def test_the_code_follows_the_form(open_console: Callable[..., Page], has_script: bool) -> None:
    page = open_console(THING, java_script_enabled=has_script)
    assert "THING_NAME" in page.locator("#code-curl").inner_text()
    page.locator("#client-boto3 summary").click()
    page.get_by_label("thingName").fill("pump-7")
    if not has_script:
        page.get_by_role("button", name="Show the code").click()
        page.wait_for_url("**/code")
        page.locator("#client-boto3 summary").click()
    page.locator("#code-boto3", has_text='thingName="pump-7"').wait_for()
    assert page.get_by_label("thingName").input_value() == "pump-7"
    assert page.locator("details[name=client][open]").get_attribute("id") == "client-boto3"
    assert page.locator("#client-boto3").get_by_role("button", name="Copy").is_visible() == has_script


def test_the_code_of_a_call_is_on_the_page_of_its_answer(open_console: Callable[..., Page]) -> None:
    page = open_console("/playground/aws/DescribeEndpoint")
    page.get_by_label("endpointType").fill("iot:Data-ATS")
    page.get_by_role("button", name="Try it").click()
    page.get_by_text("The call is done").wait_for()
    assert "endpointType=iot%3AData-ATS" in page.locator("#code-curl").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_code_has_no_violation_and_does_not_scroll_the_page(open_console: Callable[..., Page], scheme: str) -> None:
    page = open_console(ADD, color_scheme=scheme, viewport=NARROW, reduced_motion="reduce")
    page.get_by_label("certificateData").fill(self_signed_pem())
    page.locator("#code-curl", has_text="certificate.pem").wait_for()
    for details in page.locator("#code details").all():
        details.evaluate("each => { each.name = ''; each.open = true; }")
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    if not AXE.exists():
        pytest.skip("axe-core was not found: make services fetches it")
    assert violations(page) == []
