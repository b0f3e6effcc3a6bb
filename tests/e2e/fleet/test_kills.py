"""`thingmint fleet create` or its server is killed. Then the same command makes exactly the devices asked for."""

from __future__ import annotations

import random
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.commands import thingmint
from tests.e2e.conftest import iot_client, registered
from tests.e2e.fleet.support import made_devices, new_template, started
from thingmint.testing import running_server

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

_COUNT = 300
_PATIENCE = 60.0  # seconds


def _arguments(data: Path, out: Path) -> list[str | Path]:
    made = ["--count", str(_COUNT), "--template", "lamp", "--parameter", "SerialNumber={n:05}"]
    return ["fleet", "create", *made, "--out", out, "--data-dir", data]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data directory of a stopped server that has the template."""
    with running_server(tmp_path / "data") as server:
        client = iot_client(server)
        new_template(server, client)
        client.close()
    return tmp_path / "data"


def _wait_for_progress(process: subprocess.Popen[str], out: Path) -> None:
    """Wait until the process has written something, or has ended."""
    before, deadline = _progress(out), time.monotonic() + _PATIENCE
    while process.poll() is None and _progress(out) == before:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def _progress(out: Path) -> tuple[int, int]:
    try:
        return sum(1 for _ in out.iterdir()), (out / "manifest.csv").stat().st_size
    except FileNotFoundError:
        return sum(1 for _ in out.iterdir()) if out.exists() else -1, 0


def _check(data: Path, out: Path) -> None:
    """Exactly the devices asked for, each with one certificate, whose key is in its directory."""
    with running_server(data) as server:
        client: Any = iot_client(server)
        ids = [id for id, status in registered(client) if status == "ACTIVE"]
        devices = made_devices(out)
        assert [int(device.line["number"]) for device in devices] == list(range(1, _COUNT + 1))
        assert sorted(ids) == sorted(device.line["certificate_id"] for device in devices)
        assert len(registered(client)) == _COUNT
        for device in devices:
            device.check()
        for device in random.sample(devices, 20):
            (principal,) = client.list_thing_principals(thingName=device.thing)["principals"]
            assert principal.endswith(device.line["certificate_id"])
        client.close()
    assert not list(out.rglob("*.new"))


@pytest.mark.parametrize("has_server", [True, False], ids=["running server", "stopped server"])
def test_a_killed_command_goes_on_without_duplicates(data: Path, tmp_path: Path, has_server: bool) -> None:
    out, kills = tmp_path / "made", 0
    server = running_server(data) if has_server else None
    if server is not None:
        server.__enter__()
    try:
        while True:
            process = started(*_arguments(data, out))
            _wait_for_progress(process, out)
            time.sleep(random.uniform(0, 0.15))
            process.kill()
            _, said = process.communicate()
            assert process.returncode in (0, -9), said
            if process.returncode == 0 or kills > 30:
                break
            kills += 1
        ended = thingmint(*_arguments(data, out))
        assert ended.returncode == 0, ended.stderr
    finally:
        if server is not None:
            server.__exit__(None, None, None)
    assert kills > 1
    _check(data, out)


def test_a_server_that_is_killed_half_way_loses_nothing(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "made"
    for _ in range(3):
        with running_server(data) as server:
            process = started(*_arguments(data, out))
            _wait_for_progress(process, out)
            time.sleep(random.uniform(0, 0.1))
            server.kill()
            _, said = process.communicate(timeout=_PATIENCE)
            if process.returncode:
                assert "the same command goes on from there" in said
    ended = thingmint(*_arguments(data, out))  # in its own process, on the store of the stopped server
    assert ended.returncode == 0, ended.stderr
    _check(data, out)


def test_a_directory_from_before_gets_no_second_certificates(data: Path, tmp_path: Path) -> None:
    """A copy of the directory that lacks certificates which the server knows to be written is refused."""
    out, old = tmp_path / "made", tmp_path / "old"
    process = started(*_arguments(data, out))
    while process.poll() is None and _progress(out)[1] < 100:
        time.sleep(0.002)
    process.kill()
    process.communicate()
    shutil.copytree(out, old)
    assert thingmint(*_arguments(data, out)).returncode == 0
    refused = thingmint(*_arguments(data, old))
    assert refused.returncode == 1
    assert "300 devices are made, but the directory has only" in refused.stderr
    _check(data, out)
