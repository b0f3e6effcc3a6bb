"""Registries, devices and brokers of Yandex IoT Core, and the folders that they are in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from thingmint.domain.arns import Scope
from thingmint.domain.errors import AlreadyExists, Conflict, NotFound
from thingmint.services.bindings import bind, unbind_all
from thingmint.services.device_activity import delete_activity
from thingmint.services.exports import delete_exports
from thingmint.services.last_messages import delete_last
from thingmint.services.owners import Named, Owner
from thingmint.services.pages import Page, page_of, size_of_texts
from thingmint.services.passwords import add_password, delete_all_passwords
from thingmint.services.quotas import check_quota, drop_count, give_back, take
from thingmint.services.topic_aliases import drop_aliases, keep_aliases
from thingmint.store.outbox import publish_change
from thingmint.store.table import Table, record, to_micros

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.services.bindings import SubmittedCertificate
    from thingmint.services.change import Change, Query
    from thingmint.services.page_tokens import Position
    from thingmint.services.pages import Cursor
    from thingmint.services.password_hashing import NewPassword
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


@dataclass(frozen=True, slots=True)
class Credentials:
    """Those that an owner is created with."""

    certificates: Sequence[SubmittedCertificate] = ()
    password: NewPassword | None = None


@record
class DeviceRegistry(Owner):
    """``log_options`` are stored and returned, but have no effect.

    While it is ``disabled``, neither it nor its devices can connect.
    """

    kind = "registry"

    log_options: Mapping[str, Any]
    disabled: bool = False


@record
class Broker(Owner):
    kind = "broker"

    log_options: Mapping[str, Any]


@record
class Device(Owner):
    kind = "device"

    registry: str
    topic_aliases: Mapping[str, str]

    @property
    def parent(self) -> str:
        return self.registry

    @property
    def resources(self) -> tuple[str, ...]:
        return self.resource, f"yandex:registry/{self.registry}", f"yandex:folder/{self.folder}"


_KEY = ("account", "id")
_IN_FOLDER = "(folder, name) WHERE name <> ''"  # names are unique where they are given at all

FOLDERS = Table(Folder, "folders", "folder", key=_KEY, unique=None)
REGISTRIES = Table(DeviceRegistry, "registries", "registry", key=_KEY, unique=_IN_FOLDER)
BROKERS = Table(Broker, "brokers", "broker", key=_KEY, unique=_IN_FOLDER)
DEVICES = Table(Device, "devices", "device", key=_KEY, unique="(registry, name) WHERE name <> ''")

_FOLDERS = f"{FOLDERS.select}WHERE account = $1 ORDER BY created_at"
_PAGE = " = $1 AND (created_at, id) > ($2, $3) ORDER BY created_at, id LIMIT $4"
_OF_FOLDER = {table: f"{table.select}WHERE folder{_PAGE}" for table in (REGISTRIES, BROKERS)}
_DEVICES_OF = {"folder": f"{DEVICES.select}WHERE folder{_PAGE}", "registry": f"{DEVICES.select}WHERE registry{_PAGE}"}
_BY_NAME: Mapping[Table[Any], str] = {
    REGISTRIES: f"{REGISTRIES.select}WHERE folder = $1 AND name = $2 AND name <> ''",
    BROKERS: f"{BROKERS.select}WHERE folder = $1 AND name = $2 AND name <> ''",
    DEVICES: f"{DEVICES.select}WHERE registry = $1 AND name = $2 AND name <> ''",
}
_HAS_DEVICES = "SELECT 1 FROM devices WHERE registry = $1 LIMIT 1"
_QUOTAS: Mapping[Table[Any], Literal["registries", "brokers"]] = {REGISTRIES: "registries", BROKERS: "brokers"}

R = TypeVar("R", bound=Owner)
_F = TypeVar("_F", DeviceRegistry, Broker)


async def list_folders(tx: Transaction, account: str) -> list[Folder]:
    return FOLDERS.load_all(await tx.fetch_all(_FOLDERS, account))


async def create_in_folder(
    tx: Transaction, change: Change, table: Table[_F], new: _F, credentials: Credentials
) -> None:
    """A registry or a broker, in a folder that exists. Raises AlreadyExists (name, certificate) and LimitExceeded."""
    if not await table.insert(tx, new):
        raise AlreadyExists(table.noun, new.name)
    await check_quota(tx, change.environment.quotas, _QUOTAS[table], new.folder)
    await _add_credentials(tx, change, new, credentials)


async def list_of_folder(
    tx: Transaction, query: Query, table: Table[_F], folder: Named[Folder], cursor: Cursor
) -> Page[_F]:
    """The registries or brokers of a folder, the oldest first. Raises Invalid (page token) and NotFound."""

    async def fetch(after: Position | None, limit: int) -> list[_F]:
        return table.load_all(await tx.fetch_all(_OF_FOLDER[table], folder.get().id, *(after or _FIRST), limit))

    return await page_of(query, cursor, f"{_QUOTAS[table]} {folder.id}", fetch, _position, _size)


async def get_by_name(tx: Transaction, table: Table[R], parent: DeviceRegistry | Folder, name: str) -> R:
    """The device of a registry, or the registry or broker of a folder. Raises NotFound."""
    row = await tx.fetch_one(_BY_NAME[table], parent.id, name)
    if row is None:
        raise NotFound(table.noun, name)
    return table.load(row)


async def update(tx: Transaction, table: Table[R], before: R, after: R) -> None:
    """Raises AlreadyExists (name)."""
    if after.name not in ("", before.name) and await tx.fetch_one(_BY_NAME[table], after.parent, after.name):
        raise AlreadyExists(table.noun, after.name)
    await table.update(tx, after)
    tx.audit_resources.append(after.resource)


async def update_device(tx: Transaction, change: Change, before: Device, after: Device) -> None:
    """Raises AlreadyExists (name, topic alias)."""
    if before.topic_aliases != after.topic_aliases:
        await drop_aliases(tx, before.registry, before.id, before.topic_aliases)
        await keep_aliases(tx, after.registry, after.id, after.topic_aliases)
        await _publish_aliases(tx, change, after)
        await publish_change(tx, Scope(after.account, ""), "owner", after.id, change.now)
    await update(tx, DEVICES, before, after)


async def set_disabled(tx: Transaction, change: Change, registry: DeviceRegistry, *, disabled: bool) -> DeviceRegistry:
    """Connections of a registry that is disabled, and of its devices, end; nothing is changed if it is so already."""
    tx.audit_resources.append(registry.resource)
    if registry.disabled == disabled:
        return registry
    after = replace(registry, disabled=disabled)
    await REGISTRIES.update(tx, after)
    await publish_change(tx, Scope(registry.account, ""), "registry", registry.id, change.now)
    return after


async def delete_registry(tx: Transaction, change: Change, registry: DeviceRegistry) -> None:
    """Delete a registry. Raises Conflict while it has devices."""
    if await tx.fetch_one(_HAS_DEVICES, registry.id):
        raise Conflict("registry", registry.id, f"Registry {registry.id} still has devices: delete them first")
    await _remove_credentials(tx, change, registry)
    await delete_exports(tx, change, registry)
    await delete_last(tx, change.scope, registry.id, registry.id, change.new_id, change.now)
    await REGISTRIES.delete(tx, registry.account, registry.id)
    await drop_count(tx, "devices", registry.id)
    tx.audit_resources.append(registry.resource)


async def delete_broker(tx: Transaction, change: Change, broker: Broker) -> None:
    await _remove_credentials(tx, change, broker)
    await BROKERS.delete(tx, broker.account, broker.id)
    tx.audit_resources.append(broker.resource)


async def create_device(tx: Transaction, change: Change, device: Device, credentials: Credentials) -> None:
    """In a registry that exists. Raises AlreadyExists (name, topic alias, certificate) and LimitExceeded."""
    if not await DEVICES.insert(tx, device):
        raise AlreadyExists("device", device.name)
    await keep_aliases(tx, device.registry, device.id, device.topic_aliases)
    if device.topic_aliases:
        await _publish_aliases(tx, change, device)
    await take(tx, change.environment.quotas, "devices", device.registry)
    await _add_credentials(tx, change, device, credentials)


async def list_devices(
    tx: Transaction, query: Query, parent: Named[DeviceRegistry] | Named[Folder], cursor: Cursor
) -> Page[Device]:
    """Return a page of the devices of a registry or folder, the oldest first. Raises Invalid and NotFound."""

    async def fetch(after: Position | None, limit: int) -> list[Device]:
        rows = await tx.fetch_all(_DEVICES_OF[parent.noun], parent.get().id, *(after or _FIRST), limit)
        return DEVICES.load_all(rows)

    return await page_of(query, cursor, f"devices {parent.id}", fetch, _position, _size)


async def delete_device(tx: Transaction, change: Change, device: Device) -> None:
    await _remove_credentials(tx, change, device)
    await delete_activity(tx, device.id)
    await delete_last(tx, change.scope, device.id, device.registry, change.new_id, change.now)
    await drop_aliases(tx, device.registry, device.id, device.topic_aliases)
    if device.topic_aliases:
        await _publish_aliases(tx, change, device)
    await DEVICES.delete(tx, device.account, device.id)
    await give_back(tx, "devices", device.registry)
    tx.audit_resources.append(device.resource)


async def _publish_aliases(tx: Transaction, change: Change, device: Device) -> None:
    """The registry's own clients use the aliases of all its devices."""
    await publish_change(tx, Scope(device.account, ""), "aliases", device.registry, change.now)


async def _add_credentials(tx: Transaction, change: Change, owner: Owner, credentials: Credentials) -> None:
    for certificate in credentials.certificates:
        await bind(tx, change, owner, certificate)
    if credentials.password is not None:
        await add_password(tx, change, owner, credentials.password)
    else:
        tx.audit_resources.append(owner.resource)


async def _remove_credentials(tx: Transaction, change: Change, owner: Owner) -> None:
    await unbind_all(tx, change, owner)
    await delete_all_passwords(tx, change, owner)


_FIRST: Position = (-1, "")


def _position(row: Owner) -> Position:
    return to_micros(row.created_at), row.id


def _size(row: Owner) -> int:
    size = len(row.description) + size_of_texts(row.labels)
    return size + size_of_texts(row.topic_aliases) if isinstance(row, Device) else size
