"""Makes the devices of a run: keys on this machine, certificates from the instance."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from thingmint.admin import AdminError
from thingmint.cli.reaching import reach
from thingmint.domain.ids import new_uuid
from thingmint.fleet.devices import NUMBER, DeviceList, DevicesUnusable, Pattern, count_rows
from thingmint.fleet.folder import FolderError, RunFolder
from thingmint.importing.sources.scratch import Scratch
from thingmint.instance.layout import DataDirectory
from thingmint.settings import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from pathlib import Path

    from thingmint.cli.reaching import Reached
    from thingmint.fleet.devices import Device
    from thingmint.fleet.keys import KeyType
    from thingmint.importing.csv_rows import CsvTable
    from thingmint.settings import Settings

_BATCH = 50
_CHECKED_AT_ONCE = 100
_MAX_PARAMETERS = 100_000  # characters in a batch: the admin socket takes lines of 1 MiB
_SHOWN = 10  # devices that cannot be made
_DEFAULT_NAME = "device-{n:06}"

_Json = dict[str, Any]


class Stopped(Exception):
    """The run ended early. The text says why, and how far it is."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asks for. ``table`` and ``count``: one of them is given."""

    template: str
    registry: str
    account: str
    region: str
    count: int | None
    start: int
    name: Pattern | None
    parameters: Mapping[str, Pattern]
    table: CsvTable | None
    key: KeyType

    @property
    def target(self) -> str:
        return self.template or self.registry

    def device_list(self, target: Mapping[str, Any]) -> DeviceList:
        """The devices, for a target that fleet.look described. Raises ConfigError and DevicesUnusable."""
        columns = frozenset(self.table.columns) if self.table is not None else frozenset[str]()
        declared = frozenset(target["parameters"])
        name = self.name or Pattern("{name}" if "name" in columns else _DEFAULT_NAME)
        patterns = {"name": name, **{f"parameter {each}": pattern for each, pattern in self.parameters.items()}}
        for option, pattern in patterns.items():
            for unknown in sorted(pattern.names - columns - {NUMBER}):
                there = f"columns: {', '.join(sorted(columns))}" if columns else "there is no --csv FILE"
                raise ConfigError(option, f"{pattern.text} uses {{{unknown}}}, which is no column; {there}")
        used = frozenset[str]().union(*(pattern.names for pattern in patterns.values()))
        has = f"it has {', '.join(sorted(declared))}" if declared else "it has none"
        for unknown in sorted(self.parameters.keys() - declared):
            raise ConfigError("parameter", f"{self.target} has no parameter {unknown}; {has}")
        given = columns | self.parameters.keys()
        needed = [name for name, default in target["parameters"].items() if default is None and name not in given]
        if needed and not target["has_hook"]:
            give = f"give --parameter {needed[0]}=TEXT, or a column of --csv"
            raise ConfigError("parameter", f"{self.target} needs {', '.join(needed)}: {give}")
        for unknown in sorted(columns - declared - used):
            reason = f"column {unknown} is no parameter of {self.target}, and no pattern uses it; {has}"
            raise ConfigError("csv", reason)
        count = count_rows(self.table) if self.table is not None else self.count or 0
        direct = (columns & declared) - self.parameters.keys()
        return DeviceList(count, self.start, name, self.parameters, self.table, direct)

    def as_json(self) -> _Json:
        """What makes a run with the same devices: kept in run.json."""
        return {
            "template": self.template,
            "registry": self.registry,
            "count": self.count,
            "start": self.start,
            "name": self.name.text if self.name is not None else None,
            "parameter": {name: pattern.text for name, pattern in self.parameters.items()},
            "csv": self.table.sha256() if self.table is not None else None,
            "key": self.key,
        }


@dataclass(frozen=True, slots=True)
class Options:
    out: Path
    dry_run: bool
    zip: bool
    remove_keys: bool
    progress: bool


async def create(wanted: Wanted, settings: Settings, options: Options) -> _Json:
    """Make the devices. Returns the report.

    Raises ConfigError, DevicesUnusable, UnreadableTable, FolderError, Stopped, AdminError and OSError.
    """
    folder = RunFolder.begun(options.out)
    try:
        if folder is not None:
            _check_same(folder, wanted)
        async with reach(settings) as local:
            with _progress(options) as progress:
                if folder is None:
                    plan, devices = await _begin(local, wanted, progress)
                    if options.dry_run:
                        return {**_report(plan, options), "made": 0, "done": 0}
                    ca = DataDirectory(settings.data_dir.absolute()).ca.read_bytes()
                    folder = RunFolder.new(options.out, plan, ca)
                else:
                    devices = await asyncio.to_thread(wanted.device_list, folder.plan["described"])
                if options.dry_run:
                    return {**_report(folder.plan, options), "made": 0, "done": folder.count_done()}
                return await _make(local, folder, devices, options, progress)
    finally:
        if folder is not None:
            folder.close()


def _check_same(folder: RunFolder, wanted: Wanted) -> None:
    """Raises FolderError if the directory is of another run."""
    plan = folder.plan
    asked = wanted.as_json()
    asked |= {name: value for name in ("account", "region") if (value := getattr(wanted, name))}
    before = {**plan["asked"], "account": plan["account"], "region": plan["region"]}
    for name, value in asked.items():
        if value != before[name]:
            was, now = ("another file", "this one") if name == "csv" else (before[name], value)
            raise FolderError(
                f"{folder.path} belongs to another run: --{name} was {was}, and is {now}. Choose another --out for new "
                "devices, or give the run's own arguments to go on with it"
            )


async def _begin(local: Reached, wanted: Wanted, progress: Progress) -> tuple[_Json, DeviceList]:
    """What a new run makes, after all its devices were checked. Raises DevicesUnusable and ConfigError."""
    option = "template" if wanted.template else "registry"
    try:
        target = await local.call(
            "fleet.look",
            account=wanted.account,
            region=wanted.region,
            template=wanted.template,
            registry=wanted.registry,
        )
    except AdminError as error:
        raise ConfigError(option, str(error)) from None
    devices = await asyncio.to_thread(wanted.device_list, target)
    await asyncio.to_thread(devices.check_names)
    chosen = {name: target[name] for name in ("account", "region", "kind", "target", "version")}
    await _check_all(local, devices, chosen, progress)
    plan = {
        "run": new_uuid(),
        **chosen,
        "size": devices.count,
        "start": devices.start,
        "described": {name: target[name] for name in ("parameters", "has_hook")},
        "asked": wanted.as_json(),
    }
    return plan, devices


async def _check_all(local: Reached, devices: DeviceList, target: _Json, progress: Progress) -> None:
    """Raises DevicesUnusable. Nothing is made for a run of which some devices cannot be made."""
    task = progress.add_task("checking", total=devices.count)
    flaws: list[str] = []
    things = Scratch()
    for batch in _batches(devices.devices(), _CHECKED_AT_ONCE):
        given = [{"place": each.place, "name": each.name, "parameters": dict(each.parameters)} for each in batch]
        found = (await local.call("fleet.check", **target, devices=given))["devices"]
        for device, checked in zip(batch, found, strict=True):
            flaw, thing = checked["flaw"], checked["thing"]
            if thing and things.seen(thing, b"") != "new":
                flaw = f"its thing would be {thing}, as that of an earlier device"
            if flaw is not None:
                flaws.append(f"device {device.number}, {device.name}: {flaw}")
        progress.advance(task, len(batch))
        if len(flaws) > _SHOWN:
            break
    progress.remove_task(task)
    things.close()
    if flaws:
        raise DevicesUnusable(flaws[:_SHOWN], more=len(flaws) > _SHOWN)


async def _make(local: Reached, folder: RunFolder, devices: DeviceList, options: Options, progress: Progress) -> _Json:
    done = first = await asyncio.to_thread(folder.count_done)
    plan = folder.plan
    task = progress.add_task("making", total=plan["size"], completed=done)
    try:
        chosen = {name: plan[name] for name in ("run", "account", "region", "kind", "target", "version", "size")}
        begun = await local.call("fleet.begin", **chosen, done=done)
        async for batch, requests in _ahead(folder, devices, done, plan["asked"]["key"]):
            answers = await _register(local, plan["run"], done, batch, requests)
            await asyncio.to_thread(folder.complete, batch, requests, answers)
            done += len(batch)
            progress.advance(task, len(batch))
        if not begun["finished"]:
            await local.call("fleet.finish", run=plan["run"])
        archive = await asyncio.to_thread(folder.write_zip) if options.zip else None
        if options.remove_keys:
            await asyncio.to_thread(folder.remove_keys)
    except (AdminError, Stopped) as error:
        raise Stopped(f"{done} of {plan['size']} devices are made: {error}") from None
    except OSError as error:
        reason = f"{error.filename or folder.path}: {error.strerror}"
        raise Stopped(f"{done} of {plan['size']} devices are made: {reason}") from None
    report = {**_report(plan, options), "made": done - first, "done": done}
    return report | {"zip": str(archive)} if archive is not None else report


async def _register(
    local: Reached, run: str, done: int, batch: Sequence[Device], requests: Sequence[str]
) -> list[_Json]:
    """The certificates of a batch. Raises Stopped if a device is refused."""
    devices = [
        {"place": each.place, "name": each.name, "parameters": dict(each.parameters), "csr": csr}
        for each, csr in zip(batch, requests, strict=True)
    ]
    answer = await local.call("fleet.register", run=run, done=done, devices=devices)
    if (refused := answer.get("refused")) is not None:
        raise Stopped(f"device {refused['name']} is refused: {refused['reason']}")
    registered: list[_Json] = answer["devices"]
    return registered


async def _ahead(
    folder: RunFolder, devices: DeviceList, done: int, type: KeyType
) -> AsyncIterator[tuple[Sequence[Device], list[str]]]:
    """The batches with their requests. The keys of a batch are made while the one before is registered."""
    batches = _batches(devices.devices(done), _BATCH)

    def following() -> tuple[Sequence[Device], list[str]] | None:
        batch = next(batches, None)
        return None if batch is None else (batch, folder.requests(batch, type))

    coming = asyncio.create_task(asyncio.to_thread(following))
    try:
        while (found := await coming) is not None:
            coming = asyncio.create_task(asyncio.to_thread(following))
            yield found
    finally:
        with contextlib.suppress(Exception, asyncio.CancelledError):
            await coming


def _batches(devices: Iterator[Device], most: int) -> Iterator[list[Device]]:
    batch: list[Device] = []
    size = 0
    for device in devices:
        length = sum(map(len, device.parameters.values()))
        if batch and (len(batch) == most or size + length > _MAX_PARAMETERS):
            yield batch
            batch, size = [], 0
        batch.append(device)
        size += length
    if batch:
        yield batch


def _progress(options: Options) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not options.progress)


def _report(plan: Mapping[str, Any], options: Options) -> _Json:
    kept = {name: plan[name] for name in ("run", "account", "region", "kind", "target", "version")}
    return {**kept, "directory": str(options.out), "devices": plan["size"], "dry_run": options.dry_run}
