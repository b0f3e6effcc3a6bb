"""Devices, registries and brokers of Yandex IoT Core: the list by registry, and one with its certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.console.events import events_of
from thingmint.console.page import links_of, page
from thingmint.console.yandex_owners import SERVICES, allows_yandex, find_owner, may_yandex, registries_of
from thingmint.domain.errors import NotFound
from thingmint.services.bindings import list_bindings
from thingmint.services.device_activity import NO_ACTIVITY, read_activity
from thingmint.services.device_registry import REGISTRIES, Device, list_devices
from thingmint.services.owners import Named
from thingmint.services.passwords import list_passwords
from thingmint.store.table import from_micros

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from thingmint.console.page import Call
    from thingmint.http.messages import Answer
    from thingmint.services.owners import Owner

_ROWS = 25
_EVENTS = 15
_LONGEST_ID = 50


@page("/devices", "DeviceService.List", entry="/things")
async def devices(call: Call) -> Answer:
    """The devices of one registry; by default, of the first one."""
    wanted, cursor = call.query.text("registry", _LONGEST_ID), call.cursor(_ROWS)
    registries = await call.read(lambda tx: registries_of(tx, call))
    registry, found = next(iter(registries), None), None
    if wanted:
        registry = await call.read(lambda tx: REGISTRIES.find(tx, call.caller.account, wanted))
        may_yandex(call, "DeviceService.List", *(registry.resources if registry else (f"yandex:registry/{wanted}",)))
        if registry is None:
            raise NotFound("registry", wanted)
    elif registry is None:
        may_yandex(call, "RegistryService.List")
    if registry is not None:
        may_yandex(call, "DeviceService.List", *registry.resources)
        parent = Named("registry", registry.id, registry)
        found = await call.read(lambda tx: list_devices(tx, call.yandex_change, parent, cursor))
    return call.render(
        "devices.html",
        registry=registry,
        registries=[(each.id, each.name or each.id) for each in registries],
        devices=found.items if found else [],
        **links_of("/devices", cursor, found.next_token if found else None, registry=registry.id if registry else None),
    )


@page("/devices/{id}", "DeviceService.Get", entry="/things")
async def device(call: Call) -> Answer:
    """One device, registry or broker."""
    id = call.path["id"]
    owner = await call.read(lambda tx: find_owner(tx, call.caller.account, id))
    may_yandex(call, f"{SERVICES[owner.kind] if owner else 'DeviceService'}.Get", *_resources(owner, id))
    if owner is None:
        raise NotFound("device", id[:_LONGEST_ID])
    may_see = {
        name: allows_yandex(call, f"{SERVICES[owner.kind]}.List{name}", *owner.resources)
        for name in ("Certificates", "Passwords")
    }
    certificates = await call.read(lambda tx: list_bindings(tx, owner)) if may_see["Certificates"] else []
    passwords = await call.read(lambda tx: list_passwords(tx, owner.id)) if may_see["Passwords"] else []
    activity = (await call.read(lambda tx: read_activity(tx, [owner.id]))).get(owner.id, NO_ACTIVITY)
    records: Sequence[Any] = ()
    if call.allows("thingmint:ListAudit"):
        records = await call.parts.audit.history(call.caller.account, owner.resource, _EVENTS)
    return call.render(
        "device.html",
        owner=owner,
        registry=owner.registry if isinstance(owner, Device) else None,
        aliases=owner.topic_aliases if isinstance(owner, Device) else {},
        certificates=certificates,
        passwords=passwords,
        may_see=may_see,
        activity=[
            ("Authenticated", _moment(activity.auth_at)),
            ("Published", _moment(activity.pub_at)),
            ("Subscribed", _moment(activity.sub_at)),
            ("Last online", _moment(activity.online_at)),
            ("Disconnected", _moment(activity.disconnected_at)),
        ],
        address=activity.auth_address,
        events=events_of(records),
    )


def _resources(owner: Owner | None, id: str) -> tuple[str, ...]:
    return owner.resources if owner is not None else (f"yandex:device/{id[:_LONGEST_ID]}",)


def _moment(micros: int) -> datetime | None:
    return from_micros(micros) if micros else None
