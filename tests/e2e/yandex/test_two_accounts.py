"""Two accounts on one server that register the same certificate and never learn of each other."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from yandex.cloud.iot.devices.v1 import device_service_pb2, registry_service_pb2
from yandex.cloud.operation import operation_service_pb2

from tests.administrator import Administrator
from tests.e2e.conftest import iot_client
from tests.e2e.yandex.certificates import certificate, sha256_of
from tests.e2e.yandex.clients import Account, Cloud, Refused
from thingmint.access.vault import Vault
from thingmint.store.sqlite import SQLiteStore
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import NamedTuple

    from thingmint.access.new_credentials import NewAccount

    class Pair(NamedTuple):
        mine: Cloud
        theirs: Cloud
        my_iot: Any
        their_iot: Any


ds, rs = device_service_pb2, registry_service_pb2


async def second_account(data: Path) -> NewAccount:
    store = SQLiteStore(data / "thingmint.db")
    try:
        vault = Vault(bytes.fromhex((data / "master.key").read_text()))
        admin = Administrator(store, vault, lambda: datetime.now(UTC))
        new: NewAccount = await admin.create_account("second", ["us-east-1"])
        return new
    finally:
        await store.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cloud, Cloud, Any, Any]]:
    data = tmp_path_factory.mktemp("pair") / "data"
    with running_server(data):
        pass
    new = asyncio.run(second_account(data))
    with running_server(data) as server:
        mine, theirs = Cloud(server), Cloud(server, Account.of(new))
        keys = {
            "aws_access_key_id": new.access_key.access_key_id,
            "aws_secret_access_key": new.access_key.secret_access_key,
        }
        yield mine, theirs, iot_client(server), iot_client(server, **keys)
        mine.close()
        theirs.close()


def test_the_same_certificate_in_both(pair: Pair, wire_name: str) -> None:
    mine, theirs, my_iot, their_iot = pair
    pem = certificate()
    id = sha256_of(pem)
    my_device, their_device = mine.device(), theirs.device()
    assert mine.add(my_device, pem, wire_name).done
    assert theirs.add(their_device, pem, wire_name).done
    mine_now = my_iot.describe_certificate(certificateId=id)["certificateDescription"]
    theirs_now = their_iot.describe_certificate(certificateId=id)["certificateDescription"]
    assert mine_now["ownedBy"] != theirs_now["ownedBy"]
    assert mine_now["generationId"] != theirs_now["generationId"]
    my_iot.update_certificate(certificateId=id, newStatus="REVOKED")
    assert their_iot.describe_certificate(certificateId=id)["certificateDescription"] == theirs_now
    mine.remove(my_device, id, wire_name)
    assert mine.certificates(my_device) == []
    assert [each.fingerprint for each in theirs.certificates(their_device)] == [id]
    assert their_iot.describe_certificate(certificateId=id)["certificateDescription"] == theirs_now
    theirs.remove(their_device, id, wire_name)
    assert theirs.certificates(their_device) == []


FOREIGN: dict[str, Callable[[Cloud], tuple[str, Any]]] = {
    "registry": lambda c: ("RegistryService/Get", rs.GetRegistryRequest(registry_id=c.registry())),
    "registry to delete": lambda c: ("RegistryService/Delete", rs.DeleteRegistryRequest(registry_id=c.registry())),
    "folder": lambda c: ("RegistryService/Create", rs.CreateRegistryRequest(folder_id=c.folder, name="n")),
    "folder to list": lambda c: ("RegistryService/List", rs.ListRegistriesRequest(folder_id=c.folder)),
    "folder's devices": lambda c: ("DeviceService/List", ds.ListDevicesRequest(folder_id=c.folder)),
    "registry's devices": lambda c: ("DeviceService/List", ds.ListDevicesRequest(registry_id=c.registry())),
    "registry for a device": lambda c: ("DeviceService/Create", ds.CreateDeviceRequest(registry_id=c.registry())),
    "device by name": lambda c: ("DeviceService/GetByName", by_name(c)),
    "device": lambda c: ("DeviceService/Get", ds.GetDeviceRequest(device_id=c.device())),
    "device to delete": lambda c: ("DeviceService/Delete", ds.DeleteDeviceRequest(device_id=c.device())),
    "certificates": lambda c: (
        "DeviceService/ListCertificates",
        ds.ListDeviceCertificatesRequest(device_id=c.device()),
    ),
    "certificate to add": lambda c: (
        "DeviceService/AddCertificate",
        ds.AddDeviceCertificateRequest(device_id=c.device(), certificate_data=certificate()),
    ),
    "certificate to delete": lambda c: ("DeviceService/DeleteCertificate", with_certificate(c)),
    "operation": lambda c: ("OperationService/Get", operation_service_pb2.GetOperationRequest(operation_id=change(c))),
    "operation to cancel": lambda c: (
        "OperationService/Cancel",
        operation_service_pb2.CancelOperationRequest(operation_id=change(c)),
    ),
}


def by_name(cloud: Cloud) -> Any:
    registry = cloud.registry()
    cloud.device(registry, name="named")
    return ds.GetByNameDeviceRequest(registry_id=registry, device_name="named")


def with_certificate(cloud: Cloud) -> Any:
    device, pem = cloud.device(), certificate()
    cloud.add(device, pem)
    return ds.DeleteDeviceCertificateRequest(device_id=device, fingerprint=sha256_of(pem))


def change(cloud: Cloud) -> str:
    return str(cloud.add(cloud.device(), certificate()).id)


@pytest.mark.parametrize("case", FOREIGN)
def test_what_the_other_has_is_not_found(pair: Pair, wire_name: str, case: str) -> None:
    """In the very words for what nobody has. And it is there: its owner gets it."""
    mine, theirs, *_ = pair
    method, request = FOREIGN[case](theirs)
    with pytest.raises(Refused) as refused:
        mine.wire(wire_name).call(method, request)
    assert refused.value.code == "NOT_FOUND"
    field = next(f for f in request.DESCRIPTOR.fields if f.name.endswith("_id") and getattr(request, f.name))
    foreign = getattr(request, field.name)
    nobodys = "are00000000000000000"
    told = refused.value.text.replace(foreign, nobodys)
    theirs.wire(wire_name).call(method, request)
    setattr(request, field.name, nobodys)
    with pytest.raises(Refused) as unknown:
        mine.wire(wire_name).call(method, request)
    assert (unknown.value.code, unknown.value.text) == ("NOT_FOUND", told)


def test_page_tokens_of_the_other(pair: Pair, wire_name: str) -> None:
    mine, theirs, *_ = pair
    for cloud in (mine, theirs):
        for _ in range(2):
            cloud.registry()

    def listing(cloud: Cloud, token: str = "") -> Any:
        request = rs.ListRegistriesRequest(folder_id=cloud.folder, page_size=1, page_token=token)
        return cloud.wire(wire_name).call("RegistryService/List", request)

    token = listing(theirs).next_page_token
    assert listing(theirs, token).registries
    with pytest.raises(Refused) as refused:
        listing(mine, token)
    assert refused.value.code == "INVALID_ARGUMENT"


def test_idempotency_keys_of_the_other(pair: Pair, wire_name: str) -> None:
    mine, theirs, *_ = pair
    pem, key = certificate(), f"shared-{wire_name}"
    first = mine.add(mine.device(), pem, wire_name, key=key)
    second = theirs.add(theirs.device(), pem, wire_name, key=key)
    assert first.id != second.id
    assert first.created_by != second.created_by


def test_names_of_the_other_are_free(pair: Pair, wire_name: str) -> None:
    for cloud in pair[:2]:
        registry = cloud.registry(name=f"same-{wire_name}")
        cloud.device(registry, name="same")


def test_lists_hold_the_own_only(pair: Pair, wire_name: str) -> None:
    mine, theirs, *_ = pair
    foreign = {theirs.registry(), theirs.registry()}
    request = rs.ListRegistriesRequest(folder_id=mine.folder, page_size=1000)
    listed = {registry.id for registry in mine.wire(wire_name).call("RegistryService/List", request).registries}
    assert listed.isdisjoint(foreign)
