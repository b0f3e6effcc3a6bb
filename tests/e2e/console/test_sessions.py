"""The page of sessions: devices that are connected, one of them, and how it is disconnected."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.e2e.commands import in_process
from tests.e2e.console.browser import Browser, signed_in, text_of, until
from tests.e2e.mqtt.devices import Closed, Device
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page

    from thingmint.testing import RunningServer

EVIL = "<script>window.changed=true</script>"


@pytest.fixture
def browser(server: RunningServer) -> Iterator[Browser]:
    with signed_in(server) as browser:
        yield browser


@pytest.fixture(scope="module")
def outsider(server: RunningServer) -> Iterator[Browser]:
    """The browser of another account's administrator."""
    made = in_process("access", "account", "create", "sessions", "--data-dir", server.data_dir, "--output", "json")
    with signed_in(server, json.loads(made.stdout)["token"]) as browser:
        yield browser


@pytest.mark.both_engines
def test_a_session_is_listed_shown_and_ended(
    server: RunningServer, browser: Browser, outsider: Browser, device: Device
) -> None:
    client_id = f" a/{EVIL}&b "
    device.connect(client_id)
    device.subscribe(f"{EVIL}/#")
    device.publish("state", b"on", qos=1)
    listed = browser.get("/sessions", q=EVIL)
    assert client_id.strip() in text_of(listed)
    assert "127.0.0.1" in text_of(listed)
    shown = browser.get("/sessions/one", client_id=client_id)
    assert f"Subscriptions {EVIL}/#" in text_of(shown)
    assert "Messages in 1" in text_of(shown)
    for answer in (listed, shown):
        assert EVIL not in answer.text
    assert "No session matches" in text_of(browser.get("/sessions", q="no such device"))
    assert EVIL not in text_of(outsider.get("/sessions"))
    assert outsider.get("/sessions/one", client_id=client_id).status_code == 404
    assert outsider.post("/sessions/end", client_id=client_id).status_code == 404
    assert browser.client.post("/console/sessions/end", data={"client_id": client_id}).status_code == 400
    answer = browser.post("/sessions/end", client_id=client_id)
    assert answer.headers["location"] == "/console/sessions"
    assert "is disconnected." in text_of(browser.get("/sessions"))
    with pytest.raises(Closed) as closed:
        device.read()
    assert closed.value.reason is Reason.ADMINISTRATIVE_ACTION
    assert browser.get("/sessions/one", client_id=client_id).status_code == 404
    headers = {"authorization": f"Bearer {server.token}"}

    def recorded() -> bool:
        answer = httpx.get(f"{server.http_url}/v1/audit", params={"event": "EndSession"}, headers=headers)
        return client_id in json.dumps(answer.json(), ensure_ascii=False)

    assert until(recorded)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/sessions?page=x", 400),
        ("/sessions?q=" + "a" * 257, 400),
        ("/sessions/one", 400),
        ("/sessions/one?client_id=" + "a" * 30_000, 404),
        ("/sessions/one?client_id=%00", 400),
        ("/sessions/one?client_id=a&owner=" + "b" * 51, 400),
    ],
)
def test_wrong_addresses(browser: Browser, path: str, status: int) -> None:
    assert browser.get(path).status_code == status


def test_the_pages_need_permissions(server: RunningServer) -> None:
    def cli(*arguments: str) -> str:
        return in_process("access", *arguments, "--data-dir", server.data_dir, "--output", "json").stdout

    tokens = {}
    for policy in ("ProvisioningOnly", "ReadOnly"):
        cli("user", "create", policy)
        cli("policy", "attach", f"user/{policy}", "--policy", f"thingmint/{policy}")
        tokens[policy] = json.loads(cli("token", "create", f"user/{policy}", "--lifetime", "1h"))["token"]
    with signed_in(server, tokens["ProvisioningOnly"]) as browser:
        assert browser.get("/sessions").status_code == 403
        assert browser.get("/sessions/one", client_id="a").status_code == 403
    with signed_in(server, tokens["ReadOnly"]) as browser:
        assert browser.get("/sessions").status_code == 200
        assert browser.post("/sessions/end", client_id="a").status_code == 403


def test_the_list_follows_by_itself(open_console: Callable[..., Page], device: Device) -> None:
    page = open_console("/sessions")
    page.clock.install()
    page.goto("/console/sessions?q=following")
    page.get_by_text("No session matches.").wait_for()
    device.connect("following")
    page.clock.run_for(6_000)
    page.get_by_role("link", name="following").wait_for()
    page.get_by_role("link", name="following").click()
    page.get_by_text("Connected", exact=True).wait_for()
    device.disconnect()
    page.clock.run_for(6_000)
    page.get_by_text("The device is not connected any more.").wait_for()


def test_a_session_is_ended_by_clicks(open_console: Callable[..., Page], device: Device) -> None:
    device.connect("clicked")
    page = open_console("/sessions", java_script_enabled=False)
    page.get_by_role("link", name="clicked").click()
    page.get_by_role("button", name="Disconnect").click()
    page.get_by_text("clicked is disconnected.").wait_for()
