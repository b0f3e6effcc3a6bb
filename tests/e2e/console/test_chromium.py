"""What people do with the pages in Chromium, with and without JavaScript. test_matrix.py opens all pages."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.commands import thingmint
from tests.e2e.console.conftest import AXE
from tests.e2e.material import self_signed_pem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from thingmint.testing import RunningServer

EVIL = "<script>window.changed = true</script>"
WIDE, NARROW = {"width": 1360, "height": 900}, {"width": 390, "height": 844}
# A page of twice the size has half the width.
ZOOMED = {"width": 680, "height": 450}


@pytest.fixture(scope="module")
def pumps(iot: Any) -> list[str]:
    """The ids of two certificates that a search for "bilge" finds: by a thing, and by the common name."""
    ids = []
    for name in (EVIL, "bilge"):
        made = iot.register_certificate_without_ca(certificatePem=self_signed_pem(common_name=name), status="ACTIVE")
        ids.append(made["certificateId"])
        if name == EVIL:
            iot.create_thing(thingName="bilge", attributePayload={"attributes": {"model": "m" * 200}})
            iot.attach_thing_principal(thingName="bilge", principal=made["certificateArn"])
    return ids


def violations(page: Page) -> list[tuple[str, str]]:
    page.evaluate(AXE.read_text())
    found: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [(each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]]


@pytest.mark.parametrize("has_script", [True, False], ids=["with JavaScript", "without"])
def test_certificates_are_deactivated_by_clicks(
    open_console: Callable[..., Page], pumps: list[str], iot: Any, has_script: bool
) -> None:
    page = open_console("/certificates", java_script_enabled=has_script)
    page.get_by_label("Search", exact=True).fill("bilge")
    if not has_script:
        page.get_by_role("button", name="Apply").click()
    page.wait_for_url("**/certificates?q=bilge*")
    page.locator("#rows tbody tr").nth(1).wait_for()
    boxes = page.locator("#rows input[name=id]")
    assert boxes.count() == 2
    boxes.nth(0).check()
    boxes.nth(1).check()
    page.get_by_label("Selected:").select_option("Deactivate")
    page.get_by_role("button", name="Continue").click()
    page.get_by_label("Type 2 to confirm").fill("2")
    page.get_by_role("button", name="Deactivate 2 certificates").click()
    page.get_by_text("2 certificates deactivated.").wait_for()
    for id in pumps:
        assert iot.describe_certificate(certificateId=id)["certificateDescription"]["status"] == "INACTIVE"
        iot.update_certificate(certificateId=id, newStatus="ACTIVE")


def test_an_empty_list_says_so_in_one_text_on_narrow_pages(open_console: Callable[..., Page]) -> None:
    """Cells of rows are two columns there, a label and a value, which would tear a sentence with a link apart."""
    page = open_console("/certificates?q=nothing-has-this-name", viewport=NARROW)
    assert page.locator("td.empty").evaluate("each => getComputedStyle(each).display") == "block"


def test_the_overview_follows_by_itself(open_console: Callable[..., Page], pumps: list[str], iot: Any) -> None:
    """An event tells of a new certificate; if none comes, the page asks at its interval."""
    del pumps
    page = open_console()
    page.clock.install()
    page.goto("/console/")
    before = page.locator("#live .tile").nth(3).locator(".figure").inner_text()
    iot.create_keys_and_certificate()
    page.clock.run_for(100_000)
    after = f"{int(before.replace(',', '')) + 1:,}"
    page.locator("#live .tile").nth(3).locator(".figure", has_text=after).wait_for(timeout=60_000)


@pytest.mark.parametrize("has_script", [True, False], ids=["with JavaScript", "without"])
def test_a_link_signs_in_once(server: RunningServer, chromium: Browser, has_script: bool) -> None:
    printed = thingmint("console", "--data-dir", server.data_dir).stdout
    link = next(word for word in printed.split() if "/console/sign-in/link" in word)
    for is_first in (True, False):
        context = chromium.new_context(ignore_https_errors=True, java_script_enabled=has_script)
        page = context.new_page()
        page.goto(link)
        if is_first:
            page.get_by_role("button", name="Sign in").click()
            page.get_by_role("heading", name="Overview").wait_for()
            assert "link=" not in page.url
        else:
            page.get_by_role("alert").wait_for()
            assert page.get_by_role("button", name="Sign in").count() == 1, "only the form for tokens"
        context.close()


def test_without_javascript_one_can_sign_out(open_console: Callable[..., Page]) -> None:
    page = open_console(java_script_enabled=False)
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/console/sign-in")


def test_by_keyboard(open_console: Callable[..., Page]) -> None:
    page = open_console()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_the_menu_has_each_page(open_console: Callable[..., Page], server: RunningServer) -> None:
    del server
    page = open_console()
    for link in page.locator("nav.side a").all():
        address = link.get_attribute("href")
        assert page.request.get(address or "").status == 200, address


def test_the_page_of_a_new_device_turns_green_by_itself(open_console: Callable[..., Page], tmp_path: Path) -> None:
    page = open_console("/connect")
    page.get_by_label("Name of the thing").fill("green")
    page.get_by_role("button", name="Make the thing and its keys").click()
    page.get_by_text("Waiting for the device.").wait_for()
    for button in page.locator("form[action='/console/file'] button").all():
        with page.expect_download() as download:
            button.click()
        download.value.save_as(tmp_path / download.value.suggested_filename)
    (tmp_path / "device.py").write_text(page.locator("#code-paho").inner_text())
    with subprocess.Popen([sys.executable, "device.py"], cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        try:
            page.locator("#state .alert.ok").wait_for(timeout=60_000)
        finally:
            process.kill()
    assert page.get_by_role("button", name="Save device.key").is_visible()


def test_a_narrow_menu_shows_the_current_entry(open_console: Callable[..., Page]) -> None:
    page = open_console("/access/audit", viewport=NARROW)
    for entry in (".side [aria-current]", ".tabs [aria-current]"):
        box = page.locator(entry).bounding_box()
        assert box is not None
        assert 0 <= box["x"] <= box["x"] + box["width"] <= NARROW["width"], entry


@pytest.mark.parametrize("has_script", [True, False], ids=["with JavaScript", "without"])
def test_a_wrong_name_leaves_the_policy_in_its_editor(open_console: Callable[..., Page], has_script: bool) -> None:
    page = open_console("/access/policy/edit", java_script_enabled=has_script)
    page.get_by_label("Name").fill("bad name!")
    document = page.get_by_label("Document, in JSON").input_value().replace("iot:ListThings", "iot:ListPolicies")
    page.get_by_label("Document, in JSON").fill(document)
    page.get_by_role("button", name="Save").click()
    page.locator("main > .alert").wait_for()
    assert page.get_by_label("Name").input_value() == "bad name!"
    assert page.get_by_label("Document, in JSON").input_value().strip() == document.strip()
    assert page.locator("[aria-invalid=true]:focus").count() == 1
