"""The methods of yandex.cloud.iot.devices.v1.RegistryService and yandex.cloud.iot.broker.v1.BrokerService."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.services.device_registry import (
    BROKERS,
    FOLDERS,
    REGISTRIES,
    Broker,
    DeviceRegistry,
    create_in_folder,
    delete_broker,
    delete_registry,
    get_by_name,
    list_of_folder,
    set_disabled,
    update,
)
from thingmint.services.topic_aliases import list_aliases
from thingmint.yandex.operations.declaring import by_id, cursor, reads, writes
from thingmint.yandex.operations.owners import (
    common_fields,
    id_of_new,
    initial_credentials,
    log_options,
    new_fields,
    updated,
)

if TYPE_CHECKING:
    from thingmint.services.change import Change, Query
    from thingmint.services.device_registry import Credentials, Folder
    from thingmint.services.owners import Named
    from thingmint.store.engine import Transaction
    from thingmint.store.table import Table
    from thingmint.yandex.contract.answers import Fields
    from thingmint.yandex.operations.declaring import YandexCall

_REGISTRIES = "yandex.cloud.iot.devices.v1.RegistryService"
_BROKERS = "yandex.cloud.iot.broker.v1.BrokerService"
_ACTIVE, _DISABLED = 2, 4  # Registry.Status; brokers have the first one only

_folder, _registry, _broker = by_id(FOLDERS), by_id(REGISTRIES), by_id(BROKERS)


def _declare(service: str, table: Table[Any], record: type[Any], noun: str, plural: str) -> None:
    """The methods that both services have."""
    find = by_id(table)

    async def get(tx: Transaction, query: Query, call: YandexCall, named: Named[Any]) -> Fields:
        return _fields(named.get())

    async def list_(tx: Transaction, query: Query, call: YandexCall, folder: Named[Folder]) -> Fields:
        page = await list_of_folder(tx, query, table, folder, cursor(call.request))
        return {plural: [_fields(each) for each in page.items], "next_page_token": page.next_token}

    async def new(change: Change, call: YandexCall, folder: Named[Folder]) -> tuple[Any, Credentials]:
        request = call.request
        made = record(**new_fields(change, request), folder=folder.id, log_options=log_options(request.log_options))
        return made, await initial_credentials(change, request, made.id)

    async def create(
        tx: Transaction,
        change: Change,
        call: YandexCall,
        folder: Named[Folder],
        new: tuple[Any, Credentials],
    ) -> Fields:
        folder.get()
        await create_in_folder(tx, change, table, *new)
        return _fields(new[0])

    async def update_(tx: Transaction, change: Change, call: YandexCall, named: Named[Any]) -> Fields:
        before = named.get()
        after = updated(call.request, before, {"log_options": log_options})
        await update(tx, table, before, after)
        return _fields(after)

    reads(f"{service}/Get", find=find)(get)
    reads(f"{service}/List", find=_folder)(list_)
    writes(f"{service}/Create", f"Create {noun}", find=_folder, prepare=new, metadata=id_of_new)(create)
    writes(f"{service}/Update", f"Update {noun}", find=find)(update_)


_declare(_REGISTRIES, REGISTRIES, DeviceRegistry, "device registry", "registries")
_declare(_BROKERS, BROKERS, Broker, "broker", "brokers")


@reads(f"{_REGISTRIES}/GetByName", find=_folder)
async def get_registry_by_name(tx: Transaction, query: Query, call: YandexCall, folder: Named[Folder]) -> Fields:
    registry = await get_by_name(tx, REGISTRIES, folder.get(), call.request.registry_name)
    return _fields(registry)


@reads(f"{_REGISTRIES}/ListDeviceTopicAliases", find=_registry)
async def list_device_topic_aliases(
    tx: Transaction, query: Query, call: YandexCall, registry: Named[DeviceRegistry]
) -> Fields:
    page = await list_aliases(tx, query, registry.get().id, cursor(call.request))
    aliases = [{"device_id": each.device, "topic_prefix": each.target, "alias": each.alias} for each in page.items]
    return {"aliases": aliases, "next_page_token": page.next_token}


@writes(f"{_REGISTRIES}/Disable", "Disable device registry", find=_registry)
async def disable(tx: Transaction, change: Change, call: YandexCall, registry: Named[DeviceRegistry]) -> Fields:
    return _fields(await set_disabled(tx, change, registry.get(), disabled=True))


@writes(f"{_REGISTRIES}/Enable", "Enable device registry", find=_registry)
async def enable(tx: Transaction, change: Change, call: YandexCall, registry: Named[DeviceRegistry]) -> Fields:
    return _fields(await set_disabled(tx, change, registry.get(), disabled=False))


@writes(f"{_REGISTRIES}/Delete", "Delete device registry", find=_registry)
async def delete(tx: Transaction, change: Change, call: YandexCall, registry: Named[DeviceRegistry]) -> Fields:
    await delete_registry(tx, change, registry.get())
    return {}


@writes(f"{_BROKERS}/Delete", "Delete broker", find=_broker)
async def delete_a_broker(tx: Transaction, change: Change, call: YandexCall, broker: Named[Broker]) -> Fields:
    await delete_broker(tx, change, broker.get())
    return {}


def _fields(owner: DeviceRegistry | Broker) -> Fields:
    return {
        **common_fields(owner),
        "folder_id": owner.folder,
        "status": _DISABLED if isinstance(owner, DeviceRegistry) and owner.disabled else _ACTIVE,
        "log_options": owner.log_options or None,
    }
