"""yandex.cloud.iot.devices.v1.DeviceService: its served methods, except those of certificates (``owners``)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from thingmint.services.device_activity import NO_ACTIVITY, read_activity
from thingmint.services.device_registry import (
    DEVICES,
    FOLDERS,
    REGISTRIES,
    Device,
    create_device,
    delete_device,
    get_by_name,
    list_devices,
    update_device,
)
from thingmint.services.topic_aliases import parse_aliases
from thingmint.store.table import from_micros
from thingmint.yandex.contract.answers import timestamp
from thingmint.yandex.operations.declaring import by_id, cursor, reads, writes
from thingmint.yandex.operations.owners import common_fields, id_of_new, initial_credentials, new_fields, updated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.services.change import Change, Query
    from thingmint.services.device_activity import Activity
    from thingmint.services.device_registry import Credentials, DeviceRegistry, Folder
    from thingmint.services.owners import Named
    from thingmint.store.engine import Transaction
    from thingmint.yandex.contract.answers import Fields
    from thingmint.yandex.operations.declaring import YandexCall

    _Parent = Named[DeviceRegistry] | Named[Folder]
    _New = tuple[Device, Credentials]

_SERVICE = "yandex.cloud.iot.devices.v1.DeviceService"

_ACTIVE = 2  # Device.Status.ACTIVE, "Device is ready to use": true for every device from its creation

_FULL = 1  # DeviceView

_device, _registry = by_id(DEVICES), by_id(REGISTRIES)
_PARENTS = {"registry_id": _registry, "folder_id": by_id(FOLDERS)}


@reads(f"{_SERVICE}/Get", find=_device)
async def get(tx: Transaction, query: Query, call: YandexCall, device: Named[Device]) -> Fields:
    return (await _viewed(tx, call, [device.get()]))[0]


@reads(f"{_SERVICE}/GetByName", find=_registry)
async def get_by_name_(tx: Transaction, query: Query, call: YandexCall, registry: Named[DeviceRegistry]) -> Fields:
    device = await get_by_name(tx, DEVICES, registry.get(), call.request.device_name)
    return (await _viewed(tx, call, [device]))[0]


async def _parent(tx: Transaction, query: Query, call: YandexCall) -> _Parent:
    parent: _Parent = await _PARENTS[call.request.WhichOneof("id")](tx, query, call)
    return parent


@reads(f"{_SERVICE}/List", find=_parent)
async def list_(tx: Transaction, query: Query, call: YandexCall, parent: _Parent) -> Fields:
    page = await list_devices(tx, query, parent, cursor(call.request))
    return {"devices": await _viewed(tx, call, page.items), "next_page_token": page.next_token}


async def _new(change: Change, call: YandexCall, registry: Named[DeviceRegistry]) -> _New:
    fields = new_fields(change, call.request)
    aliases = parse_aliases(call.request.topic_aliases, fields["id"])
    device = Device(**fields, folder="", registry=registry.id, topic_aliases=aliases)
    return device, await initial_credentials(change, call.request, device.id)


@writes(f"{_SERVICE}/Create", "Create device", find=_registry, prepare=_new, metadata=id_of_new)
async def create(
    tx: Transaction, change: Change, call: YandexCall, registry: Named[DeviceRegistry], new: _New
) -> Fields:
    device = replace(new[0], folder=registry.get().folder)
    await create_device(tx, change, device, new[1])
    return _fields(device)


@writes(f"{_SERVICE}/Update", "Update device", find=_device)
async def update(tx: Transaction, change: Change, call: YandexCall, device: Named[Device]) -> Fields:
    before = device.get()
    after = updated(call.request, before, {"topic_aliases": partial(parse_aliases, device=before.id)})
    await update_device(tx, change, before, after)
    return _fields(after)


@writes(f"{_SERVICE}/Delete", "Delete device", find=_device)
async def delete(tx: Transaction, change: Change, call: YandexCall, device: Named[Device]) -> Fields:
    await delete_device(tx, change, device.get())
    return {}


async def _viewed(tx: Transaction, call: YandexCall, devices: Sequence[Device]) -> list[Fields]:
    """The devices in the view that the request asks for: FULL has the monitoring data, BASIC has not."""
    if call.request.device_view != _FULL:
        return [_fields(device) for device in devices]
    found = await read_activity(tx, [device.id for device in devices])
    return [
        {**_fields(device), "monitoring_data": _monitoring_data(found.get(device.id, NO_ACTIVITY))}
        for device in devices
    ]


def _monitoring_data(activity: Activity) -> Fields:
    times = {
        "last_auth_time": activity.auth_at,
        "last_pub_activity_time": activity.pub_at,
        "last_sub_activity_time": activity.sub_at,
        "last_online_time": activity.online_at,
        "last_disconnect_time": activity.disconnected_at,
    }
    known = {name: timestamp(from_micros(micros)) for name, micros in times.items() if micros}
    return {"last_auth_ip": activity.auth_address, **known}


def _fields(device: Device) -> Fields:
    return {
        **common_fields(device),
        "registry_id": device.registry,
        "topic_aliases": device.topic_aliases,
        "status": _ACTIVE,
    }
