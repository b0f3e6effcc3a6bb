"""Devices, registries and brokers of Yandex IoT Core: the list by registry, and one with its certificates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.console.events import events_of_device
from thingmint.console.page import links_of, page, url
from thingmint.console.yandex_owners import (
    SERVICES,
    allows_yandex,
    find_owner,
    is_online,
    live,
    may_yandex,
    registries_of,
)
from thingmint.domain.arns import arn_of
from thingmint.domain.errors import NotFound
from thingmint.services.bindings import list_bindings
from thingmint.services.certificate_activity import read_last_seen
from thingmint.services.certificates import find_registered
from thingmint.services.device_activity import NO_ACTIVITY, read_activity
from thingmint.services.device_registry import REGISTRIES, Device, list_devices
from thingmint.services.owners import Named
from thingmint.services.passwords import list_passwords
from thingmint.store.search_keys import serial_and_common_name
from thingmint.store.table import from_micros

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from thingmint.console.events import Event
    from thingmint.console.page import Call
    from thingmint.domain.status import Status
    from thingmint.http.messages import Answer
    from thingmint.services.bindings import BoundCertificate
    from thingmint.services.certificate_activity import LastSeen
    from thingmint.services.owners import Owner
    from thingmint.store.engine import Transaction

_ROWS = 25
_EVENTS = 25
_MAX_HISTORIES = 5  # certificates whose events a device's page has
_LONGEST_ID = 50

_CHANGES = ("AddCertificate", "DeleteCertificate", "AddPassword", "DeletePassword", "Delete")
_METHODS = ("ListCertificates", "ListPasswords", *_CHANGES)


@dataclass(frozen=True, slots=True)
class _Bound:
    """A certificate of a device, registry or broker. ``status`` is None if it is not registered."""

    bound: BoundCertificate
    status: Status | None
    seen: LastSeen | None

    @property
    def id(self) -> str:
        return self.bound.certificate.fingerprint

    @property
    def name(self) -> str | None:
        return serial_and_common_name(self.bound.certificate.der)[1]


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
    service = SERVICES[owner.kind]
    may = {name: allows_yandex(call, f"{service}.{name}", *owner.resources) for name in _METHODS}
    certificates = await call.read(lambda tx: _bound(tx, owner)) if may["ListCertificates"] else []
    passwords = await call.read(lambda tx: list_passwords(tx, owner.id)) if may["ListPasswords"] else []
    activity = (await call.read(lambda tx: read_activity(tx, [owner.id]))).get(owner.id, NO_ACTIVITY)
    events: Sequence[Event] = ()
    if call.allows("thingmint:ListAudit"):
        arns = {arn_of(each.bound.binding.scope, each.id): each.id for each in certificates[:_MAX_HISTORIES]}
        events = await events_of_device(call.parts.audit, call.caller.account, owner.resource, arns, _EVENTS)
    since, activity = await live(call, owner, activity)
    return call.render(
        "device.html",
        owner=owner,
        service=service,
        base=url(f"/devices/{owner.kind}/{owner.id}"),
        registry=await _registry_of(call, owner),
        aliases=owner.topic_aliases if isinstance(owner, Device) else {},
        certificates=certificates,
        passwords=passwords,
        may=may,
        is_connected=since is not None or is_online(activity),
        since=since or (_moment(activity.auth_at) if is_online(activity) else None),
        may_see_sessions=call.allows("thingmint:ListSessions"),
        activity=[
            ("Authenticated", _moment(activity.auth_at)),
            ("Published", _moment(activity.pub_at)),
            ("Subscribed", _moment(activity.sub_at)),
            ("Last online", _moment(activity.online_at)),
            ("Disconnected", _moment(activity.disconnected_at)),
        ],
        address=activity.auth_address,
        events=events,
    )


async def _bound(tx: Transaction, owner: Owner) -> list[_Bound]:
    """The certificates of the owner, with their registrations and when each was seen last."""
    found = []
    for bound in await list_bindings(tx, owner):
        scope, id = bound.binding.scope, bound.certificate.fingerprint
        registered = await find_registered(tx, scope, id)
        status = registered.registration.status if registered is not None else None
        found.append(_Bound(bound, status, (await read_last_seen(tx, scope, [id])).get(id)))
    return found


async def _registry_of(call: Call, owner: Owner) -> tuple[str, str] | None:
    """The id of a device's registry, and its name if the caller may know it."""
    if not isinstance(owner, Device):
        return None
    id = owner.registry
    registry = await call.read(lambda tx: REGISTRIES.find(tx, call.caller.account, id))
    if registry is None or not allows_yandex(call, "RegistryService.Get", *registry.resources):
        return id, id
    return id, registry.name or id


def _resources(owner: Owner | None, id: str) -> tuple[str, ...]:
    return owner.resources if owner is not None else (f"yandex:device/{id[:_LONGEST_ID]}",)


def _moment(micros: int) -> datetime | None:
    return from_micros(micros) if micros else None
