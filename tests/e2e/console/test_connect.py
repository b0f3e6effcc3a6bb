"""Connect a device: the page makes what the device needs, its code connects, and the page tells it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.e2e.access.local_admin import allow, document
from tests.e2e.commands import in_process
from tests.e2e.console.browser import Browser, signed_in, text_of, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from thingmint.testing import RunningServer

_FILE = re.compile(r'name="name" value="([a-z.]+)">\s*<input type="hidden" name="text" value="([^"]+)"')
_CODE = re.compile(r'<code id="code-([a-z-]+)">(.*?)</code>', re.DOTALL)


@pytest.fixture
def browser(server: RunningServer) -> Iterator[Browser]:
    with signed_in(server) as browser:
        yield browser


def save(answer: httpx.Response, folder: Path) -> dict[str, str]:
    """Saves the page's files in the folder. Returns the page's code."""
    for name, content in _FILE.findall(answer.text):
        (folder / name).write_text(html.unescape(content))
    return {kind: html.unescape(code) for kind, code in _CODE.findall(answer.text)}


@pytest.mark.both_engines
def test_the_shown_code_connects_and_the_page_tells_it(
    server: RunningServer, browser: Browser, iot: Any, tmp_path: Path
) -> None:
    answer = browser.post("/connect", name="pump:1_a-b")
    assert answer.status_code == 200, text_of(answer)
    assert answer.headers["cache-control"] == "no-store"
    code = save(answer, tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["ca.pem", "device.key", "device.pem"]
    assert "Waiting for the device" in text_of(answer)
    again = browser.get("/connect/pump:1_a-b")
    assert "Waiting for the device" in text_of(again)
    assert "PRIVATE KEY" not in again.text
    assert "device.key" not in dict(_FILE.findall(again.text))

    assert str(server.ports["mqtt"]) in code["paho"]
    (tmp_path / "device.py").write_text(code["paho"])
    with subprocess.Popen(
        [sys.executable, "-u", "device.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "connected: Success\n"
            until(lambda: "Connected. The device connected" in text_of(browser.get("/connect/pump:1_a-b")))
        finally:
            process.kill()
    until(lambda: "It was connected. The device connected last" in text_of(browser.get("/connect/pump:1_a-b")))

    headers = {"authorization": f"Bearer {server.token}"}
    query = {"event": "CreateKeysAndCertificate"}

    def recorded() -> str:
        found = httpx.get(f"{server.http_url}/v1/audit", params=query, headers=headers).text
        return found if "thing/pump:1_a-b" in found else ""

    key = (tmp_path / "device.key").read_text().splitlines()[1]
    assert key not in until(recorded)
    assert key not in server.output.read_text()
    (principal,) = iot.list_thing_principals(thingName="pump:1_a-b")["principals"]
    assert [each["policyName"] for each in iot.list_attached_policies(target=principal)["policies"]] == [
        "ConnectedThing"
    ]


def test_the_code_for_the_aws_sdk_connects(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "device.py").write_text(save(browser.post("/connect", name="sdk"), tmp_path)["awsiotsdk"])
    command = [sys.executable, "device.py"]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, input="\n", timeout=60)
    assert done.returncode == 0, done.stderr
    assert "connected" in done.stdout


def test_the_policy_allows_the_own_name_only(browser: Browser, tmp_path: Path) -> None:
    program = shutil.which("mosquitto_pub")
    if program is None:
        pytest.skip("mosquitto_pub was not found: make services installs it")
    command = save(browser.post("/connect", name="only-own"), tmp_path)["mosquitto"]

    def run(text: str) -> subprocess.CompletedProcess[str]:
        shell = ["/bin/sh", "-c", text]
        return subprocess.run(shell, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert run(command).returncode == 0
    assert run(command.replace("-i only-own", "-i other")).returncode != 0
    refused = run(command.replace("devices/only-own/", "devices/other/").replace("-q 1", "-q 1 -V 5"))
    assert "Not authorized" in refused.stderr


def test_nothing_is_made_by_wrong_forms(server: RunningServer, browser: Browser, iot: Any) -> None:
    iot.create_thing(thingName="known")
    before = len(iot.list_certificates(pageSize=250)["certificates"])
    answer = browser.post("/connect", name="known")
    assert answer.status_code == 409
    assert "Choose another name" in text_of(answer)
    for name in ("<script>window.changed=true</script>", "", "a" * 129, "a b", "../things", "a\n"):
        answer = browser.post("/connect", name=name)
        assert answer.status_code == (200 if name == "a\n" else 400), name
        assert "<script>window" not in answer.text
    stale = browser.client.post("/console/connect", data={"name": "stale", "form_token": "0" * 64})
    assert stale.status_code == 400
    assert browser.get("/connect/stale").status_code == 404
    assert browser.get("/connect/<script>").status_code == 404
    made = in_process("access", "account", "create", "connect", "--data-dir", server.data_dir, "--output", "json")
    with signed_in(server, json.loads(made.stdout)["token"]) as outsider:
        assert outsider.get("/connect/known").status_code == 404
        assert outsider.post("/connect", name="known").status_code == 200
    assert len(iot.list_certificates(pageSize=250)["certificates"]) == before + 1  # that of the name "a"


def test_a_policy_that_was_changed_is_not_used(browser: Browser, iot: Any) -> None:
    assert browser.post("/connect", name="first").status_code == 200
    wide = document(allow("iot:*", ["*"]))
    version = iot.create_policy_version(policyName="ConnectedThing", policyDocument=wide, setAsDefault=True)
    answer = browser.post("/connect", name="second")
    assert answer.status_code == 409
    assert "was changed" in text_of(answer)
    assert browser.get("/connect/second").status_code == 404
    iot.set_default_policy_version(policyName="ConnectedThing", policyVersionId="1")
    iot.delete_policy_version(policyName="ConnectedThing", policyVersionId=version["policyVersionId"])
    assert browser.post("/connect", name="second").status_code == 200


def test_the_page_needs_permissions(server: RunningServer) -> None:
    def cli(*arguments: str) -> str:
        return in_process("access", *arguments, "--data-dir", server.data_dir, "--output", "json").stdout

    cli("user", "create", "only-reads")
    cli("policy", "attach", "user/only-reads", "--policy", "thingmint/ReadOnly")
    token = json.loads(cli("token", "create", "user/only-reads", "--lifetime", "1h"))["token"]
    with signed_in(server, token) as browser:
        assert "Your policies do not allow you to make things" in text_of(browser.get("/connect"))
        assert browser.post("/connect", name="denied").status_code == 403
        assert browser.get("/connect/denied").status_code == 404


@pytest.fixture
def folder(browser: Browser) -> str:
    """The id of the Yandex folder of our account."""
    found = re.search(r'<option value="new:([^"]+)"', browser.get("/connect/yandex/new").text)
    assert found is not None
    return found[1]


def follow_path(answer: httpx.Response) -> str:
    """The path of the page that follows the device."""
    found = re.search(r'hx-get="/console(/connect/yandex/are[0-9a-v]{17})"', answer.text)
    assert found is not None, text_of(answer)
    return found[1]


@pytest.mark.both_engines
@pytest.mark.parametrize("sign_in", ["certificate", "password"])
def test_the_shown_code_connects_a_yandex_device(
    server: RunningServer, browser: Browser, folder: str, tmp_path: Path, sign_in: str
) -> None:
    fields = {"registry": f"new:{folder}", "registry_name": f"by-{sign_in}", "name": "pump-1_a"}
    answer = browser.post("/connect/yandex/new", **fields, sign_in=sign_in)
    assert answer.status_code == 200, text_of(answer)
    assert answer.headers["cache-control"] == "no-store"
    code = save(answer, tmp_path)
    names = {"certificate": ["ca.pem", "device.key", "device.pem"], "password": ["ca.pem", "password.txt"]}
    assert sorted(each.name for each in tmp_path.iterdir()) == names[sign_in]
    assert sorted(code) == ["arduino", "esp-idf", "mosquitto", "node", "paho"]
    secret = (tmp_path / names[sign_in][1]).read_text().splitlines()[-2 if sign_in == "certificate" else 0]
    assert all(secret not in each for each in code.values()), "the code can be kept with other code"
    path = follow_path(answer)
    shown = browser.get(path)
    assert "Waiting for the device" in text_of(shown)
    assert secret not in html.unescape(shown.text)
    id = path.rpartition("/")[2]

    (tmp_path / "device.py").write_text(code["paho"])
    command = [sys.executable, "-u", "device.py"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "connected: Success\n"
            until(lambda: "Connected. The device connected" in text_of(browser.get(path)))
        finally:
            process.kill()
    until(lambda: "It was connected. The device connected last" in text_of(browser.get(path)))

    headers, query = {"authorization": f"Bearer {server.token}"}, {"event": "DeviceService.Create"}

    def recorded() -> str:
        found = httpx.get(f"{server.http_url}/v1/audit", params=query, headers=headers).text
        return found if f"yandex:device/{id}" in found else ""

    assert secret not in until(recorded)
    assert secret not in server.output.read_text()


@pytest.mark.parametrize("sign_in", ["certificate", "password"])
def test_mosquitto_publishes_as_a_yandex_device(browser: Browser, folder: str, tmp_path: Path, sign_in: str) -> None:
    if shutil.which("mosquitto_pub") is None:
        pytest.skip("mosquitto_pub was not found: make services installs it")
    fields = {"registry": f"new:{folder}", "registry_name": f"publishes-by-{sign_in}", "name": "lamp"}
    answer = browser.post("/connect/yandex/new", **fields, sign_in=sign_in)
    command = save(answer, tmp_path)["mosquitto"]

    def run(text: str) -> subprocess.CompletedProcess[str]:
        shell = ["/bin/sh", "-c", text]
        return subprocess.run(shell, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    done = run(command)
    assert done.returncode == 0, done.stderr
    assert run(command.replace("/events", "/commands")).returncode != 0, "a device may not publish there"
    until(lambda: "It was connected" in text_of(browser.get(follow_path(answer))))


def test_no_yandex_device_is_made_by_wrong_forms(server: RunningServer, browser: Browser, folder: str) -> None:
    path, evil = "/connect/yandex/new", "<script>window.changed=true</script>"
    good = {"registry": f"new:{folder}", "registry_name": "wrong-forms", "name": "lamp", "sign_in": "password"}
    assert browser.post(path, **good).status_code == 200
    again = browser.post(path, **good)
    assert again.status_code == 409
    assert "a registry with the name wrong-forms" in text_of(again)
    found = re.search(r'<option value="(are[^"]+)"[^>]*>wrong-forms', browser.get(path).text)
    assert found is not None
    in_it = good | {"registry": found[1]}
    again = browser.post(path, **in_it)
    assert again.status_code == 409
    assert "a device with the name lamp" in text_of(again)
    for wrong, status in (
        ({"registry": "new:"}, 404),
        ({"registry": f"new:{evil}"}, 404),
        ({"registry": evil}, 404),
        ({"registry": ""}, 404),
        ({"registry": "a" * 55}, 400),
        ({"registry_name": evil}, 400),
        ({"registry_name": ""}, 400),
        ({"registry_name": "b" * 51}, 400),
        ({"name": evil}, 400),
        ({"name": ""}, 400),
        ({"name": "\N{CYRILLIC SMALL LETTER ZHE}"}, 400),
        ({"sign_in": evil}, 400),
    ):
        answer = browser.post(path, **(good | {"registry_name": "never"} | wrong))
        assert answer.status_code == status, wrong
        assert "<script>window" not in answer.text
    assert browser.client.post(f"/console{path}", data=good | {"form_token": "0" * 64}).status_code == 400
    assert "never" not in browser.get(path).text
    assert browser.get("/connect/yandex/<script>").status_code == 404
    command = ("access", "account", "create", "connect-yandex", "--data-dir", server.data_dir, "--output", "json")
    with signed_in(server, json.loads(in_process(*command).stdout)["token"]) as outsider:
        assert "wrong-forms" not in outsider.get(path).text
        assert outsider.post(path, **in_it).status_code == 404
        assert outsider.post(path, **(good | {"registry_name": "theirs"})).status_code == 404, "the folder is ours"


def test_yandex_devices_need_permissions(server: RunningServer, folder: str) -> None:
    def cli(*arguments: str) -> str:
        return in_process("access", *arguments, "--data-dir", server.data_dir, "--output", "json").stdout

    cli("user", "create", "only-reads-yandex")
    cli("policy", "attach", "user/only-reads-yandex", "--policy", "thingmint/ReadOnly")
    token = json.loads(cli("token", "create", "user/only-reads-yandex", "--lifetime", "1h"))["token"]
    form = {"registry": f"new:{folder}", "registry_name": "denied", "name": "denied"}
    with signed_in(server, token) as reader:
        assert reader.get("/connect/yandex/new").status_code == 403
        assert reader.post("/connect/yandex/new", **form).status_code == 403
        assert reader.post("/connect/yandex/new", **(form | {"registry": "are00000000000000000"})).status_code == 403
