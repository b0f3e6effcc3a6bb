"""The unmodified SDK, for registries, devices and certificates, with each kind of credentials."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from yandex.cloud.iot.devices.v1 import (
    device_pb2,
    device_service_pb2,
    device_service_pb2_grpc,
    registry_pb2,
    registry_service_pb2,
    registry_service_pb2_grpc,
)

from tests.e2e.yandex.certificates import certificate, guide_certificate, sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.yandex.clients import Cloud


# The SDK's own waiter uses a class that the SDK calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated class RetryInterceptor:DeprecationWarning")


@pytest.fixture(scope="session")
def from_the_guide(tmp_path_factory: pytest.TempPathFactory) -> str:
    return guide_certificate(tmp_path_factory.mktemp("guide"))


def api_token_as_oauth(cloud: Cloud) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # the SDK warns that Yandex's OAuth tokens end in 2026; ours do not
        return cloud.sdk(token=cloud.account.api_token)


CREDENTIALS: dict[str, Callable[[Cloud], Any]] = {
    "service account": lambda cloud: cloud.sdk(),
    "IAM token": lambda cloud: cloud.sdk(iam_token=cloud.token),
    "OAuth token": api_token_as_oauth,
}


@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_the_sdk_creates_uses_and_deletes_everything(cloud: Cloud, from_the_guide: str, credentials: str) -> None:
    sdk = CREDENTIALS[credentials](cloud)
    registries = sdk.client(registry_service_pb2_grpc.RegistryServiceStub)
    devices = sdk.client(device_service_pb2_grpc.DeviceServiceStub)
    name = f"way-{credentials.replace(' ', '-')}"
    pem = from_the_guide

    created = sdk.wait_operation_and_get_result(
        registries.Create(
            registry_service_pb2.CreateRegistryRequest(
                folder_id=cloud.folder, name=name, description="Реестр", labels={"a": "b"}
            )
        ),
        response_type=registry_pb2.Registry,
        meta_type=registry_service_pb2.CreateRegistryMetadata,
    )
    registry = created.response
    assert (registry.name, registry.description, dict(registry.labels)) == (name, "Реестр", {"a": "b"})
    assert (registry.folder_id, registry.status) == (cloud.folder, registry_pb2.Registry.ACTIVE)
    assert created.meta.registry_id == registry.id
    assert registries.Get(registry_service_pb2.GetRegistryRequest(registry_id=registry.id)) == registry
    listed = registries.List(registry_service_pb2.ListRegistriesRequest(folder_id=cloud.folder, page_size=1000))
    assert registry in listed.registries

    created = sdk.wait_operation_and_get_result(
        devices.Create(
            device_service_pb2.CreateDeviceRequest(
                registry_id=registry.id, name="boiler", topic_aliases={"events": "$devices/{id}/events"}
            )
        ),
        response_type=device_pb2.Device,
        meta_type=device_service_pb2.CreateDeviceMetadata,
    )
    device = created.response
    assert created.meta.device_id == device.id
    assert (device.registry_id, device.name) == (registry.id, "boiler")
    assert dict(device.topic_aliases) == {"events": f"$devices/{device.id}/events"}
    assert devices.Get(device_service_pb2.GetDeviceRequest(device_id=device.id)) == device
    by_name = device_service_pb2.GetByNameDeviceRequest(registry_id=registry.id, device_name="boiler")
    assert devices.GetByName(by_name) == device
    for parent in ({"registry_id": registry.id}, {"folder_id": cloud.folder}):
        listing = device_service_pb2.ListDevicesRequest(**parent, page_size=1000)
        assert device in devices.List(listing).devices

    added = sdk.wait_operation_and_get_result(
        devices.AddCertificate(
            device_service_pb2.AddDeviceCertificateRequest(device_id=device.id, certificate_data=pem)
        ),
        response_type=device_pb2.DeviceCertificate,
        meta_type=device_service_pb2.AddDeviceCertificateMetadata,
    )
    assert (added.meta.device_id, added.meta.fingerprint) == (device.id, sha256_of(pem))
    assert (added.response.device_id, added.response.fingerprint) == (device.id, sha256_of(pem))
    assert added.response.certificate_data == pem
    certificates = device_service_pb2.ListDeviceCertificatesRequest(device_id=device.id)
    assert list(devices.ListCertificates(certificates).certificates) == [added.response]

    removed = sdk.wait_operation_and_get_result(
        devices.DeleteCertificate(
            device_service_pb2.DeleteDeviceCertificateRequest(device_id=device.id, fingerprint=sha256_of(pem))
        ),
        response_type=Empty,
        meta_type=device_service_pb2.DeleteDeviceCertificateMetadata,
    )
    assert (removed.meta.device_id, removed.meta.fingerprint) == (device.id, sha256_of(pem))
    assert not devices.ListCertificates(certificates).certificates

    with pytest.raises(grpc.RpcError) as not_empty:
        registries.Delete(registry_service_pb2.DeleteRegistryRequest(registry_id=registry.id))
    assert not_empty.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    deletions: list[tuple[Any, Any, Any]] = [
        (
            devices,
            device_service_pb2.DeleteDeviceRequest(device_id=device.id),
            device_service_pb2.DeleteDeviceMetadata(device_id=device.id),
        ),
        (
            registries,
            registry_service_pb2.DeleteRegistryRequest(registry_id=registry.id),
            registry_service_pb2.DeleteRegistryMetadata(registry_id=registry.id),
        ),
    ]
    for stub, request, meta in deletions:
        result = sdk.wait_operation_and_get_result(stub.Delete(request), Empty, type(meta))
        assert result.meta == meta
    gone: list[tuple[Any, Any]] = [
        (devices, device_service_pb2.GetDeviceRequest(device_id=device.id)),
        (registries, registry_service_pb2.GetRegistryRequest(registry_id=registry.id)),
    ]
    for stub, request in gone:
        with pytest.raises(grpc.RpcError) as refused:
            stub.Get(request)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_certificate_data_is_returned_byte_for_byte(cloud: Cloud, wire_name: str) -> None:
    device, pem = cloud.device(), f"Bag Attributes\n  имя: x\n{certificate()}# the end \t\n".replace("\n", "\r\n")
    response = device_pb2.DeviceCertificate()
    operation = cloud.add(device, pem, wire_name)
    operation.response.Unpack(response)
    assert response.certificate_data == pem
    [listed] = (
        cloud.wire(wire_name)
        .call("DeviceService/ListCertificates", device_service_pb2.ListDeviceCertificatesRequest(device_id=device))
        .certificates
    )
    assert listed.certificate_data == pem
    assert cloud.operation(operation.id, wire_name) == operation


def test_devices_are_listed_in_pages(cloud: Cloud, wire_name: str) -> None:
    wire, registry = cloud.wire(wire_name), cloud.registry()
    made = [cloud.device(registry, name=f"d{number}") for number in range(5)]
    seen: list[str] = []
    token = ""
    for _ in range(3):
        request = device_service_pb2.ListDevicesRequest(registry_id=registry, page_size=2, page_token=token)
        page = wire.call("DeviceService/List", request)
        assert len(page.devices) == min(2, 5 - len(seen))
        seen += [device.id for device in page.devices]
        token = page.next_page_token
        assert len(token) <= 100
    assert seen == made
    assert token == ""
    full = wire.call("DeviceService/List", device_service_pb2.ListDevicesRequest(registry_id=registry, page_size=5))
    assert full.next_page_token == ""
