"""Reads a fleet page by page, and writes it to files."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from thingmint.cli.reaching import reach
from thingmint.fleet.export_files import CsvExport, ExportFolder, YandexExport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from thingmint.cli.reaching import Reached
    from thingmint.settings import Settings

_DEFINITIONS = ("thing_types", "policies", "templates", "cas", "groups")

_Json = dict[str, Any]


async def export(settings: Settings, account: str, format: str, out: Path, *, progress: bool) -> _Json:
    """Write the fleet of an account to a new directory. Returns the report. Raises ExportError, AdminError, OSError."""
    folder = ExportFolder(out)
    columns = (SpinnerColumn(), TextColumn("{task.description} {task.completed:,}"))
    try:
        async with reach(settings) as local:
            begun = await local.call("fleet.export_start", account=account, format=format)
            with Progress(*columns, console=Console(stderr=True), disable=not progress) as shown:
                exporter = _Exporter(local, begun["account"], begun["regions"], folder, shown)
                left_out = await (exporter.as_csv() if format == "csv" else exporter.as_yandex())
        counts = dict(exporter.counts)
        report = {"format": format, **begun, "counts": counts, "certificates_left_out": left_out}
        await asyncio.to_thread(folder.finish, report)
    finally:
        folder.close()
    return {**report, "directory": str(out)}


class _Exporter:
    def __init__(
        self, local: Reached, account: str, regions: list[str], folder: ExportFolder, progress: Progress
    ) -> None:
        self._local = local
        self._account = account
        self._regions = regions
        self._folder = folder
        self._progress = progress
        self._task = progress.add_task("exporting", total=None)
        self.counts: Counter[str] = Counter()

    async def as_csv(self) -> int:
        """Returns how many certificates were left out."""
        files = CsvExport(self._folder)
        for region in self._regions:
            for what in _DEFINITIONS:
                for item in await self._sorted(what, region):
                    files.definition(item)
            async for thing in self._rows("things", region):
                files.thing(region, thing)
            async for certificate in self._rows("certificates", region):
                files.certificate(region, certificate)
        async for broker in self._rows("brokers"):
            files.owner("broker", broker)
        async for registry in self._rows("registries"):
            files.owner("registry", registry)
            async for device in self._rows("devices", parent=registry["id"]):
                files.device(device)
        return files.left_out

    async def as_yandex(self) -> int:
        """Returns how many certificates were left out."""
        files = YandexExport(self._folder)
        async for broker in self._rows("brokers"):
            files.owner("broker", broker)
        async for registry in self._rows("registries"):
            files.owner("registry", registry)
            lists = files.registry(registry["id"])
            async for device in self._rows("devices", parent=registry["id"]):
                lists.device(device)
            lists.close()
        files.close()
        return files.left_out

    async def _sorted(self, what: str, region: str) -> list[_Json]:
        """All definitions of a kind, those of groups from the roots down: there are few."""
        return sorted([each async for each in self._rows(what, region)], key=lambda each: each.get("depth", 0))

    async def _rows(self, what: str, region: str = "", parent: str = "") -> AsyncIterator[_Json]:
        after: str | None = ""
        while after is not None:
            page = await self._local.call(
                "fleet.export_page", what=what, account=self._account, region=region, parent=parent, after=after
            )
            for row in page["rows"]:
                yield row
            self.counts[what] += len(page["rows"])
            self._progress.advance(self._task, len(page["rows"]))
            after = page["after"]
