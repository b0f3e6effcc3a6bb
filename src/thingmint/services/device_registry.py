"""The folders, registries and devices of Yandex IoT Core."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from thingmint.domain.errors import AlreadyExists, Conflict, NotFound
from thingmint.services.bindings import bind, unbind_all
from thingmint.services.owners import Named, Owner
from thingmint.services.pages import Page, page_of, size_of_texts
from thingmint.services.quotas import check_quota, drop_count, give_back, take
from thingmint.services.topic_aliases import drop_aliases, keep_aliases
from thingmint.store.table import Table, record, to_micros

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.services.bindings import SubmittedCertificate
    from thingmint.services.change import Change, Query
    from thingmint.services.page_tokens import Position
    from thingmint.services.pages import Cursor
    from thingmint.store.engine import Transaction


@record
class Folder:
    id: str
    account: str
    name: str
    created_at: datetime

    @property
    def folder(self) -> str:
        return self.id

    @property
    def resources(self) -> tuple[str, ...]:
        return (f"yandex:folder/{self.id}",)


@record
class DeviceRegistry(Owner):
    """``log_options`` are stored and returned, but have no effect."""

    kind = "registry"

    log_options: Mapping[str, Any]


@record
class Device(Owner):
    kind = "device"

    registry: str
    topic_aliases: Mapping[str, str]

    @property
    def resources(self) -> tuple[str, ...]:
        return self.resource, f"yandex:registry/{self.registry}", f"yandex:folder/{self.folder}"


_KEY = ("account", "id")

FOLDERS = Table(Folder, "folders", "folder", key=_KEY, unique=None)
# Names are optional, and unique if given.
REGISTRIES = Table(DeviceRegistry, "registries", "registry", key=_KEY, unique="(folder, name) WHERE name <> ''")
DEVICES = Table(Device, "devices", "device", key=_KEY, unique="(registry, name) WHERE name <> ''")

_FOLDERS = f"{FOLDERS.select}WHERE account = $1 ORDER BY created_at"
_PAGE = " = $1 AND (created_at, id) > ($2, $3) ORDER BY created_at, id LIMIT $4"
_REGISTRIES_OF_FOLDER = f"{REGISTRIES.select}WHERE folder{_PAGE}"
_DEVICES_OF = {"folder": f"{DEVICES.select}WHERE folder{_PAGE}", "registry": f"{DEVICES.select}WHERE registry{_PAGE}"}
_BY_NAME = f"{DEVICES.select}WHERE registry = $1 AND name = $2 AND name <> ''"
_HAS_DEVICES = "SELECT 1 FROM devices WHERE registry = $1 LIMIT 1"


async def list_folders(tx: Transaction, account: str) -> list[Folder]:
    return FOLDERS.load_all(await tx.fetch_all(_FOLDERS, account))


async def create_registry(
    tx: Transaction, change: Change, registry: DeviceRegistry, certificates: Sequence[SubmittedCertificate]
) -> None:
    """Create a registry in an existing folder. Raises AlreadyExists (name, certificate) and LimitExceeded."""
    if not await REGISTRIES.insert(tx, registry):
        raise AlreadyExists("registry", registry.name)
    await check_quota(tx, change.environment.quotas, "registries", registry.folder)
    await _bind_all(tx, change, registry, certificates)


async def list_registries(tx: Transaction, query: Query, folder: Named[Folder], cursor: Cursor) -> Page[DeviceRegistry]:
    """Return a page of registries, the oldest first. Raises Invalid (page token) and NotFound."""

    async def fetch(after: Position | None, limit: int) -> list[DeviceRegistry]:
        rows = await tx.fetch_all(_REGISTRIES_OF_FOLDER, folder.get().id, *(after or _FIRST), limit)
        return REGISTRIES.load_all(rows)

    return await page_of(query, cursor, f"registries {folder.id}", fetch, _position, _size)


async def delete_registry(tx: Transaction, change: Change, registry: DeviceRegistry) -> None:
    """Delete a registry. Raises Conflict while it has devices."""
    if await tx.fetch_one(_HAS_DEVICES, registry.id):
        raise Conflict("registry", registry.id, f"Registry {registry.id} still has devices: delete them first")
    await unbind_all(tx, change, registry)
    await REGISTRIES.delete(tx, registry.account, registry.id)
    await drop_count(tx, "devices", registry.id)
    tx.audit_resources.append(registry.resource)


async def create_device(
    tx: Transaction, change: Change, device: Device, certificates: Sequence[SubmittedCertificate]
) -> None:
    """Create a device in an existing registry.

    Raises AlreadyExists (name, topic alias, certificate) and LimitExceeded.
    """
    if not await DEVICES.insert(tx, device):
        raise AlreadyExists("device", device.name)
    await keep_aliases(tx, device.registry, device.id, device.topic_aliases)
    await take(tx, change.environment.quotas, "devices", device.registry)
    await _bind_all(tx, change, device, certificates)


async def get_device_by_name(tx: Transaction, registry: DeviceRegistry, name: str) -> Device:
    """Return the device of that name. Raises NotFound."""
    row = await tx.fetch_one(_BY_NAME, registry.id, name)
    if row is None:
        raise NotFound("device", name)
    return DEVICES.load(row)


async def list_devices(
    tx: Transaction, query: Query, parent: Named[DeviceRegistry] | Named[Folder], cursor: Cursor
) -> Page[Device]:
    """Return a page of the devices of a registry or folder, the oldest first. Raises Invalid and NotFound."""

    async def fetch(after: Position | None, limit: int) -> list[Device]:
        rows = await tx.fetch_all(_DEVICES_OF[parent.noun], parent.get().id, *(after or _FIRST), limit)
        return DEVICES.load_all(rows)

    return await page_of(query, cursor, f"devices {parent.id}", fetch, _position, _size)


async def delete_device(tx: Transaction, change: Change, device: Device) -> None:
    await unbind_all(tx, change, device)
    await drop_aliases(tx, device.registry, device.id, device.topic_aliases)
    await DEVICES.delete(tx, device.account, device.id)
    await give_back(tx, "devices", device.registry)
    tx.audit_resources.append(device.resource)


async def _bind_all(
    tx: Transaction, change: Change, owner: Owner, certificates: Sequence[SubmittedCertificate]
) -> None:
    for certificate in certificates:
        await bind(tx, change, owner, certificate)
    tx.audit_resources.append(owner.resource)


_FIRST: Position = (-1, "")


def _position(row: Owner) -> Position:
    return to_micros(row.created_at), row.id


def _size(row: Owner) -> int:
    size = len(row.description) + size_of_texts(row.labels)
    return size + size_of_texts(row.topic_aliases) if isinstance(row, Device) else size
