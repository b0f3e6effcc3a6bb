"""The pages of provisioning in Chromium: from a new template to a provisioned device, and what axe-core finds."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.access.local_admin import LocalAdmin, allow, document
from tests.e2e.console.conftest import AXE
from tests.e2e.console.test_chromium import EVIL, NARROW, WIDE, violations
from tests.e2e.provisioning.support import TRUST, Device, Identity, template

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page

    from thingmint.testing import RunningServer


@pytest.fixture(scope="module")
def role(server: RunningServer, iot: Any) -> str:
    """A role that may do everything but attach policies, and the policy that the templates attach."""
    local_admin = LocalAdmin(server)
    account: str = local_admin.ask("account.list")[0]["id"]
    statements = [allow("iot:*", "*"), allow("iot:AttachPolicy", "*") | {"Effect": "Deny"}]
    local_admin.ask("role.create", name="provisions", trust_policy=TRUST)
    local_admin.ask("policy.put", name="provisions", document=document(*statements))
    local_admin.ask("policy.attach", principal="role/provisions", policy="provisions")
    iot.create_policy(policyName="fleet-device", policyDocument=document(allow("iot:*", "*")))
    return f"arn:aws:iam::{account}:role/provisions"


@pytest.mark.parametrize("has_script", [True, False], ids=["with JavaScript", "without"])
def test_from_a_new_template_to_a_device(
    open_console: Callable[..., Page], server: RunningServer, role: str, has_script: bool, tmp_path: Path
) -> None:
    local_admin, name = LocalAdmin(server), f"t-{secrets.token_hex(4)}"
    page = open_console("/provisioning", java_script_enabled=has_script, viewport=WIDE)
    page.get_by_role("link", name="New template").click()
    page.get_by_label("Name").fill(name)
    page.get_by_label("Role as which it acts").fill(role)
    page.get_by_label("Document, in JSON").fill('{"Resources": {,}}')
    if not has_script:
        page.get_by_role("button", name="Check").click()
    page.get_by_text("1 error has to be mended").wait_for()
    page.get_by_label("Document, in JSON").fill(template())
    page.get_by_label("Enable it at once").check()
    page.get_by_role("button", name="Save").click()
    page.get_by_role("link", name="Dry run", exact=True).click()
    number = secrets.token_hex(4)
    page.get_by_label("SerialNumber").fill(number)
    page.get_by_role("button", name="Try it").click()
    page.get_by_text("Such a device would be refused.").wait_for()
    assert "explicit deny" in page.get_by_role("row", name=re.compile("iot:AttachPolicy")).inner_text()
    local_admin.ask("policy.put", name="provisions", document=document(allow("iot:*", "*")))
    try:
        page.get_by_role("button", name="Try it").click()
        page.get_by_text("Such a device would be provisioned.").wait_for()
        assert f"Thing lamp-{number}" in page.locator("#result").inner_text()
        page.get_by_role("link", name="Open the template").click()
        page.get_by_role("button", name="Make a claim").click()
        shown = [page.locator(f"#file-{each}").text_content() or "" for each in (1, 2)]
        claim = Identity.kept(tmp_path, "claim", shown[1], shown[0])
        with Device(server, claim, f"d-{number}") as device:
            made = device.certificate()
            accepted, reply = device.register(name, made["certificateOwnershipToken"], SerialNumber=number)
        assert accepted, reply
        assert reply["thingName"] == f"lamp-{number}"
    finally:
        statements = [allow("iot:*", "*"), allow("iot:AttachPolicy", "*") | {"Effect": "Deny"}]
        local_admin.ask("policy.put", name="provisions", document=document(*statements))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_pages_have_no_violation_and_do_not_scroll_sideways(
    open_console: Callable[..., Page], iot: Any, role: str, scheme: str, viewport: dict[str, int]
) -> None:
    name = f"t-{secrets.token_hex(4)}"
    given = {"provisioningRoleArn": role, "templateBody": template(), "description": EVIL}
    iot.create_provisioning_template(templateName=name, **given)
    page = open_console(color_scheme=scheme, viewport=viewport, reduced_motion="reduce")

    def check(what: str) -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], what
        assert not page.evaluate("window.changed")
        if AXE.exists():
            assert violations(page) == [], what

    one = f"/provisioning/templates/{name}"
    for path in (
        "/provisioning",
        "/provisioning/new",
        "/provisioning/tasks",
        "/provisioning/imports",
        one,
        f"{one}/new-version",
        f"{one}/delete",
        f"{one}/dry-run",
    ):
        page.goto(f"/console{path}")
        check(path)
    page.get_by_label("SerialNumber").fill("x" * 100)
    page.get_by_role("button", name="Try it").click()
    page.get_by_text("Such a device would be refused.").wait_for()
    check("the result of a dry run")
    page.goto(f"/console{one}")
    page.get_by_role("button", name="Make a claim").click()
    page.get_by_text("never again").wait_for()
    check("a claim")
