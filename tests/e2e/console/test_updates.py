"""Pages that follow at once: the stream of a real server, in Chromium, its end, and pages without one."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.commands import in_process
from tests.e2e.console.browser import signed_in, text_of, until
from tests.e2e.console.streams import stream
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.e2e.console.browser import Browser
    from tests.e2e.mqtt.devices import Device
    from thingmint.testing import RunningServer


def test_a_stream_tells_that_a_device_has_connected(server: RunningServer, device: Device) -> None:
    with signed_in(server) as browser, stream(server, browser) as opened:
        opened.readline()
        device.connect("streamed")
        assert [opened.readline() for _ in range(3)] == [b"event: connections\n", b"data: 1\n", b"\n"]
        assert "streamed" in text_of(browser.get("/sessions"))
        assert browser.post("/sign-out").status_code == 303
        told = opened.read()  # to its end
        assert told.endswith(b"event: end\ndata: 1\n\n")


def test_streams_of_a_disabled_user_end(server: RunningServer) -> None:
    def cli(*arguments: str) -> str:
        return in_process("access", *arguments, "--data-dir", server.data_dir, "--output", "json").stdout

    cli("user", "create", "watcher")
    cli("policy", "attach", "user/watcher", "--policy", "thingmint/ReadOnly")
    token = json.loads(cli("token", "create", "user/watcher", "--lifetime", "1h"))["token"]
    with signed_in(server, token) as browser, stream(server, browser) as opened:
        cli("user", "disable", "watcher")
        assert opened.read().endswith(b"event: end\ndata: 1\n\n")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_open_streams_do_not_delay_the_end_of_the_server(sent: signal.Signals) -> None:
    with running_server(arguments=["--key-pool=0"]) as server, signed_in(server) as browser:
        with stream(server, browser) as opened:
            server.process.send_signal(sent)
            # A stream that is cut off, as after the time for requests in flight, has no end: IncompleteRead.
            assert opened.read() == b"\n"
        assert server.process.wait(60) == 0
        assert "Traceback" not in server.output.read_text()


def test_the_list_of_sessions_follows_at_once(open_console: Callable[..., Page], device: Device) -> None:
    page = open_console("/sessions")
    with page.expect_response("**/console/updates/sessions"):
        page.goto("/console/sessions?q=at-once")
    page.clock.install()  # from now on the page asks at no interval
    page.get_by_text("No session matches.").wait_for()
    device.connect("at-once")
    page.get_by_role("link", name="at-once").wait_for()
    device.disconnect()
    page.get_by_text("No session matches.").wait_for()


def test_pages_of_certificates_follow_at_once(open_console: Callable[..., Page], iot: Any) -> None:
    made = iot.create_keys_and_certificate()["certificateId"]
    pages = {path: open_console(path) for path in ("/certificates", f"/certificates/{made}", "/")}
    for path, page in pages.items():
        with page.expect_response("**/console/updates/*"):
            page.goto(f"/console{path}")
        page.clock.install()  # from now on the page asks at no interval
    listed, shown, overview = pages.values()
    added = overview.locator(".tile", has_text="Added today")
    before = added.inner_text()
    new = iot.create_keys_and_certificate()["certificateId"]
    listed.locator(f"#rows a[href$='{new}']").first.wait_for()
    until(lambda: added.inner_text() != before)
    iot.update_certificate(certificateId=made, newStatus="ACTIVE")
    shown.locator(".title-line").get_by_text("Active").wait_for()
    listed.get_by_role("row").filter(has=listed.locator(f"a[href$='{made}']")).get_by_text("Active").wait_for()
    iot.update_certificate(certificateId=made, newStatus="INACTIVE")
    iot.delete_certificate(certificateId=made)
    shown.get_by_text("The certificate was deleted").wait_for()
    listed.locator(f"#rows a[href$='{made}']").first.wait_for(state="detached")


def test_rows_that_are_ticked_stay_until_they_are_not(open_console: Callable[..., Page], iot: Any) -> None:
    made = iot.create_keys_and_certificate()["certificateId"]
    page = open_console("/certificates")
    with page.expect_response("**/console/updates/*"):
        page.goto("/console/certificates")
    box = page.locator(f"input[value='{made}']")
    box.check()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    new = iot.create_keys_and_certificate()["certificateId"]
    page.locator("#rows[data-late]").wait_for()
    assert box.is_checked()
    assert asked == []
    box.uncheck()
    page.locator("h1").click()  # the focus leaves the box
    page.locator(f"#rows a[href$='{new}']").first.wait_for()


def test_a_late_update_without_effect_is_asked_for_once(open_console: Callable[..., Page], iot: Any) -> None:
    made = iot.create_keys_and_certificate()["certificateId"]
    page, asked = open_console(), []
    page.clock.install()
    with page.expect_response("**/console/updates/*"):
        page.goto("/console/certificates")
    box = page.locator(f"input[value='{made}']")
    box.check()
    iot.create_keys_and_certificate()
    page.locator("#rows[data-late]").wait_for()

    def answer(route: Any) -> None:
        asked.append(route.request.url)
        route.fulfill(status=204)  # htmx leaves the part as it is, and logs no error

    page.route("**/console/certificates", answer)
    box.uncheck()
    page.locator("h1").click()
    for _ in range(20):
        page.clock.run_for(1000)
    until(lambda: page.title() and len(asked) > 0)
    assert len(asked) < 5, "once, and at the usual intervals"


def test_the_link_with_the_focus_keeps_it(open_console: Callable[..., Page], iot: Any) -> None:
    made = iot.create_keys_and_certificate()["certificateId"]
    page = open_console("/certificates")
    with page.expect_response("**/console/updates/*"):
        page.goto("/console/certificates")
    page.locator(f"#rows a[href$='{made}']").first.focus()
    new = iot.create_keys_and_certificate()["certificateId"]
    page.locator(f"#rows a[href$='{new}']").first.wait_for()
    until(lambda: made in page.evaluate("document.activeElement.href || ''"))


@pytest.mark.parametrize("way", ["refused", "missing"])
def test_without_a_stream_the_page_asks_at_intervals(
    server: RunningServer, chromium: Any, device: Device, way: str
) -> None:
    page: Page = chromium.new_context(base_url=server.http_url).new_page()  # a refusal is an error in the browser's log
    page.goto("/console/sign-in")
    page.fill("#token", server.token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/console/")
    if way == "missing":
        page.add_init_script("delete window.EventSource")
    page.route("**/console/updates/*", lambda route: route.fulfill(status=429))
    page.goto(f"/console/sessions?q={way}")
    page.get_by_text("No session matches.").wait_for()
    device.connect(way)
    page.get_by_role("link", name=way).wait_for(timeout=60_000)


def test_a_page_tells_that_its_session_has_ended(
    open_console: Callable[..., Page],
) -> None:
    page = open_console("/sessions")
    page.get_by_text("No device is connected.").wait_for()
    other = page.context.new_page()
    other.goto("/console/")
    other.get_by_role("button", name="Sign out").click()
    page.get_by_text("Your session has ended").wait_for()
    page.get_by_text("No device is connected.").wait_for()  # what was shown stays


def test_only_some_pages_of_a_session_have_a_stream(server: RunningServer) -> None:
    with signed_in(server) as browser, contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(stream(server, browser))
        refused = browser.get("/updates/sessions")
        assert refused.status_code == 429
        assert "already has 4 pages" in text_of(refused)
        assert browser.get("/sessions").status_code == 200
    with signed_in(server) as browser:
        until(lambda: _opens(server, browser))


def _opens(server: RunningServer, browser: Browser) -> bool:
    with stream(server, browser):
        return True


@pytest.mark.parametrize("kind", ["/connect", "/connect/yandex/new"])
def test_the_page_of_a_new_device_turns_green_at_once(
    open_console: Callable[..., Page], tmp_path: Path, kind: str
) -> None:
    page = open_console(kind)
    if page.locator("#registry_name").count():
        page.fill("#registry_name", "green")
        page.locator("#registry").select_option(label="A new registry in the folder default")
    page.fill("#name", "green-1")
    with page.expect_response("**/console/updates/*"):
        page.get_by_role("button", name="Make the").click()
    page.clock.install()  # from now on the page asks at no interval
    page.get_by_text("Waiting for the device.").wait_for()
    for button in page.locator("form[action='/console/file'] button").all():
        with page.expect_download() as download:
            button.click()
        download.value.save_as(tmp_path / download.value.suggested_filename)
    (tmp_path / "device.py").write_text(page.locator("#code-paho").text_content() or "")
    with subprocess.Popen([sys.executable, "device.py"], cwd=tmp_path) as process:
        try:
            page.get_by_text("Connected. The device connected").wait_for()
        finally:
            process.kill()
    page.get_by_text("It was connected.").wait_for()
