"""Idempotency-Key: the same request is made once, whichever wire it comes over."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from yandex.cloud.iot.devices.v1 import device_service_pb2, registry_service_pb2

from tests.e2e.yandex.certificates import certificate, sha256_of
from tests.e2e.yandex.clients import Refused

if TYPE_CHECKING:
    from tests.e2e.yandex.clients import Cloud, Wire


def new_key() -> str:
    return str(uuid.uuid4())


def other_wire(name: str) -> str:
    return "rest" if name == "grpc" else "grpc"


def test_the_same_request_returns_the_first_operation(cloud: Cloud, wire_name: str) -> None:
    device, pem, key = cloud.device(), certificate(), new_key()
    first = cloud.add(device, pem, wire_name, key=key)
    assert cloud.add(device, pem, wire_name, key=key) == first
    assert cloud.add(device, pem, other_wire(wire_name), key=key) == first
    with pytest.raises(Refused) as refused:
        cloud.add(device, pem, wire_name)
    assert refused.value.code == "ALREADY_EXISTS"


def test_another_body_is_refused(cloud: Cloud, wire_name: str) -> None:
    device, pem, key = cloud.device(), certificate(), new_key()
    cloud.add(device, pem, wire_name, key=key)
    with pytest.raises(Refused) as refused:
        cloud.add(device, pem + "\n", wire_name, key=key)
    assert refused.value.code == "INVALID_ARGUMENT"
    assert list(refused.value.violations) == ["idempotency_key"]
    assert len(cloud.certificates(device)) == 1


def test_deletions_are_remembered_though_nothing_is_left(cloud: Cloud, wire: Wire) -> None:
    registry, pem = cloud.registry(), certificate()
    device = cloud.device(registry)
    cloud.add(device, pem)
    for method, request in (
        (
            "DeviceService/DeleteCertificate",
            device_service_pb2.DeleteDeviceCertificateRequest(device_id=device, fingerprint=sha256_of(pem)),
        ),
        ("DeviceService/Delete", device_service_pb2.DeleteDeviceRequest(device_id=device)),
        ("RegistryService/Delete", registry_service_pb2.DeleteRegistryRequest(registry_id=registry)),
    ):
        key = new_key()
        first = wire.call(method, request, key=key)
        assert wire.call(method, request, key=key) == first
        with pytest.raises(Refused) as refused:
            wire.call(method, request, key=new_key())
        assert refused.value.code == "NOT_FOUND"


def test_an_addition_is_remembered_though_its_device_is_gone(cloud: Cloud, wire_name: str) -> None:
    device, pem, key = cloud.device(), certificate(), new_key()
    first = cloud.add(device, pem, wire_name, key=key)
    cloud.grpc.call("DeviceService/Delete", device_service_pb2.DeleteDeviceRequest(device_id=device))
    assert cloud.add(device, pem, wire_name, key=key) == first


def test_a_creation_is_remembered_though_its_registry_is_gone(cloud: Cloud, wire: Wire) -> None:
    registry, key = cloud.registry(), new_key()
    request = device_service_pb2.CreateDeviceRequest(registry_id=registry)
    first = wire.call("DeviceService/Create", request, key=key)
    metadata = device_service_pb2.CreateDeviceMetadata()
    first.metadata.Unpack(metadata)
    cloud.grpc.call("DeviceService/Delete", device_service_pb2.DeleteDeviceRequest(device_id=metadata.device_id))
    cloud.grpc.call("RegistryService/Delete", registry_service_pb2.DeleteRegistryRequest(registry_id=registry))
    assert wire.call("DeviceService/Create", request, key=key) == first


def test_methods_and_callers_are_independent(cloud: Cloud, wire: Wire) -> None:
    key, registry = new_key(), cloud.registry()
    created = wire.call(
        "RegistryService/Create", registry_service_pb2.CreateRegistryRequest(folder_id=cloud.folder), key=key
    )
    request = device_service_pb2.CreateDeviceRequest(registry_id=registry)
    first = wire.call("DeviceService/Create", request, key=key)
    user = cloud.http.post("/iam/v1/tokens", json={"yandexPassportOauthToken": cloud.account.api_token}).json()
    second = wire.call("DeviceService/Create", request, key=key, token=user["iamToken"])
    assert len({created.id, first.id, second.id}) == 3
    assert wire.call("DeviceService/Create", request, key=key) == first
    listed = wire.call("DeviceService/List", device_service_pb2.ListDevicesRequest(registry_id=registry))
    assert len(listed.devices) == 2


def test_a_refused_request_does_not_use_its_key_up(cloud: Cloud, wire_name: str) -> None:
    device, pem, key = cloud.device(), certificate(), new_key()
    cloud.add(device, pem)
    with pytest.raises(Refused):
        cloud.add(device, pem, wire_name, key=key)
    assert cloud.add(device, certificate(), wire_name, key=key).done


def test_reads_ignore_it(cloud: Cloud, wire: Wire) -> None:
    key = new_key()
    for _ in range(2):
        device = cloud.device()
        for any_key in (key, "x" * 1000):
            request = device_service_pb2.GetDeviceRequest(device_id=device)
            assert wire.call("DeviceService/Get", request, key=any_key).id == device


@pytest.mark.parametrize("key", ["x" * 257, "x" * 4000])
def test_keys_that_are_too_long(cloud: Cloud, wire_name: str, key: str) -> None:
    device = cloud.device()
    with pytest.raises(Refused) as refused:
        cloud.add(device, certificate(), wire_name, key=key)
    assert list(refused.value.violations) == ["idempotency_key"]
    assert cloud.certificates(device) == []


def test_an_empty_key_is_the_same_on_both_wires(cloud: Cloud) -> None:
    outcomes = []
    for wire_name in ("grpc", "rest"):
        try:
            outcomes.append("done" if cloud.add(cloud.device(), certificate(), wire_name, key="").done else "pending")
        except Refused as refused:
            outcomes.append(refused.code)
    assert outcomes[0] == outcomes[1]


def test_at_the_same_time(cloud: Cloud) -> None:
    device, pem, key = cloud.device(), certificate(), new_key()
    with ThreadPoolExecutor(16) as pool:
        ids = [
            answer.id
            for answer in pool.map(lambda n: cloud.add(device, pem, ("grpc", "rest")[n % 2], key=key), range(32))
        ]
    assert len(set(ids)) == 1
    assert len(cloud.certificates(device)) == 1


def test_of_many_that_add_one_certificate_one_succeeds(cloud: Cloud) -> None:
    devices, pem = [cloud.device() for _ in range(8)], certificate()

    def outcome(number: int) -> str:
        try:
            return "done" if cloud.add(devices[number], pem, ("grpc", "rest")[number % 2]).done else "pending"
        except Refused as refused:
            return refused.code

    with ThreadPoolExecutor(8) as pool:
        outcomes = sorted(pool.map(outcome, range(8)))
    assert outcomes == ["ALREADY_EXISTS"] * 7 + ["done"]
    assert sum(len(cloud.certificates(device)) for device in devices) == 1
