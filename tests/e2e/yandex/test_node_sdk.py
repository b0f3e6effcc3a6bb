"""The unmodified SDK of Yandex Cloud for Node, in its last two major versions. npm installs it for the test."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.mqtt.devices import Device, credential
from tests.e2e.yandex.clients import PASSWORD

if TYPE_CHECKING:
    from tests.e2e.yandex.clients import Cloud

SCRIPT = Path(__file__).with_name("node_client.js")
PACKAGE = "@yandex-cloud/nodejs-sdk"
SECOND = "Another-password-2"

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or shutil.which("npm") is None, reason="node or npm is missing"
)


@pytest.fixture(scope="module", params=["2.8.0", "3.2.0"])
def modules(request: pytest.FixtureRequest) -> Path:
    """The folder in which that version of the SDK is installed. It is kept for the next run."""
    folder = Path.home() / ".cache" / "thingmint-tests" / f"nodejs-sdk-{request.param}"
    if not (folder / "node_modules" / PACKAGE / "dist" / "index.js").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}')
        options = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
        command = ["npm", "install", *options, f"{PACKAGE}@{request.param}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
        if done.returncode:
            pytest.skip(f"npm cannot install the SDK: {done.stderr[-200:]}")
    return folder


@pytest.mark.timeout(300)
def test_the_sdk_for_node_manages_registries_devices_and_passwords(cloud: Cloud, modules: Path, tmp_path: Path) -> None:
    server, made = cloud.server, credential(tmp_path, name="localhost")
    given = {
        "endpoint": f"localhost:{server.ports['grpc']}",
        "token": cloud.token,
        "folder": cloud.folder,
        "name": f"node-{secrets.token_hex(4)}",
        "certificate": made.pem,
        "password": PASSWORD,
        "second": SECOND,
    }
    done = subprocess.run(
        ["node", SCRIPT, modules, json.dumps(given)],
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(server.ca)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    device = seen["device"]["id"]
    assert (seen["registry"]["name"], seen["registry"]["labels"]) == (given["name"], {"key": "value"})
    assert seen["device"]["aliases"] == {"my/": f"$devices/{device}/"}
    assert seen["read"] == {"name": "boiler", "description": "by Node"}
    assert seen["listed"] == [device]
    assert seen["certificates"] == [made.pem]
    assert seen["passwords"] == 2
    assert seen["refusals"] == ["NOT_FOUND true", "INVALID_ARGUMENT true", "FAILED_PRECONDITION true"]
    with Device(server, made) as by_certificate, Device(server, None) as by_password:
        by_certificate.connect("a")
        by_password.connect("b", username=device, password=SECOND.encode())
