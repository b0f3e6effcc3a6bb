"""Passes the batches of a source to the importer, and gathers the report."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from thingmint.admin import AdminError
from thingmint.cli.new_passwords import PasswordFile
from thingmint.cli.reaching import reach
from thingmint.importing.batches import SlowSource, SourceError
from thingmint.services.imports import Result
from thingmint.settings import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from thingmint.cli.reaching import Reached
    from thingmint.importing.batches import Batch, Place, Source
    from thingmint.settings import Settings

_KEPT = 1000  # findings in memory, for the report on the screen
_FAILED = ("conflict", "refused")


class Interrupted(Exception):
    """The import ended early. The text says why."""


@dataclass(frozen=True, slots=True)
class Options:
    account: str
    dry_run: bool
    report: Path | None
    again: bool
    new_passwords: Path | None
    progress: bool


@dataclass
class Summary:
    """What came, and what did not. ``findings`` are the first of ``finding_count``."""

    source: str
    origin: str
    account: str
    dry_run: bool
    id: str | None = None
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[Result] = field(default_factory=list)
    finding_count: int = 0
    next_steps: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """True if something could not come."""
        return any(count and key.partition(".")[2] in _FAILED for key, count in self.counts.items())

    def add(self, results: list[Result]) -> None:
        for result in results:
            self.counts[result.counted_as] += 1
            if result.is_finding:
                self.finding_count += 1
                if len(self.findings) < _KEPT:
                    self.findings.append(result)

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "source": self.source,
            "from": self.origin,
            "account": self.account,
            "dry_run": self.dry_run,
            "counts": dict(self.counts),
            "finding_count": self.finding_count,
            "findings": [finding._asdict() for finding in self.findings],
            "next": self.next_steps,
        }


async def run(source: Source, settings: Settings, options: Options) -> Summary:
    """Import everything. Raises SourceError, Interrupted and ConfigError."""
    with _report_file(options.report):
        pass  # a file that cannot be written is known before hours of work
    async with reach(settings) as local:
        with _progress(options) as progress:
            await _check(source, progress)
            if isinstance(source, SlowSource):
                progress.console.print(source.notice(), markup=False)
            if options.dry_run:
                return await _dry_run(source, local, options, progress)
            return await _import(source, local, options, progress)


def _progress(options: Options) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not options.progress)


async def _check(source: Source, progress: Progress) -> None:
    task = progress.add_task("reading", total=None)

    def check() -> None:
        for rows in source.check():
            progress.update(task, completed=rows)

    with _stopped_early(source):
        await asyncio.to_thread(check)
    progress.remove_task(task)


@contextlib.contextmanager
def _stopped_early(source: Source) -> Iterator[None]:
    """Tells a slow source that the block has ended early: the thread that reads it would take long to end."""
    try:
        yield
    except BaseException:
        if isinstance(source, SlowSource):
            source.stop()
        raise


async def _dry_run(source: Source, local: Reached, options: Options, progress: Progress) -> Summary:
    summary = Summary(source.name, source.origin, options.account, dry_run=True)
    task = progress.add_task("comparing", total=source.total())
    with _report_file(options.report) as report:
        async for batch in _ahead(source, {}):
            answer = await local.call(
                "import.apply",
                id="",
                after={},
                place={},
                items=batch.items,
                results=list(map(list, batch.results)),
                dry_run=True,
                account=options.account,
            )
            summary.account = answer["account"]
            results = [Result(*each) for each in answer["results"]]
            summary.add(results)
            if report is not None:
                report.writelines(_line(result._asdict()) for result in results if result.is_finding)
            progress.advance(task, batch.size)
    return summary


async def _import(source: Source, local: Reached, options: Options, progress: Progress) -> Summary:
    begun = await local.call(
        "import.start",
        source=source.name,
        origin=source.origin,
        identity=source.identity(),
        account=options.account,
        again=options.again,
    )
    id, place = begun["id"], begun["place"]
    summary = Summary(source.name, source.origin, begun["account"], dry_run=False, id=id)
    passwords = PasswordFile(options.new_passwords, place.get("passwords")) if options.new_passwords else None
    done = place.get("done", 0)
    task = progress.add_task("importing", total=source.total(), completed=done)
    try:
        if passwords is not None and "passwords" not in place:
            # From now on the file is known to be this import's.
            after, place = place, {**place, "passwords": passwords.size}
            await local.call("import.apply", id=id, after=after, place=place, items=[])
        async for batch in _ahead(source, place):
            items = batch.items if passwords is None else await passwords.give(local, batch.items, begun["account"])
            done += batch.size
            after, place = place, {**place, **batch.place, "done": done, "total": source.total()}
            if passwords is not None:
                place["passwords"] = passwords.size
            await local.call(
                "import.apply",
                id=id,
                after=after,
                place=place,
                items=items,
                results=list(map(list, batch.results)),
            )
            progress.advance(task, batch.size)
        ended = await local.call("import.finish", id=id)
        if passwords is not None:
            summary.next_steps.append(f"{passwords.count()} devices have new passwords: {options.new_passwords}")
    except AdminError as error:
        raise Interrupted(f"the import stopped after {done} of {source.total() or 'the'} items: {error}") from None
    finally:
        if passwords is not None:
            passwords.close()
    summary.counts.update(ended["counts"])
    await _gather(local, summary, options.report)
    summary.finding_count = ended["findings"]
    return summary


async def _gather(local: Reached, summary: Summary, path: Path | None) -> None:
    """The findings from the store: it has those of earlier, interrupted runs, too."""
    with _report_file(path) as report:
        assert summary.id is not None
        async for finding in all_findings(local, summary.id):
            if len(summary.findings) < _KEPT:
                summary.findings.append(Result(*(finding[name] for name in Result._fields)))
            elif report is None:
                return
            if report is not None:
                report.write(_line(finding))


async def all_findings(local: Reached, id: str) -> AsyncIterator[dict[str, Any]]:
    after = 0
    while page := await local.call("import.findings", id=id, after=after):
        for finding in page:
            after = finding["number"]
            yield finding


async def _ahead(source: Source, place: Place) -> AsyncIterator[Batch]:
    """The batches, each of which is read in a thread while the one before is imported."""
    loop = asyncio.get_running_loop()
    batches = source.batches(place)
    with ThreadPoolExecutor(1, thread_name_prefix="source") as thread:
        coming = loop.run_in_executor(thread, next, batches, None)
        try:
            with _stopped_early(source):
                while (batch := await coming) is not None:
                    coming = loop.run_in_executor(thread, next, batches, None)
                    yield batch
        finally:
            with contextlib.suppress(SourceError):
                await coming
            await loop.run_in_executor(thread, batches.close)


@contextlib.contextmanager
def _report_file(path: Path | None) -> Iterator[Any]:
    if path is None:
        yield None
        return
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            yield file
    except OSError as error:
        raise ConfigError("report", f"{path} cannot be written: {error.strerror}") from None


def _line(finding: dict[str, Any]) -> bytes:
    return orjson.dumps(finding, option=orjson.OPT_APPEND_NEWLINE)
