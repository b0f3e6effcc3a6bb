"""Registries and devices, as Yandex IoT Core has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.domain.errors import AlreadyExists, Conflict, NotFound
from thingmint.domain.quotas import NO_QUOTAS, exceeded
from thingmint.services.bindings import bind, unbind_all
from thingmint.store import fleet as sql
from thingmint.store import usage
from thingmint.store.times import to_micros

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.domain.fleet import Device, DeviceRegistry
    from thingmint.domain.quotas import Quotas
    from thingmint.domain.registration import Scope
    from thingmint.services.bindings import SubmittedCertificate
    from thingmint.services.markers import Markers
    from thingmint.services.operations import OperationRegistry, Receipt, RecordedOperation
    from thingmint.store.engine import Store, Transaction

__all__ = ["FleetRegistry"]


class FleetRegistry:
    """Every method is one transaction. Changes take a receipt and answer the operation that was recorded."""

    def __init__(
        self, store: Store, operations: OperationRegistry, markers: Markers, quotas: Quotas = NO_QUOTAS
    ) -> None:
        self._store = store
        self._operations = operations
        self._markers = markers
        self._quotas = quotas

    async def create_registry(
        self,
        scope: Scope,
        registry: DeviceRegistry,
        certificates: Sequence[SubmittedCertificate],
        receipt: Receipt[DeviceRegistry],
    ) -> RecordedOperation:
        """Raises NotFound (folder), AlreadyExists (name, certificate) and LimitExceeded."""

        async def change(tx: Transaction) -> DeviceRegistry:
            await _check_folder(tx, scope.account, registry.folder)
            if not await sql.insert_registry(tx, registry):
                raise AlreadyExists("registry", registry.name)
            quota = self._quotas.registries
            if quota is not None and await usage.has_more_than(tx, "registries", registry.folder, quota):
                raise exceeded("folder", registry.folder, quota, "registries")
            for certificate in certificates:
                await bind(tx, scope, "registry", registry.id, certificate, registry.created_at, self._quotas)
            tx.audit_resources.append(f"yandex:registry/{registry.id}")
            return registry

        return await self._operations.write(receipt, change)

    async def get_registry(self, account: str, id: str) -> DeviceRegistry:
        async def body(tx: Transaction) -> DeviceRegistry:
            return await _registry(tx, account, id)

        return await self._store.read(body)

    async def list_registries(
        self, scope: Scope, folder: str, *, limit: int, token: str
    ) -> tuple[list[DeviceRegistry], str]:
        """A page, oldest first, and the next page's token, which is empty after the last."""
        listing = f"registries {folder}"
        after = self._markers.open(listing, scope, token, "page_token") if token else None

        async def body(tx: Transaction) -> list[DeviceRegistry]:
            await _check_folder(tx, scope.account, folder)
            return await sql.list_registries(tx, folder, limit=limit + 1, after=after)

        found = await self._store.read(body)
        return found[:limit], self._next_token(listing, scope, found, limit)

    async def delete_registry(self, account: str, id: str, receipt: Receipt[None]) -> RecordedOperation:
        """Raises NotFound, and Conflict while it has devices."""

        async def change(tx: Transaction) -> None:
            await _registry(tx, account, id)
            if await sql.has_devices(tx, id):
                raise Conflict("registry", id, f"Registry {id} still has devices: delete them first")
            await unbind_all(tx, id, receipt.created_at)
            await sql.delete_registry(tx, id)
            tx.audit_resources.append(f"yandex:registry/{id}")

        return await self._operations.write(receipt, change)

    async def create_device(
        self, scope: Scope, device: Device, certificates: Sequence[SubmittedCertificate], receipt: Receipt[Device]
    ) -> RecordedOperation:
        """``device.folder`` is that of its registry. Raises NotFound, AlreadyExists and LimitExceeded."""

        async def change(tx: Transaction) -> Device:
            await _registry(tx, scope.account, device.registry)
            if not await sql.insert_device(tx, device):
                raise AlreadyExists("device", device.name)
            quota = self._quotas.devices
            if quota is not None and await usage.used(tx, "devices", device.registry) > quota:
                raise exceeded("registry", device.registry, quota, "devices")
            for certificate in certificates:
                await bind(tx, scope, "device", device.id, certificate, device.created_at, self._quotas)
            tx.audit_resources.append(f"yandex:device/{device.id}")
            return device

        return await self._operations.write(receipt, change)

    async def get_device(self, account: str, id: str) -> Device:
        async def body(tx: Transaction) -> Device:
            return await _device(tx, account, id)

        return await self._store.read(body)

    async def find_device(self, account: str, id: str) -> Device | None:
        async def body(tx: Transaction) -> Device | None:
            return await sql.get_device(tx, account, id)

        return await self._store.read(body)

    async def find_registry(self, account: str, id: str) -> DeviceRegistry | None:
        async def body(tx: Transaction) -> DeviceRegistry | None:
            return await sql.get_registry(tx, account, id)

        return await self._store.read(body)

    async def get_device_by_name(self, account: str, registry: str, name: str) -> Device:
        async def body(tx: Transaction) -> Device:
            await _registry(tx, account, registry)
            device = await sql.get_device_by_name(tx, registry, name)
            if device is None:
                raise NotFound("device", name)
            return device

        return await self._store.read(body)

    async def list_devices(
        self, scope: Scope, *, registry: str | None, folder: str | None, limit: int, token: str
    ) -> tuple[list[Device], str]:
        """A page of one registry's or one folder's devices, oldest first, and the next page's token."""
        listing = f"devices {registry or folder}"
        after = self._markers.open(listing, scope, token, "page_token") if token else None

        async def body(tx: Transaction) -> list[Device]:
            if registry is not None:
                await _registry(tx, scope.account, registry)
            else:
                await _check_folder(tx, scope.account, folder or "")
            return await sql.list_devices(tx, registry=registry, folder=folder, limit=limit + 1, after=after)

        found = await self._store.read(body)
        return found[:limit], self._next_token(listing, scope, found, limit)

    async def delete_device(self, account: str, id: str, receipt: Receipt[None]) -> RecordedOperation:
        async def change(tx: Transaction) -> None:
            device = await _device(tx, account, id)
            await unbind_all(tx, id, receipt.created_at)
            await sql.delete_device(tx, device)
            tx.audit_resources.append(f"yandex:device/{id}")

        return await self._operations.write(receipt, change)

    def _next_token(
        self, listing: str, scope: Scope, found: Sequence[DeviceRegistry] | Sequence[Device], limit: int
    ) -> str:
        if len(found) <= limit:
            return ""
        last = found[limit - 1]
        return self._markers.seal(listing, scope, (to_micros(last.created_at), last.id))


async def _check_folder(tx: Transaction, account: str, folder: str) -> None:
    if not await sql.has_folder(tx, account, folder):
        raise NotFound("folder", folder)


async def _registry(tx: Transaction, account: str, id: str) -> DeviceRegistry:
    registry = await sql.get_registry(tx, account, id)
    if registry is None:
        raise NotFound("registry", id)
    return registry


async def _device(tx: Transaction, account: str, id: str) -> Device:
    device = await sql.get_device(tx, account, id)
    if device is None:
        raise NotFound("device", id)
    return device
