"""yandex.cloud.iot.devices.v1.RegistryService: what its served methods mean."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict

from thingmint.domain.fleet import DeviceRegistry, free_text
from thingmint.domain.ids import IOT, new_id
from thingmint.services.bindings import submitted
from thingmint.yandex.errors import Unimplemented

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message

    from thingmint.services.bindings import SubmittedCertificate
    from thingmint.yandex.call import Call

__all__ = ["create", "delete", "get", "initial_certificates", "list_", "page_size"]

_PACKAGE = "yandex.cloud.iot.devices.v1"
_DEFAULT_PAGE_SIZE = 100
_ACTIVE = 2  # Registry.Status.ACTIVE


async def get(call: Call) -> Message:
    await call.authorize_registry(call.request.registry_id)
    return _message(call, await call.parts.fleet.get_registry(call.account, call.request.registry_id))


async def list_(call: Call) -> Message:
    call.authorize(folder=call.request.folder_id)
    registries, next_page_token = await call.parts.fleet.list_registries(
        call.scope, call.request.folder_id, limit=page_size(call), token=call.request.page_token
    )
    response: Message = call.method.response_class(
        registries=[_message(call, registry) for registry in registries], next_page_token=next_page_token
    )
    return response


async def create(call: Call) -> Message:
    request = call.request
    call.authorize(folder=request.folder_id)
    registry = DeviceRegistry(
        id=new_id(IOT),
        account=call.account,
        folder=request.folder_id,
        name=request.name,
        description=free_text(request.description, "description"),
        labels=dict(request.labels),
        log_options=MessageToDict(request.log_options, preserving_proto_field_name=True),
        created_at=call.now,
    )
    certificates = initial_certificates(request)
    return await call.change(
        "Create device registry",
        registry.folder,
        call.message(f"{_PACKAGE}.CreateRegistryMetadata")(registry_id=registry.id),
        partial(_message, call),
        lambda receipt: call.parts.fleet.create_registry(call.scope, registry, certificates, receipt),
    )


async def delete(call: Call) -> Message:
    id = call.request.registry_id
    folder = await call.authorize_registry(id)
    return await call.change(
        "Delete device registry",
        folder,
        call.message(f"{_PACKAGE}.DeleteRegistryMetadata")(registry_id=id),
        call.empty,
        lambda receipt: call.parts.fleet.delete_registry(call.account, id, receipt),
    )


def page_size(call: Call) -> int:
    return call.request.page_size or _DEFAULT_PAGE_SIZE


def initial_certificates(request: Any) -> list[SubmittedCertificate]:
    """Those that Create brings along. A password is refused rather than forgotten."""
    if request.password:
        raise Unimplemented("Creating with a password")
    entries: Iterable[Any] = request.certificates
    return [
        submitted(entry.certificate_data, f"certificates[{index}].certificate_data")
        for index, entry in enumerate(entries)
    ]


def _message(call: Call, registry: DeviceRegistry) -> Message:
    message: Message = call.message(f"{_PACKAGE}.Registry")(
        id=registry.id,
        folder_id=registry.folder,
        created_at=call.timestamp(registry.created_at),
        name=registry.name,
        description=registry.description,
        labels=registry.labels,
        status=_ACTIVE,
        log_options=registry.log_options or None,
    )
    return message
