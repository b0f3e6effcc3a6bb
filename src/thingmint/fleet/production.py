"""Registers the devices of a run, in the process that has the store open. It gets no private key."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from thingmint.access.administration.accounts import list_accounts
from thingmint.access.local_admin import local_request, recorded
from thingmint.access.operations import Operation, run
from thingmint.domain.arns import Scope
from thingmint.domain.certificates import parse_csr
from thingmint.domain.errors import (
    Conflict,
    DomainError,
    Invalid,
    NotFound,
    ProvisioningFailed,
    Throttled,
    Unavailable,
)
from thingmint.domain.keys import CSR_KEYS
from thingmint.fleet.targets import CSR, find_target
from thingmint.services.certificates import get_registered
from thingmint.services.change import Change
from thingmint.services.fleet_runs import (
    FleetDevice,
    FleetRun,
    advance,
    begin_run,
    get_run,
    record_devices,
    registered_devices,
)
from thingmint.services.issuing import discard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from thingmint.access.audit import AuditedStore, AuditLog
    from thingmint.domain.certificates import SigningRequest
    from thingmint.fleet.targets import Prepared, Target
    from thingmint.services.change import Environment
    from thingmint.services.fleet_runs import TargetKind
    from thingmint.store.engine import Transaction

MAX_DEVICES = 50
"""Of one request: one transaction registers them, and may touch 1,000 rows."""
_HOOKS_AT_ONCE = 16

Json = dict[str, Any]


class DeviceRefused(ProvisioningFailed):
    """A device cannot be registered. Nothing of its request was."""

    def __init__(self, device: Wanted, cause: DomainError) -> None:
        super().__init__(cause)
        self.device = device


@dataclass(frozen=True, slots=True)
class Wanted:
    """A device to register. ``place`` is its place in the run."""

    place: int
    name: str
    parameters: Mapping[str, str]
    request: SigningRequest
    sha256: bytes

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Wanted:
        request = parse_csr(given["csr"], CSR, CSR_KEYS)
        content = orjson.dumps([given["name"], given["parameters"]], option=orjson.OPT_SORT_KEYS)
        key = request.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        sha256 = hashlib.sha256(content + key).digest()
        return cls(given["place"], given["name"], given["parameters"], request, sha256)


@dataclass(frozen=True, slots=True)
class _Request:
    run: str
    done: int
    devices: Sequence[Wanted]


@dataclass(frozen=True, slots=True)
class _Found:
    """``known`` are the devices of the request that are registered already, by place."""

    run: FleetRun
    target: Target
    known: Mapping[int, FleetDevice]


@dataclass(frozen=True, slots=True)
class Production:
    """Its methods are the local commands ``fleet.look`` and so on: they take and return JSON, and raise DomainErrors.

    An earlier call with the same devices gets the same certificates.
    """

    store: AuditedStore
    trail: AuditLog
    environment: Environment
    clock: Callable[[], datetime]

    async def look(self, *, account: str = "", region: str = "", template: str = "", registry: str = "") -> Json:
        """Describe a template or a registry, by its name or id."""
        known = [each.id for each in await self.store.read(list_accounts)]
        if account and account not in known:
            raise NotFound("account", account)
        target = await self._target(account or known[0], region, template=template, registry=registry)
        return {**_named(target), **target.described()}

    async def check(
        self, *, account: str, region: str, kind: TargetKind, target: str, version: int, devices: Sequence[Json]
    ) -> Json:
        """Say of each device what its thing will be named, and why it cannot be made if so. Nothing is changed."""
        change = self._change(account, region)

        async def body(tx: Transaction) -> list[Json]:
            chosen = await find_target(tx, account, region, version=version, **_by_kind(kind, target))
            found: list[Json] = []
            for device in devices:
                try:
                    thing = await chosen.check(tx, change, device["name"], device["parameters"])
                    found.append({"thing": thing, "flaw": None})
                except DomainError as error:
                    found.append({"thing": "", "flaw": str(error)})
            return found

        return {"devices": await self.store.read(body)}

    async def begin(
        self,
        *,
        run: str,
        account: str,
        region: str,
        kind: TargetKind,
        target: str,
        version: int,
        size: int,
        done: int,
    ) -> Json:
        """Begin a run, or go on with it. ``done`` is how many certificates the command's directory has."""
        now = self.clock()
        found = await self._target(account, region, version=version, **_by_kind(kind, target))
        new = FleetRun(run, account, found.scope.region, kind, target, version, size, 0, now, now)
        context = replace(
            local_request("StartFleetRun", now), account=account, parameters={kind: target, "devices": str(size)}
        )

        async def body(tx: Transaction) -> FleetRun:
            tx.audit_details["run"] = run
            return await begin_run(tx, new, done)

        with recorded(context, self.trail) as outcome:
            begun = await self.store.of(context, outcome).write(body)
        return {"done": begun.done, "finished": begun.finished_at is not None}

    async def register(self, *, run: str, done: int, devices: Sequence[Json]) -> Json:
        """Register devices, all or none. Returns their certificates, or which device was refused and why.

        ``done`` is how many of the run's first devices have their certificates on the command's disk.
        """
        known = await self.store.read(lambda tx: get_run(tx, run))
        change = self._change(known.account, known.region)
        context = replace(
            local_request("RegisterFleetDevices", change.now),
            account=known.account,
            parameters={known.kind: known.target, "devices": str(len(devices))},
        )
        try:
            with recorded(context, self.trail) as outcome:
                request = _Request(run, done, await _parsed(known, done, devices))
                return {"devices": await _run(self.store.of(context, outcome), change, request)}
        except DeviceRefused as error:
            device = error.device
            return {"refused": {"place": device.place, "name": device.name, "reason": error.reason}}

    async def finish(self, *, run: str) -> Json:
        """End a run, all of whose certificates are on the command's disk."""
        now = self.clock()
        known = await self.store.read(lambda tx: get_run(tx, run))
        context = replace(
            local_request("FinishFleetRun", now),
            account=known.account,
            parameters={known.kind: known.target, "devices": str(known.size)},
        )

        async def body(tx: Transaction) -> None:
            tx.audit_details["run"] = run
            await advance(tx, await get_run(tx, run), known.size, now, finished=True)

        with recorded(context, self.trail) as outcome:
            await self.store.of(context, outcome).write(body)
        return {"done": known.size, "finished": True}

    async def _target(self, account: str, region: str, *, template: str, registry: str, version: int = 0) -> Target:
        return await self.store.read(
            lambda tx: find_target(tx, account, region, template=template, registry=registry, version=version)
        )

    def _change(self, account: str, region: str) -> Change:
        return Change(Scope(account, region), self.clock(), self.environment, lambda *_: None)


async def _run(store: AuditedStore, change: Change, request: _Request) -> list[Json]:
    devices: list[Json] = await run(_REGISTER, store, change, request)
    return devices


async def _parsed(run: FleetRun, done: int, devices: Sequence[Json]) -> list[Wanted]:
    """Parse the devices. Raises Invalid and DeviceRefused."""
    places = [device["place"] for device in devices]
    if not devices or len(devices) > MAX_DEVICES:
        raise Invalid("devices", f"must be 1 to {MAX_DEVICES}")
    if places != list(range(places[0], places[0] + len(places))) or not done <= places[0] <= places[-1] < run.size:
        raise Invalid("devices", "must follow one another, after those that are done")
    return await asyncio.to_thread(lambda: [Wanted.of(device) for device in devices])


async def _find(tx: Transaction, _change: Change, request: _Request) -> _Found:
    run = await get_run(tx, request.run)
    first = request.devices[0].place
    if first < run.done:
        reason = f"Device {request.devices[0].name} has its certificate already: restore the directory from a backup"
        raise Conflict("fleet run", run.id, reason)
    known = await registered_devices(tx, run, first, len(request.devices))
    for device in request.devices:
        if device.place in known and known[device.place].request_sha256 != device.sha256:
            id = known[device.place].fingerprint
            reason = f"it was registered with another key or other parameters, as certificate {id}"
            raise DeviceRefused(device, Conflict("device", device.name, reason))
    target = await find_target(tx, run.account, run.region, version=run.version, **_by_kind(run.kind, run.target))
    return _Found(run, target, known)


async def _prepare(change: Change, request: _Request, found: _Found) -> dict[int, Prepared]:
    """Sign the certificates of the devices that are not registered yet, by place."""
    prepared: dict[int, Prepared] = {}
    some = asyncio.Semaphore(_HOOKS_AT_ONCE)

    async def prepare(device: Wanted) -> None:
        async with some:
            with _refusals(device):
                prepared[device.place] = await found.target.prepare(
                    change, device.name, device.parameters, device.request
                )
        await asyncio.sleep(0)  # signing takes a millisecond

    try:
        async with asyncio.TaskGroup() as group:
            for device in request.devices:
                if device.place not in found.known:
                    group.create_task(prepare(device))
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
        _discard(change, prepared, first)
        raise first from None
    return prepared


async def _apply(
    tx: Transaction, change: Change, request: _Request, found: _Found, prepared: Mapping[int, Prepared]
) -> list[Json]:
    answers, new = [], []
    for device in request.devices:
        with _refusals(device):
            if (known := found.known.get(device.place)) is not None:
                name, certificate = known.name, (await get_registered(tx, change.scope, known.fingerprint))[1]
            else:
                name, certificate = await found.target.apply(tx, change, prepared[device.place])
                row = FleetDevice(found.run.id, device.place, device.sha256, certificate.fingerprint, name)
                new.append(row)
        answers.append(
            {
                "place": device.place,
                "name": name,
                "certificate_id": certificate.fingerprint,
                "certificate_pem": certificate.pem,
                "not_after": certificate.not_after.isoformat(timespec="seconds"),
            }
        )
    await record_devices(tx, found.run, new, request.done, change.now)
    tx.audit_details |= {"run": found.run.id, "registered": len(new), "repeated": len(answers) - len(new)}
    tx.audit_resources[:] = dict.fromkeys(tx.audit_resources)
    return answers


def _discard(change: Change, prepared: Mapping[int, Prepared], error: BaseException | None) -> None:
    for each in prepared.values():
        discard(change, each.new, error)


_REGISTER = Operation(
    name="RegisterFleetDevices", writes=True, find=_find, prepare=_prepare, apply=_apply, discard=_discard
)


@contextmanager
def _refusals(device: Wanted) -> Iterator[None]:
    """Say of a DomainError which device it is about, unless it is about the server."""
    try:
        yield
    except (DeviceRefused, Throttled, Unavailable):
        raise
    except DomainError as error:
        raise DeviceRefused(device, error) from None


def _by_kind(kind: TargetKind, target: str) -> dict[str, str]:
    return {"template": target if kind == "template" else "", "registry": target if kind == "registry" else ""}


def _named(target: Target) -> Json:
    return {
        "account": target.scope.account,
        "region": target.scope.region,
        "kind": target.kind,
        "target": target.name,
        "version": target.version,
    }
