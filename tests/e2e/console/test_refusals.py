"""The pages that tell why devices were refused, what cures it, and what devices may do."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.access.local_admin import allow, document
from tests.e2e.commands import in_process
from tests.e2e.console.browser import Browser, signed_in, text_of, until
from tests.e2e.console.conftest import AXE
from tests.e2e.console.test_chromium import violations
from tests.e2e.mqtt.devices import Closed, Credential, Device, credential
from tests.e2e.yandex.clients import Cloud

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx
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
    made = in_process("access", "account", "create", "refusals", "--data-dir", server.data_dir, "--output", "json")
    with signed_in(server, json.loads(made.stdout)["token"]) as browser:
        yield browser


@pytest.fixture
def made(iot: Any, tmp_path: Path) -> Credential:
    """A certificate without a policy."""
    new = credential(tmp_path)
    iot.register_certificate_without_ca(certificatePem=new.pem, status="ACTIVE")
    return new


@pytest.fixture
def yandex_device(server: RunningServer, made: Credential) -> Iterator[str]:
    """The id of a device in a new registry."""
    cloud, name = Cloud(server), f"n-{made.fingerprint[:8]}"
    yield cloud.device(cloud.registry(name=name), name=name)
    cloud.close()


@pytest.fixture(scope="module")
def policy(iot: Any) -> str:
    """A policy that allows everything below topics of the client id."""
    statements = [
        allow("iot:Connect", ["*"]),
        allow("iot:Publish", ["arn:aws:iot:us-east-1:*:topic/own/${iot:ClientId}/*"]),
        allow("iot:Subscribe", ["*"]),
    ]
    iot.create_policy(policyName="a-own-topics", policyDocument=document(*statements))
    return "a-own-topics"


def connects(server: RunningServer, made: Credential, client_id: str) -> bool:
    with Device(server, made) as device:
        try:
            device.connect(client_id)
        except Closed:
            return False
        return True


def group_of(browser: Browser, made: Credential) -> str:
    """The path of the only group of a certificate's refusals, as soon as there is one."""

    def found() -> list[str]:
        answer = browser.get("/refusals", certificate=made.fingerprint)
        return re.findall(r'href="/console(/refusals/-?\d+)"', answer.text)

    (path,) = until(found)
    return str(path)


def answer_to(browser: Browser, path: str, **fields: str) -> httpx.Response:
    """The page that is shown after a form was sent."""
    sent = browser.post(path, **fields)
    assert sent.status_code == 303, text_of(sent)
    return browser.client.get(sent.headers["location"])


@pytest.mark.both_engines
def test_a_refused_device_is_explained_and_cured(
    server: RunningServer, browser: Browser, outsider: Browser, iot: Any, made: Credential, policy: str
) -> None:
    iot.create_policy(
        policyName=f"z-{made.fingerprint[:8]}",
        policyDocument=document(allow("iot:Connect", ["arn:aws:iot:*:*:client/z"])),
    )
    iot.update_certificate(certificateId=made.fingerprint, newStatus="INACTIVE")
    client_id = f"{EVIL}&"
    assert not connects(server, made, client_id)
    path = group_of(browser, made)
    listed, shown = browser.get("/refusals", certificate=made.fingerprint), browser.get(path)
    assert f"{client_id} may not connect The certificate is INACTIVE" in text_of(listed)
    assert "No The certificate is active Its status is INACTIVE" in text_of(shown)
    assert "It would be refused now." in text_of(shown)
    assert f"<option>{policy}</option>" in shown.text
    assert f"<option>z-{made.fingerprint[:8]}</option>" not in shown.text, "it allows another client id"
    for page in (listed, shown):
        assert EVIL not in page.text
    for answer in (outsider.get(path), outsider.post(f"{path}/activate"), outsider.post(f"{path}/attach", policy="x")):
        assert answer.status_code == 404
    assert "Nothing matches" in text_of(outsider.get("/refusals", certificate=made.fingerprint))
    assert browser.client.post(f"/console{path}/activate", data={"form_token": "0" * 64}).status_code == 400
    text = text_of(answer_to(browser, f"{path}/activate"))
    assert "The certificate is activated." in text
    assert "No It has a policy No policy is attached" in text
    assert browser.post(f"{path}/attach", policy="no such policy").status_code == 404
    text = text_of(answer_to(browser, f"{path}/attach", policy=policy))
    assert "It is allowed now." in text
    assert connects(server, made, client_id)


def test_readers_see_why_and_cannot_cure(server: RunningServer, browser: Browser, made: Credential) -> None:
    def cli(*arguments: str) -> str:
        return in_process("access", *arguments, "--data-dir", server.data_dir, "--output", "json").stdout

    assert not connects(server, made, "read")
    path = group_of(browser, made)
    cli("user", "create", "refusal-reader")
    cli("policy", "attach", "user/refusal-reader", "--policy", "thingmint/ReadOnly")
    token = json.loads(cli("token", "create", "user/refusal-reader", "--lifetime", "1h"))["token"]
    with signed_in(server, token) as reader:
        page = reader.get(path)
        assert "read may not connect" in text_of(page)
        assert not re.search(rf'action="/console{path}/', page.text)
        for action in ("activate", "attach", "bind"):
            assert reader.post(f"{path}/{action}", policy="x", device="x").status_code == 403, action


@pytest.mark.both_engines
def test_the_statement_that_came_closest_is_marked(
    server: RunningServer, browser: Browser, outsider: Browser, iot: Any, made: Credential, policy: str
) -> None:
    described = iot.describe_certificate(certificateId=made.fingerprint)["certificateDescription"]
    iot.attach_policy(policyName=policy, target=described["certificateArn"])
    with Device(server, made) as device:
        device.connect("lamp")
        for _ in range(3):
            device.publish(f"other/{EVIL}", b"on", qos=1)
    shown = browser.get(group_of(browser, made))
    assert "Refused 3 times" in text_of(shown)
    assert f"No It may publish to other/{EVIL} No statement allows it" in text_of(shown)
    assert "iot:ClientId lamp" in text_of(shown)
    marked = re.search(r'class="statement marked">(.*?)</div>', shown.text, re.DOTALL)
    assert marked is not None
    assert "iot:Publish" in marked[1]
    asked = {"device": made.fingerprint, "client_id": "lamp", "action": "publish"}
    assert "Yes, it may." in text_of(browser.get("/refusals/simulator", **asked, name="own/lamp/state"))
    assert "No, it may not." in text_of(browser.get("/refusals/simulator", **asked, name="own/pump/state"))
    assert EVIL not in browser.get("/refusals/simulator", **asked, name=EVIL).text
    for device_name in (made.fingerprint, described["certificateArn"]):
        answer = outsider.get("/refusals/simulator", **{**asked, "device": device_name, "name": "own/lamp/state"})
        assert answer.status_code == 404, text_of(answer)
        assert policy not in answer.text


@pytest.mark.both_engines
def test_a_certificate_is_bound_to_a_device_of_yandex(
    server: RunningServer, browser: Browser, outsider: Browser, yandex_device: str, made: Credential
) -> None:
    assert not connects(server, made, "gateway")
    path = group_of(browser, made)
    assert f'value="{yandex_device}"' in browser.get(path).text
    assert outsider.post(f"{path}/bind", device=yandex_device).status_code == 404
    assert browser.post(f"{path}/bind", device="no-device").status_code == 404
    text = text_of(answer_to(browser, f"{path}/bind", device=yandex_device))
    assert "It is allowed now." in text
    assert "so Yandex's topic rules count" in text
    assert browser.post(f"{path}/bind", device=yandex_device).status_code == 409
    asked = {"device": yandex_device, "action": "publish"}
    answer = browser.get("/refusals/simulator", **asked, name="$me/device/events")
    assert "Yes, it may." in text_of(answer)
    answer = browser.get("/refusals/simulator", **asked, name=EVIL)
    assert "No, it may not." in text_of(answer)
    assert EVIL not in answer.text
    answer = outsider.get("/refusals/simulator", **asked, name="$me/device/events")
    assert "Yes" not in text_of(answer)
    with Device(server, made) as device:
        device.connect("gateway")
        with pytest.raises(Closed):
            device.publish("$me/device/commands", b"on", qos=1)

    def refused() -> Any:
        found = browser.get("/refusals", certificate=made.fingerprint)
        return re.findall(r'href="/console(/refusals/-?\d+)">gateway may not publish', found.text)

    text = text_of(browser.get(until(refused)[0]))
    assert "No It may publish to $me/device/commands" in text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/refusals?page=x", 400),
        ("/refusals?certificate=x", 400),
        ("/refusals?since=year", 400),
        ("/refusals?since=day&at=1", 400),
        ("/refusals?since=day&at=999999999999999999", 400),
        ("/refusals?client_id=no", 200),
        ("/refusals/0", 404),
        ("/refusals/9223372036854775808", 404),
        ("/refusals/x", 404),
        ("/refusals/simulator", 200),
        ("/refusals/simulator?device=no", 200),
        ("/refusals/simulator?device=no%0A&action=publish&name=%23", 200),
        ("/refusals/simulator?device=no&action=delete", 400),
        ("/refusals/simulator?device=" + "a" * 64 + "&action=connect&client_id=%23%23", 404),
        ("/refusals/simulator?device=arn:aws:iot:us-east-1:000000000000:cert/" + "a" * 64, 404),
        ("/refusals/simulator?device=" + "d" * 513, 400),
    ],
)
def test_wrong_addresses(browser: Browser, path: str, status: int) -> None:
    assert browser.get(path).status_code == status, text_of(browser.get(path))


@pytest.mark.parametrize("has_script", [True, False], ids=["with JavaScript", "without"])
def test_an_incident_by_clicks(
    server: RunningServer,
    open_console: Callable[..., Page],
    browser: Browser,
    made: Credential,
    policy: str,
    has_script: bool,
) -> None:
    client_id = f"clicked-{made.fingerprint[:8]}"
    assert not connects(server, made, client_id)
    group_of(browser, made)
    page = open_console(java_script_enabled=has_script)
    page.get_by_role("link", name="Why refused").click()
    page.get_by_role("link", name=f"{client_id} may not connect").click()
    page.get_by_text("It would be refused now.").wait_for()
    page.get_by_text("No policy is attached", exact=True).wait_for()
    assert not (has_script and AXE.exists()) or violations(page) == []
    page.get_by_label("Attach a policy that allows it").select_option(policy)
    page.get_by_role("button", name="Attach").click()
    page.get_by_text("It is allowed now. The device can try again.").wait_for()
    with Device(server, made) as device:
        device.connect(client_id)
        page.get_by_role("link", name="Sessions").click()
        page.get_by_role("link", name=client_id).click()
        page.get_by_text("Connected", exact=True).first.wait_for()
        assert not (has_script and AXE.exists()) or violations(page) == []
