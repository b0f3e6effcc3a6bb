"""Responses: JSON, Status, operations, ids."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from thingmint.domain.ids import FOLDER, IOT, PRINCIPAL, new_id
from thingmint.yandex.contract import load
from thingmint.yandex.contract.answers import HTTP_STATUS, Code, timestamp
from thingmint.yandex.contract.validation import FieldViolation

CONTRACT = load()
DEVICES = "yandex.cloud.iot.devices.v1"
ADD: Any = CONTRACT.methods[f"/{DEVICES}.DeviceService/AddCertificate"]
DELETE: Any = CONTRACT.methods[f"/{DEVICES}.DeviceService/DeleteCertificate"]
NOW = datetime(2026, 11, 21, 6, 23, 13, 245974, tzinfo=UTC)
PEM = "-----BEGIN CERTIFICATE-----\nя+/=\r\n-----END CERTIFICATE-----\n"


def make(name: str, **fields: Any) -> Any:
    factory: Any = CONTRACT.messages[name]
    return factory(**fields)


def operation(**fields: Any) -> Any:
    return CONTRACT.operations.build(
        ADD.operation,
        id="areojeqlg1bh00000000",
        description="Add device certificate",
        created_at=NOW,
        created_by="aje9k8luj4qf00000000",
        metadata={"device_id": "d", "fingerprint": "f"},
        **fields,
    )


def pending() -> Any:
    made = operation()
    made.done = False
    made.ClearField("response")
    return made


CERTIFICATE = {"device_id": "d", "fingerprint": "f", "certificate_data": PEM, "created_at": timestamp(NOW)}

HEAD: dict[str, Any] = {
    "id": "areojeqlg1bh00000000",
    "description": "Add device certificate",
    "createdAt": "2026-11-21T06:23:13.245Z",
    "createdBy": "aje9k8luj4qf00000000",
    "modifiedAt": "2026-11-21T06:23:13.245Z",
    "metadata": {
        "@type": f"type.googleapis.com/{DEVICES}.AddDeviceCertificateMetadata",
        "deviceId": "d",
        "fingerprint": "f",
    },
}


def test_a_pending_operation_has_done_false() -> None:
    assert json.loads(CONTRACT.response_to_json(pending())) == HEAD | {"done": False}


def test_a_finished_operation_has_its_response() -> None:
    response = {
        "@type": f"type.googleapis.com/{DEVICES}.DeviceCertificate",
        "deviceId": "d",
        "fingerprint": "f",
        "certificateData": PEM,
        "createdAt": "2026-11-21T06:23:13.245974Z",
    }
    built = operation(response=CERTIFICATE)
    assert json.loads(CONTRACT.response_to_json(built)) == HEAD | {"done": True, "response": response}
    assert built.metadata.Is(CONTRACT.messages[f"{DEVICES}.AddDeviceCertificateMetadata"].DESCRIPTOR)


def test_a_failed_operation_has_its_error() -> None:
    error = CONTRACT.statuses.build(Code.ALREADY_EXISTS, "is there", request_id="r")
    detail = {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "r"}
    assert json.loads(CONTRACT.response_to_json(operation(error=error))) == HEAD | {
        "done": True,
        "error": {"code": 6, "message": "is there", "details": [detail]},
    }


def test_an_operation_can_have_an_empty_response() -> None:
    built = CONTRACT.operations.build(
        DELETE.operation, id="x", description="", created_at=NOW, created_by="", metadata={}, response={}
    )
    assert json.loads(CONTRACT.response_to_json(built))["response"] == {
        "@type": "type.googleapis.com/google.protobuf.Empty"
    }


def test_an_operation_accepts_only_fields_of_its_types() -> None:
    with pytest.raises(ValueError, match="registry_id"):
        operation(response={"registry_id": "r"})


def test_pending_operations_in_lists_have_done_false() -> None:
    lists = [m.response_class for m in CONTRACT.methods.values() if m.name == "ListOperations"]
    assert len(lists) == 3
    for cls in lists:
        listed = make(cls.DESCRIPTOR.full_name, operations=[pending(), operation()])
        printed = json.loads(CONTRACT.response_to_json(listed))
        assert [each["done"] for each in printed["operations"]] == [False, True]
        assert CONTRACT.response_to_json(cls()) == b"{}"


def test_no_other_message_contains_operations() -> None:
    """The JSON writer expects operations in responses and one level below, nowhere else."""
    operation_name = "yandex.cloud.operation.Operation"
    holders = {
        name
        for name, cls in CONTRACT.messages.items()
        for field in cls.DESCRIPTOR.fields
        if field.message_type is not None and field.message_type.full_name == operation_name
    }
    replies = {method.response_class.DESCRIPTOR.full_name for method in CONTRACT.methods.values()}
    assert holders <= replies
    for name, cls in CONTRACT.messages.items():
        for field in cls.DESCRIPTOR.fields:
            assert field.message_type is None or field.message_type.full_name not in holders, name


def test_responses_are_indented_camel_case_without_defaults() -> None:
    device = make(f"{DEVICES}.Device", id="я", topic_aliases={"a": "b"}, labels={})
    assert CONTRACT.response_to_json(device) == ('{\n "id": "я",\n "topicAliases": {\n  "a": "b"\n }\n}'.encode())


@pytest.mark.parametrize(
    ("time", "printed"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 120_000, tzinfo=UTC), "2026-01-02T03:04:05.120Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 1, tzinfo=UTC), "2026-01-02T03:04:05.000001Z"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=3))), "2026-01-02T00:04:05Z"),
        (datetime(1969, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC), "1969-12-31T23:59:59.500Z"),
    ],
)
def test_timestamps_are_written_in_rfc_3339(time: datetime, printed: str) -> None:
    message = make("google.protobuf.Timestamp", **timestamp(time))
    assert message.ToJsonString() == printed


def test_a_status_has_all_details_in_order() -> None:
    status = CONTRACT.statuses.build(
        Code.INVALID_ARGUMENT,
        "Request validation error",
        violations=[FieldViolation("name", "Field is required"), FieldViolation("labels.key", "no")],
        reason="R",
        domain="thingmint",
        metadata={"k": "v"},
        request_id="5899fc83",
    )
    assert json.loads(CONTRACT.status_to_json(status)) == {
        "code": 3,
        "message": "Request validation error",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [
                    {"field": "name", "description": "Field is required"},
                    {"field": "labels.key", "description": "no"},
                ],
            },
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "R",
                "domain": "thingmint",
                "metadata": {"k": "v"},
            },
            {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "5899fc83"},
        ],
    }


def test_a_status_without_details() -> None:
    status = CONTRACT.statuses.build(Code.UNAUTHENTICATED, "Token is invalid or has expired.")
    assert CONTRACT.status_to_json(status) == b'{\n "code": 16,\n "message": "Token is invalid or has expired."\n}'


def test_codes_have_googles_http_statuses() -> None:
    assert [HTTP_STATUS[Code(number)] for number in range(17)] == [
        200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
    ]  # fmt: skip
    assert len(HTTP_STATUS) == len(Code) == 17


@pytest.mark.parametrize("prefix", [IOT, PRINCIPAL, FOLDER])
def test_new_ids_have_the_prefix_and_are_unique(prefix: str) -> None:
    ids = {new_id(prefix) for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(prefix + "[0-9a-v]{17}", each) for each in ids)
    assert set("".join(each[3:] for each in ids)) == set("0123456789abcdefghijklmnopqrstuv")


@pytest.mark.parametrize("prefix", ["", "ar", "area"])
def test_prefixes_must_have_three_characters(prefix: str) -> None:
    with pytest.raises(ValueError, match="three"):
        new_id(prefix)
