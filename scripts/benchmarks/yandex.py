"""Prepared requests of the Yandex API, over gRPC and over REST."""

from __future__ import annotations

import base64
import json
import os
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

os.environ["GRPC_VERBOSITY"] = "NONE"  # read when gRPC is imported

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from yandex.cloud.iam.v1.iam_token_service_pb2 import CreateIamTokenRequest
from yandex.cloud.iam.v1.iam_token_service_pb2_grpc import IamTokenServiceStub
from yandex.cloud.iot.devices.v1.device_data_service_pb2 import PublishDeviceDataRequest
from yandex.cloud.iot.devices.v1.device_pb2 import Device
from yandex.cloud.iot.devices.v1.device_service_pb2 import (
    AddDeviceCertificateRequest,
    CreateDeviceRequest,
    GetDeviceRequest,
)
from yandex.cloud.iot.devices.v1.device_service_pb2_grpc import DeviceServiceStub
from yandex.cloud.iot.devices.v1.registry_pb2 import Registry
from yandex.cloud.iot.devices.v1.registry_service_pb2 import CreateRegistryRequest
from yandex.cloud.iot.devices.v1.registry_service_pb2_grpc import RegistryServiceStub

from benchmarks.load import GrpcMethod, Load, Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from thingmint.testing import RunningServer

__all__ = ["WIRES", "Wire", "YandexFleet", "self_signed_pems"]

Wire = Literal["gRPC", "REST"]
WIRES: Sequence[Wire] = ("gRPC", "REST")

_DEVICES = "/yandex.cloud.iot.devices.v1.DeviceService"
_DATA = "/yandex.cloud.iot.devices.v1.DeviceDataService"
_PATH = "/iot-devices/v1/devices"
_PER_DEVICE = 10  # certificates; a device takes at most 50
_IN_FLIGHT = 64
_GOT = 64  # devices for which Get asks in turn


class YandexFleet:
    """A context manager that creates a registry, with a certificate if one is given, and an IAM token at a server."""

    def __init__(self, server: RunningServer, certificate: str | None = None) -> None:
        self._server = server
        self._certificates = [certificate] if certificate is not None else []
        self._targets: dict[Wire, Target] = {
            "gRPC": Target(server.ports["grpc"], server.ca),
            "REST": Target(server.ports["api"], server.ca),
        }
        self._channel = grpc.secure_channel(
            f"localhost:{server.ports['grpc']}",
            grpc.ssl_channel_credentials(server.ca.read_bytes()),
            [("grpc.enable_http_proxy", 0)],
        )

    def __enter__(self) -> YandexFleet:
        tokens: Any = IamTokenServiceStub(self._channel)
        # The server accepts an API token as the OAuth token of a Yandex account.
        token = tokens.Create(CreateIamTokenRequest(yandex_passport_oauth_token=self._server.token)).iam_token
        self._authorization = f"Bearer {token}"
        registries: Any = RegistryServiceStub(self._channel)
        folder = self._server.environment("yandex")["THINGMINT_YC_FOLDER_ID"]
        certificates = [CreateRegistryRequest.Certificate(certificate_data=pem) for pem in self._certificates]
        request = CreateRegistryRequest(folder_id=folder, certificates=certificates)
        self._registry = _unpacked(registries.Create(request, metadata=self._metadata), Registry()).id
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def add(self, wire: Wire, connections: int, count: int, *, keyed: bool = False) -> Load:
        """``count`` times AddCertificate, each with a new certificate; over REST also with a key if ``keyed``."""
        devices = self._devices(-(-count // _PER_DEVICE))
        requests = [
            self._add(wire, devices[number % len(devices)], pem, keyed=keyed)
            for number, pem in enumerate(self_signed_pems(count))
        ]
        method = self._grpc(wire, _DEVICES, "AddCertificate")
        return Load(self._targets[wire], connections, requests, grpc=method, once=True)

    def get(self, wire: Wire, connections: int) -> Load:
        """Get, for some devices in turn."""
        requests = [self._get(wire, device) for device in self._devices(_GOT)]
        return Load(self._targets[wire], connections, requests, grpc=self._grpc(wire, _DEVICES, "Get"))

    def publish(self, wire: Wire, connections: int, devices: Sequence[str], size: int) -> Load:
        """Publish of DeviceDataService, for the devices in turn."""
        requests = [self._publish(wire, device, b"x" * size) for device in devices]
        return Load(self._targets[wire], connections, requests, grpc=self._grpc(wire, _DATA, "Publish"))

    @property
    def _metadata(self) -> list[tuple[str, str]]:
        return [("authorization", self._authorization)]

    def _grpc(self, wire: Wire, service: str, method: str) -> GrpcMethod | None:
        return GrpcMethod(f"{service}/{method}", dict(self._metadata)) if wire == "gRPC" else None

    def create(self, requests: Sequence[CreateDeviceRequest]) -> list[str]:
        """The ids of new devices in the registry."""
        stub: Any = DeviceServiceStub(self._channel)
        made: list[str] = []
        for start in range(0, len(requests), _IN_FLIGHT):
            calls = []
            for request in requests[start : start + _IN_FLIGHT]:
                request.registry_id = self._registry
                calls.append(stub.Create.future(request, metadata=self._metadata))
            made += [_unpacked(call.result(), Device()).id for call in calls]
        return made

    def _devices(self, count: int) -> list[str]:
        return self.create([CreateDeviceRequest() for _ in range(count)])

    def _add(self, wire: Wire, device: str, pem: str, *, keyed: bool) -> bytes:
        if wire == "gRPC":
            return AddDeviceCertificateRequest(device_id=device, certificate_data=pem).SerializeToString()
        body = json.dumps({"certificateData": pem}).encode()
        further = {"idempotency-key": str(uuid.uuid4())} if keyed else {}
        return self._http("POST", f"{_PATH}/{device}/certificates", body, further)

    def _get(self, wire: Wire, device: str) -> bytes:
        if wire == "gRPC":
            return GetDeviceRequest(device_id=device).SerializeToString()
        return self._http("GET", f"{_PATH}/{device}")

    def _publish(self, wire: Wire, device: str, data: bytes) -> bytes:
        topic = f"$devices/{device}/events"
        if wire == "gRPC":
            return PublishDeviceDataRequest(device_id=device, topic=topic, data=data).SerializeToString()
        body = json.dumps({"topic": topic, "data": base64.b64encode(data).decode()}).encode()
        return self._http("POST", f"{_PATH}/{device}/publish", body)

    def _http(self, method: str, path: str, body: bytes = b"", further: Mapping[str, str] | None = None) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", "host: localhost", "accept: */*", f"authorization: {self._authorization}"]
        lines += [f"{name}: {value}" for name, value in (further or {}).items()]
        if body:
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + body


def _unpacked(operation: Any, response: Any) -> Any:
    if not operation.response.Unpack(response):
        raise ValueError(f"an operation without a {response.DESCRIPTOR.full_name}: {operation}")
    return response


def self_signed_pems(count: int) -> Iterator[str]:
    """Self-signed P-256 certificates in PEM. All have the same key, which does not matter here."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=365))
    for _ in range(count):
        signed = builder.serial_number(x509.random_serial_number()).sign(key, hashes.SHA256())
        yield signed.public_bytes(Encoding.PEM).decode()
