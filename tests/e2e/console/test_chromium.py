"""The pages in Chromium: with and without JavaScript, wide and narrow, light and dark, and what axe-core finds."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.console.conftest import AXE
from tests.e2e.material import self_signed_pem
from tests.issuers import new_issuer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page

    from thingmint.testing import RunningServer

EVIL = "<script>window.changed = true</script>"
WIDE, NARROW = {"width": 1360, "height": 900}, {"width": 390, "height": 844}
# A page of twice the size has half the width.
ZOOMED = {"width": 680, "height": 450}


@dataclass(frozen=True)
class Fleet:
    """The ids of certificates, the first of which is attached to the thing pump, and of a CA certificate."""

    ids: list[str]
    ca: str


@pytest.fixture(scope="module")
def fleet(iot: Any) -> Fleet:
    """Certificates with names that are hard to show."""
    ids = []
    for number, name in enumerate((EVIL, "x" * 64, "\N{CYRILLIC CAPITAL LETTER ZHE}" * 20, "pump")):
        made = iot.register_certificate_without_ca(certificatePem=self_signed_pem(common_name=name), status="ACTIVE")
        ids.append(made["certificateId"])
        if number == 0:
            iot.create_thing(thingName="pump", attributePayload={"attributes": {"model": "m" * 200}})
            iot.attach_thing_principal(thingName="pump", principal=made["certificateArn"])
    now = datetime.now(UTC)
    root = new_issuer(EVIL, now=now, begins=now - timedelta(days=30), ends=now + timedelta(days=10))
    registered = iot.register_ca_certificate(caCertificate=root.pem, certificateMode="SNI_ONLY", setAsActive=True)
    return Fleet(ids, registered["certificateId"])


def paths(fleet: Fleet) -> list[str]:
    one = f"/certificates/{fleet.ids[0]}"
    return [
        "/",
        "/certificates",
        "/certificates?q=nothing",
        one,
        f"{one}/revoke",
        "/things",
        "/things/pump",
        "/devices",
        "/connect",
        "/connect/pump",
        "/connect/yandex/new",
        "/sessions",
        "/cas",
        f"/cas/{fleet.ca}",
        "/access",
        "/access/user/administrator",
        "/access/policies",
        "/access/audit",
        "/refusals",
        f"/refusals/simulator?device={fleet.ids[0]}&client_id=pump&action=publish&name=a",
    ]


def violations(page: Page) -> list[tuple[str, str]]:
    page.evaluate(AXE.read_text())
    found: dict[str, Any] = page.evaluate("axe.run(document)")
    return [(each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW, ZOOMED], ids=["wide", "narrow", "zoomed"])
def test_pages_have_no_violation_and_do_not_scroll_sideways(
    open_console: Callable[..., Page], fleet: Fleet, scheme: str, viewport: dict[str, int]
) -> None:
    page = open_console(color_scheme=scheme, viewport=viewport, reduced_motion="reduce")
    for path in paths(fleet):
        page.goto(f"/console{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], path
        assert not page.evaluate("window.changed")
        if AXE.exists():
            assert violations(page) == [], path
    if not AXE.exists():
        pytest.skip("axe-core was not found: make services fetches it")


@pytest.mark.parametrize("has_script", [True, False], ids=["with JavaScript", "without"])
def test_certificates_are_deactivated_by_clicks(
    open_console: Callable[..., Page], fleet: Fleet, iot: Any, has_script: bool
) -> None:
    page = open_console("/certificates", java_script_enabled=has_script)
    page.get_by_label("Search", exact=True).fill("pump")
    if not has_script:
        page.get_by_role("button", name="Apply").click()
    page.wait_for_url("**/certificates?q=pump*")
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
    for id in (fleet.ids[0], fleet.ids[3]):
        assert iot.describe_certificate(certificateId=id)["certificateDescription"]["status"] == "INACTIVE"
        iot.update_certificate(certificateId=id, newStatus="ACTIVE")


def test_the_overview_follows_by_itself(open_console: Callable[..., Page], fleet: Fleet, iot: Any) -> None:
    del fleet
    page = open_console()
    page.clock.install()
    page.goto("/console/")
    before = page.locator("#live .tile").nth(3).locator(".figure").inner_text()
    iot.create_keys_and_certificate()
    page.clock.run_for(20_000)
    after = f"{int(before.replace(',', '')) + 1:,}"
    page.locator("#live .tile").nth(3).locator(".figure", has_text=after).wait_for()


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
