"""Exports that are damaged, doubled or made up: what is wrong is said, and the rest comes."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.importing.support import (
    expected_devices,
    found,
    import_yandex,
    new_instance,
    rows,
    run_import,
    stored_devices,
)
from tests.tables import each_row
from tests.yandex_exports import Export, certificate_pem, certificate_row
from thingmint.domain.ids import IOT, new_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return new_instance(tmp_path)


@pytest.fixture
def export() -> Export:
    made = Export()
    registry = made.add_registry("boilers")
    made.add_devices(registry, 120)
    return made


def registry_of(export: Export) -> str:
    return str(export.registries[0]["id"])


def devices_file(export: Export, folder: Path) -> Path:
    return folder / f"devices-{registry_of(export)}.json"


_DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut off": (lambda content: content[: len(content) // 2], "ends in the middle: it was cut off"),
    "no text": (lambda content: b"\xff\xfe\xfd" + content, "is not"),
    "latin-1": (lambda content: content.replace(b"device-7", b"ger\xe4t-7"), "is not text in UTF-8"),
    "not JSON": (lambda content: b"<html>" + content, "is not a list in JSON"),
    "no objects": (lambda content: b"[1, 2, 3]", "is not a list in JSON"),
    "an error": (lambda content: b'{"code": 7, "message": "denied"}', "is not a list in JSON"),
    "a number": (lambda content: b"12", "is not a list in JSON"),
    "null and more": (lambda content: b"null" + content, "is not a list in JSON"),
}


@each_row("name", list(_DAMAGE))
def test_a_damaged_list_ends_the_import_before_anything_comes(export: Export, tmp_path: Path, name: str) -> None:
    tmp_path /= name
    tmp_path.mkdir()
    data = new_instance(tmp_path)
    folder = export.write(tmp_path / "export")
    file = devices_file(export, folder)
    damage, told = _DAMAGE[name]
    file.write_bytes(damage(file.read_bytes()))
    for options in ((), ("--dry-run",)):
        done = run_import(folder, data, *options)
        assert (done.returncode, done.stdout) == (1, "")
        assert told in done.stderr, done.stderr
        assert str(file) in done.stderr
        assert "--partial" in done.stderr
    assert stored_devices(data) == {}
    report = import_yandex(folder, data, "--partial", status=1)
    assert f"file {file.name}" in found(report, "refused")
    came = stored_devices(data)
    assert came.items() <= expected_devices(export).items()
    assert report["counts"].get("device.new", 0) == len(came)
    assert came or name != "cut off"


def test_a_list_cut_off_anywhere(export: Export, tmp_path: Path) -> None:
    """Whatever is left of a list: the whole rows before the cut come, and nothing else."""
    folder = export.write(tmp_path / "export")
    file = devices_file(export, folder)
    content, moments = file.read_bytes(), random.Random(3)
    for number, cut in enumerate(moments.sample(range(len(content)), 12)):
        place = tmp_path / str(number)
        place.mkdir()
        data = new_instance(place)
        file.write_bytes(content[:cut])
        report = import_yandex(folder, data, "--partial", status=None)
        # Of a whole row, its fields have come and the next row has begun, or the list has ended.
        whole = max(content[:cut].count(b'{"id"') - 1, 0)
        assert report["counts"].get("device.new", 0) in (whole, whole + 1)
        came = stored_devices(data)
        assert len(came) == report["counts"].get("device.new", 0)
        assert came.items() <= expected_devices(export).items()


def test_a_damaged_file_of_certificates(export: Export, data: Path, tmp_path: Path) -> None:
    registry = registry_of(export)
    one, two, three = (row["id"] for row in export.devices[registry][:3])
    folder = export.write(tmp_path / "export")
    of_devices = folder / f"device-certs-{registry}"
    (of_devices / f"{one}.json").write_text("[{")
    (of_devices / f"{two}.json").unlink()
    (of_devices / f"{three}.json").write_text("null")
    report = import_yandex(folder, data, status=1)
    assert found(report, "refused").keys() == {f"device {one}"}
    noted = found(report, "noted")
    assert noted.keys() >= {f"device {two}", f"device {three}", f"file device {two}"}
    assert one not in stored_devices(data)
    export.write(folder)  # mended
    again = import_yandex(folder, data, status=1)
    assert again["counts"]["device.new"] == 1
    assert found(again, "conflict").keys() == {f"device {two}", f"device {three}"}


def test_certificates_that_cannot_come(export: Export, data: Path, tmp_path: Path) -> None:
    registry = registry_of(export)
    rows_ = export.devices[registry]
    good = export.certificates[rows_[0]["id"]][0]
    expected = expected_devices(export)  # with none of the certificates that are added here
    bad: dict[str, Any] = {
        "no PEM": {"certificate_data": "hello"},
        "cut": {"certificate_data": good["certificate_data"][:300]},
        "none": {"certificate_data": None},
        "a list": {"certificate_data": [1]},
        "no fields": {"certificate_data": "", "fingerprint": None},
        "another's fingerprint": {
            "certificate_data": certificate_pem(7001),
            "fingerprint": certificate_row(certificate_pem(7002))["fingerprint"],
        },
        "a key": {"certificate_data": "-----BEGIN PRIVATE KEY-----\nMIGHAgEA\n-----END PRIVATE KEY-----\n"},
        "huge": {"certificate_data": "x" * 70_000},
    }  # fmt: skip
    of_device = {}
    for row, (name, change) in zip(rows_[1:], bad.items(), strict=False):
        old = export.certificates[row["id"]]
        export.certificates[row["id"]] = [*old, {**good, "fingerprint": f"{row['id'][:4]}", **change}]
        of_device[name] = row["id"]
    report = import_yandex(export.write(tmp_path / "export"), data, status=1)
    refused = found(report, "refused")
    for name, device in of_device.items():
        assert any(device in subject for subject in refused), name
    assert report["counts"]["certificate.refused"] == len(bad)
    assert report["counts"]["device.new"] == 120
    assert stored_devices(data) == expected
    assert "MIGHAgEA" not in json.dumps(report)


def test_rows_that_cannot_come(export: Export, data: Path, tmp_path: Path) -> None:
    registry = registry_of(export)
    devices, expected = export.devices[registry], expected_devices(export)
    first = devices[0]
    certificates = export.certificates
    odd: list[dict[str, Any]] = [
        {**first, "name": "another"},  # the id comes twice
        {**first},  # the same row twice
        {**first, "id": new_id(IOT)},  # the name comes twice
        {"name": "no id"},
        {"id": 17},
        {"id": "../../../etc/passwd"},
        {"id": "are" + "x" * 17, "name": "x" * 100},
        {"id": new_id(IOT), "name": ["a list"]},
        {"id": new_id(IOT), "name": "labels", "labels": {"a": 1}},
        {"id": new_id(IOT), "name": "aliases", "topic_aliases": "text"},
        {"id": new_id(IOT), "name": "NUL", "description": "a\0b"},
    ]
    devices += odd
    for row in odd:
        certificates.setdefault(str(row.get("id")), [])
    unnamed = odd[3:6]  # whose ids cannot be the names of files
    for row in unnamed:
        devices.remove(row)
    folder = export.write(tmp_path / "export")
    listed = json.loads(devices_file(export, folder).read_text())
    devices_file(export, folder).write_text(json.dumps(listed + unnamed))
    report = import_yandex(folder, data, status=1)
    assert report["counts"]["device.refused"] == len(odd) - 1
    assert "twice, with the same content" in found(report, "noted")[f"device {first['id']}"]
    assert stored_devices(data) == expected


def test_aliases_that_cannot_come(export: Export, data: Path, tmp_path: Path) -> None:
    registry = registry_of(export)
    one, two, three, four = (row["id"] for row in export.devices[registry][2:6])
    gone = new_id(IOT)
    of_device = {row["id"]: row for row in export.devices[registry]}
    of_device[one]["topic_aliases"] = {"x": f"$devices/{two}/events", "y": f"$devices/{one}/events"}
    of_device[two]["topic_aliases"] = {"same": f"$devices/{two}/events"}
    of_device[three]["topic_aliases"] = {"same/longer": f"$devices/{three}/events"}
    listed = export.aliases[registry]
    listed += [
        {"device_id": gone, "topic_prefix": f"$devices/{gone}/events", "alias": "gone"},
        {"device_id": four, "topic_prefix": f"$devices/{four}/#", "alias": "wild"},
        {"device_id": four, "topic_prefix": f"$devices/{four}/events", "alias": "good"},
        {"device_id": two, "topic_prefix": f"$devices/{two}/state", "alias": "same"},
    ]
    report = import_yandex(export.write(tmp_path / "export"), data, status=1)
    refused = found(report, "refused")
    assert refused.keys() == {f"alias device {one}: x", f"alias device {gone}: gone", f"alias device {four}: wild"}
    assert found(report, "conflict").keys() == {f"device {three}"}
    assert found(report, "noted").keys() == {f"alias device {two}: same"}
    aliases = dict(rows(data, "SELECT alias, device FROM device_aliases"))
    assert {alias: aliases.get(alias) for alias in ("y", "same", "good")} == {"y": one, "same": two, "good": four}


def test_what_is_warned_of(data: Path, tmp_path: Path) -> None:
    export = Export()
    registry = export.add_registry("boilers")
    export.add_registry("valves")  # so that a list without an id may be of either
    for number in range(1000):
        export.add_device(registry, f"d{number}", certificates=0)
    export.devices[registry][0] |= {"new_field": 1, "monitoring_data": {}}
    export.devices[registry][1] |= {"new_field": 2, "created_at": "yesterday"}
    folder = export.write(tmp_path / "export")
    (folder / "notes.txt").write_text("hello")
    (folder / "devices.json").write_text("[]")
    report = import_yandex(folder, data, "--report", tmp_path / "report.jsonl")
    noted = found(report, "noted")
    assert "exactly 1,000 rows" in noted[f"file devices-{registry}.json"]
    assert "--limit 1000000" in noted[f"file devices-{registry}.json"]
    assert noted.keys() >= {"file notes.txt", "file devices.json", "file devices: new_field"}
    assert any("time of the import" in each["reason"] for each in report["findings"])
    lines = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert len(lines) == report["finding_count"] == 1005


def test_registries_that_are_not_there(export: Export, data: Path, tmp_path: Path) -> None:
    folder = export.write(tmp_path / "export")
    (folder / "registries.json").write_text("[]")
    report = import_yandex(folder, data, status=1)
    assert report["counts"] == {"device.refused": 120}
    assert "registry" in report["findings"][0]["reason"]


def test_what_is_no_export(data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, told in ((tmp_path / "none", "is not a directory"), (tmp_path / "empty", "is no export")):
        done = run_import(path, data)
        assert (done.returncode, done.stdout) == (2, "")
        assert told in done.stderr


def test_hostile_files(export: Export, data: Path, tmp_path: Path) -> None:
    """Deep nesting, links and huge files cost a bounded amount, and nothing of other files is shown."""
    secret = tmp_path / "secret"
    secret.write_text("root:hunter2")
    registry = registry_of(export)
    one, two, three = (row["id"] for row in export.devices[registry][:3])
    folder = export.write(tmp_path / "export")
    of_devices = folder / f"device-certs-{registry}"
    (of_devices / f"{one}.json").unlink()
    (of_devices / f"{one}.json").symlink_to(secret)
    (of_devices / f"{two}.json").write_text("[" * 100_000)
    (of_devices / f"{three}.json").write_bytes(b" " * (4 * 1024 * 1024 + 1))
    report = import_yandex(folder, data, status=1)
    assert found(report, "refused").keys() == {f"device {id}" for id in (one, two, three)}
    assert "hunter2" not in json.dumps(report)
    assert report["counts"]["device.new"] == 117
    devices_file(export, folder).write_text("[" * 100_000)
    done = run_import(folder, data)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
