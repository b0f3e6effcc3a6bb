"""The documentation site, built from docs/: a real server has it, and a browser opens it without a flaw."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import TimeoutError as NotYet

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from thingmint.testing import RunningServer

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def address(server: RunningServer) -> str:
    """The address of the site, built as by `make docs`."""
    done = subprocess.run(
        [sys.executable, "scripts/docs_site.py"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return f"{server.http_url}/docs/"


def test_the_site_is_served(address: str) -> None:
    with httpx.Client(base_url=address, timeout=30, follow_redirects=True) as client:
        for path, text in (("", "Getting started"), ("access", "Users, keys and policies"), ("readme/", "Thingmint")):
            page = client.get(path)
            assert (page.status_code, page.headers["x-content-type-options"]) == (200, "nosniff")
            assert text in page.text
            policy = page.headers["content-security-policy"]
            assert "frame-ancestors 'none'" in policy
            assert "'unsafe-inline'" not in policy.partition("style-src")[0]
        assert client.get("search.json").headers["content-type"] == "application/json"
        head = client.head("access/")
        assert (head.status_code, head.content) == (200, b"")
        for path in ("../policy", "%2e%2e/policy", "..%2fpolicy", "%2e%2e%2f%2e%2e%2fREADME.md", "mkdocs.yml"):
            assert client.get(httpx.URL(address.removesuffix("/docs/"), raw_path=b"/docs/" + path.encode())).is_error


def test_a_browser_opens_and_searches_it(address: str, chromium: Browser) -> None:
    """Nothing is loaded from other hosts, and no script or style is refused by the policy."""
    context = chromium.new_context(viewport={"width": 1360, "height": 900})
    page = context.new_page()
    messages, requested = [], []
    page.on("console", lambda message: messages.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: messages.append(str(error)))
    context.on("request", lambda request: requested.append(request.url))
    page.goto(address)
    page.get_by_role("link", name="Threat model").first.click()
    page.get_by_role("heading", name="Threat model").first.wait_for()
    page.get_by_role("button", name="Search").first.click()
    page.keyboard.type("Zephyr")
    # The results are in a closed shadow tree, where a test cannot look: Enter opens the first when it is there.
    deadline = time.monotonic() + 60
    while "/boards/" not in page.url and time.monotonic() < deadline:
        page.keyboard.press("Enter")
        try:
            page.wait_for_url("**/boards/**", timeout=1000)
        except NotYet:
            continue
    assert "/boards/" in page.url
    page.wait_for_load_state("networkidle")
    context.close()
    assert messages == []
    origin = address.removesuffix("docs/")
    assert [url for url in requested if not url.startswith((origin, f"blob:{origin}", "data:"))] == []
    assert any(url.endswith("/search.json") for url in requested)
