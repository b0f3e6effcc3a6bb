"""Yandex IoT Core for pages: what the caller may call, the registries to choose from, and owners by their ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.services.authentication_decisions import session_name
from thingmint.services.device_activity import Activity
from thingmint.services.device_registry import BROKERS, DEVICES, REGISTRIES, list_folders, list_of_folder
from thingmint.services.owners import Named
from thingmint.services.pages import Cursor
from thingmint.store.table import to_micros

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from thingmint.console.page import Call
    from thingmint.services.device_registry import DeviceRegistry
    from thingmint.services.owners import Owner
    from thingmint.store.engine import Transaction
    from thingmint.store.table import Table

_MAX_REGISTRIES = 100  # in a menu
_TABLES: dict[str, Table[Any]] = {"device": DEVICES, "registry": REGISTRIES, "broker": BROKERS}
SERVICES = {"device": "DeviceService", "registry": "RegistryService", "broker": "BrokerService"}
"""The service of Yandex's API for each kind of owner."""


def may_yandex(call: Call, method: str, *resources: str) -> None:
    """Raises Denied unless the caller may call the method of Yandex's API."""
    call.may(f"yandex:{method}", *resources, f"yandex:cloud/{call.caller.account}")


def allows_yandex(call: Call, method: str, *resources: str) -> bool:
    """True if ``may_yandex`` would not raise. For what to show: it is no refusal."""
    return call.allows(f"yandex:{method}", *resources, f"yandex:cloud/{call.caller.account}")


async def registries_of(tx: Transaction, call: Call) -> list[DeviceRegistry]:
    """The registries of all folders that the caller may list, up to the menu's length."""
    found: list[DeviceRegistry] = []
    for folder in await list_folders(tx, call.caller.account):
        if allows_yandex(call, "RegistryService.List", *folder.resources):
            named, cursor = Named("folder", folder.id, folder), Cursor(_MAX_REGISTRIES)
            found += (await list_of_folder(tx, call.yandex_change, REGISTRIES, named, cursor)).items
    return found[:_MAX_REGISTRIES]


async def find_owner(tx: Transaction, account: str, id: str) -> Owner | None:
    """The device, registry or broker with the id, if the account has one."""
    for table in _TABLES.values():
        found: Owner | None = await table.find(tx, account, id)
        if found is not None:
            return found
    return None


async def find_owners(tx: Transaction, account: str, owners: Iterable[tuple[str, str]]) -> dict[str, Owner]:
    """Devices, registries and brokers by their ids, given their kinds and ids."""
    found = {id: await _TABLES[kind].find(tx, account, id) for kind, id in dict.fromkeys(owners)}
    return {id: owner for id, owner in found.items() if owner is not None}


def names_of_owners(call: Call, owners: Mapping[str, Owner]) -> dict[str, str]:
    """Names by ids: of those that have one, and that the caller may get."""
    return {
        id: owner.name
        for id, owner in owners.items()
        if owner.name and allows_yandex(call, f"{SERVICES[owner.kind]}.Get", *owner.resources)
    }


async def live(call: Call, owner: Owner, stored: Activity) -> tuple[datetime | None, Activity]:
    """When it connected under its own id, if it is connected, and its activity with the end of that connection.

    What is stored follows some seconds later.
    """
    name = session_name(owner.id, owner.id)
    found = (await call.change.environment.messages.connectivity(call.caller.scope(), [name])).get(name)
    if found is None:
        return None, stored
    if found.connected:
        return found.since, stored
    return None, stored.merged(Activity(disconnected_at=to_micros(found.since)))


def is_online(activity: Activity) -> bool:
    """True if, by what is stored, it is connected under any client id."""
    return max(activity.auth_at, activity.online_at) > activity.disconnected_at
