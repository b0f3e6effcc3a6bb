"""Folders, registries and devices in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from thingmint.domain.fleet import Device, DeviceRegistry
from thingmint.store import usage
from thingmint.store.times import from_micros, to_micros

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from thingmint.store.engine import Row, Transaction

__all__ = [
    "delete_device",
    "delete_registry",
    "get_device",
    "get_device_by_name",
    "get_registry",
    "has_devices",
    "has_folder",
    "insert_device",
    "insert_folder",
    "insert_registry",
    "list_devices",
    "list_folders",
    "list_registries",
]


async def insert_folder(tx: Transaction, id: str, account: str, name: str, now: int) -> None:
    await tx.execute(
        "INSERT INTO folders (id, account, name, created_at) VALUES ($1, $2, $3, $4)", id, account, name, now
    )


async def list_folders(tx: Transaction, account: str) -> list[tuple[str, str, int]]:
    """Id, name and when each was made."""
    rows = await tx.fetch_all(
        "SELECT id, name, created_at FROM folders WHERE account = $1 ORDER BY created_at", account
    )
    return [(row[0], row[1], row[2]) for row in rows]


async def has_folder(tx: Transaction, account: str, id: str) -> bool:
    return await tx.fetch_one("SELECT 1 FROM folders WHERE id = $1 AND account = $2", id, account) is not None


_REGISTRY = "SELECT id, account, folder, name, description, labels, log_options, created_at FROM registries "


async def insert_registry(tx: Transaction, registry: DeviceRegistry) -> bool:
    """False if the folder has one of that name."""
    inserted = await tx.execute(
        "INSERT INTO registries (id, account, folder, name, description, labels, log_options, created_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
        registry.id,
        registry.account,
        registry.folder,
        registry.name,
        registry.description,
        _json(registry.labels),
        _json(registry.log_options),
        to_micros(registry.created_at),
    )
    return inserted == 1


async def get_registry(tx: Transaction, account: str, id: str) -> DeviceRegistry | None:
    row = await tx.fetch_one(_REGISTRY + "WHERE id = $1 AND account = $2", id, account)
    return _registry(row) if row else None


async def list_registries(
    tx: Transaction, folder: str, *, limit: int, after: tuple[int, str] | None
) -> list[DeviceRegistry]:
    beyond = "AND (created_at, id) > ($3, $4) " if after else ""
    rows = await tx.fetch_all(
        f"{_REGISTRY}WHERE folder = $1 {beyond}ORDER BY created_at, id LIMIT $2", folder, limit, *(after or ())
    )
    return [_registry(row) for row in rows]


async def has_devices(tx: Transaction, registry: str) -> bool:
    return await tx.fetch_one("SELECT 1 FROM devices WHERE registry = $1 LIMIT 1", registry) is not None


async def delete_registry(tx: Transaction, id: str) -> None:
    await tx.execute("DELETE FROM registries WHERE id = $1", id)
    await usage.forget(tx, "devices", id)


_DEVICE = "SELECT id, account, folder, registry, name, description, labels, topic_aliases, created_at FROM devices "


async def insert_device(tx: Transaction, device: Device) -> bool:
    """False if the registry has one of that name."""
    inserted = await tx.execute(
        "INSERT INTO devices (id, account, folder, registry, name, description, labels, topic_aliases, created_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
        device.id,
        device.account,
        device.folder,
        device.registry,
        device.name,
        device.description,
        _json(device.labels),
        _json(device.topic_aliases),
        to_micros(device.created_at),
    )
    if inserted:
        await usage.note(tx, "devices", device.registry, 1)
    return inserted == 1


async def get_device(tx: Transaction, account: str, id: str) -> Device | None:
    row = await tx.fetch_one(_DEVICE + "WHERE id = $1 AND account = $2", id, account)
    return _device(row) if row else None


async def get_device_by_name(tx: Transaction, registry: str, name: str) -> Device | None:
    row = await tx.fetch_one(_DEVICE + "WHERE registry = $1 AND name = $2 AND name <> ''", registry, name)
    return _device(row) if row else None


async def list_devices(
    tx: Transaction, *, registry: str | None, folder: str | None, limit: int, after: tuple[int, str] | None
) -> list[Device]:
    """Of one registry or of one folder."""
    column, parent = ("registry", registry) if registry is not None else ("folder", folder)
    beyond = "AND (created_at, id) > ($3, $4) " if after else ""
    rows = await tx.fetch_all(
        f"{_DEVICE}WHERE {column} = $1 {beyond}ORDER BY created_at, id LIMIT $2", parent, limit, *(after or ())
    )
    return [_device(row) for row in rows]


async def delete_device(tx: Transaction, device: Device) -> None:
    if await tx.execute("DELETE FROM devices WHERE id = $1", device.id):
        await usage.note(tx, "devices", device.registry, -1)


def _json(value: Mapping[str, Any]) -> str:
    return orjson.dumps(value).decode()


def _registry(row: Row) -> DeviceRegistry:
    return DeviceRegistry(
        id=row[0],
        account=row[1],
        folder=row[2],
        name=row[3],
        description=row[4],
        labels=orjson.loads(row[5]),
        log_options=orjson.loads(row[6]),
        created_at=from_micros(row[7]),
    )


def _device(row: Row) -> Device:
    return Device(
        id=row[0],
        account=row[1],
        folder=row[2],
        registry=row[3],
        name=row[4],
        description=row[5],
        labels=orjson.loads(row[6]),
        topic_aliases=orjson.loads(row[7]),
        created_at=from_micros(row[8]),
    )
