"""What operators ask about a fleet, over the native API and on the command line: counts, lists, sessions, refusals."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.e2e.access.local_admin import allow, document
from tests.e2e.commands import in_process
from tests.e2e.conftest import iot_client
from tests.e2e.mqtt.devices import Closed, Credential, Device, credential
from tests.e2e.test_native import data_of, problem_of
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from thingmint.testing import RunningServer


@pytest.fixture(scope="module")
def site(new_store: Callable[[], dict[str, str]]) -> Iterator[RunningServer]:
    with running_server(arguments=["--key-pool=4"], environment=new_store()) as running:
        yield running


@pytest.fixture(scope="module")
def native(site: RunningServer) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {site.token}"}
    with httpx.Client(base_url=site.http_url, headers=headers, timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def outsider(site: RunningServer) -> Iterator[httpx.Client]:
    """A client of another account."""
    made = json.loads(cli(site, "access", "account", "create", "others"))
    with httpx.Client(
        base_url=site.http_url, headers={"authorization": f"Bearer {made['token']}"}, timeout=20
    ) as client:
        yield client


def cli(site: RunningServer, *arguments: str, status: int = 0) -> str:
    done = in_process(*arguments, "--data-dir", site.data_dir, "--output", "json")
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


def made(native: httpx.Client, *, active: bool = True) -> str:
    return str(data_of(native.post("/keys-and-certificate", params={"setAsActive": str(active).lower()}))["id"])


def counts(native: httpx.Client, **query: Any) -> Any:
    return data_of(native.get("/v1/certificate-counts", params=query))


@pytest.mark.both_engines
def test_counts_follow_each_change(site: RunningServer, native: httpx.Client, outsider: httpx.Client) -> None:
    before = counts(native)["by_status"]
    ids = [made(native) for _ in range(3)]
    native.patch(f"/v1/certificates/{ids[0]}", json={"status": "REVOKED"})
    native.patch(f"/v1/certificates/{ids[1]}", json={"status": "INACTIVE"})
    native.delete(f"/v1/certificates/{ids[1]}")
    found = counts(native, weeks=3, days=2)
    assert found["by_status"].get("ACTIVE", 0) == before.get("ACTIVE", 0) + 1
    assert found["by_status"]["REVOKED"] == before.get("REVOKED", 0) + 1
    assert found["added"][-1]["by_origin"]["keys"] >= 3
    assert len(found["weeks"]) == 3
    assert json.loads(cli(site, "certificate", "counts", "--weeks", "3", "--days", "2")) == found
    assert counts(outsider)["total"] == 0
    assert problem_of(native.get("/v1/certificate-counts", params={"weeks": 0}))[:2] == (400, "VALIDATION_ERROR")


def search(client: httpx.Client, **query: Any) -> list[Any]:
    """The certificates of all pages."""
    found: list[Any] = []
    marker: dict[str, str] = {}
    while True:
        page = data_of(client.get("/v1/certificate-search", params={"page_size": 2, **query, **marker}))
        found += page["certificates"]
        if page["next_marker"] is None:
            return found
        marker = {"marker": page["next_marker"]}


@pytest.mark.both_engines
def test_certificates_are_searched_and_found(site: RunningServer, native: httpx.Client, outsider: httpx.Client) -> None:
    ids = [made(native, active=False) for _ in range(3)]
    native.patch(f"/v1/certificates/{ids[0]}", json={"status": "REVOKED"})
    revoked = search(native, status="REVOKED", without_policy=True, never_seen=True)
    assert ids[0] in {each["id"] for each in revoked}
    assert {each["status"] for each in revoked} == {"REVOKED"}
    (one,) = search(native, id_prefix=ids[1][:12])
    assert (one["id"], one["thing"], one["owner"], one["last_seen"]) == (ids[1], None, None, None)
    assert search(native, serial=one["serial"]) == [one]
    named = search(native, subject_prefix="aws iot CERT", order="ascending")
    assert one in named
    assert one in search(native, subject="aws iot certificate")
    assert search(native, subject="aws iot") == []
    assert (
        json.loads(cli(site, "certificate", "list", "--subject-prefix", "aws iot cert", "--order=ascending")) == named
    )
    inactive = [each["id"] for each in search(native, status="INACTIVE", order="ascending")]
    assert inactive[-2:] == ids[1:]
    listed = json.loads(cli(site, "certificate", "list", "--id-prefix", ids[2][:12], "--ends-before", "9999-01-01"))
    assert [each["id"] for each in listed] == ids[2:]
    found = data_of(native.get("/v1/certificate-find", params={"text": ids[2][:8]}))["certificates"]
    assert [(each["found_by"], each["id"]) for each in found] == [("id", ids[2])]
    assert json.loads(cli(site, "certificate", "find", ids[2][:8])) == found
    assert search(outsider, id_prefix=ids[1][:12]) == search(outsider) == []
    assert data_of(outsider.get("/v1/certificate-find", params={"text": ids[2]}))["certificates"] == []
    for wrong in ({"status": "x"}, {"id_prefix": "0"}, {"subject_prefix": "a", "serial": "1"}, {"ends_from": "today"}):
        assert problem_of(native.get("/v1/certificate-search", params=wrong))[:2] == (400, "VALIDATION_ERROR")
    assert "is not a date or time" in cli(site, "certificate", "list", "--seen-before", "soon", status=2)


def until(what: Callable[[], Any]) -> Any:
    """The first result that is not empty."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError("nothing was found in time")


@pytest.fixture
def device(site: RunningServer, tmp_path: Path) -> Iterator[tuple[Credential, Device]]:
    """A connected device that may only use topics below its client id, which is lamp."""
    iot = iot_client(site)
    made = credential(tmp_path, name="a lamp")
    arn = iot.register_certificate_without_ca(certificatePem=made.pem, status="ACTIVE")["certificateArn"]
    beginning = arn.partition("cert/")[0]
    allowed = [
        f"{beginning}{kind}/lamp{rest}" for kind, rest in (("client", ""), ("topic", "/*"), ("topicfilter", "/*"))
    ]
    name = f"lamp-{made.fingerprint[:8]}"
    iot.create_policy(policyName=name, policyDocument=document(allow("iot:*", allowed)))
    iot.attach_policy(policyName=name, target=arn)
    iot.create_thing(thingName="lamp")
    iot.attach_thing_principal(thingName="lamp", principal=arn)
    with Device(site, made) as connected:
        connected.connect("lamp")
        yield made, connected


@pytest.mark.both_engines
def test_sessions_are_listed_shown_and_ended(
    site: RunningServer, native: httpx.Client, outsider: httpx.Client, device: tuple[Credential, Device]
) -> None:
    made, lamp = device
    lamp.subscribe("lamp/commands/#")
    lamp.publish("lamp/state", b"on", qos=1)
    (session,) = data_of(native.get("/v1/sessions", params={"text": made.fingerprint[:12]}))["sessions"]
    told = [session[name] for name in ("client_id", "certificate", "protocol", "address", "subscriptions", "received")]
    assert told == ["lamp", made.fingerprint, "MQTT 5", "127.0.0.1", 1, 1]
    assert (session["thing"], session["owner"], session["queued"]) == ("lamp", None, 0)
    shown = data_of(native.get("/v1/session", params={"client_id": "lamp"}))
    assert (shown["filters"], shown["connected_at"]) == (["lamp/commands/#"], session["connected_at"])
    assert [each["client_id"] for each in json.loads(cli(site, "session", "list", "--thing", session["thing"]))] == [
        "lamp"
    ]
    assert json.loads(cli(site, "session", "show", "lamp"))["filters"] == ["lamp/commands/#"]
    assert data_of(outsider.get("/v1/sessions"))["sessions"] == []
    for answer in (
        outsider.get("/v1/session", params={"client_id": "lamp"}),
        outsider.post("/v1/session/end", json={"client_id": "lamp"}),
        native.get("/v1/session", params={"client_id": "no such client"}),
        native.get("/v1/session", params={"client_id": "lamp", "owner": "are1"}),
    ):
        assert problem_of(answer)[:2] == (404, "NOT_FOUND")
    assert json.loads(cli(site, "session", "kick", "lamp")) == {"was_connected": True}
    with pytest.raises(Closed) as closed:
        lamp.read()
    assert closed.value.reason is Reason.ADMINISTRATIVE_ACTION
    assert "no such client" in cli(site, "session", "kick", "no such client", status=1)
    assert data_of(native.get("/v1/sessions"))["sessions"] == []
    seen = until(lambda: search(native, id_prefix=made.fingerprint[:12])[0]["last_seen"])
    assert (seen["client_id"], seen["address"]) == ("lamp", "127.0.0.1")


@pytest.mark.both_engines
def test_refusals_are_grouped_and_counted(
    site: RunningServer,
    native: httpx.Client,
    outsider: httpx.Client,
    device: tuple[Credential, Device],
    tmp_path: Path,
) -> None:
    made, lamp = device
    for _ in range(3):
        lamp.publish("pump/state", b"on", qos=1)
    unknown = credential(tmp_path)
    with Device(site, unknown) as foreign, pytest.raises(Closed):
        foreign.connect("invented")
    query = {"certificate": made.fingerprint}
    (group,) = until(lambda: data_of(native.get("/v1/refusals", params=query))["refusals"])
    assert (group["action"], group["count"], group["client_id"]) == ("iot:Publish", 3, "lamp")
    assert group["resource"].endswith("topic/pump/state")
    assert f"lamp-{made.fingerprint[:8]}" in group["closest"][0]
    counts = data_of(native.get("/v1/refusal-counts"))
    assert counts["total"] == sum(counts["by_reason"].values()) >= 3
    assert group["reason"] in counts["by_reason"]
    assert json.loads(cli(site, "refusal", "list", "--certificate", made.fingerprint)) == [group]
    (of_unknown,) = until(
        lambda: json.loads(cli(site, "refusal", "list", "--account", "none", "--certificate", unknown.fingerprint))
    )
    assert (of_unknown["action"], of_unknown["client_id"]) == ("iot:Connect", "invented")
    assert json.loads(cli(site, "refusal", "counts", "--account", "none"))["total"] >= 1
    assert data_of(native.get("/v1/refusals", params={"certificate": unknown.fingerprint}))["refusals"] == []
    assert data_of(outsider.get("/v1/refusals")) == {"refusals": [], "next_marker": None}
    assert data_of(outsider.get("/v1/refusal-counts"))["total"] == 0


@pytest.mark.both_engines
def test_the_facts_need_permissions(site: RunningServer) -> None:
    made = json.loads(cli(site, "access", "user", "create", "reader"))
    assert made
    cli(site, "access", "policy", "attach", "user/reader", "--policy", "thingmint/ProvisioningOnly")
    token = json.loads(cli(site, "access", "token", "create", "user/reader", "--lifetime", "1h"))["token"]
    paths = ["certificate-counts", "certificate-search", "certificate-find?text=x", "sessions", "session?client_id=x"]
    paths += ["refusals", "refusal-counts", "health"]
    with httpx.Client(base_url=site.http_url, headers={"authorization": f"Bearer {token}"}, timeout=20) as reader:
        for path in paths:
            assert problem_of(reader.get(f"/v1/{path}"))[:2] == (403, "PERMISSION_DENIED"), path
        ended = reader.post("/v1/session/end", json={"client_id": "x"})
        assert problem_of(ended)[:2] == (403, "PERMISSION_DENIED")


@pytest.mark.both_engines
def test_the_health_of_the_server_is_told(site: RunningServer, native: httpx.Client) -> None:
    health = data_of(native.get("/v1/health"))
    checks = {each["name"]: each for each in health["checks"]}
    assert set(checks) == {
        "audit",
        "authorities",
        "backup",
        "broker",
        "changes",
        "disk",
        "jobs",
        "listeners",
        "store",
    }
    assert {name for name, each in checks.items() if each["state"] not in ("ok", "unknown")} <= {"disk"}
    assert set(checks["authorities"]["facts"]) == {"ca.pem", "device-ca.pem"}
    assert checks["backup"]["state"] == "unknown"
    (site.data_dir / "last-backup").touch()
    told = json.loads(cli(site, "status"))
    assert told["running"] is True
    backup = next(each for each in told["checks"] if each["name"] == "backup")
    assert backup["state"] == "ok"
    os.utime(site.data_dir / "last-backup", (0, 0))
    assert data_of(native.get("/v1/health"))["state"] in ("warning", "error")
    (site.data_dir / "last-backup").unlink()


def test_without_a_server_the_status_is_3(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    assert in_process("init", "--data-dir", directory).returncode == 0
    done = in_process("status", "--data-dir", directory)
    assert done.returncode == 3
    assert "does not run" in done.stdout


def test_the_check_of_the_store_finds_a_wrong_count(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    assert in_process("init", "--data-dir", directory).returncode == 0
    with closing(sqlite3.connect(directory / "thingmint.db")) as connection, connection:
        account = connection.execute("SELECT id FROM accounts").fetchone()[0]
        row = (account, "us-east-1", "status", 0, "ACTIVE", 1, 5)
        connection.execute("INSERT INTO certificate_counts VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    done = in_process("store", "check", "--data-dir", directory)
    assert done.returncode == 1
    assert "has a wrong count" in done.stderr
    assert "5 fewer ACTIVE certificates in all than counted" in done.stderr


def test_commands_print_tables_without_a_server(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    assert in_process("init", "--data-dir", directory).returncode == 0
    for command in (
        "certificate counts",
        "certificate list",
        "certificate find 4f06",
        "refusal list",
        "refusal counts",
    ):
        done = in_process(*command.split(), "--data-dir", directory)
        assert done.returncode == 0, done.stderr
        assert done.stdout
