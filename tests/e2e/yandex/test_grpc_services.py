"""The services of gRPC itself on the gRPC port, and the metadata with the request id."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from yandex.cloud.iot.devices.v1 import device_service_pb2

from tests.e2e.yandex.clients import path_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.yandex.clients import Cloud

DEVICES = "yandex.cloud.iot.devices.v1.DeviceService"


@pytest.mark.parametrize("service", ["", DEVICES, "grpc.health.v1.Health"])
def test_health_needs_no_token(cloud: Cloud, service: str) -> None:
    request = health_pb2.HealthCheckRequest(service=service)
    answer = health_pb2_grpc.HealthStub(cloud.channel).Check(request, timeout=20)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_the_health_of_an_unknown_service_is_not_found(cloud: Cloud) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        health_pb2_grpc.HealthStub(cloud.channel).Check(health_pb2.HealthCheckRequest(service="x"), timeout=20)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def reflected(cloud: Cloud, *requests: Any) -> list[Any]:
    stub = reflection_pb2_grpc.ServerReflectionStub(cloud.channel)
    return list(stub.ServerReflectionInfo(iter(requests), timeout=20))


def test_reflection_lists_all_services(cloud: Cloud) -> None:
    (answer,) = reflected(cloud, reflection_pb2.ServerReflectionRequest(list_services=""))
    names = {service.name for service in answer.list_services_response.service}
    assert {DEVICES, "yandex.cloud.operation.OperationService", "grpc.health.v1.Health"} <= names
    assert len(names) == 11


@pytest.mark.parametrize("symbol", [DEVICES, f"{DEVICES}.AddCertificate", "grpc.health.v1.Health"])
def test_reflection_describes_a_service_and_its_types(cloud: Cloud, symbol: str) -> None:
    (answer,) = reflected(cloud, reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol))
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(file)
        for file in answer.file_descriptor_response.file_descriptor_proto
    ]
    names = {file.name for file in files}
    assert all(dependency in names for file in files for dependency in file.dependency)
    services = {f"{file.package}.{service.name}" for file in files for service in file.service}
    assert any(symbol.startswith(service) for service in services)


def test_reflection_of_an_unknown_symbol_is_not_found(cloud: Cloud) -> None:
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol="a.B")
    assert [answer.error_response.error_code for answer in reflected(cloud, request, request)] == [5, 5]


def test_a_stream_of_reflection_ends_after_a_thousand_answers(cloud: Cloud) -> None:
    request = reflection_pb2.ServerReflectionRequest(file_by_filename="none")
    stub = reflection_pb2_grpc.ServerReflectionStub(cloud.channel)
    assert len(list(stub.ServerReflectionInfo(itertools.repeat(request, 1_100), timeout=20))) == 1_000


def test_an_address_can_have_16_streams_of_reflection(cloud: Cloud) -> None:
    stop = threading.Event()

    def unfinished() -> Iterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        stop.wait(20)

    stub = reflection_pb2_grpc.ServerReflectionStub(cloud.channel)
    open_ones = [stub.ServerReflectionInfo(unfinished(), timeout=20) for _ in range(16)]
    for call in open_ones:
        next(call)
    with pytest.raises(grpc.RpcError) as refused:
        reflected(cloud, reflection_pb2.ServerReflectionRequest(list_services=""))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    stop.set()
    for call in open_ones:
        call.cancel()


@pytest.mark.parametrize("received", [b"\xff\xff", b"\x0a\x01\xff", b"\x0a\x05"])
@pytest.mark.parametrize("call", ["health.v1.Health/Check", "reflection.v1alpha.ServerReflection/ServerReflectionInfo"])
def test_malformed_messages_are_invalid_arguments_with_their_type(cloud: Cloud, call: str, received: bytes) -> None:
    stream: Any = cloud.channel.stream_stream(f"/grpc.{call}")
    with pytest.raises(grpc.RpcError) as refused:
        list(stream(iter([received]), timeout=20))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "request is not a well-formed grpc." in str(refused.value.details())


@pytest.mark.parametrize("known", [True, False])
def test_the_request_id_is_in_initial_and_trailing_metadata(cloud: Cloud, known: bool) -> None:
    device = cloud.device() if known else "are0"
    call: Any = cloud.channel.unary_unary(path_of("DeviceService/Get"))
    request = device_service_pb2.GetDeviceRequest(device_id=device).SerializeToString()
    future = call.future(request, metadata=[("authorization", f"Bearer {cloud.token}")], timeout=20)
    first = dict(future.initial_metadata())["x-request-id"]
    assert (future.code() is grpc.StatusCode.OK) is known
    assert dict(future.trailing_metadata())["x-request-id"] == first
