"""The Operation that every change returns: all its fields, over gRPC and REST, also when it is read later."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format
from yandex.cloud.iot.devices.v1 import device_pb2, device_service_pb2, registry_service_pb2
from yandex.cloud.operation import operation_service_pb2
from yandexcloud.operations import OperationError

from tests.e2e.yandex.certificates import certificate, sha256_of
from tests.e2e.yandex.clients import DEVICES, Cloud, http_rule
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator


# The SDK's own waiter uses a class that the SDK calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated class RetryInterceptor:DeprecationWarning")

ID = re.compile(r"are[0-9a-v]{17}")
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}|\.\d{6})?Z")
ANY = "type.googleapis.com/"


def add_over_rest(cloud: Cloud, device: str, pem: str, token: str | None = None) -> Any:
    answer = cloud.http.post(
        f"/iot-devices/v1/devices/{device}/certificates",
        json={"certificateData": pem},
        headers={"authorization": f"Bearer {token or cloud.token}"},
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_every_field_of_an_operation_over_rest(cloud: Cloud) -> None:
    device, pem = cloud.device(), certificate()
    operation = add_over_rest(cloud, device, pem)
    assert set(operation) == {
        "id",
        "description",
        "createdAt",
        "createdBy",
        "modifiedAt",
        "done",
        "metadata",
        "response",
    }
    assert ID.fullmatch(operation["id"])
    assert 0 < len(operation["description"]) <= 256
    assert operation["createdBy"] == cloud.account.key["service_account_id"]
    assert operation["done"] is True
    assert operation["metadata"] == {
        "@type": f"{ANY}{DEVICES}.AddDeviceCertificateMetadata",
        "deviceId": device,
        "fingerprint": sha256_of(pem),
    }
    created_at = operation["response"].pop("createdAt")
    assert operation["response"] == {
        "@type": f"{ANY}{DEVICES}.DeviceCertificate",
        "deviceId": device,
        "fingerprint": sha256_of(pem),
        "certificateData": pem,
    }
    for time in (created_at, operation["createdAt"], operation["modifiedAt"]):
        assert RFC3339.fullmatch(time)


def test_an_operation_of_a_user_has_the_users_id(cloud: Cloud) -> None:
    token = cloud.http.post("/iam/v1/tokens", json={"yandexPassportOauthToken": cloud.account.api_token}).json()
    operation = add_over_rest(cloud, cloud.device(), certificate(), token["iamToken"])
    assert re.fullmatch(r"aje[0-9a-v]{17}", operation["createdBy"])
    assert operation["createdBy"] != cloud.account.key["service_account_id"]


def test_both_protocols_return_the_same_operation(cloud: Cloud) -> None:
    """The same operation is read over gRPC and REST."""
    id = cloud.add(cloud.device(), certificate()).id
    assert cloud.operation(id, "grpc") == cloud.operation(id, "rest")


def test_cancelling_a_finished_operation_returns_it(cloud: Cloud) -> None:
    operation = cloud.add(cloud.device(), certificate())
    request = operation_service_pb2.CancelOperationRequest(operation_id=operation.id)
    assert cloud.grpc.call("OperationService/Cancel", request) == operation
    headers = {"authorization": f"Bearer {cloud.token}"}
    for kind in ("GET", "POST"):
        answer = cloud.http.request(kind, f"/operations/{operation.id}:cancel", headers=headers)
        assert answer.status_code == 200
        assert json_format.ParseDict(answer.json(), type(operation)()) == operation
    assert http_rule("OperationService/Cancel") == ("GET", "/operations/{operation_id}:cancel", False)


@pytest.fixture(scope="module")
def pending() -> Iterator[Cloud]:
    with running_server(environment={"THINGMINT_YANDEX_OPERATIONS_PENDING": "PT1S"}) as server:
        cloud = Cloud(server)
        yield cloud
        cloud.close()


def test_pending_operations_finish_with_their_response(pending: Cloud) -> None:
    sdk, pem = pending.sdk(), certificate()
    registry = pending_result(pending, "RegistryService/Create", folder_id=pending.folder).registry_id
    device = pending_result(pending, "DeviceService/Create", registry_id=registry).device_id
    operation = add_over_rest(pending, device, pem)
    assert operation["done"] is False
    assert {"response", "error"}.isdisjoint(operation)
    assert operation["metadata"]["fingerprint"] == sha256_of(pem)
    again = pending.http.get(f"/operations/{operation['id']}", headers={"authorization": f"Bearer {pending.token}"})
    assert again.json() == operation
    result = sdk.wait_operation_and_get_result(
        pending.operation(operation["id"]),
        response_type=device_pb2.DeviceCertificate,
        meta_type=device_service_pb2.AddDeviceCertificateMetadata,
        timeout=20,
    )
    assert result.response.certificate_data == pem
    assert result.meta.fingerprint == sha256_of(pem)
    finished = pending.operation(operation["id"], "rest")
    assert finished.done
    assert finished.WhichOneof("result") == "response"

    duplicate = pending.add(device, pem)
    assert not duplicate.done
    with pytest.raises(OperationError, match="Error code: 6"):
        sdk.wait_operation_and_get_result(
            duplicate,
            response_type=device_pb2.DeviceCertificate,
            meta_type=device_service_pb2.AddDeviceCertificateMetadata,
            timeout=20,
        )
    failed = pending.operation(duplicate.id)
    assert failed.done
    assert failed.error.code == 6
    assert sha256_of(pem) in failed.error.message
    assert not failed.HasField("response")
    assert [each.fingerprint for each in pending.certificates(device)] == [sha256_of(pem)]


def pending_result(cloud: Cloud, method: str, **fields: Any) -> Any:
    """The metadata of a pending change, which already names the resource."""
    service, _, name = method.partition("/")
    kind = service.removesuffix("Service")
    package = registry_service_pb2 if kind == "Registry" else device_service_pb2
    operation = cloud.grpc.call(method, getattr(package, f"{name}{kind}Request")(**fields))
    metadata = getattr(package, f"{name}{kind}Metadata")()
    assert operation.metadata.Unpack(metadata)
    return metadata
