"""The audit log as its commands show it: complete, without secrets, and protected against changes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from yandex.cloud.iam.v1 import iam_token_service_pb2
from yandex.cloud.iot.devices.v1 import device_service_pb2, registry_service_pb2

from tests.e2e.access.local_admin import LocalAdmin, allow, database, document, refusal
from tests.e2e.commands import in_process, thingmint
from tests.e2e.conftest import iot_client
from tests.e2e.material import csr_pem
from tests.e2e.wire import exchange, until
from tests.e2e.yandex.certificates import certificate
from tests.e2e.yandex.clients import Cloud, GrpcWire, Refused
from thingmint.access.audit_events import new_record_id
from thingmint.access.audit_sealer import Sealer
from thingmint.instance.create import Instance
from thingmint.instance.layout import DataDirectory
from thingmint.store import audit as sql
from thingmint.testing import running_server

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.store.engine import Transaction
    from thingmint.testing import RunningServer

_FIELDS = {
    "time",
    "source",
    "event",
    "account",
    "principal",
    "credential",
    "address",
    "agent",
    "resource",
    "outcome",
    "error",
    "request",
}
_DEVICE_EVENT = "yandex.cloud.audit.iot.devices."


def exported(data: Path, *arguments: str) -> list[dict[str, Any]]:
    done = in_process("audit", "export", "--data-dir", data, *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def records(data: Path) -> list[dict[str, Any]]:
    """The records, oldest first."""
    return [line["record"] for line in reversed(exported(data))]


class Story:
    """The records and credentials of a server that ran and was stopped."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.secrets: set[str] = set()
        with running_server(data) as server:
            self.account = LocalAdmin(server).ask("account.list")[0]["id"]
            refused = thingmint("access", "user", "delete", "nobody", "--data-dir", data)
            assert refused.returncode == 1
            self._on_aws(server)
            self._on_yandex(server)
            self._on_native(server)
            self._unauthenticated_callers(server)
        with running_server(data) as server, contextlib.closing(iot_client(server)) as iot:  # for a second checkpoint
            iot.describe_endpoint()
        listed = in_process("access", "user", "list", "--data-dir", data)  # without a running server
        assert listed.returncode == 0
        with running_server(data):  # which seals it
            pass
        self.records = records(data)

    def _on_aws(self, server: RunningServer) -> None:
        local_admin = LocalAdmin(server)
        self.user = local_admin.user("thingmint/ReadOnly")
        self.key = local_admin.key(self.user)
        session = local_admin.session(self.user)
        env = server.environment()
        self.secrets |= {
            self.key["secret_access_key"],
            session["secret_access_key"],
            session["session_token"],
            env["AWS_SECRET_ACCESS_KEY"],
            server.token,
        }
        with contextlib.closing(iot_client(server)) as iot:
            made = iot.create_keys_and_certificate(setAsActive=True)
            self.certificate = made["certificateArn"]
            self.secrets.add(made["keyPair"]["PrivateKey"])
            iot.update_certificate(certificateId=made["certificateId"], newStatus="INACTIVE")
            iot.describe_certificate(certificateId=made["certificateId"])
            iot.list_certificates(pageSize=249)
            assert refusal(iot.describe_certificate, certificateId="0" * 64)[0] == 404
            iot.delete_certificate(certificateId=made["certificateId"])
        with local_admin.iot(self.key) as iot:
            refusal(iot.create_keys_and_certificate)

    def _on_yandex(self, server: RunningServer) -> None:
        cloud = Cloud(server)
        cloud.add(cloud.device(cloud.registry(name="audited")), certificate())
        self.secrets |= {cloud.token, cloud.account.key["private_key"], cloud.account.jwt()}
        escape = registry_service_pb2.ListRegistriesRequest(folder_id="\x1b[31mred[/b]")
        with pytest.raises(Refused):
            cloud.rest.call("RegistryService/List", escape)
        with pytest.raises(Refused):
            cloud.rest.call("DeviceService/Get", device_service_pb2.GetDeviceRequest(device_id="are0"))
        cloud.close()

    def _on_native(self, server: RunningServer) -> None:
        with LocalAdmin(server).bearer(server.token) as native:
            native.post("/v1/certificates", json={"csr": csr_pem()})
            native.get("/v1/certificates", params={"page_size": 7, "marker": "x-secret-in-a-query"})
            token = native.post("/v1/access/token/create", json={"principal": f"user/{self.user}"}).json()["data"]
            self.secrets |= {token["token"], "x-secret-in-a-query"}
            native.post("/v1/access/policy/put", json={"name": "p", "document": document(allow("iot:*"))})
        for _ in range(60):
            exchange(server, "GET", "/v1/certificates", {"authorization": "Bearer tma_guess_secretguess"})
        self.secrets.add("secretguess")

    def _unauthenticated_callers(self, server: RunningServer) -> None:
        for _ in range(40):
            assert exchange(server, "GET", "/things?token=x-other-secret").status == 403
        self.secrets.add("x-other-secret")
        for target in ("/openapi.json", "/endpoints"):
            for _ in range(50):
                assert exchange(server, "GET", target).status == 200

    def of(self, event: str, **fields: Any) -> dict[str, Any]:
        """The only record that has these fields."""
        found = [r for r in self.records if r["event"] == event and fields.items() <= r.items()]
        assert len(found) == 1, (event, fields, found)
        return found[0]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(tmp_path_factory.mktemp("story") / "data")


@pytest.mark.parametrize(
    ("event", "outcome", "error"),
    [
        ("CreateKeysAndCertificate", "success", None),
        ("UpdateCertificate", "success", None),
        ("DescribeCertificate", "success", None),
        ("DeleteCertificate", "success", None),
        ("CreateKeysAndCertificate", "refused", "AccessDeniedException"),
        ("DescribeCertificate", "refused", "ResourceNotFoundException"),
    ],
)
def test_aws_events_are_recorded(story: Story, event: str, outcome: str, error: str | None) -> None:
    record = story.of(event, outcome=outcome, error=error, source="iot.amazonaws.com")
    assert set(record) >= _FIELDS
    assert record["account"] == story.account
    user, denied = ("administrator", False) if error != "AccessDeniedException" else (story.user, True)
    assert record["principal"] == f"arn:aws:iam::{story.account}:user/{user}"
    assert (record["credential"] == story.key["access_key_id"]) is denied
    assert record["address"] == "127.0.0.1"
    assert record["agent"].startswith("Boto3/")
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", record["request"])
    if event in ("UpdateCertificate", "DeleteCertificate"):
        assert record["resource"] == story.certificate


@pytest.mark.parametrize("event", ["CreateRegistry", "CreateDevice", "AddDeviceCertificate"])
def test_yandex_events_are_recorded(story: Story, event: str) -> None:
    record = story.of(_DEVICE_EVENT + event, outcome="success")
    assert set(record) >= _FIELDS
    assert record["source"] == "iot-devices.api.cloud.yandex.net"
    assert record["principal"].endswith(":service-account/administrator")
    assert record["resource"].startswith("yandex:")
    assert (record["address"], record["error"]) == ("127.0.0.1", None)


def test_refusals_by_yandex_and_the_native_api_are_recorded(story: Story) -> None:
    assert story.of("DeviceService.Get")["error"] == "NOT_FOUND"
    assert story.of("ListCertificates", source="thingmint", outcome="refused", principal=story_admin(story))


def story_admin(story: Story) -> str:
    return f"arn:aws:iam::{story.account}:user/administrator"


@pytest.mark.parametrize("event", ["CreateApiToken", "CreatePolicy"])
def test_access_commands_over_the_api_are_recorded(story: Story, event: str) -> None:
    record = story.of(event, principal=story_admin(story), outcome="success")
    assert record["resources"]


@pytest.mark.parametrize("event", ["CreateUser", "AttachUserPolicy", "CreateAccessKey", "GetSessionToken"])
def test_access_commands_of_the_operator_are_recorded(story: Story, event: str) -> None:
    record = story.of(event, principal=None)
    assert record["agent"] == "thingmint command line"
    assert story.user in record["resources"][0]


def test_reads_and_refusals_of_the_operator_are_recorded(story: Story) -> None:
    assert story.of("ListAccounts", principal=None)["outcome"] == "success"
    refused = story.of("DeleteUser")
    assert (refused["error"], refused["account"], refused["agent"]) == (
        "NotFound",
        story.account,
        "thingmint command line",
    )
    assert story.of("ListUsers", agent="thingmint command line")["account"] == story.account


def test_the_attached_policy_is_recorded(story: Story) -> None:
    expected = {"principal": f"user/{story.user}", "policy": "thingmint/ReadOnly", "resource": "*"}
    assert story.of("AttachUserPolicy")["parameters"] == expected


def test_no_secret_is_exported(story: Story) -> None:
    text = in_process("audit", "export", "--data-dir", story.data).stdout
    assert len(text) > 1000
    for secret in story.secrets:
        # As plain text, and as JSON escapes it.
        for form in (secret, json.dumps(secret)[1:-1], secret.splitlines()[-2] if "\n" in secret else secret):
            assert form not in text
    for word in ("PRIVATE KEY", "BEGIN CERTIFICATE", "pageSize", "page_size", "Signature=", "Bearer"):
        assert word not in text


def unauthenticated(story: Story, outcome: str) -> tuple[int, Counter[tuple[str, str | None]]]:
    """The numbers of records and of the requests that they count, by event and error."""
    counts: Counter[tuple[str, str | None]] = Counter()
    found = [r for r in story.records if r["outcome"] == outcome and r["address"] and not r["principal"]]
    for record in found:
        counts[record["event"], record["error"]] += record.get("count", 1)
        assert record.get("since", record["time"]) <= record["time"]
    return len(found), counts


def test_unauthenticated_refusals_are_counted(story: Story) -> None:
    records, counts = unauthenticated(story, "refused")
    assert records <= 8
    assert counts["ListCertificates", "UNAUTHENTICATED"] == 60
    assert counts["ListThings", "MissingAuthenticationTokenException"] == 40


def test_unauthenticated_reads_are_counted(story: Story) -> None:
    records, counts = unauthenticated(story, "success")
    assert records < 10
    assert {event for event, _ in counts} == {"-", "ApiEndpointService.List"}
    assert counts.total() == 100


@pytest.mark.parametrize("target", ["/things/%FF", "/things/%2E%2E", "/no/such/path", "/things?maxResults=x"])
def test_a_malformed_authorization_is_refused_alike_at_every_path(server: RunningServer, target: str) -> None:
    answer = exchange(server, "GET", target, {"authorization": "AWS4-HMAC-SHA256 nonsense"})
    assert (answer.status, answer.aws_code) == (403, "IncompleteSignatureException")


def test_new_iam_tokens_name_their_principal(story: Story) -> None:
    found = [r for r in story.records if r["event"] == "IamTokenService.Create"]
    assert found
    assert all(r["principal"] for r in found)


def test_list_shows_the_newest_and_one_account(story: Story) -> None:
    done = in_process("audit", "list", "--data-dir", story.data, "--limit", "5", "--output", "json")
    assert json.loads(done.stdout) == list(reversed(story.records))[:5]
    one = in_process("audit", "list", "--data-dir", story.data, "--account", story.account, "--output", "json")
    assert {record["account"] for record in json.loads(one.stdout)} == {story.account}
    none = in_process("audit", "export", "--data-dir", story.data, "--account", "999999999999")
    assert (none.returncode, none.stdout) == (0, "")


def test_the_table_escapes_control_characters(story: Story) -> None:
    table = in_process("audit", "list", "--data-dir", story.data).stdout
    assert "CreateKeysAndCertificate" in table
    assert "AccessDeniedException" in table
    # Text from a caller must not control the terminal.
    assert r"yandex:folder/\x1b[31mred[/b]" in table
    assert "\x1b" not in table


def test_exported_records_have_their_place_in_a_chain(story: Story) -> None:
    lines = exported(story.data)
    # Reads are written in batches, so a read may be chained after a later event.
    for stream in ("changes", "activity"):
        places = sorted(line["sequence"] for line in lines if line["stream"] == stream)
        assert places == list(range(1, len(places) + 1))
    assert len({line["hash"] for line in lines}) == len(lines)
    assert sorted((line["id"] for line in lines), reverse=True) == [line["id"] for line in lines]


def test_changes_have_a_separate_chain_from_reads_and_refusals(story: Story) -> None:
    events = {"changes": set[str](), "activity": set[str]()}
    for line in exported(story.data):
        events[line["stream"]].add(line["record"]["event"])
    assert {"CreateUser", "UpdateCertificate", "CreateApiToken"} <= events["changes"]
    assert {"ListCertificates", "DescribeCertificate", "DeviceService.Get", "ListAccounts"} <= events["activity"]
    assert not any(event.startswith(("Describe", "List")) for event in events["changes"])


# -- tampering ----------------------------------------------------------------------------------------------------


def verified(data: Path) -> tuple[int, str]:
    done = in_process("audit", "verify", "--data-dir", data)
    return done.returncode, done.stdout + done.stderr


def test_an_unchanged_trail_is_verified(story: Story) -> None:
    code, text = verified(story.data)
    assert code == 0
    assert re.fullmatch(rf"{len(story.records)} records and \d+ checkpoints are intact\.\n", text)


def test_a_record_edited_by_hand_is_named(story: Story, tmp_path: Path) -> None:
    copy = shutil.copytree(story.data, tmp_path / "data", ignore=shutil.ignore_patterns("*.sock", "lock"))
    with database(copy) as db:
        db.execute("UPDATE audit_records SET record = record || ' ' WHERE sequence = 5")  # any record
    code, text = verified(copy)
    assert (code, len(text.splitlines())) == (1, 1)
    assert text.startswith("thingmint: the audit log was tampered with: record 5 was altered")


# -- retention ----------------------------------------------------------------------------------------------------


def _as_of_two_days_ago(data: Path) -> None:
    """Adds records and a checkpoint, dated two days ago."""

    async def work() -> None:
        directory = DataDirectory(data)
        instance = await Instance.open(directory, lambda: None, None)
        then = datetime.now(UTC) - timedelta(days=2)

        async def body(tx: Transaction) -> None:
            for step in range(50):
                id = new_record_id(then + timedelta(seconds=step))
                await sql.insert_record(tx, id, None, json.dumps({"event": "LongAgo"}))

        await instance.store.write(body)
        sealer = Sealer(instance.store, instance.audit_key(), directory.audit_checkpoints, lambda: then)
        await sealer.close()
        await instance.store.close()

    asyncio.run(work())


def test_old_records_are_pruned_on_an_idle_server(tmp_path: Path) -> None:
    """Old records are pruned although the server has no requests."""
    data = tmp_path / "data"
    assert in_process("init", "--data-dir", data).returncode == 0
    _as_of_two_days_ago(data)
    with running_server(data, environment={"THINGMINT_AUDIT_RETENTION": "1d"}) as server:
        event = "audit_records_pruned"
        until(lambda: event in server.output.read_text(), seconds=10, what="records are pruned")
        assert verified(data)[0] == 0
    assert [record["event"] for record in records(data)] == ["PruneAuditLog"]
    assert verified(data) == (0, "1 records and 2 checkpoints are intact.\n")
    with database(data) as db:
        db.execute("DELETE FROM audit_records")
    assert verified(data)[0] == 1


# -- a power cut --------------------------------------------------------------------------------------------------


def test_answered_changes_have_their_records_after_a_power_cut(tmp_path: Path) -> None:
    data = tmp_path / "data"
    answered: list[str] = []
    with running_server(data) as server:
        cloud = Cloud(server)
        with contextlib.closing(iot_client(server)) as iot:
            for _ in range(25):
                made = iot.create_certificate_from_csr(certificateSigningRequest=csr_pem())
                answered.append(made["ResponseMetadata"]["RequestId"])
        revocation = iam_token_service_pb2.RevokeIamTokenRequest(iam_token=cloud.token)
        GrpcWire(cloud.channel, "").call("IamTokenService/Revoke", revocation)
        server.kill()
        cloud.close()
    with running_server(data):
        pass
    found = records(data)
    assert {r["request"] for r in found if r["event"] == "CreateCertificateFromCsr"} == set(answered)
    assert [r["principal"] for r in found if r["event"] == "IamTokenService.Revoke"]
    assert verified(data)[0] == 0


def test_verify_while_the_server_runs(server: RunningServer) -> None:
    with LocalAdmin(server).bearer(server.token) as native:
        assert native.get("/v1/certificates").status_code == 200

    def holds() -> bool:
        code, text = verified(server.data_dir)
        assert code == 0, text
        return not text.startswith("0 ")

    until(holds, seconds=10, what="records are sealed")
