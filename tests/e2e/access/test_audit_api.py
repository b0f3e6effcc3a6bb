"""The audit log over the native API: an account's records, for callers with permission."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from openapi_schema_validator import OAS31Validator

from tests.e2e.access.local_admin import LocalAdmin, database, error_of
from tests.e2e.commands import in_process
from tests.e2e.wire import until
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def ours() -> Iterator[LocalAdmin]:
    """The first of two accounts, which both have a few audit records."""
    with running_server() as server:
        local_admin = LocalAdmin(server)
        other = local_admin.ask("account.create", name="other")
        ours = LocalAdmin(server, local_admin.ask("account.list")[0]["id"])
        theirs = LocalAdmin(server, other["account"])
        for each in (ours, theirs):
            for _ in range(3):
                each.user()
            with each.native(each.user("thingmint/ReadOnly")) as native:
                native.get("/v1/certificates")
        yield ours


@pytest.fixture(scope="module")
def auditor(ours: LocalAdmin) -> Iterator[httpx.Client]:
    with ours.native(ours.user("thingmint/AuditOnly")) as client:

        def complete() -> bool:
            return bool(listed(client, event="ListCertificates"))

        until(complete, seconds=10, what="the read is in the audit log")
        yield client


def listed(client: httpx.Client, **parameters: Any) -> list[dict[str, Any]]:
    """The records of all pages."""
    found: list[dict[str, Any]] = []
    while True:
        answer = client.get("/v1/audit", params=parameters)
        assert answer.status_code == 200, answer.text
        page = answer.json()["data"]
        assert len(page["records"]) <= parameters.get("page_size", 25)
        found += page["records"]
        if page["next_marker"] is None:
            return found
        parameters["marker"] = page["next_marker"]


def test_only_the_callers_account_is_listed(ours: LocalAdmin, auditor: httpx.Client) -> None:
    records = listed(auditor)
    assert {record["account"] for record in records} == {ours.account}
    assert [r["event"] for r in records].count("CreateUser") >= 5
    assert [r["time"] for r in records] == sorted((r["time"] for r in records), reverse=True)


@pytest.mark.parametrize("page_size", [1, 2, 250])
def test_pages_have_every_record_once(auditor: httpx.Client, page_size: int) -> None:
    now = datetime.now(UTC).isoformat()
    for wanted in ({}, {"event": "CreateUser"}):
        expected = listed(auditor, until=now, **wanted)
        assert len(expected) >= 4
        assert listed(auditor, until=now, page_size=page_size, **wanted) == expected


def test_filters_by_time_event_and_principal(ours: LocalAdmin, auditor: httpx.Client) -> None:
    made = listed(auditor, event="CreateUser")
    assert {record["event"] for record in made} == {"CreateUser"}
    [read] = listed(auditor, event="ListCertificates")
    assert listed(auditor, principal=read["principal"]) == [read]
    assert listed(auditor, principal=read["principal"], event="CreateUser") == []
    first, last = made[-1], made[0]
    between = listed(auditor, since=first["time"], until=last["time"], event="CreateUser")
    assert between == made[1:], "since is inclusive, until exclusive"
    assert listed(auditor, until=first["time"], event="CreateUser") == []
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert listed(auditor, since=later) == []


def test_filters_by_resource_and_outcome(ours: LocalAdmin, auditor: httpx.Client) -> None:
    made = listed(auditor, event="CreateUser")
    wanted = made[0]["resources"][0]
    assert all(wanted in (record["resource"], *record["resources"]) for record in listed(auditor, resource=wanted))
    assert made[0] in listed(auditor, resource=wanted)
    assert listed(auditor, resource=f"{wanted}x") == []
    assert listed(auditor, event="CreateUser", outcome="success") == made
    assert listed(auditor, event="CreateUser", outcome="refused") == []
    for wrong in ({"outcome": "failed"}, {"certificate": "0"}, {"client": "lamp"}):
        assert auditor.get("/v1/audit", params=wrong).status_code == 400, wrong


def test_a_damaged_record_is_shown_as_not_readable(tmp_path: Path) -> None:
    damaged = ["{", "", "[]", "5", b"\xff", "{}", '{"event": 5}']
    data = tmp_path / "data"
    in_process("init", "--data-dir", data)
    for number in range(len(damaged) + 1):
        in_process("access", "user", "create", f"user-{number}", "--data-dir", data)
    with database(data) as db:
        ids = [row[0] for row in db.execute("SELECT id FROM audit_records WHERE account IS NOT NULL ORDER BY id")]
        db.executemany("UPDATE audit_records SET record = ? WHERE id = ?", zip(damaged, ids, strict=False))
    with running_server(data) as server:
        local_admin = LocalAdmin(server)
        with local_admin.native(local_admin.user("thingmint/AuditOnly")) as client:
            records = listed(client)
            assert listed(client, event="CreateUser")
        document = httpx.get(f"{server.http_url}/openapi.json").json()
    unreadable = [record for record in records if record["event"] == "not readable"]
    assert len(unreadable) == len(damaged)
    assert all(record["time"] is None and record["outcome"] is None for record in unreadable)
    assert {record["event"] for record in records} > {"not readable", "CreateUser"}
    schema = {"$ref": "#/components/schemas/AuditRecord", "components": document["components"]}
    OAS31Validator(schema).validate(unreadable[0])


def test_listing_the_audit_log_is_recorded(auditor: httpx.Client) -> None:
    auditor.get("/v1/audit", params={"page_size": 1})
    until(lambda: listed(auditor, event="ListAudit"), seconds=10, what="the read is in the audit log")


@pytest.mark.parametrize("policies", [[], ["thingmint/ReadOnly"], ["thingmint/FullAccess"]])
def test_other_policies_do_not_allow_list_audit(ours: LocalAdmin, policies: list[str]) -> None:
    with ours.native(ours.user(*policies)) as client:
        assert error_of(client.get("/v1/audit")) == (403, "PERMISSION_DENIED")


def test_a_marker_of_another_account_is_refused(ours: LocalAdmin, auditor: httpx.Client) -> None:
    marker = auditor.get("/v1/audit", params={"page_size": 1}).json()["data"]["next_marker"]
    [other] = [each["id"] for each in LocalAdmin(ours.server).ask("account.list") if each["id"] != ours.account]
    theirs = LocalAdmin(ours.server, other)
    with contextlib.closing(theirs.native(theirs.user("thingmint/AuditOnly"))) as client:
        answer = client.get("/v1/audit", params={"marker": marker})
    assert error_of(answer) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    "parameters",
    [
        {"page_size": 0},
        {"page_size": 251},
        {"since": "yesterday"},
        {"until": "2026-01-01T00:00:00"},
        {"marker": "x"},
        {"account": "123456789012"},
        {"event": "x" * 129},
    ],
)
def test_wrong_parameters_are_refused(auditor: httpx.Client, parameters: dict[str, Any]) -> None:
    assert error_of(auditor.get("/v1/audit", params=parameters)) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_the_earliest_and_the_latest_time_are_accepted(auditor: httpx.Client, moment: str) -> None:
    for name in ("since", "until"):
        assert auditor.get("/v1/audit", params={name: moment}).status_code == 200


def test_answers_follow_the_schema(ours: LocalAdmin, auditor: httpx.Client) -> None:
    document = httpx.get(f"{ours.server.http_url}/openapi.json").json()
    operation = document["paths"]["/v1/audit"]["get"]
    assert {parameter["name"] for parameter in operation["parameters"]} == {
        "page_size",
        "marker",
        "since",
        "until",
        "event",
        "principal",
        "outcome",
        "resource",
        "client_id",
        "certificate",
        "about",
    }
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    answer = auditor.get("/v1/audit").json()
    OAS31Validator({**schema, "components": document["components"]}).validate(answer)
    assert answer["data"]["records"]
