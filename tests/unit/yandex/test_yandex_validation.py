"""Every rule of the contract's options, on the messages that have it."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet
from tests.tables import each_row

from thingmint.domain.errors import DomainError
from thingmint.yandex.contract import load
from thingmint.yandex.contract.descriptors import ContractError, Descriptors
from thingmint.yandex.contract.validation import FieldViolation, InvalidRequest, compile_bounds, compile_validator

CONTRACT = load()
DEVICES, REGISTRIES = "yandex.cloud.iot.devices.v1.DeviceService", "yandex.cloud.iot.devices.v1.RegistryService"
NAME = "Field does not match the pattern /[a-zA-Z0-9_-]*/"
LABEL = "Field does not match the pattern /[-_0-9a-z]*/"
LABEL_KEY = "Field does not match the pattern /[a-z][-_0-9a-z]*/"
LOG_GROUP = "Field does not match the pattern /([a-zA-Z][-a-zA-Z0-9_.]{0,63})?/"

# Method, the request's fields, all violations.
CASES: list[tuple[str, dict[str, Any], list[tuple[str, str]]]] = [
    (f"{DEVICES}/AddCertificate", {"device_id": "d"}, []),
    (f"{DEVICES}/AddCertificate", {}, [("device_id", "Field is required")]),
    (f"{DEVICES}/AddCertificate", {"device_id": "d" * 50}, []),
    (f"{DEVICES}/AddCertificate", {"device_id": "d" * 51}, [("device_id", "Field length must be <=50")]),
    (f"{DEVICES}/AddCertificate", {"device_id": "я" * 50}, []),
    (f"{DEVICES}/DeleteCertificate", {"device_id": "d", "fingerprint": "a" * 64}, []),
    (f"{DEVICES}/DeleteCertificate", {"device_id": "d", "fingerprint": "a" * 40}, []),
    (f"{DEVICES}/DeleteCertificate", {"device_id": "d", "fingerprint": "a" * 65},
     [("fingerprint", "Field length must be <=64")]),
    (f"{DEVICES}/DeleteCertificate", {}, [("device_id", "Field is required"), ("fingerprint", "Field is required")]),
    (f"{DEVICES}/Create", {"registry_id": "r", "name": ""}, []),
    (f"{DEVICES}/Create", {"registry_id": "r", "name": "A-z_0"}, []),
    (f"{DEVICES}/Create", {"registry_id": "r", "name": "a b"}, [("name", NAME)]),
    (f"{DEVICES}/Create", {"registry_id": "r", "name": "a\n"}, [("name", NAME)]),
    (f"{DEVICES}/Create", {"name": "!" * 51, "description": "d" * 257, "labels": {"K": "V"}}, [
        ("registry_id", "Field is required"), ("name", NAME), ("name", "Field length must be <=50"),
        ("description", "Field length must be <=256"), ("labels.key", LABEL_KEY), ("labels.value", LABEL)]),
    (f"{DEVICES}/Create", {"registry_id": "r", "labels": {f"k{i}": "v" for i in range(64)}}, []),
    (f"{DEVICES}/Create", {"registry_id": "r", "labels": {f"k{i}": "v" for i in range(65)}},
     [("labels", "Field size must be <=64")]),
    (f"{DEVICES}/Create", {"registry_id": "r", "labels": {f"K{i}": "V" for i in range(65)}},
     [("labels", "Field size must be <=64")]),  # the single labels are not checked then
    (f"{DEVICES}/Create", {"registry_id": "r", "labels": {"": "v"}},
     [("labels.key", LABEL_KEY), ("labels.key", "Field length must be 1-63")]),
    (f"{DEVICES}/Create", {"registry_id": "r", "labels": {"k" * 64: ""}},
     [("labels.key", "Field length must be 1-63")]),
    (f"{DEVICES}/Create", {"registry_id": "r", "labels": {"k": "v" * 64, "l": "w" * 64}},
     [("labels.value", "Field length must be <=63")]),
    (f"{DEVICES}/List", {"registry_id": "r"}, []),
    (f"{DEVICES}/List", {"registry_id": "r", "device_view": 1}, []),
    (f"{DEVICES}/List", {"registry_id": "r", "device_view": 2}, [("device_view", "must be one of BASIC, FULL")]),
    (f"{DEVICES}/List", {"registry_id": "r", "device_view": -1}, [("device_view", "must be one of BASIC, FULL")]),
    (f"{REGISTRIES}/Update", {"registry_id": "r", "log_options": {"min_level": 7}}, [
        ("log_options.min_level", "must be one of LEVEL_UNSPECIFIED, TRACE, DEBUG, INFO, WARN, ERROR, FATAL")]),
    (f"{DEVICES}/List", {"folder_id": "f", "page_size": 20000}, []),
    (f"{DEVICES}/List", {}, [("id", "Exactly one of the fields must be specified: registry_id, folder_id")]),
    (f"{DEVICES}/List", {"folder_id": "f" * 51}, [("folder_id", "Field length must be <=50")]),
    (f"{DEVICES}/List", {"folder_id": "f", "page_size": 20001}, [("page_size", "Field value must be 0-20000")]),
    (f"{DEVICES}/List", {"folder_id": "f", "page_size": -1}, [("page_size", "Field value must be 0-20000")]),
    (f"{DEVICES}/List", {"folder_id": "f", "page_token": "t" * 101}, [("page_token", "Field length must be <=100")]),
    (f"{DEVICES}/ListOperations", {"device_id": "d" * 51, "page_size": 1001, "filter": "f" * 1001},
     [("page_size", "Field value must be 0-1000"), ("filter", "Field length must be <=1000")]),
    (f"{DEVICES}/AddPassword", {"device_id": "d", "password": "p" * 14}, []),
    (f"{DEVICES}/AddPassword", {"device_id": "d", "password": "p" * 13}, [("password", "Field length must be >=14")]),
    (f"{DEVICES}/AddPassword", {"device_id": "d"}, [("password", "Field length must be >=14")]),
    (f"{DEVICES}/GetByName", {"registry_id": "r"}, [("device_name", "Field is required")]),
    (f"{REGISTRIES}/Create", {"folder_id": "f", "log_options": {}}, []),
    (f"{REGISTRIES}/Create", {"folder_id": "f", "log_options": {"log_group_id": ""}}, []),
    (f"{REGISTRIES}/Create", {"folder_id": "f", "log_options": {"folder_id": "0"}},
     [("log_options.folder_id", LOG_GROUP)]),
    ("yandex.cloud.iot.devices.v1.DeviceDataService/Publish", {"device_id": "d", "topic": "t" * 1024, "data": b""}, []),
    ("yandex.cloud.iot.devices.v1.DeviceDataService/Publish", {"device_id": "d", "topic": "", "data": b"\xff" * 262145},
     [("topic", "Field is required"), ("data", "Field length must be <=262144")]),
    ("yandex.cloud.iam.v1.IamTokenService/Create", {"jwt": "j" * 8000}, []),
    ("yandex.cloud.iam.v1.IamTokenService/Create", {"jwt": "j" * 8001}, [("jwt", "Field length must be <=8000")]),
    ("yandex.cloud.iam.v1.IamTokenService/Create", {},
     [("identity", "Exactly one of the fields must be specified: yandex_passport_oauth_token, jwt")]),
    ("yandex.cloud.operation.OperationService/Get", {}, [("operation_id", "Field is required")]),
    ("yandex.cloud.endpoint.ApiEndpointService/List", {}, []),
]  # fmt: skip


@each_row(("path", "fields", "violations"), CASES)
def test_violations_of_each_rule_are_listed(
    path: str, fields: dict[str, Any], violations: list[tuple[str, str]]
) -> None:
    method = CONTRACT.methods[f"/{path}"]
    make: Any = method.request_class
    request = make(**fields)
    if not violations:
        method.validate(request)
        return
    with pytest.raises(InvalidRequest) as refused:
        method.validate(request)
    assert refused.value.violations == tuple(FieldViolation(*each) for each in violations)
    assert isinstance(refused.value, DomainError)
    assert str(refused.value).startswith(f"{violations[0][0]}: {violations[0][1]}")


def test_every_fingerprint_can_have_64_characters() -> None:
    paths = [path for path in CONTRACT.methods if path.endswith("/DeleteCertificate")]
    assert len(paths) == 3
    for path in paths:
        method = CONTRACT.methods[path]
        make: Any = method.request_class
        owner = make.DESCRIPTOR.fields[0].name
        method.validate(make(**{owner: "o", "fingerprint": "f" * 64}))
        with pytest.raises(InvalidRequest):
            method.validate(make(**{owner: "o" * 64, "fingerprint": "f" * 64}))


@pytest.mark.parametrize(
    ("spec", "inside", "outside"),
    [
        ("<=50", (0, 50), (51,)),
        (">=14", (14, 99), (13,)),
        ("<5", (4,), (5,)),
        (">5", (6,), (5,)),
        ("1-63", (1, 63), (0, 64)),
        ("-5-5", (-5, 5), (-6, 6)),
        ("-5--3", (-5, -3), (-6, -2)),
        ("7", (7,), (6, 8)),
        ("1-3,5,8-9", (1, 3, 5, 8, 9), (0, 4, 6, 10)),
    ],
)
def test_bounds_are_compiled(spec: str, inside: tuple[int, ...], outside: tuple[int, ...]) -> None:
    within = compile_bounds(spec)
    assert all(map(within, inside))
    assert not any(map(within, outside))


@pytest.mark.parametrize("spec", ["", "a", "<=", "<= 5", ">0,<=5", "1m-2h", "5-", "1,", "=5"])
def test_unsupported_bounds_are_refused(spec: str) -> None:
    with pytest.raises(ContractError):
        compile_bounds(spec)


STRING, INT64 = FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_INT64
ONE, MANY = FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED


def with_field(kind: Any, label: Any, option: str, value: object, *, oneof: bool = False) -> tuple[Descriptors, Any]:
    """A descriptor set with a message ``t.M``, whose only field ``f`` has one option."""
    committed = Descriptors.load()
    options: Any = committed.messages["google.protobuf.FieldOptions"]()
    options.Extensions[committed.pool.FindExtensionByName(f"yandex.cloud.{option}")] = value
    files = FileDescriptorSet()
    for name in ("google/protobuf/descriptor.proto", "yandex/cloud/validation.proto"):
        files.file.add().MergeFromString(committed.pool.FindFileByName(name).serialized_pb)
    added = files.file.add(name="t.proto", package="t", syntax="proto3", dependency=["yandex/cloud/validation.proto"])
    field = added.message_type.add(name="M").field.add(name="f", number=1, type=kind, label=label)
    field.options.MergeFromString(options.SerializeToString())
    if oneof:
        added.message_type[0].oneof_decl.add(name="o")
        field.oneof_index = 0
    descriptors = Descriptors(files.SerializeToString())
    return descriptors, descriptors.pool.FindMessageTypeByName("t.M")


@pytest.mark.parametrize(
    ("kind", "label", "option", "value"),
    [
        (STRING, MANY, "unique", True),
        (STRING, ONE, "bytes", "<=5"),
        (STRING, ONE, "size", "<=5"),
        (STRING, ONE, "value", "<=5"),
        (INT64, ONE, "pattern", "a"),
        (INT64, ONE, "length", "<=5"),
        (STRING, MANY, "length", "<=5"),
        (STRING, ONE, "length", "about 5"),
    ],
)
def test_unsupported_rules_fail_at_load_time(kind: Any, label: Any, option: str, value: object) -> None:
    descriptors, message = with_field(kind, label, option, value)
    with pytest.raises(ContractError):
        compile_validator(descriptors, message)


def test_unset_members_of_a_oneof_are_not_checked() -> None:
    descriptors, message = with_field(STRING, ONE, "length", ">=5", oneof=True)
    make: Any = descriptors.messages["t.M"]
    validator = compile_validator(descriptors, message)
    assert validator(make()) == []
    assert validator(make(f="abcde")) == []
    assert validator(make(f="")) == [FieldViolation("f", "Field length must be >=5")]
