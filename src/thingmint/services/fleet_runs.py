"""Runs of `thingmint fleet create`: which devices are registered, so that no device gets a second certificate."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from thingmint.domain.arns import Scope
from thingmint.domain.errors import Conflict
from thingmint.store.table import BoundedDelete, Fingerprint, Table, Uuid, record, to_micros, uuid_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.store.engine import Store, Transaction

TargetKind = Literal["template", "registry"]

_KEEP = timedelta(days=365)


@record
class FleetRun:
    """``done``: the command has the certificates of the first devices, so many, on disk."""

    id: Uuid
    account: str
    region: str
    kind: TargetKind
    target: str
    version: int
    size: int
    done: int
    created_at: datetime
    modified_at: datetime
    finished_at: datetime | None = None

    @property
    def scope(self) -> Scope:
        return Scope(self.account, self.region)


@record
class FleetDevice:
    """A device that is registered. ``name`` is its thing's name or its id in the registry, empty if it has none."""

    run: Uuid
    place: int
    request_sha256: bytes
    fingerprint: Fingerprint
    name: str


FLEET_RUNS = Table(FleetRun, "fleet_runs", "fleet run", key=("id",))
_DEVICES = Table(FleetDevice, "fleet_run_devices", "device", key=("run", "place"))

_BETWEEN = f"{_DEVICES.select}WHERE run = $1 AND place >= $2 AND place < $3 ORDER BY place"
_DROP = "DELETE FROM fleet_run_devices WHERE run = $1 AND place < $2"
_OLD_DEVICES = BoundedDelete(
    "fleet_run_devices", ("run", "place"), "run IN (SELECT id FROM fleet_runs WHERE modified_at < $1)"
)
_OLD = BoundedDelete("fleet_runs", ("id",), "modified_at < $1")


async def begin_run(tx: Transaction, new: FleetRun, done: int) -> FleetRun:
    """Store a run, unless it is there. ``done`` is what the command's directory has.

    Raises Conflict if the stored run is another one, or if the directory and the store do not fit together.
    """
    known = await FLEET_RUNS.find(tx, new.id)
    if known is None and done:
        reason = f"This instance does not know the run that made {done} devices: is it another data directory?"
        raise Conflict("fleet run", new.id, reason)
    if known is None:
        await FLEET_RUNS.insert(tx, new)
        return new
    for field in ("account", "region", "kind", "target", "version", "size"):
        if getattr(known, field) != getattr(new, field):
            raise Conflict("fleet run", new.id, f"The run has another {field} here: the directory was changed by hand")
    if done < known.done:
        reason = f"{known.done} devices are made, but the directory has only {done} of their certificates: restore it"
        raise Conflict("fleet run", new.id, reason)
    return known


async def get_run(tx: Transaction, id: str) -> FleetRun:
    """Return a run. Raises NotFound."""
    return await FLEET_RUNS.get(tx, id)


async def registered_devices(tx: Transaction, run: FleetRun, first: int, count: int) -> dict[int, FleetDevice]:
    """Return the devices with a row among ``count`` devices from the place ``first`` on, by place."""
    rows = await tx.fetch_all(_BETWEEN, uuid_bytes(run.id), first, first + count)
    return {device.place: device for device in _DEVICES.load_all(rows)}


async def record_devices(
    tx: Transaction, run: FleetRun, devices: Sequence[FleetDevice], done: int, now: datetime
) -> None:
    """Store devices, and that the command has the certificates of the first ``done`` ones."""
    for device in devices:
        if not await _DEVICES.insert(tx, device):
            raise Conflict("fleet run", run.id, "Another process makes the devices of this directory, too: stop one")
    await advance(tx, run, done, now)


async def advance(tx: Transaction, run: FleetRun, done: int, now: datetime, *, finished: bool = False) -> FleetRun:
    """Note that the command has the certificates of the first ``done`` devices: their rows are not needed any more."""
    if done > run.done:
        await tx.execute(_DROP, uuid_bytes(run.id), done)
    ended = run.finished_at or (now if finished else None)
    after = replace(run, done=max(done, run.done), modified_at=now, finished_at=ended)
    await FLEET_RUNS.update(tx, after)
    return after


async def forget_old_fleet_runs(store: Store, now: datetime) -> None:
    """Delete what is known of runs that ended, or were interrupted, over a year ago."""
    before = to_micros(now - _KEEP)
    await _OLD_DEVICES.run(store, before)
    await _OLD.run(store, before)
