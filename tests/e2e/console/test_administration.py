"""Administration in Chromium: the editor, keys, device policies, the audit log, and changes of many certificates."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.console.conftest import AXE
from tests.e2e.console.test_chromium import NARROW, WIDE, violations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page

GOOD = """{
  "Version": "2012-10-17",
  "Statement": [
    {"Effect": "Allow", "Action": "iot:ListThings", "Resource": "*"}
  ]
}"""
EVIL = "<script>window.changed = true</script>"


@pytest.mark.parametrize("has_script", [True, False], ids=["with JavaScript", "without"])
def test_a_policy_is_checked_while_one_types_and_saved(open_console: Callable[..., Page], has_script: bool) -> None:
    name = f"checked-{has_script}"
    page = open_console("/access/policies", java_script_enabled=has_script)
    page.get_by_role("link", name="New policy").click()
    page.get_by_label("Name", exact=True).fill(name)
    document = page.get_by_label("Document, in JSON")
    for text, said in (
        (GOOD.replace('"Allow",', '"Allow"'), "Line 4, column 24"),
        (GOOD.replace("ListThings", "ListThngs"), "did you mean iot:ListThings"),
        (GOOD.replace("iot:ListThings", EVIL), "is no action"),
        (GOOD, "Allows iot:ListThings on every resource."),
    ):
        document.fill(text)
        if not has_script:
            page.get_by_role("button", name="Check").click()
        page.locator("#report").get_by_text(said).wait_for()
        assert document.input_value() == text
        if has_script and "Line 4" in said:
            page.get_by_text(said).click()
            assert page.evaluate("document.activeElement.selectionStart") == text.index('"Action"')
    assert not page.evaluate("window.changed")
    page.get_by_role("button", name="Save").click()
    page.get_by_text(f"The policy {name} is saved.").wait_for()
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_text(f"The policy {name} is deleted.").wait_for()


def test_a_user_gets_a_policy_and_a_token(open_console: Callable[..., Page]) -> None:
    page = open_console("/access")
    page.get_by_role("link", name="New user").click()
    page.get_by_label("Name", exact=True).fill("marta")
    page.get_by_role("button", name="Make the user").click()
    page.get_by_label("Attach a policy").select_option("thingmint/ReadOnly")
    page.get_by_role("button", name="Attach").click()
    page.get_by_text("The policy thingmint/ReadOnly is attached to user/marta.").wait_for()
    page.get_by_label("What it is for").fill("her laptop")
    page.get_by_role("button", name="New API token").click()
    token = page.locator("#secret-1").inner_text()
    page.go_back()
    assert token not in page.content()
    assert "her laptop" in page.reload().text()  # type: ignore[union-attr]
    hers = open_console("/certificates", token=token)
    assert hers.request.get("/console/access/user/marta").status == 403
    page.get_by_role("button", name="Disable").first.click()
    page.get_by_text("The user marta is disabled.").wait_for()
    hers.goto("/console/certificates")
    hers.wait_for_url("**/console/sign-in*")


def test_a_version_of_a_device_policy_is_put_in_force(open_console: Callable[..., Page], iot: Any) -> None:
    page = open_console("/policies")
    page.get_by_role("link", name="New policy").click()
    page.get_by_label("Name", exact=True).fill("greenhouse")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("link", name="New version").click()
    page.get_by_label("Put it in force at once").uncheck()
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Put in force").click()
    page.get_by_text("Version 2 of greenhouse is in force.").wait_for()
    assert iot.get_policy(policyName="greenhouse")["defaultVersionId"] == "2"


@pytest.mark.parametrize("has_script", [True, False], ids=["with JavaScript", "without"])
def test_the_audit_log_is_verified(open_console: Callable[..., Page], has_script: bool) -> None:
    page = open_console("/access/audit", java_script_enabled=has_script)
    page.get_by_role("link", name="Verify").click()
    page.get_by_role("button", name="Verify now").click()
    page.get_by_text("The verification has begun.").wait_for()
    result = page.get_by_text("The audit log is intact.")
    for _ in range(600):
        if result.count() or has_script:
            break
        page.wait_for_timeout(100)
        page.reload()
    result.wait_for(timeout=60_000)
    page.get_by_text("verified up to record").first.wait_for()


def test_the_search_of_the_audit_log_is_downloaded(open_console: Callable[..., Page], iot: Any, tmp_path: Path) -> None:
    iot.create_thing(thingName="downloaded")
    page = open_console("/access/audit")
    page.get_by_label("Event", exact=True).fill("CreateThing")
    page.wait_for_url("**event=CreateThing*")
    page.locator("#files a[href*='event=CreateThing']").first.wait_for()
    for title, name in (("Download JSON lines", "audit.jsonl"), ("Download CSV", "audit.csv")):
        with page.expect_download() as download:
            page.get_by_role("link", name=title).click()
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert {line["record"]["event"] for line in lines} == {"CreateThing"}
    with (tmp_path / "audit.csv").open(newline="") as file:
        assert [row["event"] for row in csv.DictReader(file)] == ["CreateThing"] * len(lines)


def test_all_that_match_are_changed_by_clicks(open_console: Callable[..., Page], iot: Any) -> None:
    ids = [iot.create_keys_and_certificate(setAsActive=True)["certificateId"] for _ in range(27)]
    page = open_console("/certificates")
    page.get_by_label("Status", exact=True).select_option("Active")
    page.wait_for_url("**status=ACTIVE*")
    page.get_by_role("link", name="Change all that match").click()
    page.wait_for_url("**/change-all?*status=ACTIVE*")
    count = page.get_by_role("heading", level=1).inner_text().split()[1]
    page.get_by_label(f"Type {count.replace(',', '')} to confirm").fill(count)
    page.get_by_role("button", name=f"Change {count} certificates").click()
    page.get_by_text(f"{count} certificates deactivated").first.wait_for()
    for id in ids:
        assert iot.describe_certificate(certificateId=id)["certificateDescription"]["status"] == "INACTIVE"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_pages_have_no_violation_and_do_not_scroll_sideways(
    open_console: Callable[..., Page], iot: Any, scheme: str, viewport: dict[str, int]
) -> None:
    name = f"p{'x' * 100}-{scheme}-{viewport['width']}"
    iot.create_policy(policyName=name, policyDocument=GOOD)
    page = open_console(color_scheme=scheme, viewport=viewport, reduced_motion="reduce")
    for path in (
        "/access/new-user",
        "/access/new-role",
        "/access/user/administrator",
        "/access/user/administrator/delete",
        "/access/policy/edit",
        "/access/policy?name=thingmint/ProvisioningOnly",
        "/access/audit/verification",
        "/policies",
        f"/policies/one?name={name}",
        f"/policies/edit?name={name}",
        f"/policies/delete?name={name}",
        "/certificates/change-all",
    ):
        page.goto(f"/console{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], path
        if AXE.exists():
            assert violations(page) == [], path
    page.goto("/console/access/policy/edit")
    page.get_by_label("Document, in JSON").fill(GOOD.replace("Allow", "Allow" * 200))
    page.locator("#report").get_by_text("Effect must be").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    if not AXE.exists():
        pytest.skip("axe-core was not found: make services fetches it")
    assert violations(page) == []
