"""Fills an account through the Yandex API: registries, devices, bound certificates, successful and failed operations.

The server keeps operations pending for a moment, because only then does it record refusals as operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yandex.cloud.iam.v1 import iam_token_service_pb2
from yandex.cloud.iot.devices.v1 import device_service_pb2, registry_service_pb2

from tests.e2e.yandex.certificates import certificate as unsigned_certificate
from tests.e2e.yandex.clients import Cloud

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.old_stores.owners import Owner

_PEM = registry_service_pb2.CreateRegistryRequest.Certificate
_DEVICE_PEM = device_service_pb2.CreateDeviceRequest.Certificate

# A request with an Idempotency-Key, which is sent again when the answers are recorded.
KEYED_REGISTRY: dict[str, Any] = {"name": "keyed", "description": "made once"}
KEY = "5f0d9a3e-3a5e-4f5b-9d5f-2d5a1f7c1b6e"


def devices(owner: Owner) -> None:
    grpc, rest = owner.cloud.grpc, owner.cloud.rest
    folder = owner.cloud.folder
    second = owner.local_admin.ask("folder.create", name="second")["id"]
    own = owner.material.self_signed(f"{owner.place}-registry")
    registry = _registry(
        owner, folder, "fleet", [own.pem], description="all lamps", labels={"site": "berlin", "kind": "lamps"}
    )
    for name in ("", ""):  # several registries can be without a name
        _registry(owner, second, name)
    gone = _registry(owner, second, "gone")
    rest.call("RegistryService/Delete", registry_service_pb2.DeleteRegistryRequest(registry_id=gone))
    keyed = registry_service_pb2.CreateRegistryRequest(folder_id=folder, **KEYED_REGISTRY)
    grpc.call("RegistryService/Create", keyed, key=KEY)

    described = {"description": "on the roof", "labels": {"floor": "5"}, "topic_aliases": {"up": "$me/monitoring/up"}}
    first = owner.material.self_signed(f"{owner.place}-device")
    lamp = _device(owner, registry, "lamp", [first.pem], **described)
    _device(owner, registry, "")
    other = _device(owner, registry, "other", [unsigned_certificate(), unsigned_certificate()])
    _bound_ones(owner, other)
    for wire, name in (("grpc", "gone"), ("rest", "gone-too")):
        gone = _device(owner, registry, name, [unsigned_certificate()])
        owner.cloud.wire(wire).call("DeviceService/Delete", device_service_pb2.DeleteDeviceRequest(device_id=gone))
    owner.cloud.add(other, first.pem)  # fails: it is bound to the other device
    owner.cloud.remove(lamp, "0" * 64)
    _revoked_token(owner)


def _bound_ones(owner: Owner, device: str) -> None:
    """Binds certificates that the AWS API issued or changes, and one whose PEM is not in the canonical form."""
    cloud, keep, place = owner.cloud, owner.material, owner.place
    issued = keep.csr(f"{place}-bound-issued", owner.iot, setAsActive=True)
    cloud.add(device, issued.pem, "rest", key=KEY)
    wordy = keep.self_signed(f"{place}-bound-wordy")
    cloud.add(device, "Bag Attributes\r\n  friendlyName: lamp\r\n" + wordy.pem.replace("\n", "\r\n"))
    for status in ("INACTIVE", "REVOKED"):
        made = keep.self_signed(f"{place}-bound-{status.lower()}")
        cloud.add(device, made.pem)
        owner.status(made, status)
    removed = keep.self_signed(f"{place}-bound-removed")
    cloud.add(device, removed.pem)
    cloud.remove(device, removed.fingerprint)
    left = keep.csr(f"{place}-bound-left", owner.iot, setAsActive=True)
    owner.allow(left)
    cloud.add(device, left.pem)
    cloud.remove(device, left.fingerprint)


def _registry(owner: Owner, folder: str, name: str, pems: Sequence[str] = (), **further: Any) -> str:
    request = registry_service_pb2.CreateRegistryRequest(
        folder_id=folder, name=name, certificates=[_PEM(certificate_data=pem) for pem in pems], **further
    )
    return _id(owner.cloud.grpc.call("RegistryService/Create", request), "registry_id")


def _device(owner: Owner, registry: str, name: str, pems: Sequence[str] = (), **further: Any) -> str:
    request = device_service_pb2.CreateDeviceRequest(
        registry_id=registry, name=name, certificates=[_DEVICE_PEM(certificate_data=pem) for pem in pems], **further
    )
    return _id(owner.cloud.grpc.call("DeviceService/Create", request), "device_id")


def _id(operation: Any, field: str) -> str:
    registry, device = registry_service_pb2.CreateRegistryMetadata(), device_service_pb2.CreateDeviceMetadata()
    metadata = registry if field == "registry_id" else device
    assert operation.metadata.Unpack(metadata), operation
    id: str = getattr(metadata, field)
    return id


def _revoked_token(owner: Owner) -> None:
    cloud = Cloud(owner.server, owner.cloud.account)
    request = iam_token_service_pb2.RevokeIamTokenRequest(iam_token=cloud.token)
    cloud.grpc.call("IamTokenService/Revoke", request)
    cloud.close()
