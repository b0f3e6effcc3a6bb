"""`thingmint fleet create`: devices that connect with what it wrote, and clear refusals."""

from __future__ import annotations

import errno
import json
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.commands import in_process
from tests.e2e.fleet.support import made_devices
from tests.e2e.material import secret_forms
from tests.e2e.provisioning.support import Device, Identity
from tests.e2e.yandex.clients import Cloud
from thingmint.fleet import folder
from thingmint.fleet.durable_files import write_durably

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from thingmint.testing import RunningServer


def _create(server: RunningServer, out: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return in_process("fleet", "create", "--out", out, *arguments, "--data-dir", server.data_dir)


def _lamps(prefix: str = "") -> list[str]:
    """Arguments for serial numbers that no other test has."""
    serial = prefix or secrets.token_hex(4)
    return ["--template", "lamp", "--parameter", f"SerialNumber={serial}-{{n:03}}"]


@pytest.mark.parametrize("key", ["p256", "rsa2048"])
def test_made_devices_connect_with_their_keys(factory: RunningServer, factory_iot: Any, out: Path, key: str) -> None:
    made = _create(factory, out, *_lamps("x" + key), "--count", "3", "--key", key, "--output", "json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["made"] == 3
    assert (out / "ca.pem").read_bytes() == factory.ca.read_bytes()
    devices = made_devices(out)
    assert [device.thing for device in devices] == [f"lamp-x{key}-00{number}" for number in (1, 2, 3)]
    for device in devices:
        device.check()
        assert factory_iot.describe_thing(thingName=device.thing)["attributes"] == {"site": "home"}
        identity = Identity("", device.folder / "certificate.pem", device.folder / "key.pem")
        with Device(factory, identity, device.thing) as connected:
            connected.subscribe("lamps/#")
            connected.send(f"lamps/{device.thing}", b"on")
            assert connected.replies.get(timeout=20) == (f"lamps/{device.thing}", b"on")


def test_made_devices_of_a_registry_are_yandex_devices(factory: RunningServer, out: Path) -> None:
    cloud = Cloud(factory)
    made = _create(factory, out, "--registry", cloud.registry(), "--count", "2", "--name", "meter-{n:02}")
    assert made.returncode == 0, made.stderr
    for device in made_devices(out):
        device.check()
        id = device.line["device_id"]
        identity = Identity("", device.folder / "certificate.pem", device.folder / "key.pem")
        with Device(factory, identity, id, version=4) as connected:
            connected.subscribe(f"$devices/{id}/commands")
    cloud.close()


def test_a_table_has_the_parameters(factory: RunningServer, factory_iot: Any, tmp_path: Path, out: Path) -> None:
    table = tmp_path / "devices.csv"
    table.write_text("Label;Site;Batch\r\nT1;north;7\r\nT2;south;7\r\n")
    serial = ["--parameter", "SerialNumber={Batch}-{Label}"]
    arguments: list[str | Path] = ["--template", "lamp", "--csv", table, "--name", "{Label}", *serial]
    made = _create(factory, out, *arguments)
    assert made.returncode == 0, made.stderr
    assert [(device.folder.name, device.thing) for device in made_devices(out)] == [
        ("T1", "lamp-7-T1"),
        ("T2", "lamp-7-T2"),
    ]
    assert factory_iot.describe_thing(thingName="lamp-7-T2")["attributes"] == {"site": "south"}
    table.write_text("Label;Site;Batch\r\nT1;north;7\r\nT3;south;7\r\n")
    changed = _create(factory, out, *arguments)
    assert changed.returncode == 1
    assert "belongs to another run: --csv was another file, and is this one" in changed.stderr


def test_the_server_never_gets_a_key(factory: RunningServer, out: Path) -> None:
    made = _create(factory, out, *_lamps(), "--count", "2", "--format", "zip")
    assert made.returncode == 0, made.stderr
    stored = b"".join(path.read_bytes() for path in factory.data_dir.rglob("*") if path.is_file())
    stored += factory.output.read_bytes() + made.stdout.encode() + made.stderr.encode()
    for device in made_devices(out):
        for form in secret_forms((device.folder / "key.pem").read_text()):
            assert form not in stored
    assert (device.folder / "certificate.pem").read_bytes().splitlines()[1] not in made.stdout.encode()


def test_the_same_command_again_makes_nothing_new(factory: RunningServer, factory_iot: Any, out: Path) -> None:
    arguments = [*_lamps(), "--count", "60"]
    first = _create(factory, out, *arguments, "--output", "json")
    assert json.loads(first.stdout)["made"] == 60
    before = {path: path.read_bytes() for path in out.rglob("*.pem")}
    again = _create(factory, out, *arguments, "--output", "json", "--format", "zip", "--remove-keys")
    assert (json.loads(again.stdout)["made"], json.loads(again.stdout)["done"]) == (0, 60)
    for path, content in before.items():
        assert not path.exists() if path.name == "key.pem" else path.read_bytes() == content
    assert (out / "devices.zip").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (["--count", "3"], "--count was 2, and is 3"),
        (["--count", "2", "--key", "rsa2048"], "--key was p256, and is rsa2048"),
        (["--count", "2", "--start", "5"], "--start was 1, and is 5"),
    ],
)
def test_a_directory_of_another_run_is_refused(factory: RunningServer, out: Path, other: list[str], said: str) -> None:
    lamps = _lamps()
    assert _create(factory, out, *lamps, "--count", "2").returncode == 0
    refused = _create(factory, out, *lamps, *other)
    assert refused.returncode == 1
    assert f"belongs to another run: {said}" in refused.stderr


def test_a_dry_run_writes_nothing(factory: RunningServer, out: Path) -> None:
    made = _create(factory, out, *_lamps(), "--count", "1000", "--dry-run")
    assert "Would make 1000 devices with template lamp" in made.stdout
    assert not out.exists()


def test_nothing_is_made_if_one_device_cannot_be(factory: RunningServer, tmp_path: Path, out: Path) -> None:
    table = tmp_path / "devices.csv"
    table.write_text("SerialNumber\nfine\nnot fine\nfine\n")
    refused = _create(factory, out, "--template", "lamp", "--csv", table)
    assert refused.returncode == 1
    assert "device 2, device-000002: ThingName must be" in refused.stderr
    assert "device 3, device-000003: its thing would be lamp-fine, as that of an earlier device" in refused.stderr
    assert "none of the run's devices was made" in refused.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--template", "lump", "--count", "1"], "there are lamp"),
        (["--registry", "are9", "--count", "1"], "registry are9 does not exist"),
        (["--template", "lamp", "--count", "1"], "lamp needs SerialNumber: give --parameter SerialNumber=TEXT"),
        ([*_lamps(), "--parameter", "Sit=x", "--count", "1"], "lamp has no parameter Sit; it has SerialNumber, Site"),
        ([*_lamps(), "--name", "{Site}", "--count", "1"], "uses {Site}, which is no column; there is no --csv FILE"),
        ([*_lamps(), "--name", "all", "--count", "2"], "device 2 would be named all, as another device is"),
        ([*_lamps()], "count: or --csv must be given"),
        (["--count", "1"], "template: or --registry must be given"),
        ([*_lamps(), "--count", "1", "--remove-keys"], "needs --format zip"),
        (["--template", "lamp", "--parameter", "SerialNumber={n", "--count", "1"], "is no pattern"),
        ([*_lamps(), "--count", "1", "--region", "eu-north-1"], "region must be one that the account has"),
        ([*_lamps(), "--count", "1", "--account", "999999999999"], "account 999999999999 does not exist"),
    ],
)
def test_errors_say_what_to_do(factory: RunningServer, out: Path, arguments: list[str], said: str) -> None:
    refused = _create(factory, out, *arguments)
    assert refused.returncode in (1, 2)
    assert said in refused.stderr
    assert len(refused.stderr.splitlines()) <= 2
    assert not out.exists()


def test_a_directory_with_other_files_is_refused(factory: RunningServer, out: Path) -> None:
    out.mkdir()
    (out / "notes").touch()
    refused = _create(factory, out, *_lamps(), "--count", "1")
    assert "is in use for something else: choose an empty or a new directory" in refused.stderr


def test_a_run_of_another_instance_is_not_gone_on_with(factory: RunningServer, tmp_path: Path, out: Path) -> None:
    lamps = _lamps()
    assert _create(factory, out, *lamps, "--count", "1").returncode == 0
    assert in_process("init", "--data-dir", tmp_path / "other").returncode == 0
    other = in_process("fleet", "create", "--out", out, *lamps, "--count", "1", "--data-dir", tmp_path / "other")
    assert other.returncode == 1
    assert "1 of 1 devices are made" in other.stderr


@pytest.mark.parametrize("file", ["key.pem", "csr.pem", "certificate.pem"])
def test_a_full_disk_stops_the_run_until_there_is_space(
    factory: RunningServer, out: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    lamps, written = _lamps(), 0

    def full(path: Path, content: bytes) -> None:
        nonlocal written
        written += path.name == file
        if written > 70:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_durably(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(folder, "write_durably", full)
        stopped = _create(factory, out, *lamps, "--count", "120")
    assert stopped.returncode == 1
    assert ".pem: No space left on device" in stopped.stderr
    assert "the same command goes on from there" in stopped.stderr
    ended = _create(factory, out, *lamps, "--count", "120")
    assert ended.returncode == 0, ended.stderr
    devices = made_devices(out)
    assert len(devices) == 120
    for device in devices:
        device.check()


def test_devices_may_need_another_root(factory: RunningServer, out: Path) -> None:
    setting = {"fleet": {"certificate": "c.pem", "key": "k.pem", "listeners": ["mqtt"]}}
    environment = {"THINGMINT_SERVER_CERTIFICATES": json.dumps(setting)}
    made = in_process(
        "fleet", "create", "--out", out, *_lamps(), "--count", "1", "--data-dir", factory.data_dir, env=environment
    )
    assert made.returncode == 0, made.stderr
    assert "certificate of server-certificates.fleet need the root of its CA instead of ca.pem" in made.stdout
