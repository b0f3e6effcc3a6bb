"""Lists to choose folders, registries, brokers and devices from, in the form of an operation of Yandex IoT Core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from thingmint.console.yandex_owners import allows_yandex, registries_of
from thingmint.services.device_registry import BROKERS, list_devices, list_folders, list_of_folder
from thingmint.services.owners import Named
from thingmint.services.pages import Cursor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from thingmint.console.page import Call
    from thingmint.console.playground.given import Given
    from thingmint.services.device_registry import DeviceRegistry, Folder
    from thingmint.services.owners import Owner
    from thingmint.store.engine import Transaction

_MOST: Final = 100  # rows of a list
_LONGEST_ID: Final = 50
_NOUNS: Final = {
    "folder_id": "folder",
    "folderId": "folder",
    "registry_id": "registry",
    "registryId": "registry",
    "broker_id": "broker",
    "brokerId": "broker",
    "device_id": "device",
    "deviceId": "device",
}
"""The fields with a list, and what they name."""


@dataclass(frozen=True, slots=True)
class Picker:
    """``choices`` are ids with their words. ``noun`` is what they are; ``has_more`` if there are more than these."""

    noun: str
    choices: Sequence[tuple[str, str]]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Pickers:
    """``by_field`` are by the names of the form's fields. ``registry`` is the one whose devices are listed."""

    by_field: Mapping[str, Picker]
    registries: Sequence[tuple[str, str]] = ()
    registry: str = ""

    @property
    def has_devices(self) -> bool:
        return any(each.noun == "device" for each in self.by_field.values())


async def pickers_of(call: Call, given: Given) -> Pickers:
    """The lists for the fields of the form, with what the caller may list only.

    The query or the form may have the registry whose devices are listed, as ``of_registry``; else it is the first.
    """
    operation = given.operation
    nouns = {each.name: _NOUNS[each.name] for each in operation.fields if each.name in _NOUNS}
    if operation.api != "yandex" or not nouns:
        return Pickers({})
    wanted = (call.form.text("of_registry") or call.query.text("of_registry"))[:_LONGEST_ID]
    return await call.read(lambda tx: _read(tx, call, nouns, wanted))


async def _read(tx: Transaction, call: Call, nouns: Mapping[str, str], wanted: str) -> Pickers:
    needed = set(nouns.values())
    registries = await registries_of(tx, call) if needed & {"registry", "device"} else []
    registry = next((each for each in registries if each.id == wanted), next(iter(registries), None))
    lists: dict[str, Picker] = {"registry": _picker("registry", registries)}
    if "device" in needed:
        lists["device"] = await _devices(tx, call, registry)
    if needed & {"folder", "broker"}:
        folders = await list_folders(tx, call.caller.account)
        lists["folder"] = _picker("folder", [each for each in folders if _may_see(call, each)])
        if "broker" in needed:
            lists["broker"] = await _brokers(tx, call, folders)
    return Pickers(
        {field: lists[noun] for field, noun in nouns.items()},
        lists["registry"].choices,
        registry.id if registry is not None else "",
    )


async def _devices(tx: Transaction, call: Call, registry: DeviceRegistry | None) -> Picker:
    if registry is None or not allows_yandex(call, "DeviceService.List", *registry.resources):
        return Picker("device", (), has_more=False)
    found = await list_devices(tx, call.yandex_change, Named("registry", registry.id, registry), Cursor(_MOST))
    return _picker("device", found.items, has_more=found.next_token is not None)


async def _brokers(tx: Transaction, call: Call, folders: Iterable[Folder]) -> Picker:
    found = []
    for folder in folders:
        if allows_yandex(call, "BrokerService.List", *folder.resources):
            named = Named("folder", folder.id, folder)
            found += (await list_of_folder(tx, call.yandex_change, BROKERS, named, Cursor(_MOST))).items
    return _picker("broker", found)


def _may_see(call: Call, folder: Folder) -> bool:
    """True if the caller may list or make anything in the folder."""
    methods = ("RegistryService.List", "DeviceService.List", "BrokerService.List", "RegistryService.Create")
    return any(allows_yandex(call, method, *folder.resources) for method in methods)


def _picker(noun: str, found: Sequence[Folder | Owner], *, has_more: bool = False) -> Picker:
    choices = [(each.id, f"{each.name} ({each.id})" if each.name else each.id) for each in found[:_MOST]]
    return Picker(noun, choices, has_more or len(found) > _MOST)
