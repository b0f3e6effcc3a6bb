"""Yandex's roles, granted on the cloud, a folder or a registry, over gRPC and REST."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import pytest
from yandex.cloud.iam.v1 import iam_token_service_pb2
from yandex.cloud.iot.devices.v1 import device_service_pb2, device_service_pb2_grpc, registry_service_pb2
from yandex.cloud.operation import operation_service_pb2

from tests.e2e.access.local_admin import service_account
from tests.e2e.yandex.certificates import certificate
from tests.e2e.yandex.clients import Account, Cloud, GrpcWire, Refused
from thingmint.admin import AdminError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.access.local_admin import LocalAdmin
    from thingmint.testing import RunningServer

ds, rs, ops = device_service_pb2, registry_service_pb2, operation_service_pb2


class Place(NamedTuple):
    folder: str
    registry: str
    device: str


@pytest.fixture(scope="module")
def admin(server: RunningServer) -> Iterator[Cloud]:
    cloud = Cloud(server)
    yield cloud
    cloud.close()


def place(admin: Cloud, folder: str) -> Place:
    request = rs.CreateRegistryRequest(folder_id=folder)
    operation = admin.grpc.call("RegistryService/Create", request)
    metadata = rs.CreateRegistryMetadata()
    assert operation.metadata.Unpack(metadata)
    return Place(folder, metadata.registry_id, admin.device(metadata.registry_id))


@pytest.fixture(scope="module")
def here(admin: Cloud) -> Place:
    return place(admin, admin.folder)


@pytest.fixture(scope="module")
def beside(admin: Cloud) -> Place:
    """Another registry in the same folder."""
    return place(admin, admin.folder)


@pytest.fixture(scope="module")
def elsewhere(admin: Cloud, local_admin: LocalAdmin) -> Place:
    """A registry in another folder."""
    return place(admin, local_admin.ask("folder.create", name="elsewhere")["id"])


_CALLS: dict[str, tuple[str, Callable[[Place], Any]]] = {
    "get registry": ("RegistryService/Get", lambda p: rs.GetRegistryRequest(registry_id=p.registry)),
    "list registries": ("RegistryService/List", lambda p: rs.ListRegistriesRequest(folder_id=p.folder)),
    "create registry": ("RegistryService/Create", lambda p: rs.CreateRegistryRequest(folder_id=p.folder)),
    "get device": ("DeviceService/Get", lambda p: ds.GetDeviceRequest(device_id=p.device)),
    "list devices": ("DeviceService/List", lambda p: ds.ListDevicesRequest(registry_id=p.registry)),
    "create device": ("DeviceService/Create", lambda p: ds.CreateDeviceRequest(registry_id=p.registry)),
    "list certificates": (
        "DeviceService/ListCertificates",
        lambda p: ds.ListDeviceCertificatesRequest(device_id=p.device),
    ),
    "add certificate": (
        "DeviceService/AddCertificate",
        lambda p: ds.AddDeviceCertificateRequest(device_id=p.device, certificate_data=certificate()),
    ),
}
_SEES = {"get registry", "list registries", "get device", "list devices"}
_READS = _SEES | {"list certificates"}
_ALL = set(_CALLS)
_IN_REGISTRY = _ALL - {"list registries", "create registry"}


def check_denial(method: str, refused: Refused) -> None:
    assert refused.code == "PERMISSION_DENIED", (method, str(refused))
    assert refused.http_status in (None, 403)
    assert len(refused.request_ids) == 1
    assert f"yandex:{method.replace('/', '.')}" in refused.text
    assert "service-account/" in refused.text


def allowed(cloud: Cloud, place: Place, wire: str) -> set[str]:
    """The calls that are allowed. Checks the form of the refusals of the others."""
    passed = set()
    for name, (method, request) in _CALLS.items():
        try:
            cloud.wire(wire).call(method, request(place))
        except Refused as refused:
            check_denial(method, refused)
        else:
            passed.add(name)
    return passed


@pytest.mark.parametrize("wire", ["grpc", "rest"])
@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("viewer", _READS),
        ("editor", _ALL),
        ("admin", _ALL),
        ("iot.viewer", _READS),
        ("iot.auditor", _SEES),
        ("iot.editor", _ALL),
        ("iot.devices.writer", set()),
        ("iot.registries.writer", set()),
    ],
)
def test_roles_on_a_folder_allow_their_calls_only(
    local_admin: LocalAdmin, here: Place, role: str, wire: str, expected: set[str]
) -> None:
    with service_account(local_admin, here.folder, (role, f"yandex:folder/{here.folder}")) as cloud:
        assert allowed(cloud, here, wire) == expected


@pytest.mark.parametrize("wire", ["grpc", "rest"])
@pytest.mark.parametrize(
    ("on", "in_here", "in_beside", "in_elsewhere"),
    [
        ("*", _ALL, _ALL, _ALL),
        ("yandex:cloud/{account}", _ALL, _ALL, _ALL),
        ("yandex:folder/{0}", _ALL, _ALL, set()),
        ("yandex:registry/{1}", _IN_REGISTRY, set(), set()),
        (None, set(), set(), set()),
    ],
)
def test_a_role_applies_to_its_resource_and_those_within(
    local_admin: LocalAdmin,
    account: str,
    here: Place,
    beside: Place,
    elsewhere: Place,
    wire: str,
    on: str | None,
    in_here: set[str],
    in_beside: set[str],
    in_elsewhere: set[str],
) -> None:
    grants = [("editor", on.format(*here, account=account))] if on else []
    with service_account(local_admin, here.folder, *grants) as cloud:
        assert allowed(cloud, here, wire) == in_here
        assert allowed(cloud, beside, wire) == in_beside
        assert allowed(cloud, elsewhere, wire) == in_elsewhere


def test_a_role_cannot_be_attached_on_another_cloud(local_admin: LocalAdmin) -> None:
    principal = local_admin.principal("service-account")
    with pytest.raises(AdminError, match=r"^cloud 000000000000 does not exist$"):
        local_admin.attach(principal, "yandex/viewer", "yandex:cloud/000000000000")


@pytest.mark.parametrize("wire", ["grpc", "rest"])
@pytest.mark.parametrize(
    ("method", "request_of"),
    [
        ("RegistryService/Get", lambda registry: rs.GetRegistryRequest(registry_id=registry)),
        ("RegistryService/Delete", lambda registry: rs.DeleteRegistryRequest(registry_id=registry)),
        ("DeviceService/List", lambda registry: ds.ListDevicesRequest(registry_id=registry)),
        ("DeviceService/GetByName", lambda registry: ds.GetByNameDeviceRequest(registry_id=registry, device_name="d")),
        ("DeviceService/Create", lambda registry: ds.CreateDeviceRequest(registry_id=registry)),
    ],
)
@pytest.mark.parametrize("role_elsewhere", [False, True])
def test_a_registry_that_may_not_be_read_looks_absent(
    local_admin: LocalAdmin,
    here: Place,
    elsewhere: Place,
    wire: str,
    method: str,
    request_of: Callable[[str], Any],
    role_elsewhere: bool,
) -> None:
    grants = [("editor", f"yandex:folder/{elsewhere.folder}")] if role_elsewhere else []
    with service_account(local_admin, here.folder, *grants) as cloud:
        answers = set()
        for registry in (here.registry, "are00000000000000000"):
            with pytest.raises(Refused) as refused:
                cloud.wire(wire).call(method, request_of(registry))
            check_denial(method, refused.value)
            answers.add(refused.value.text.replace(registry, "ID"))
        assert len(answers) == 1
    with service_account(local_admin, here.folder, ("editor", "*")) as cloud, pytest.raises(Refused) as refused:
        cloud.wire(wire).call(method, request_of("are00000000000000000"))
    assert refused.value.code == "NOT_FOUND"


@pytest.mark.parametrize("wire", ["grpc", "rest"])
@pytest.mark.parametrize("on", ["*", "yandex:folder/{0}", "yandex:registry/{1}"])
def test_the_caller_of_a_change_may_read_its_operation(
    local_admin: LocalAdmin, here: Place, wire: str, on: str
) -> None:
    with service_account(local_admin, here.folder, ("editor", on.format(*here))) as cloud:
        operation = cloud.add(here.device, certificate(), wire)
        assert cloud.operation(operation.id, wire) == operation


def test_a_key_of_the_command_line_works_with_the_sdk(local_admin: LocalAdmin, here: Place) -> None:
    principal = local_admin.principal("service-account")
    local_admin.run(
        "policy", "attach", principal, "--policy", "yandex/viewer", "--resource", f"yandex:folder/{here.folder}"
    )
    key = local_admin.run("key", "create", principal)
    assert set(key) == {"id", "service_account_id", "created_at", "key_algorithm", "public_key", "private_key"}
    cloud = Cloud(local_admin.server, Account(key, here.folder, ""))
    devices = cloud.sdk().client(device_service_pb2_grpc.DeviceServiceStub)
    assert devices.Get(ds.GetDeviceRequest(device_id=here.device)).id == here.device
    with pytest.raises(grpc.RpcError) as refused:
        devices.Delete(ds.DeleteDeviceRequest(device_id=here.device))
    error: Any = refused.value
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    listed = local_admin.ask("key.list", principal=principal)
    assert [(each["id"], each["kind"]) for each in listed] == [(key["id"], "authorized-key")]
    assert "PRIVATE" not in json.dumps(listed)


@pytest.mark.parametrize("ending", ["key.disable", "key.delete", "service-account.disable", "service-account.delete"])
def test_iam_tokens_end_with_the_key(local_admin: LocalAdmin, here: Place, ending: str) -> None:
    with service_account(local_admin, here.folder, ("viewer", "*")) as cloud:
        request = ds.GetDeviceRequest(device_id=here.device)
        cloud.grpc.call("DeviceService/Get", request)
        claims = cloud.account.jwt()
        if ending.startswith("key."):
            local_admin.ask(ending, id=cloud.account.key["id"])
        else:
            (name,) = (
                each["name"]
                for each in local_admin.ask("service-account.list")
                if each["id"] == cloud.account.key["service_account_id"]
            )
            local_admin.ask(ending, name=name)
        for wire in ("grpc", "rest"):
            with pytest.raises(Refused) as refused:
                cloud.wire(wire).call("DeviceService/Get", request)
            assert refused.value.code == "UNAUTHENTICATED"
            assert refused.value.http_status in (None, 401)
        again = iam_token_service_pb2.CreateIamTokenRequest(jwt=claims)
        with pytest.raises(Refused) as refused:
            GrpcWire(cloud.channel, "").call("IamTokenService/Create", again)
        assert refused.value.code == "UNAUTHENTICATED"


def test_a_revoked_iam_token_is_refused(local_admin: LocalAdmin, here: Place) -> None:
    with service_account(local_admin, here.folder, ("viewer", "*")) as cloud:
        bare = GrpcWire(cloud.channel, "")
        revoked = bare.call(
            "IamTokenService/Create", iam_token_service_pb2.CreateIamTokenRequest(jwt=cloud.account.jwt())
        ).iam_token
        request = ds.GetDeviceRequest(device_id=here.device)
        bare.call("DeviceService/Get", request, token=revoked)
        bare.call("IamTokenService/Revoke", iam_token_service_pb2.RevokeIamTokenRequest(iam_token=revoked))
        for wire in (cloud.grpc, cloud.rest):
            with pytest.raises(Refused) as refused:
                wire.call("DeviceService/Get", request, token=revoked)
            assert refused.value.code == "UNAUTHENTICATED"
            wire.call("DeviceService/Get", request)  # the account's other token is still valid
        with pytest.raises(Refused) as refused:
            bare.call("IamTokenService/Revoke", iam_token_service_pb2.RevokeIamTokenRequest(iam_token=revoked))
        assert refused.value.code == "UNAUTHENTICATED"
