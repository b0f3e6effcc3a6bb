"""Connect a device: the page makes what the device needs, its code connects, and the page tells it."""

from __future__ import annotations

import base64
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

_FILE = re.compile(r'download="([a-z.]+)" href="data:application/x-pem-file;base64,([^"]+)"')
_CODE = re.compile(r'<code id="code-([a-z-]+)">(.*?)</code>', re.DOTALL)


@pytest.fixture
def browser(server: RunningServer) -> Iterator[Browser]:
    with signed_in(server) as browser:
        yield browser


def save(answer: httpx.Response, folder: Path) -> dict[str, str]:
    """Saves the page's files in the folder. Returns the page's code."""
    for name, content in _FILE.findall(answer.text):
        (folder / name).write_bytes(base64.b64decode(html.unescape(content)))
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
