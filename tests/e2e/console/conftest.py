"""For the tests of the console: a connected device, and Chromium if it is installed (`make services`)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.access.local_admin import allow, document
from tests.e2e.mqtt.devices import Device, credential

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, ConsoleMessage, Page

    from thingmint.testing import RunningServer

AXE = Path(__file__).resolve().parents[3] / "build" / "axe-core" / "axe.min.js"
"""axe-core, which `make services` fetches."""


@pytest.fixture
def device(server: RunningServer, iot: Any, tmp_path: Path) -> Iterator[Device]:
    """A device that may do everything."""
    made = credential(tmp_path)
    arn = iot.register_certificate_without_ca(certificatePem=made.pem, status="ACTIVE")["certificateArn"]
    name = f"all-{made.fingerprint[:8]}"
    iot.create_policy(policyName=name, policyDocument=document(allow("iot:*", ["*"])))
    iot.attach_policy(policyName=name, target=arn)
    with Device(server, made) as device:
        yield device


@pytest.fixture(scope="module")  # no longer: while it runs, other tests cannot run event loops of their own
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("Chromium was not found: make services installs it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # As root Chromium does not start its sandbox. It opens pages of the test's own server only.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def _is_fault(message: ConsoleMessage, page: Page) -> bool:
    """True for an error, but not for a status of the page itself: a form that cannot be used answers with one."""
    return message.type == "error" and message.location["url"] != page.url


@pytest.fixture
def open_console(server: RunningServer, chromium: Browser) -> Iterator[Callable[..., Page]]:
    """A function that opens the console in a new window, signed in. Fails the test if the browser reports an error.

    Its arguments are those of a window of Playwright, such as ``color_scheme`` and ``java_script_enabled``.
    """
    contexts, messages = [], []

    def opened(path: str = "/", token: str | None = None, **options: Any) -> Page:
        context = chromium.new_context(base_url=server.http_url, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: messages.append(message.text) if _is_fault(message, page) else None)
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.goto(f"/console/sign-in?next={path}")
        page.fill("#token", token or server.token)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"**/console{path}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert messages == []
