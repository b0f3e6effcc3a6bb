"""Adds many Yandex devices, registries and brokers with the ids that they have elsewhere, as an import does.

What is there is never changed: an id that is taken by something else is a conflict.
"""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

import bisect
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from thingmint.domain.arns import Scope
from thingmint.services.bindings import list_bindings
from thingmint.services.bulk_bindings import DatedCertificate, KnownCertificates, plan_bindings, write_bindings
from thingmint.services.device_registry import BROKERS, DEVICES, FOLDERS, REGISTRIES, Device, DeviceRegistry, Folder
from thingmint.services.imports import Result
from thingmint.services.passwords import PASSWORDS, Password
from thingmint.services.quotas import check_quota, take
from thingmint.services.topic_aliases import collision_of, insert_aliases
from thingmint.store.key_lists import FIRST_FURTHER, KeyList
from thingmint.store.outbox import publish_change

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from thingmint.services.change import Change
    from thingmint.services.owners import Owner
    from thingmint.services.password_hashing import NewPassword
    from thingmint.store.engine import Transaction
    from thingmint.store.table import Table

_DEVICES = KeyList(f"{DEVICES.select}WHERE id IN ({{keys}})")
_REGISTRIES = KeyList(f"{REGISTRIES.select}WHERE id IN ({{keys}})")
_NAMES = KeyList(
    f"SELECT name, id FROM devices WHERE registry = ${FIRST_FURTHER} AND name <> '' AND name IN ({{keys}})"
)
_ANYWHERE: Mapping[Table[Any], str] = {
    table: f"{table.select}WHERE id = $1" for table in (FOLDERS, REGISTRIES, BROKERS)
}
_NAMED: Mapping[Table[Any], str] = {
    table: f"{table.select}WHERE folder = $1 AND name = $2 AND name <> ''" for table in (REGISTRIES, BROKERS)
}
_NO_CREDENTIALS = "it has no certificate, and no export holds passwords: it needs a new password to connect"
_COMPARED = ("name", "description", "labels", "created_at", "registry", "topic_aliases", "disabled", "log_options")


@dataclass(frozen=True, slots=True)
class Imported:
    """A device, registry or broker as another service had it. ``results`` tell of what it has that cannot come.

    A device's folder follows from its registry. ``dated``: the service said when it was created.
    """

    owner: Owner
    certificates: Sequence[DatedCertificate] = ()
    password: NewPassword | None = None
    results: Sequence[Result] = ()
    dated: bool = True


async def add_folder(tx: Transaction, change: Change, folder: Folder, *, dry_run: bool) -> Result:
    row = await tx.fetch_one(_ANYWHERE[FOLDERS], folder.id)
    if row is not None:
        if FOLDERS.load(row).account == folder.account:
            return Result("folder", "same", folder.id)
        return Result("folder", "conflict", folder.id, "another account of this instance has this folder")
    if not dry_run:
        await FOLDERS.insert(tx, folder)
        await check_quota(tx, change.environment.quotas, "folders", change.account)
    return Result("folder", "new", folder.id)


async def add_in_folder(
    tx: Transaction, change: Change, table: Table[Any], imported: Imported, *, dry_run: bool
) -> list[Result]:
    """A registry or a broker. Raises LimitExceeded."""
    new = imported.owner
    row = await tx.fetch_one(_ANYWHERE[table], new.id)
    if row is not None:
        there = table.load(row)
        bound = {each.certificate.fingerprint for each in await list_bindings(tx, there)}
        return [_compared(there, imported, bound), *imported.results]
    if not dry_run:
        folder = await tx.fetch_one(_ANYWHERE[FOLDERS], new.folder)
        if folder is None or FOLDERS.load(folder).account != new.account:
            return [Result(new.kind, "refused", new.id, f"its folder {new.folder} is not there")]
    named = await tx.fetch_one(_NAMED[table], new.folder, new.name)
    if named is not None:
        reason = f"{new.kind} {table.load(named).id} of the folder has its name, {new.name}: rename that one first"
        return [Result(new.kind, "conflict", new.id, reason)]
    known = await KnownCertificates.of(tx, change, imported.certificates)
    plan = await plan_bindings(tx, change, [(new, imported.certificates)], known)
    if not dry_run:
        await table.insert(tx, new)
        await check_quota(tx, change.environment.quotas, "registries" if table is REGISTRIES else "brokers", new.folder)
        await write_bindings(tx, change, plan)
    return [Result(new.kind, "new", new.id), *imported.results, *plan.results[new.id]]


async def add_devices(
    tx: Transaction, change: Change, devices: Sequence[Imported], *, dry_run: bool
) -> list[list[Result]]:
    """The results by device; the first is about the device itself. Raises LimitExceeded."""
    rows = await _DEVICES.fetch(tx, [each.owner.id for each in devices])
    there: dict[str, Owner] = {device.id: device for device in DEVICES.load_all(rows)}
    known = await KnownCertificates.of(tx, change, [one for each in devices for one in each.certificates])
    places = _Places(change.account, assume_registries=dry_run)
    await places.read(tx, [each.owner for each in devices if isinstance(each.owner, Device)])
    results: list[list[Result]] = []
    new: list[tuple[Device, Imported]] = []
    for imported in devices:
        device = imported.owner
        assert isinstance(device, Device)
        if device.id in there:
            own = {each.fingerprint for each in imported.certificates if known.owner_of(each) == device.id}
            results.append([_compared(there[device.id], imported, own), *imported.results])
            continue
        refusal = await places.refusal(tx, device)
        if refusal is not None:
            results.append([refusal])
            continue
        there[device.id] = device
        placed = replace(device, folder=places.folder_of(device))
        new.append((placed, imported))
        results.append([Result("device", "new", device.id), *imported.results])
    plan = await plan_bindings(tx, change, [(owner, each.certificates) for owner, each in new], known)
    bound = {owner.id for owner, _ in [*plan.written, *plan.bound_singly]}
    for told, imported in zip(results, devices, strict=True):
        if told[0].outcome == "new":
            told.extend(plan.results[imported.owner.id])
            if imported.password is None and imported.owner.id not in bound:
                told.append(Result("device", "noted", imported.owner.id, _NO_CREDENTIALS))
    if new and not dry_run:
        await _write(tx, change, new)
        await write_bindings(tx, change, plan)
    return results


async def _write(tx: Transaction, change: Change, new: Sequence[tuple[Device, Imported]]) -> None:
    devices = [device for device, _ in new]
    await DEVICES.insert_many(tx, [(device,) for device in devices])
    await insert_aliases(
        tx, [(device.registry, alias, device.id) for device in devices for alias in device.topic_aliases]
    )
    for registry in dict.fromkeys(device.registry for device in devices if device.topic_aliases):
        await publish_change(tx, Scope(change.account, ""), "aliases", registry, change.now)
    for device, imported in new:
        await take(tx, change.environment.quotas, "devices", device.registry)
        if (password := imported.password) is not None:
            kept = Password(
                password.id, device.account, device.id, device.kind, password.scheme, password.hash, change.now
            )
            await PASSWORDS.insert(tx, kept)


class _Places:
    """Finds out whether a new device can have its registry, its name and its aliases."""

    def __init__(self, account: str, *, assume_registries: bool) -> None:
        self._account = account
        self._assume_registries = assume_registries
        self._registries: dict[str, DeviceRegistry] = {}
        self._named: dict[tuple[str, str], str] = {}
        self._aliases: dict[str, _Beginnings] = defaultdict(_Beginnings)

    async def read(self, tx: Transaction, devices: Sequence[Device]) -> None:
        names: dict[str, list[str]] = defaultdict(list)
        for device in devices:
            names[device.registry].append(device.name)
        found = REGISTRIES.load_all(await _REGISTRIES.fetch(tx, list(names)))
        self._registries = {registry.id: registry for registry in found if registry.account == self._account}
        for registry, of_devices in names.items():
            rows = await _NAMES.fetch(tx, of_devices, registry)
            self._named |= {(registry, name): id for name, id in rows}

    def folder_of(self, device: Device) -> str:
        registry = self._registries.get(device.registry)
        return registry.folder if registry is not None else ""

    async def refusal(self, tx: Transaction, device: Device) -> Result | None:
        """The result of a device that cannot come. One that can come takes its name and aliases."""
        if device.registry not in self._registries and not self._assume_registries:
            return Result("device", "refused", device.id, f"its registry {device.registry} is not there")
        place = device.registry, device.name
        if place in self._named:
            reason = f"device {self._named[place]} of the registry has its name, {device.name}: rename that one first"
            return Result("device", "conflict", device.id, reason)
        if device.topic_aliases:
            collision = await collision_of(tx, device.registry, device.topic_aliases)
            if collision is None and not self._aliases[device.registry].take(device.topic_aliases):
                collision = "A topic alias begins like one of another device: none may be the beginning of another"
            if collision is not None:
                return Result("device", "conflict", device.id, collision)
        if device.name:
            self._named[place] = device.id
        return None


class _Beginnings:
    """Aliases of one registry, of which none is the beginning of another."""

    def __init__(self) -> None:
        self._sorted: list[str] = []

    def take(self, aliases: Iterable[str]) -> bool:
        """False, without a change, if one collides with those that are there."""
        for alias in aliases:
            at = bisect.bisect_left(self._sorted, alias)
            if any(near.startswith(alias) or alias.startswith(near) for near in self._sorted[max(at - 1, 0) : at + 1]):
                return False
        for alias in aliases:
            bisect.insort(self._sorted, alias)
        return True


def _compared(there: Owner, imported: Imported, bound: set[str]) -> Result:
    """The result of an owner whose id is there; ``bound`` are the fingerprints of its certificates there."""
    new = imported.owner
    if there.account != new.account:
        return Result(new.kind, "conflict", new.id, "another account of this instance has this id")
    differing = [
        name.replace("_", " ")
        for name in _COMPARED
        if (name != "created_at" or imported.dated)
        and hasattr(new, name)
        and getattr(there, name) != getattr(new, name)
    ]
    missing = [each.fingerprint for each in imported.certificates if each.fingerprint not in bound]
    if missing:
        differing.append(f"certificate {missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else ""))
    if differing:
        reason = f"it is there with other content ({', '.join(differing)}): it was left as it is"
        return Result(new.kind, "conflict", new.id, reason)
    return Result(new.kind, "same", new.id)
