"""`thingmint import yandex`: what comes, what stays as it is, and what is reported."""

from __future__ import annotations

import json
import random
import shutil
import stat
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from yandex.cloud.iot.broker.v1 import broker_service_pb2
from yandex.cloud.iot.devices.v1 import device_service_pb2, registry_service_pb2

from tests.e2e.access.local_admin import LocalAdmin
from tests.e2e.commands import in_process
from tests.e2e.importing.support import (
    expected_devices,
    found,
    import_yandex,
    new_instance,
    rows,
    run_import,
    stored_devices,
)
from tests.e2e.yandex.clients import Cloud
from tests.e2e.yandex.mqtt_clients import Client, Pair, connected
from tests.yandex_exports import KEY_PEM, Export, certificate_pem, certificate_row
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class OldDevice(Pair):
    """The files of a device that was exported."""

    def __init__(self, folder: Path, row: dict[str, Any]) -> None:
        self.pem = row["certificate_data"]
        self.certificate, self.key = folder / f"{row['fingerprint']}.pem", folder / "device.key"
        self.certificate.write_text(self.pem)
        self.key.write_text(KEY_PEM)


@pytest.mark.both_engines
def test_everything_of_an_export_comes(new_store: Callable[[], dict[str, str]], tmp_path: Path) -> None:
    export = Export()
    registry = export.add_registry("boilers", description="Of the old works", labels={"site": "north"})
    disabled = export.add_registry("closed", certificates=0)
    export.registries[-1]["status"] = "DISABLED"
    broker = export.add_broker("plant", certificates=2)
    devices = export.add_devices(registry, 250)
    password_only = export.add_device(registry, "no-certificate", certificates=0)
    store = new_store()
    data = new_instance(tmp_path, **store)
    folder = export.write(tmp_path / "export")

    planned = import_yandex(folder, data, "--dry-run", store=store)
    assert planned["counts"] == import_yandex(folder, data, store=store)["counts"]
    again = import_yandex(folder, data, store=store)
    assert again["counts"] == {
        "folder.same": 1, "registry.same": 2, "broker.same": 1, "device.same": 251
    }  # fmt: skip

    with running_server(data, environment=store) as server:
        cloud = Cloud(server)
        get = registry_service_pb2.GetRegistryRequest
        kept = cloud.grpc.call("RegistryService/Get", get(registry_id=registry))
        assert (kept.folder_id, kept.name, kept.description) == (export.folder, "boilers", "Of the old works")
        assert (dict(kept.labels), kept.created_at.ToJsonString()) == ({"site": "north"}, "2021-03-04T05:06:07.891Z")
        assert cloud.grpc.call("RegistryService/Get", get(registry_id=disabled)).status == 4
        shown = cloud.certificates(devices[0])[0]
        (old,) = export.certificates[devices[0]]
        assert (shown.certificate_data, shown.created_at.ToJsonString()) == (
            old["certificate_data"],
            "2021-03-04T05:06:07.891Z",
        )
        cloud.remove(devices[0], old["fingerprint"])  # by the SHA-1 that Yandex shows
        assert cloud.certificates(devices[0]) == []
        aliased = cloud.grpc.call("DeviceService/Get", device_service_pb2.GetDeviceRequest(device_id=devices[1]))
        assert dict(aliased.topic_aliases) == {"b/1/": f"$devices/{devices[1]}/commands"}
        request = broker_service_pb2.ListBrokerCertificatesRequest(broker_id=broker)
        assert len(cloud.grpc.call("BrokerService/ListCertificates", request).certificates) == 2
        cloud.close()
    assert f"device {password_only}" in found(planned, "noted")


def test_old_devices_connect_with_their_old_certificates(tmp_path: Path) -> None:
    export = Export()
    registry = export.add_registry("boilers")
    devices = export.add_devices(registry, 10_000, with_alias=1000)
    data = new_instance(tmp_path)
    import_yandex(export.write(tmp_path / "export"), data)
    assert stored_devices(data) == expected_devices(export)
    chosen = random.Random(8).sample(devices, 500)
    with running_server(data) as server:
        listener = OldDevice(tmp_path, export.certificates[registry][0])
        with connected(server, listener, client_id="registry") as hears:
            assert hears.subscribe("$devices/+/events") == [1]
            for device in chosen:
                pair = OldDevice(tmp_path, export.certificates[device][0])
                with connected(server, pair, client_id=device) as client:
                    assert client.publish(f"$devices/{device}/events", device.encode())
                assert hears.receive() == (f"$devices/{device}/events", device.encode())


@pytest.mark.both_engines
def test_a_running_server_imports(new_store: Callable[[], dict[str, str]], tmp_path: Path) -> None:
    export = Export()
    registry = export.add_registry("boilers")
    device = export.add_devices(registry, 120)[7]
    folder = export.write(tmp_path / "export")
    store = new_store()
    with running_server(tmp_path / "data", arguments=["--log-format=json"], environment=store) as server:
        pair = OldDevice(tmp_path, export.certificates[device][0])
        assert not Client(server, pair).connect()
        other = LocalAdmin(server).ask("account.create", name="other")["account"]
        report = import_yandex(folder, server.data_dir, "--account", other)
        assert report["counts"]["device.new"] == 120
        LocalAdmin(server).ask("hostname.add", name="old.example.org", account=other, api="yandex")
        with connected(server, pair, host="old.example.org", verify=False) as client:
            assert client.publish("$me/device/events")
        listed = orjson.loads(in_process("import", "list", "--data-dir", server.data_dir, "--output", "json").stdout)
        assert [(each["id"], each["account"], each["source"]) for each in listed] == [(report["id"], other, "yandex")]
        done = in_process("audit", "list", "--data-dir", server.data_dir, "--output", "json", env=store)
        (ended,) = (record for record in orjson.loads(done.stdout) if record["event"] == "FinishImport")
        assert (ended["account"], ended["counts"]) == (other, report["counts"])
        assert "password" not in server.output.read_text()


def test_new_passwords(tmp_path: Path) -> None:
    export = Export()
    registry = export.add_registry("boilers")
    export.add_devices(registry, 150)
    bare = [export.add_device(registry, f"bare-{number}", certificates=0) for number in range(130)]
    folder, data, file = export.write(tmp_path / "export"), new_instance(tmp_path), tmp_path / "passwords.csv"
    report = import_yandex(folder, data, "--new-passwords", file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lines = [line.split(",") for line in file.read_text().splitlines()]
    assert lines[0] == ["device", "password"]
    passwords = dict(lines[1:])
    assert set(passwords) == set(bare)
    assert len(set(passwords.values())) == len(bare)
    assert report["next"] == [f"130 devices have new passwords: {file}"]
    refused = run_import(folder, data, "--new-passwords", file)
    assert (refused.returncode, "exists" in refused.stderr) == (2, True)
    # Devices that are there keep their passwords.
    import_yandex(folder, data, "--new-passwords", tmp_path / "more.csv")
    assert (tmp_path / "more.csv").read_text() == "device,password\n"
    with running_server(data) as server:
        with connected(server, None, bare[3], passwords[bare[3]]) as client:
            assert client.publish("$me/device/events")
        assert not Client(server, None, bare[3], passwords[bare[4]]).connect()


def test_what_is_there_is_never_changed(tmp_path: Path) -> None:
    export = Export()
    registry = export.add_registry("boilers")
    one, two, three, four = (export.add_device(registry, name) for name in ("one", "two", "three", "four"))
    data = new_instance(tmp_path)
    import_yandex(export.write(tmp_path / "first"), data)
    before = stored_devices(data)
    changed = {row["id"]: row for row in export.devices[registry]}
    changed[one]["name"] = "renamed"
    changed[two]["labels"] = {"new": "label"}
    export.certificates[three].append(certificate_row(certificate_pem(9000), device_id=three))
    taken = export.add_device(registry, "four")  # a new id with a name that is taken
    del export.devices[registry][3]
    stolen = export.add_device(registry, "five", certificates=0)
    export.certificates[stolen] = export.certificates[four]
    report = import_yandex(export.write(tmp_path / "second"), data, status=1)
    conflicts = found(report, "conflict")
    assert conflicts.keys() == {
        *(f"device {id}" for id in (one, two, three, taken)),
        f"certificate device {stolen}: {export.certificates[four][0]['sha256']}",
    }
    after = stored_devices(data)
    assert {id: row for id, row in after.items() if id != stolen} == before
    assert after[stolen][-1] is None


def test_ids_of_another_account(tmp_path: Path) -> None:
    export = Export()
    registry = export.add_registry("boilers")
    export.add_devices(registry, 3)
    data, folder = new_instance(tmp_path), export.write(tmp_path / "export")
    import_yandex(folder, data)
    made = in_process("access", "account", "create", "other", "--data-dir", data, "--output", "json")
    other = orjson.loads(made.stdout)["account"]
    report = import_yandex(folder, data, "--account", other, status=1)
    assert {key.partition(".")[2] for key in report["counts"]} == {"conflict"}
    assert rows(data, "SELECT count(*) FROM registrations WHERE account = '" + other + "'") == [(0,)]


def test_a_directory_for_each_registry_by_name(tmp_path: Path) -> None:
    export, root = Export(), tmp_path / "export"
    for name in ("boilers", "valves"):
        one = Export(export.folder)
        registry = one.add_registry(name)
        one.add_devices(registry, 20)
        own = one.write(root / name)
        (own / "registries.json").unlink()
        row = {key: value for key, value in one.registries[0].items() if key != "sha256"}
        (own / "registry.json").write_text(json.dumps(row))  # as `yc iot registry get` writes it
        for kind in ("devices", "registry-certs", "aliases"):
            (own / f"{kind}-{registry}.json").rename(own / f"{kind}.json")
        (own / f"device-certs-{registry}").rename(own / "device-certs")
        export.devices |= one.devices
        export.aliases |= one.aliases
        export.certificates |= one.certificates
    data = new_instance(tmp_path)
    report = import_yandex(root, data)
    assert (report["counts"]["registry.new"], report["counts"]["folder.new"]) == (2, 1)
    assert stored_devices(data) == expected_devices(export)


def test_layouts_and_spellings(tmp_path: Path) -> None:
    one, two = Export(), Export()
    first, second = one.add_registry("one"), two.add_registry("two")
    one.add_devices(first, 20)
    two.add_devices(second, 20)
    root = tmp_path / "exports"
    one.write(root / f"iot-export-{one.folder}")
    folder = two.write(root / f"iot-export-{two.folder}")
    # json-rest has camel case. PowerShell writes UTF-16. A registry can have a directory of its own.
    own = folder / second
    own.mkdir()
    for name in ("devices", "registry-certs", "aliases"):
        text = (folder / f"{name}-{second}.json").read_text()
        for key in ("registry_id", "created_at", "topic_aliases", "device_id", "topic_prefix", "certificate_data"):
            head, _, tail = key.partition("_")
            text = text.replace(f'"{key}"', f'"{head}{tail.capitalize()}"')
        (own / f"{name}.json").write_text(text, encoding="utf-16")
        (folder / f"{name}-{second}.json").unlink()
    shutil.move(folder / f"device-certs-{second}", own / "device-certs")
    (folder / "brokers.json").write_text("null\n")
    (root / f"iot-export-{one.folder}" / "brokers.json").write_text("")
    text = (folder / "registries.json").read_text()
    (folder / "registries.json").write_text(json.dumps({"registries": json.loads(text), "nextPageToken": ""}))
    data = new_instance(tmp_path)
    report = import_yandex(root, data)
    assert (report["counts"]["device.new"], report["counts"]["certificate.new"]) == (40, 42)
    assert stored_devices(data) == expected_devices(one) | expected_devices(two)


def test_a_report_that_cannot_be_written_ends_the_import_before_anything_comes(tmp_path: Path) -> None:
    export, data = Export(), new_instance(tmp_path)
    export.add_device(export.add_registry("boilers"), "boiler")
    done = run_import(export.write(tmp_path / "export"), data, "--report", tmp_path / "missing" / "report.jsonl")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert stored_devices(data) == {}
    assert rows(data, "SELECT id FROM imports") == []
