"""yandex.cloud.iot.devices.v1.RegistryService: its served methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.json_format import MessageToDict

from thingmint.services.device_registry import (
    FOLDERS,
    REGISTRIES,
    DeviceRegistry,
    create_registry,
    delete_registry,
    list_registries,
)
from thingmint.yandex.operations.declaring import by_id, cursor, reads, writes
from thingmint.yandex.operations.owners import common_fields, id_of_new, initial_certificates, new_fields

if TYPE_CHECKING:
    from thingmint.services.bindings import SubmittedCertificate
    from thingmint.services.change import Change, Query
    from thingmint.services.device_registry import Folder
    from thingmint.services.owners import Named
    from thingmint.store.engine import Transaction
    from thingmint.yandex.contract.answers import Fields
    from thingmint.yandex.operations.declaring import YandexCall

    _New = tuple[DeviceRegistry, list[SubmittedCertificate]]

_SERVICE = "yandex.cloud.iot.devices.v1.RegistryService"
_ACTIVE = 2  # Registry.Status.ACTIVE

_folder, _registry = by_id(FOLDERS), by_id(REGISTRIES)


@reads(f"{_SERVICE}/Get", find=_registry)
async def get(tx: Transaction, query: Query, call: YandexCall, registry: Named[DeviceRegistry]) -> Fields:
    return _fields(registry.get())


@reads(f"{_SERVICE}/List", find=_folder)
async def list_(tx: Transaction, query: Query, call: YandexCall, folder: Named[Folder]) -> Fields:
    page = await list_registries(tx, query, folder, cursor(call.request))
    return {"registries": [_fields(registry) for registry in page.items], "next_page_token": page.next_token}


async def _new(change: Change, call: YandexCall, folder: Named[Folder]) -> _New:
    request = call.request
    log_options = MessageToDict(request.log_options, preserving_proto_field_name=True)
    registry = DeviceRegistry(**new_fields(change, request), folder=folder.id, log_options=log_options)
    return registry, initial_certificates(change, request)


@writes(f"{_SERVICE}/Create", "Create device registry", find=_folder, prepare=_new, metadata=id_of_new)
async def create(tx: Transaction, change: Change, call: YandexCall, folder: Named[Folder], new: _New) -> Fields:
    folder.get()
    await create_registry(tx, change, *new)
    return _fields(new[0])


@writes(f"{_SERVICE}/Delete", "Delete device registry", find=_registry)
async def delete(tx: Transaction, change: Change, call: YandexCall, registry: Named[DeviceRegistry]) -> Fields:
    await delete_registry(tx, change, registry.get())
    return {}


def _fields(registry: DeviceRegistry) -> Fields:
    return {
        **common_fields(registry),
        "folder_id": registry.folder,
        "status": _ACTIVE,
        "log_options": registry.log_options or None,
    }
