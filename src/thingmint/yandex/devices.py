"""yandex.cloud.iot.devices.v1.DeviceService: what its served methods mean."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from thingmint.domain.fleet import Device, free_text, topic_aliases
from thingmint.domain.ids import IOT, new_id
from thingmint.services.bindings import submitted
from thingmint.yandex.registries import initial_certificates, page_size

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from thingmint.domain.fleet import Binding
    from thingmint.yandex.call import Call

__all__ = [
    "add_certificate",
    "create",
    "delete",
    "delete_certificate",
    "get",
    "get_by_name",
    "list_",
    "list_certificates",
]

_PACKAGE = "yandex.cloud.iot.devices.v1"


async def get(call: Call) -> Message:
    await call.authorize_device(call.request.device_id)
    return _message(call, await call.parts.fleet.get_device(call.account, call.request.device_id))


async def get_by_name(call: Call) -> Message:
    request = call.request
    await call.authorize_registry(request.registry_id)
    return _message(
        call, await call.parts.fleet.get_device_by_name(call.account, request.registry_id, request.device_name)
    )


async def list_(call: Call) -> Message:
    request = call.request
    if request.WhichOneof("id") == "registry_id":
        await call.authorize_registry(request.registry_id)
    else:
        call.authorize(folder=request.folder_id)
    devices, next_page_token = await call.parts.fleet.list_devices(
        call.scope,
        registry=request.registry_id if request.WhichOneof("id") == "registry_id" else None,
        folder=request.folder_id if request.WhichOneof("id") == "folder_id" else None,
        limit=page_size(call),
        token=request.page_token,
    )
    response: Message = call.method.response_class(
        devices=[_message(call, device) for device in devices], next_page_token=next_page_token
    )
    return response


async def create(call: Call) -> Message:
    request = call.request
    # A registry that is gone is found out within the transaction: this may be a repeated request.
    folder = await call.authorize_registry(request.registry_id)
    id = new_id(IOT)
    device = Device(
        id=id,
        account=call.account,
        folder=folder or "",
        registry=request.registry_id,
        name=request.name,
        description=free_text(request.description, "description"),
        labels=dict(request.labels),
        topic_aliases=topic_aliases(id, request.topic_aliases),
        created_at=call.now,
    )
    certificates = initial_certificates(request)
    return await call.change(
        "Create device",
        folder,
        call.message(f"{_PACKAGE}.CreateDeviceMetadata")(device_id=id),
        partial(_message, call),
        lambda receipt: call.parts.fleet.create_device(call.scope, device, certificates, receipt),
    )


async def delete(call: Call) -> Message:
    id = call.request.device_id
    folder = await call.authorize_device(id)
    return await call.change(
        "Delete device",
        folder,
        call.message(f"{_PACKAGE}.DeleteDeviceMetadata")(device_id=id),
        call.empty,
        lambda receipt: call.parts.fleet.delete_device(call.account, id, receipt),
    )


async def list_certificates(call: Call) -> Message:
    await call.authorize_device(call.request.device_id)
    bindings = await call.parts.bindings.list(call.account, call.request.device_id)
    response: Message = call.method.response_class(certificates=[_certificate(call, binding) for binding in bindings])
    return response


async def add_certificate(call: Call) -> Message:
    device = call.request.device_id
    folder = await call.authorize_device(device)
    certificate = submitted(call.request.certificate_data, "certificate_data")
    fingerprint = call.fingerprint(certificate.certificate.fingerprint, certificate.certificate.sha1)
    return await call.change(
        "Add device certificate",
        folder,
        call.message(f"{_PACKAGE}.AddDeviceCertificateMetadata")(device_id=device, fingerprint=fingerprint),
        partial(_certificate, call),
        lambda receipt: call.parts.bindings.add(call.scope, device, certificate, call.now, receipt),
    )


async def delete_certificate(call: Call) -> Message:
    device, fingerprint = call.request.device_id, call.request.fingerprint
    folder = await call.authorize_device(device)
    return await call.change(
        "Delete device certificate",
        folder,
        call.message(f"{_PACKAGE}.DeleteDeviceCertificateMetadata")(device_id=device, fingerprint=fingerprint),
        call.empty,
        lambda receipt: call.parts.bindings.remove(call.account, device, fingerprint.lower(), receipt),
    )


def _message(call: Call, device: Device) -> Message:
    message: Message = call.message(f"{_PACKAGE}.Device")(
        id=device.id,
        registry_id=device.registry,
        created_at=call.timestamp(device.created_at),
        name=device.name,
        description=device.description,
        labels=device.labels,
        topic_aliases=device.topic_aliases,
    )
    return message


def _certificate(call: Call, binding: Binding) -> Message:
    message: Message = call.message(f"{_PACKAGE}.DeviceCertificate")(
        device_id=binding.owner,
        fingerprint=call.fingerprint(binding.fingerprint, binding.sha1),
        certificate_data=binding.pem,
        created_at=call.timestamp(binding.created_at),
    )
    return message
