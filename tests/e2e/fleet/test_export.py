"""`thingmint fleet export`: what it writes can be imported into an empty instance, which then exports the same."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from tests.e2e.commands import in_process
from tests.e2e.conftest import iot_client
from tests.e2e.fleet.support import made_devices, new_template
from tests.e2e.material import secret_forms
from tests.e2e.provisioning.support import Device, Identity
from tests.yandex_exports import Export, certificate_pem
from thingmint.testing import running_server

if TYPE_CHECKING:
    from pathlib import Path


def _ran(*arguments: str | Path) -> str:
    done = in_process(*arguments)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def _lines(path: Path) -> list[str]:
    return sorted(path.read_text().splitlines())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data directory of a stopped server with some of everything."""
    data = tmp_path / "data"
    with running_server(data) as server:
        iot = iot_client(server)
        iot.create_thing_type(thingTypeName="lamps", thingTypeProperties={"searchableAttributes": ["site"]})
        iot.create_thing_group(
            thingGroupName="house", thingGroupProperties={"attributePayload": {"attributes": {"a": "b"}}}
        )
        iot.create_thing_group(thingGroupName="attic", parentGroupName="house", tags=[{"Key": "k", "Value": "v"}])
        new_template(server, iot)
        _ran(
            "fleet",
            "create",
            "--template",
            "lamp",
            "--parameter",
            "SerialNumber={n}",
            "--count",
            "120",
            "--out",
            tmp_path / "made",
            "--data-dir",
            data,
        )
        iot.create_policy(policyName="all,of=it", policyDocument=_policy("*"))
        iot.create_policy_version(policyName="all,of=it", policyDocument=_policy("iot:Connect"), setAsDefault=True)
        iot.attach_policy(policyName="all,of=it", target=_arn_of(iot, "attic"))
        for number in (1, 2):
            iot.add_thing_to_thing_group(thingGroupName="attic", thingName=f"lamp-{number}")
        iot.update_thing(
            thingName="lamp-1", thingTypeName="lamps", attributePayload={"attributes": {"serial": "S1", "site": "a"}}
        )
        further = iot.register_certificate_without_ca(certificatePem=certificate_pem(9001), status="INACTIVE")
        iot.attach_policy(policyName="all,of=it", target=further["certificateArn"])
        for number in (3, 4):
            iot.attach_thing_principal(thingName=f"lamp-{number}", principal=further["certificateArn"])
        iot.register_certificate_without_ca(certificatePem=certificate_pem(9002), status="ACTIVE")
        iot.create_thing(thingName="bare")
        iot.close()
    fleet = Export()
    fleet.add_broker("hub")
    registry = fleet.add_registry("meters", certificates=2, description="all meters", labels={"a": "b"})
    fleet.add_devices(registry, 55)
    for number in range(5):
        fleet.add_device(registry, f"m{number}", certificates=number % 3, description="a meter")
    fleet.write(tmp_path / "given")
    _ran("import", "yandex", tmp_path / "given", "--data-dir", data)
    return data


def _policy(action: str) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]})


def _arn_of(iot: Any, group: str) -> str:
    arn: str = iot.describe_thing_group(thingGroupName=group)["thingGroupArn"]
    return arn


def _bound_certificate(export: Path) -> str:
    """The id of a certificate of some device."""
    rows = next(rows for path in export.glob("device-certs-*/*.json") if (rows := json.loads(path.read_text())))
    der = x509.load_pem_x509_certificate(rows[0]["certificate_data"].encode())
    return der.fingerprint(SHA256()).hex()


def _account(data: Path) -> str:
    account: str = json.loads(_ran("access", "account", "list", "--data-dir", data, "--output", "json"))[0]["id"]
    return account


def test_a_table_makes_the_same_fleet_elsewhere(data: Path, tmp_path: Path) -> None:
    first, second, other = tmp_path / "first", tmp_path / "second", tmp_path / "other"
    report = json.loads(_ran("fleet", "export", "--out", first, "--data-dir", data, "--output", "json"))
    assert report["counts"]["things"] == 121
    assert report["counts"]["devices"] == 60
    _ran("init", "--data-dir", other, "--account-id", _account(data))
    took = (
        "import",
        "csv",
        first / "devices.csv",
        "--definitions",
        first / "definitions.jsonl",
        "--data-dir",
        other,
        "--output",
        "json",
    )
    dry = json.loads(_ran(*took, "--dry-run"))
    assert dry["counts"]["thing.new"] == 121
    imported = json.loads(_ran(*took))
    assert {key: count for key, count in imported["counts"].items() if not key.endswith((".new", ".noted"))} == {
        "certificate.completed": 1
    }
    assert imported["counts"]["thing.new"] == 121
    _ran("fleet", "export", "--out", second, "--data-dir", other)
    assert _lines(second / "devices.csv") == _lines(first / "devices.csv")
    assert _lines(second / "definitions.jsonl") == _lines(first / "definitions.jsonl")
    names = {path.relative_to(first) for path in first.rglob("*.pem")}
    assert names == {path.relative_to(second) for path in second.rglob("*.pem")}
    again = json.loads(_ran(*took))
    assert {key.partition(".")[2] for key in again["counts"]} <= {"same", "noted"}, again


def test_devices_connect_where_they_were_imported(data: Path, tmp_path: Path) -> None:
    first, other = tmp_path / "first", tmp_path / "other"
    _ran("fleet", "export", "--out", first, "--data-dir", data)
    with running_server(other) as server:
        _ran("import", "csv", first / "devices.csv", "--definitions", first / "definitions.jsonl", "--data-dir", other)
        device = made_devices(tmp_path / "made")[4]
        identity = Identity("", device.folder / "certificate.pem", device.folder / "key.pem")
        with Device(server, identity, device.thing) as connected:
            connected.subscribe("lamps/#")


def test_the_yandex_layout_makes_the_same_fleet_elsewhere(data: Path, tmp_path: Path) -> None:
    first, second, other = tmp_path / "first", tmp_path / "second", tmp_path / "other"
    _ran("fleet", "export", "--format", "yandex", "--out", first, "--data-dir", data)
    _ran("init", "--data-dir", other)
    imported = json.loads(_ran("import", "yandex", first, "--data-dir", other, "--output", "json"))
    assert imported["counts"]["device.new"] == 60
    assert {each["outcome"] for each in imported["findings"]} == {"noted"}
    _ran("fleet", "export", "--format", "yandex", "--out", second, "--data-dir", other)
    files = sorted(path.relative_to(first) for path in first.rglob("*.json") if path.name != "export.json")
    assert files == sorted(path.relative_to(second) for path in second.rglob("*.json") if path.name != "export.json")
    for name in files:
        assert json.loads((second / name).read_text()) == json.loads((first / name).read_text()), name


@pytest.mark.parametrize("format", ["csv", "yandex"])
def test_an_export_has_no_secrets_and_is_private(data: Path, tmp_path: Path, format: str) -> None:
    out = tmp_path / "out"
    _ran("fleet", "export", "--format", format, "--out", out, "--data-dir", data)
    written = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert b"PRIVATE KEY" not in written
    for form in secret_forms((made_devices(tmp_path / "made")[0].folder / "key.pem").read_text()):
        assert form not in written
    modes = {path.stat().st_mode & 0o777 for path in out.rglob("*")}
    assert modes <= {0o600, 0o700}
    assert json.loads((out / "export.json").read_text())["complete"] is True


def test_an_incomplete_export_has_another_name(data: Path, tmp_path: Path) -> None:
    out, part = tmp_path / "out", tmp_path / "out.part"
    part.mkdir()
    (part / "notes").touch()
    refused = in_process("fleet", "export", "--out", out, "--data-dir", data)
    assert (refused.returncode, "is no interrupted export" in refused.stderr) == (1, True)
    (part / "export.json").write_text('{"complete": false}\n')
    _ran("fleet", "export", "--out", out, "--data-dir", data)
    assert not part.exists()
    assert not (out / "notes").exists()
    refused = in_process("fleet", "export", "--out", out, "--data-dir", data)
    assert "exists: choose another directory" in refused.stderr
    with (out / "devices.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["name"]: row["serial"] for row in rows}["lamp-1"] == "S1"


def test_certificates_that_must_not_connect_stay_out_of_yandex_layout(data: Path, tmp_path: Path) -> None:
    with running_server(data) as server:
        iot = iot_client(server)
        id = _bound_certificate(tmp_path / "given")
        iot.update_certificate(certificateId=id, newStatus="REVOKED")
        iot.close()
    for format in ("yandex", "csv"):
        out = tmp_path / format
        report = json.loads(
            _ran("fleet", "export", "--format", format, "--out", out, "--data-dir", data, "--output", "json")
        )
        assert report["certificates_left_out"] == (1 if format == "yandex" else 0)
    assert not [path for path in (tmp_path / "yandex").rglob("*.json") if id in path.read_text()]
    with (tmp_path / "csv" / "devices.csv").open(newline="") as file:
        assert [row["status"] for row in csv.DictReader(file) if row["certificate_id"] == id] == ["REVOKED"]
