"""Clients of the Yandex API: the SDK, and single calls over gRPC or REST with the SDK's descriptors."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import sqlite3
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar
from urllib.parse import quote, urlencode

os.environ["GRPC_VERBOSITY"] = "NONE"  # read when gRPC is imported; it would report killed servers

import grpc
import httpx
import jwt
from google.api import annotations_pb2  # type: ignore[import-untyped]
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from yandex.cloud.endpoint import api_endpoint_service_pb2
from yandex.cloud.iam.v1 import iam_token_service_pb2
from yandex.cloud.iot.broker.v1 import broker_data_service_pb2, broker_service_pb2
from yandex.cloud.iot.devices.v1 import (
    device_data_service_pb2,
    device_pb2,
    device_service_pb2,
    registry_data_service_pb2,
    registry_pb2,
    registry_service_pb2,
)
from yandex.cloud.operation import operation_service_pb2
from yandexcloud import SDK  # type: ignore[attr-defined]  # re-exported without saying so

from tests.api_documents import operations, response

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from google.protobuf.message import Message

    from tests.administrator import NewAccount
    from thingmint.testing import RunningServer

PASSWORD: Final = "Correct-password-1"
DEVICES: Final = "yandex.cloud.iot.devices.v1"
OFFICIAL_AUDIENCE: Final = "https://iam.api.cloud.yandex.net/iam/v1/tokens"

_MODULES = (
    api_endpoint_service_pb2,
    broker_data_service_pb2,
    broker_service_pb2,
    device_data_service_pb2,
    device_service_pb2,
    iam_token_service_pb2,
    operation_service_pb2,
    registry_data_service_pb2,
    registry_service_pb2,
)
_SERVICES = [service for module in _MODULES for service in module.DESCRIPTOR.services_by_name.values()]

# By names such as "DeviceService/Get": the nine services have different names.
METHODS: Final[Mapping[str, Any]] = {f"{s.name}/{m.name}": m for s in _SERVICES for m in s.methods}

M = TypeVar("M")


def path_of(method: str) -> str:
    return f"/{METHODS[method].containing_service.full_name}/{METHODS[method].name}"


def http_rule(method: str) -> tuple[str, str, bool] | None:
    """HTTP method, template, and True if the fields are in the body; None if there is no binding."""
    rule = METHODS[method].GetOptions().Extensions[annotations_pb2.http]
    kind = rule.WhichOneof("pattern")
    return (kind.upper(), getattr(rule, kind), rule.body == "*") if kind else None


@dataclass
class Refused(Exception):
    """A call was refused. The error has the same form for gRPC and REST."""

    status: Any  # google.rpc.Status
    http_status: int | None = None
    violations: dict[str, str] = field(default_factory=dict)
    request_ids: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for detail in self.status.details:
            bad_request, info = error_details_pb2.BadRequest(), error_details_pb2.RequestInfo()
            if detail.Unpack(bad_request):
                self.violations |= {each.field: each.description for each in bad_request.field_violations}
            elif detail.Unpack(info):
                self.request_ids.append(info.request_id)

    @property
    def code(self) -> str:
        return next(code.name for code in grpc.StatusCode if code.value[0] == self.status.code)

    @property
    def text(self) -> str:
        text: str = self.status.message
        return text

    def __str__(self) -> str:
        return f"{self.code}: {self.text} {self.violations}"


class Wire(Protocol):
    def call(
        self, method: str, request: Message, *, token: str | None = ..., key: str | None = ..., timeout: float = ...
    ) -> Any:
        """The response. An empty ``token`` sends no credentials. Raises Refused."""
        ...


@dataclass
class GrpcWire:
    channel: grpc.Channel
    token: str

    def call(
        self, method: str, request: Message, *, token: str | None = None, key: str | None = None, timeout: float = 20
    ) -> Any:
        metadata = [("idempotency-key", key)] if key is not None else []
        if (credentials := self.token if token is None else token) != "":
            metadata.append(("authorization", f"Bearer {credentials}"))
        try:
            reply = self.call_bytes(path_of(method), request.SerializeToString(), metadata, timeout)
        except grpc.RpcError as error:
            raise documented(method, refused_over_grpc(error)) from None
        return GetMessageClass(METHODS[method].output_type).FromString(reply)

    def call_bytes(self, path: str, request: bytes, metadata: list[tuple[str, str]], timeout: float = 20) -> bytes:
        """The response to any path and bytes, also outside the contract. Raises grpc.RpcError."""
        call: Any = self.channel.unary_unary(path)
        reply: bytes = call(request, metadata=metadata, timeout=timeout)
        return reply


def documented(method: str, refused: Refused) -> Refused:
    """The refusal, whose code the OpenAPI document must have for the method. Clients' own codes are none of it."""
    if refused.code not in ("CANCELLED", "DEADLINE_EXCEEDED"):
        assert refused.code in _documented_codes()[path_of(method)], f"{method} has no error {refused.code}"
    return refused


@functools.cache
def _documented_codes() -> Mapping[str, set[str]]:
    """The codes of each method's errors in the OpenAPI document, by gRPC path."""
    return {
        operation["x-thingmint-grpc"]: {
            code
            for status in operation["responses"]
            for code in re.findall(r"^- `(\w+)`", response("yandex", operation, status)["description"], re.MULTILINE)
        }
        for operation in operations("yandex")
    }


def refused_over_grpc(error: Any) -> Refused:
    metadata = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(metadata.get("grpc-status-details-bin", b""))
    if not status.code:
        status = status_pb2.Status(code=error.code().value[0], message=error.details())
    assert (status.code, status.message) == (error.code().value[0], error.details())
    return Refused(status)


@dataclass
class RestWire:
    http: httpx.Client
    token: str

    def call(
        self, method: str, request: Message, *, token: str | None = None, key: str | None = None, timeout: float = 20
    ) -> Any:
        headers = {"idempotency-key": key} if key is not None else {}
        if (credentials := self.token if token is None else token) != "":
            headers["authorization"] = f"Bearer {credentials}"
        rule = http_rule(method)
        assert rule is not None, f"{method} has no HTTP binding"
        kind, template, in_body = rule
        fields = json_format.MessageToDict(request)

        def value(match: re.Match[str]) -> str:
            return quote(str(fields.pop(request.DESCRIPTOR.fields_by_name[match[1]].json_name, "")), safe="")

        url = re.sub(r"\{(\w+)\}", value, template)
        answer = self.http.request(
            kind,
            url if in_body or not fields else f"{url}?{urlencode(fields, doseq=True)}",
            json=fields if in_body else None,
            headers=headers,
            timeout=timeout,
        )
        if answer.status_code != 200:
            raise documented(method, refused_over_rest(answer))
        return json_format.ParseDict(answer.json(), GetMessageClass(METHODS[method].output_type)())


def refused_over_rest(answer: httpx.Response) -> Refused:
    assert answer.headers["content-type"] == "application/json"
    status = json_format.ParseDict(answer.json(), status_pb2.Status())
    refused = Refused(status, answer.status_code)
    assert refused.request_ids in ([], [answer.headers["x-request-id"]])
    return refused


@dataclass(frozen=True)
class Account:
    """The credentials to use an account: a service account's key, a folder, a user's API token."""

    key: Mapping[str, str]
    folder: str
    api_token: str

    @staticmethod
    def first(server: RunningServer) -> Account:
        """The account that `thingmint init` creates, from the files that it writes."""
        key = json.loads((server.data_dir / "clients" / "yandex-sa.json").read_text())
        return Account(key, server.environment("yandex")["THINGMINT_YC_FOLDER_ID"], server.token)

    @staticmethod
    def of(new: NewAccount) -> Account:
        return Account(new.authorized_key, new.folder, new.token)

    def jwt(self, audience: Any = OFFICIAL_AUDIENCE, **changes: Any) -> str:
        """A JWT as the SDK makes it. ``changes`` replace claims, or remove them if None."""
        now = datetime.now(UTC).replace(microsecond=0)
        claims = {
            "iss": self.key["service_account_id"],
            "aud": audience,
            "iat": now,
            "exp": now + timedelta(hours=1),
            **changes,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, self.key["private_key"], algorithm="PS256", headers={"kid": self.key["id"]})


class Cloud:
    """One account on a server, over gRPC and REST."""

    def __init__(self, server: RunningServer, account: Account | None = None) -> None:
        self.server = server
        self.account = account or Account.first(server)
        self.folder = self.account.folder

    @cached_property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.server.ca)

    @cached_property
    def channel(self) -> grpc.Channel:
        return open_channel(self.server.ca, self.server.ports["grpc"])

    @cached_property
    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.server.api_url, verify=self.tls)

    @cached_property
    def token(self) -> str:
        """An IAM token of the service account."""
        request = iam_token_service_pb2.CreateIamTokenRequest(jwt=self.account.jwt())
        token: str = GrpcWire(self.channel, "").call("IamTokenService/Create", request).iam_token
        return token

    @cached_property
    def grpc(self) -> GrpcWire:
        return GrpcWire(self.channel, self.token)

    @cached_property
    def rest(self) -> RestWire:
        return RestWire(self.http, self.token)

    def wire(self, name: str) -> Wire:
        return self.grpc if name == "grpc" else self.rest

    def sdk(self, **credentials: Any) -> Any:
        """The unmodified SDK, with the service account's key unless ``credentials`` are given."""
        environment = self.server.environment("yandex")
        return SDK(
            endpoint=environment["THINGMINT_YC_ENDPOINT"],
            root_certificates=self.server.ca.read_bytes(),
            **(credentials or {"service_account_key": dict(self.account.key)}),
        )

    def registry(self, **fields: Any) -> str:
        """The id of a new registry."""
        request = registry_service_pb2.CreateRegistryRequest(folder_id=self.folder, **fields)
        return str(done(self.grpc.call("RegistryService/Create", request), registry_pb2.Registry).id)

    def device(self, registry: str | None = None, **fields: Any) -> str:
        """The id of a new device."""
        request = device_service_pb2.CreateDeviceRequest(registry_id=registry or self.registry(), **fields)
        return str(done(self.grpc.call("DeviceService/Create", request), device_pb2.Device).id)

    def add(self, device: str, pem: str, wire: str = "grpc", **arguments: Any) -> Any:
        """The Operation of AddCertificate."""
        request = device_service_pb2.AddDeviceCertificateRequest(device_id=device, certificate_data=pem)
        return self.wire(wire).call("DeviceService/AddCertificate", request, **arguments)

    def remove(self, device: str, fingerprint: str, wire: str = "grpc", **arguments: Any) -> Any:
        request = device_service_pb2.DeleteDeviceCertificateRequest(device_id=device, fingerprint=fingerprint)
        return self.wire(wire).call("DeviceService/DeleteCertificate", request, **arguments)

    def certificates(self, device: str) -> list[Any]:
        request = device_service_pb2.ListDeviceCertificatesRequest(device_id=device)
        return list(self.grpc.call("DeviceService/ListCertificates", request).certificates)

    def operation(self, id: str, wire: str = "grpc") -> Any:
        request = operation_service_pb2.GetOperationRequest(operation_id=id)
        return self.wire(wire).call("OperationService/Get", request)

    def operation_is_unknown(self) -> bool:
        """True if a call over a new connection gets the expected answer: the server works."""
        channel = open_channel(self.server.ca, self.server.ports["grpc"])
        try:
            GrpcWire(channel, self.token).call(
                "OperationService/Get", operation_service_pb2.GetOperationRequest(operation_id="are0")
            )
        except Refused as refused:
            return refused.code == "NOT_FOUND"
        finally:
            channel.close()
        return False

    def close(self) -> None:
        for name in ("channel", "http"):
            if name in self.__dict__:
                self.__dict__[name].close()


def open_channel(ca: Path, port: int, **options: Any) -> grpc.Channel:
    """A channel with a separate connection."""
    settings = [("grpc.use_local_subchannel_pool", 1), *options.items()]
    return grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(ca.read_bytes()), settings)


def done(operation: Any, response_class: type[M]) -> M:
    """The response of a finished operation, which must be of this type."""
    assert operation.done, operation
    assert operation.WhichOneof("result") == "response", operation
    response: Any = response_class()
    assert operation.response.Unpack(response), operation.response.type_url
    unpacked: M = response
    return unpacked


_TABLES = (
    "bindings",
    "certificates",
    "devices",
    "idempotency_keys",
    "operations",
    "registries",
    "registrations",
)


def stored(server: RunningServer) -> dict[str, int]:
    """The number of rows in each table, from a separate connection to the database."""
    database = sqlite3.connect(f"{(server.data_dir / 'thingmint.db').as_uri()}?mode=ro", uri=True)
    with contextlib.closing(database):
        return {table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in _TABLES}


@contextlib.contextmanager
def nothing_stored(server: RunningServer) -> Iterator[None]:
    """Asserts that the block stores nothing, and that the server still works after it."""
    before = stored(server)
    yield
    assert stored(server) == before
    assert httpx.get(f"{server.http_url}/readyz").status_code == 200
