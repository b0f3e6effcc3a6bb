"""Bulk registration over boto3: a task from its start to its reports, its end, and what other accounts see."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest
from cryptography import x509

from tests.e2e.access.local_admin import LocalAdmin, document, keys_of, refusal
from tests.e2e.bulk.support import ACCOUNT, CSR, TEMPLATE, line
from tests.e2e.conftest import iot_client
from tests.e2e.provisioning.support import TRUST

if TYPE_CHECKING:
    from tests.e2e.bulk.support import Bulk

pytestmark = pytest.mark.both_engines

_DISTRUST = {"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}


def _prefix() -> str:
    return f"b{uuid4().hex[:8]}"


def test_each_line_registers_a_device_or_is_in_the_report_of_errors(bulk: Bulk) -> None:
    prefix = _prefix()
    lines = [line(f"{prefix}-{number}") for number in range(300)]
    bad = {7: "{", 8: "[1]", 9: '{"ThingName": 1}', 10: line("not a name!"), 11: '{"ThingName": "x"}', 250: "nothing"}
    for number, text in bad.items():
        lines[number] = text
    lines[299] = line(f"{prefix}-1", Site="south")  # a thing that exists with another attribute
    task = bulk.start(bulk.put("week-1/devices.jsonl", lines))
    shown = bulk.ended(task)
    assert (shown["status"], shown["percentageProgress"]) == ("Completed", 100)
    assert (shown["successCount"], shown["failureCount"]) == (293, 7)
    assert {key: shown[key] for key in ("inputFileBucket", "inputFileKey", "roleArn", "templateBody")} == {
        "inputFileBucket": "fleet",
        "inputFileKey": "week-1/devices.jsonl",
        "roleArn": bulk.role,
        "templateBody": TEMPLATE,
    }

    results, errors = bulk.report(task, "RESULTS"), bulk.report(task, "ERRORS")
    assert [each["offset"] for each in errors] == [*bad, 299]
    assert [each["offset"] for each in results] == [number for number in range(299) if number not in bad]
    assert all(set(each["error"]) == {"ErrorCode", "ErrorMessage", "HttpStatusCode"} for each in errors)
    assert {each["error"]["HttpStatusCode"] for each in errors} == {400}
    assert errors[0]["error"]["ErrorCode"] == "InvalidRequestException"
    assert errors[-1]["error"]["ErrorCode"] == "ResourceRegistrationFailureException"

    response = results[0]["response"]
    thing = bulk.iot.describe_thing(thingName=f"{prefix}-0")
    assert response["ResourceArns"]["thing"] == thing["thingArn"]
    assert thing["attributes"] == {"site": "north"}
    (principal,) = bulk.iot.list_thing_principals(thingName=f"{prefix}-0")["principals"]
    assert principal == response["ResourceArns"]["certificate"]
    issued = x509.load_pem_x509_certificate(response["CertificatePem"].encode())
    assert issued.public_key() == x509.load_pem_x509_csr(CSR.encode()).public_key()
    text = "".join(bulk.get(link).text for link in bulk.links(task, "RESULTS"))
    assert "PRIVATE" not in text
    assert bulk.iot.describe_thing(thingName=f"{prefix}-1")["attributes"] == {"site": "north"}


def test_a_second_task_waits_for_the_end_of_the_first_and_stopping_ends_it(bulk: Bulk) -> None:
    prefix = _prefix()
    key = bulk.put("long.jsonl", [line(f"{prefix}-{number}") for number in range(20_000)])
    task = bulk.start(key)
    bulk.when(task, lambda shown: shown["successCount"] > 0)
    status, code, message = refusal(bulk.iot.start_thing_registration_task, **bulk.arguments(key))
    assert (status, code) == (400, "InvalidRequestException"), message
    assert "stop it" in message
    assert task in bulk.iot.list_thing_registration_tasks(status="InProgress")["taskIds"]
    bulk.iot.stop_thing_registration_task(taskId=task)
    bulk.iot.stop_thing_registration_task(taskId=task)
    shown = bulk.ended(task)
    assert shown["status"] == "Cancelled"
    assert shown["percentageProgress"] < 100
    assert len(bulk.report(task, "RESULTS")) == shown["successCount"]
    assert task in bulk.iot.list_thing_registration_tasks(status="Cancelled")["taskIds"]
    with pytest.raises(bulk.iot.exceptions.ResourceNotFoundException):
        bulk.iot.describe_thing(thingName=f"{prefix}-{shown['successCount']}")

    after = bulk.start(bulk.put("short.jsonl", [line(f"{prefix}-after")]))
    assert bulk.ended(after)["status"] == "Completed"
    assert refusal(bulk.iot.stop_thing_registration_task, taskId=after)[:2] == (400, "InvalidRequestException")


def test_pages_have_each_task_once_the_newest_first(bulk: Bulk) -> None:
    key = bulk.put("one.jsonl", [])
    tasks = []
    for _ in range(3):
        tasks.append(bulk.start(key))
        assert bulk.ended(tasks[-1])["status"] == "Completed"
    pages = bulk.iot.get_paginator("list_thing_registration_tasks").paginate(PaginationConfig={"PageSize": 2})
    found = [task for page in pages for task in page["taskIds"]]
    assert found[:3] == tasks[::-1]
    assert len(set(found)) == len(found)
    assert bulk.links(tasks[0], "RESULTS") == bulk.links(tasks[0], "ERRORS") == []


def test_other_accounts_see_neither_tasks_nor_buckets(bulk: Bulk) -> None:
    task = bulk.start(bulk.put("mine.jsonl", [line(_prefix())]))
    bulk.ended(task)
    other = LocalAdmin(bulk.server).ask("account.create", name="neighbour")
    role = f"arn:aws:iam::{other['account']}:role/bulk"
    with contextlib.closing(iot_client(bulk.server, **keys_of(other))) as iot:
        missing = (404, "ResourceNotFoundException")
        assert refusal(iot.describe_thing_registration_task, taskId=task)[:2] == missing
        assert refusal(iot.stop_thing_registration_task, taskId=task)[:2] == missing
        assert refusal(iot.list_thing_registration_task_reports, taskId=task, reportType="RESULTS")[:2] == missing
        assert iot.list_thing_registration_tasks()["taskIds"] == []
        given = bulk.arguments("mine.jsonl", roleArn=role)
        theirs = refusal(iot.start_thing_registration_task, **given)
        unknown = refusal(iot.start_thing_registration_task, **given | {"inputFileBucket": "no-such-bucket"})
        assert theirs[:2] == unknown[:2] == missing
        assert theirs[2].replace("fleet", "no-such-bucket") == unknown[2]
    unknown = refusal(bulk.iot.start_thing_registration_task, **bulk.arguments("x", inputFileBucket="no-such-bucket"))
    assert unknown[:2] == (404, "ResourceNotFoundException")


def test_the_template_has_the_permissions_of_the_role(bulk: Bulk) -> None:
    admin, prefix = LocalAdmin(bulk.server), _prefix()
    key = bulk.put("permissions.jsonl", [line(prefix)])
    admin.ask("role.create", name=f"{prefix}-distrusting", trust_policy=document(_DISTRUST))
    admin.ask("role.create", name=prefix, trust_policy=TRUST)
    for name in (f"{prefix}-distrusting", f"{prefix}-missing"):
        failed = bulk.ended(bulk.start(key, roleArn=f"arn:aws:iam::{ACCOUNT}:role/{name}"))
        assert failed["status"] == "Failed"
        assert "trust policy must allow iot.amazonaws.com" in failed["message"]
    task = bulk.start(key, roleArn=f"arn:aws:iam::{ACCOUNT}:role/{prefix}")
    assert bulk.ended(task)["failureCount"] == 1
    (record,) = bulk.report(task, "ERRORS")
    error = record["error"]
    assert (error["ErrorCode"], error["HttpStatusCode"]) == ("AccessDeniedException", 403)
    assert f"role/{prefix} is not authorized to perform: iot:CreateCertificateFromCsr" in error["ErrorMessage"]


def test_a_role_must_be_the_accounts_own_and_passed(bulk: Bulk) -> None:
    key = bulk.put("role.jsonl", [line(_prefix())])
    others = bulk.arguments(key, roleArn="arn:aws:iam::999999999999:role/bulk")
    assert refusal(bulk.iot.start_thing_registration_task, **others)[:2] == (403, "AccessDeniedException")
    with LocalAdmin(bulk.server).iot_of({"Effect": "Allow", "Action": "iot:*", "Resource": "*"}) as iot:
        status, code, message = refusal(iot.start_thing_registration_task, **bulk.arguments(key))
    assert (status, code, "iam:PassRole" in message) == (403, "AccessDeniedException", True)


def test_links_are_signed_and_open_no_other_file(bulk: Bulk) -> None:
    task = bulk.start(bulk.put("links.jsonl", [line(_prefix()), "{"]))
    bulk.ended(task)
    (results,), (errors,) = bulk.links(task, "RESULTS"), bulk.links(task, "ERRORS")
    assert [bulk.get(link).status_code for link in (results, errors)] == [200, 200]
    assert bulk.get(results).headers["content-type"] == "application/x-ndjson"
    path, _, query = results.partition("?")
    expires = query.partition("&")[0]
    forged: list[Any] = [
        path,
        f"{path}?{expires}",
        results[:-1] + ("0" if results[-1] != "0" else "1"),
        results.replace(expires, f"{expires}0"),
        results.replace("RESULTS", "ERRORS"),
        results.replace("/0?", "/1?"),
        results.replace(task, str(uuid4())),
        f"{results}&Expires=99999999999",
        results.replace("/RESULTS", "/../RESULTS"),
        results.replace("RESULTS", "RESULT%53"),
    ]
    for link in forged:
        answer = bulk.get(link)
        assert (answer.status_code, answer.json()["code"]) == (403, "AccessDenied"), link
    tls = ssl.create_default_context(cafile=bulk.server.ca)
    for method in ("POST", "PUT", "DELETE"):
        assert httpx.request(method, results, verify=tls).status_code == 403
