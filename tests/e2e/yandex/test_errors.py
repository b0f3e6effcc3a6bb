"""Refusals: the same google.rpc.Status on both wires, with field names as the contract spells them."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format
from yandex.cloud.endpoint import api_endpoint_service_pb2
from yandex.cloud.iot.devices.v1 import device_service_pb2, registry_pb2, registry_service_pb2

from tests.administrator import Administrator
from tests.e2e.yandex.certificates import certificate
from tests.e2e.yandex.clients import Account, Cloud, Refused
from thingmint.access.vault import Vault
from thingmint.store.sqlite import SQLiteStore
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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


def named_registry(cloud: Cloud) -> Any:
    request = rs.CreateRegistryRequest(folder_id=cloud.folder, name="taken-name")
    listed = cloud.grpc.call("RegistryService/List", rs.ListRegistriesRequest(folder_id=cloud.folder, page_size=1000))
    if not any(registry.name == request.name for registry in listed.registries):
        cloud.grpc.call("RegistryService/Create", request)
    return request


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


# Method, request, code, and the fields that BadRequest names.
Case = tuple[str, "Callable[[Cloud], Any]", str, list[str]]
CASES: dict[str, Case] = {
    "no device": ("DeviceService/Get", lambda _: ds.GetDeviceRequest(device_id=MISSING), "NOT_FOUND", []),
    "an id with everything": (
        "DeviceService/Get",
        lambda _: ds.GetDeviceRequest(device_id="../é\n%00 '\"?#"),
        "NOT_FOUND",
        [],
    ),
    "no registry": ("RegistryService/Get", lambda _: rs.GetRegistryRequest(registry_id=MISSING), "NOT_FOUND", []),
    "no folder": ("RegistryService/Create", lambda _: rs.CreateRegistryRequest(folder_id="f"), "NOT_FOUND", []),
    "no folder to list": ("RegistryService/List", lambda _: rs.ListRegistriesRequest(folder_id="f"), "NOT_FOUND", []),
    "no device of that name": (
        "DeviceService/GetByName",
        lambda cloud: ds.GetByNameDeviceRequest(registry_id=cloud.registry(), device_name="none"),
        "NOT_FOUND",
        [],
    ),
    "no device to add to": (
        "DeviceService/AddCertificate",
        lambda _: ds.AddDeviceCertificateRequest(device_id=MISSING, certificate_data=certificate()),
        "NOT_FOUND",
        [],
    ),
    "no device to delete": (
        "DeviceService/Delete",
        lambda _: ds.DeleteDeviceRequest(device_id=MISSING),
        "NOT_FOUND",
        [],
    ),
    "no certificate": (
        "DeviceService/DeleteCertificate",
        lambda cloud: ds.DeleteDeviceCertificateRequest(device_id=cloud.device(), fingerprint="0" * 64),
        "NOT_FOUND",
        [],
    ),
    "no fingerprint at all": (
        "DeviceService/DeleteCertificate",
        lambda cloud: ds.DeleteDeviceCertificateRequest(device_id=cloud.device(), fingerprint="%"),
        "NOT_FOUND",
        [],
    ),
    "no endpoint": (
        "ApiEndpointService/Get",
        lambda _: api_endpoint_service_pb2.GetApiEndpointRequest(api_endpoint_id="compute"),
        "NOT_FOUND",
        [],
    ),
    "device name taken": ("DeviceService/Create", named_device, "ALREADY_EXISTS", []),
    "registry name taken": ("RegistryService/Create", named_registry, "ALREADY_EXISTS", []),
    "registry in use": ("RegistryService/Delete", registry_in_use, "FAILED_PRECONDITION", []),
    "long ids": (
        "DeviceService/DeleteCertificate",
        lambda _: ds.DeleteDeviceCertificateRequest(device_id=LONG, fingerprint="f" * 65),
        "INVALID_ARGUMENT",
        ["device_id", "fingerprint"],
    ),
    "everything wrong": (
        "DeviceService/Create",
        lambda _: ds.CreateDeviceRequest(registry_id=LONG, name="no spaces", description="d" * 257),
        "INVALID_ARGUMENT",
        ["registry_id", "name", "description"],
    ),
    "no parent": ("DeviceService/List", lambda _: ds.ListDevicesRequest(), "INVALID_ARGUMENT", ["id"]),
    "page too large": (
        "RegistryService/List",
        lambda cloud: rs.ListRegistriesRequest(folder_id=cloud.folder, page_size=1001),
        "INVALID_ARGUMENT",
        ["page_size"],
    ),
    "page below zero": (
        "RegistryService/List",
        lambda cloud: rs.ListRegistriesRequest(folder_id=cloud.folder, page_size=-1),
        "INVALID_ARGUMENT",
        ["page_size"],
    ),
    "labels": (
        "RegistryService/Create",
        lambda cloud: rs.CreateRegistryRequest(folder_id=cloud.folder, labels={"A": "B"}),
        "INVALID_ARGUMENT",
        ["labels.key", "labels.value"],
    ),
    "a log group of no form": (
        "RegistryService/Create",
        lambda cloud: rs.CreateRegistryRequest(
            folder_id=cloud.folder, log_options=registry_pb2.LogOptions(log_group_id="0")
        ),
        "INVALID_ARGUMENT",
        ["log_options.log_group_id"],
    ),
    "too many aliases": (
        "DeviceService/Create",
        lambda cloud: ds.CreateDeviceRequest(
            registry_id=cloud.registry(), topic_aliases={f"a{n}": "$devices/{id}/events" for n in range(6)}
        ),
        "INVALID_ARGUMENT",
        ["topic_aliases"],
    ),
    "NUL in a text": (
        "RegistryService/Create",
        lambda cloud: rs.CreateRegistryRequest(folder_id=cloud.folder, description="a\0b"),
        "INVALID_ARGUMENT",
        ["description"],
    ),
    "a password": (
        "RegistryService/Create",
        lambda cloud: rs.CreateRegistryRequest(folder_id=cloud.folder, password="0123456789_abcd"),
        "UNIMPLEMENTED",
        [],
    ),
    "no method yet": (
        "DeviceService/ListPasswords",
        lambda _: ds.ListDevicePasswordsRequest(device_id=MISSING),
        "UNIMPLEMENTED",
        [],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_both_wires_refuse_alike(cloud: Cloud, case: str) -> None:
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


def test_a_page_token_of_another_list(cloud: Cloud, wire_name: str) -> None:
    with pytest.raises(Refused) as refused:
        cloud.wire(wire_name).call("DeviceService/List", token_of_another_list(cloud))
    assert refused.value.code == "INVALID_ARGUMENT"
    assert list(refused.value.violations) == ["page_token"]


@pytest.mark.parametrize("page_token", ["x", "AAAA", "=" * 100, "é", "A" * 60])
def test_page_tokens_that_are_none(cloud: Cloud, wire_name: str, page_token: str) -> None:
    request = rs.ListRegistriesRequest(folder_id=cloud.folder, page_token=page_token)
    with pytest.raises(Refused) as refused:
        cloud.wire(wire_name).call("RegistryService/List", request)
    assert refused.value.code == "INVALID_ARGUMENT"


def test_permission_denied(tmp_path: Path) -> None:
    """A principal that may only look."""
    data = tmp_path / "data"
    with running_server(data):
        pass
    new = asyncio.run(_with_permissions(data, "yandex:DeviceService.Get", "yandex:OperationService.Get"))
    with running_server(data) as server:
        cloud = Cloud(server)
        limited = Cloud(server, new)
        pem, told = certificate(), []
        for wire in ("grpc", "rest"):
            with pytest.raises(Refused) as refused:
                limited.add(MISSING, pem, wire)
            assert refused.value.code == "PERMISSION_DENIED"
            assert refused.value.http_status in (None, 403)
            told.append(refused.value.text)
            with pytest.raises(Refused) as refused:
                limited.wire(wire).call("DeviceService/Get", ds.GetDeviceRequest(device_id=cloud.device()))
            assert refused.value.code == "NOT_FOUND"
        assert told[0] == told[1]
        for each in (cloud, limited):
            each.close()


async def _with_permissions(data: Path, *actions: str) -> Account:
    """A service account that may do only that, in an account of its own."""
    store = SQLiteStore(data / "thingmint.db")
    try:
        vault = Vault(bytes.fromhex((data / "master.key").read_text()))
        admin = Administrator(store, vault, lambda: datetime.now(UTC))
        new = await admin.create_account("limited", ["us-east-1"])
        await admin.create_principal(new.account, "service-account", "limited")
        statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        await admin.put_policy(new.account, "few", json.dumps({"Version": "2012-10-17", "Statement": statement}))
        await admin.attach_policy(new.account, "service-account", "limited", "few")
        key = await admin.create_authorized_key(new.account, "limited")
        return Account.of(replace(new, authorized_key=key))
    finally:
        await store.close()
