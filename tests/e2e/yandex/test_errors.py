"""Errors: the same google.rpc.Status over gRPC and REST, with the contract's field names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format
from yandex.cloud.endpoint import api_endpoint_service_pb2
from yandex.cloud.iot.devices.v1 import device_service_pb2, registry_service_pb2

from tests.e2e.yandex.clients import Cloud, Refused

if TYPE_CHECKING:
    from collections.abc import Callable


ds, rs = device_service_pb2, registry_service_pb2
MISSING = "are00000000000000000"
LONG = "x" * 51

HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "FAILED_PRECONDITION": 400,
    "UNIMPLEMENTED": 501,
}


def named_device(cloud: Cloud) -> Any:
    registry = cloud.registry()
    cloud.device(registry, name="taken")
    return ds.CreateDeviceRequest(registry_id=registry, name="taken")


def registry_in_use(cloud: Cloud) -> Any:
    registry = cloud.registry()
    cloud.device(registry)
    return rs.DeleteRegistryRequest(registry_id=registry)


def token_of_another_list(cloud: Cloud) -> Any:
    registry = cloud.registry()
    for _ in range(2):
        cloud.device(registry)
    page = cloud.grpc.call("DeviceService/List", ds.ListDevicesRequest(registry_id=registry, page_size=1))
    return ds.ListDevicesRequest(folder_id=cloud.folder, page_token=page.next_page_token)


# Method, request, code, and the fields in BadRequest.
Case = tuple[str, "Callable[[Cloud], Any]", str, list[str]]
CASES: dict[str, Case] = {
    "a missing device": ("DeviceService/Get", lambda _: ds.GetDeviceRequest(device_id=MISSING), "NOT_FOUND", []),
    "an id with special characters": (
        "DeviceService/Get",
        lambda _: ds.GetDeviceRequest(device_id="../é\n%00 '\"?#"),
        "NOT_FOUND",
        [],
    ),
    "an unknown endpoint": (
        "ApiEndpointService/Get",
        lambda _: api_endpoint_service_pb2.GetApiEndpointRequest(api_endpoint_id="compute"),
        "NOT_FOUND",
        [],
    ),
    "a device name in use": ("DeviceService/Create", named_device, "ALREADY_EXISTS", []),
    "a registry with devices": ("RegistryService/Delete", registry_in_use, "FAILED_PRECONDITION", []),
    "several invalid fields": (
        "DeviceService/Create",
        lambda _: ds.CreateDeviceRequest(registry_id=LONG, name="no spaces", description="d" * 257),
        "INVALID_ARGUMENT",
        ["registry_id", "name", "description"],
    ),
    "no parent": ("DeviceService/List", lambda _: ds.ListDevicesRequest(), "INVALID_ARGUMENT", ["id"]),
    "an invalid label": (
        "RegistryService/Create",
        lambda cloud: rs.CreateRegistryRequest(folder_id=cloud.folder, labels={"A": "B"}),
        "INVALID_ARGUMENT",
        ["labels.key", "labels.value"],
    ),
    "NUL in a text": (
        "RegistryService/Create",
        lambda cloud: rs.CreateRegistryRequest(folder_id=cloud.folder, description="a\0b"),
        "INVALID_ARGUMENT",
        ["description"],
    ),
    "a weak password": (
        "RegistryService/Create",
        lambda cloud: rs.CreateRegistryRequest(folder_id=cloud.folder, password="0123456789"),
        "INVALID_ARGUMENT",
        ["password"],
    ),
    "passwords of a device that does not exist": (
        "DeviceService/ListPasswords",
        lambda _: ds.ListDevicePasswordsRequest(device_id=MISSING),
        "NOT_FOUND",
        [],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_both_protocols_return_the_same_status(cloud: Cloud, case: str) -> None:
    method, make, code, fields = CASES[case]
    request = make(cloud)
    told = []
    for wire in (cloud.grpc, cloud.rest):
        with pytest.raises(Refused) as caught:
            wire.call(method, request)
        refused = caught.value
        assert refused.code == code
        assert list(refused.violations) == fields
        assert refused.http_status in (None, HTTP_STATUS[code])
        assert len(refused.request_ids) == 1
        told.append(re.sub(refused.request_ids[0], "", json_format.MessageToJson(refused.status)))
    assert told[0] == told[1]
    assert told[0].count("@type") == (2 if fields else 1)


def test_a_page_token_of_another_list_is_refused(cloud: Cloud, wire_name: str) -> None:
    with pytest.raises(Refused) as refused:
        cloud.wire(wire_name).call("DeviceService/List", token_of_another_list(cloud))
    assert refused.value.code == "INVALID_ARGUMENT"
    assert list(refused.value.violations) == ["page_token"]
