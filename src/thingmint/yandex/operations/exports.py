"""The methods of data stream exports, which registries have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.access.administration.principals import PRINCIPALS
from thingmint.domain.errors import NotFound
from thingmint.domain.ids import IOT, new_id
from thingmint.services.device_registry import REGISTRIES
from thingmint.services.exports import DataStreamExport, add_export, check_filter, delete_export, list_exports
from thingmint.services.owners import check_text
from thingmint.yandex.contract.answers import timestamp
from thingmint.yandex.operations.declaring import by_id, id_of, reads, writes

if TYPE_CHECKING:
    from thingmint.services.change import Change, Query
    from thingmint.services.device_registry import DeviceRegistry
    from thingmint.services.owners import Named
    from thingmint.store.engine import Transaction
    from thingmint.yandex.contract.answers import Fields
    from thingmint.yandex.operations.declaring import YandexCall

_SERVICE = "yandex.cloud.iot.devices.v1.RegistryService"
_registry = by_id(REGISTRIES)


@reads(f"{_SERVICE}/ListDataStreamExports", find=_registry)
async def list_(tx: Transaction, query: Query, call: YandexCall, registry: Named[DeviceRegistry]) -> Fields:
    return {"data_stream_exports": [_fields(each) for each in await list_exports(tx, registry.get().id)]}


async def _new(change: Change, call: YandexCall, named: Named[DeviceRegistry]) -> DataStreamExport:
    request = call.request
    check_filter(request.mqtt_topic_filter, named.id)
    return DataStreamExport(
        id=new_id(IOT),
        account=change.account,
        folder=named.found.folder if named.found is not None else "",
        registry=named.id,
        name=request.name,
        topic_filter=request.mqtt_topic_filter,
        database=check_text(request.database, "database"),
        stream=check_text(request.stream, "stream"),
        service_account=check_text(request.service_account_id, "service_account_id"),
        created_at=change.now,
    )


def _added(call: YandexCall, named: Named[DeviceRegistry], new: DataStreamExport) -> Fields:
    return {**id_of(call, named), "data_stream_export_id": new.id}


@writes(f"{_SERVICE}/AddDataStreamExport", "Add data stream export", find=_registry, prepare=_new, metadata=_added)
async def add(
    tx: Transaction, change: Change, call: YandexCall, named: Named[DeviceRegistry], new: DataStreamExport
) -> Fields:
    """The service account grants nothing: a hook has its own token. So it has to exist, and needs no role."""
    registry = named.get()
    service_account = await PRINCIPALS.find(tx, new.service_account)
    if service_account is None or (service_account.account, service_account.kind) != (
        change.account,
        "service-account",
    ):
        raise NotFound("service account", new.service_account)
    await add_export(tx, change, registry, new)
    return _fields(new)


def _deleted(call: YandexCall, named: Named[DeviceRegistry]) -> Fields:
    return {**id_of(call, named), "data_stream_export_id": call.request.data_stream_export_id}


@writes(f"{_SERVICE}/DeleteDataStreamExport", "Delete data stream export", find=_registry, metadata=_deleted)
async def delete(tx: Transaction, change: Change, call: YandexCall, named: Named[DeviceRegistry]) -> Fields:
    await delete_export(tx, change, named.get(), call.request.data_stream_export_id)
    return {}


def _fields(export: DataStreamExport) -> Fields:
    return {
        "id": export.id,
        "name": export.name,
        "registry_id": export.registry,
        "mqtt_topic_filter": export.topic_filter,
        "database": export.database,
        "stream": export.stream,
        "service_account_id": export.service_account,
        "created_at": timestamp(export.created_at),
    }
