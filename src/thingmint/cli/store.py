"""`thingmint store`: copying and checking an instance's database."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import orjson
import typer

from thingmint.cli.directory import DataDirOption, check_exists, held, settings_for
from thingmint.settings import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from thingmint.instance.layout import DataDirectory
    from thingmint.store.database import Database
    from thingmint.store.engine import Store


app = typer.Typer(help="The database of an instance: copy, check.", no_args_is_help=False)

_WHERE = "sqlite: (the data directory's file), a PostgreSQL URL, or @FILE with such a URL in it."


@app.callback()
def store() -> None:
    """The database of an instance: copy, check."""


@app.command(
    epilog="\b\nExamples:\n  thingmint store copy sqlite: @/etc/thingmint/store --data-dir data\n"
    "  thingmint store copy postgresql://thingmint@db/thingmint sqlite: --data-dir data"
)
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help=_WHERE)],
    target: Annotated[str, typer.Argument(metavar="TO", help=f"An empty database: {_WHERE}")],
    data_dir: DataDirOption = None,
    output: Annotated[
        Literal["table", "json"], typer.Option(help="A table for people, or JSON for scripts.")
    ] = "table",
) -> None:
    """Copy all records to another database, and compare them. Stop the server first. A second run continues."""
    from thingmint.instance.layout import DirectoryInUse

    directory, hold = held(settings_for(data_dir))
    databases = [_database(directory, each) for each in (source, target)]
    if databases[0] == databases[1]:
        raise ConfigError("store", "is the same on both sides")
    try:
        with hold:
            rows = asyncio.run(_copy(directory, *databases))
    except DirectoryInUse:
        raise ConfigError("data-dir", f"{directory.root} is in use: stop the server first") from None
    if output == "json":
        print(orjson.dumps({"rows": rows, "to": str(databases[1])}).decode())
        return
    print(f"{databases[1]} holds all {rows} rows of {databases[0]}, and nothing else.")
    if databases[1].file is None:
        print("Next: set store_file (or THINGMINT_STORE_FILE), and start the server.")
    else:
        print("Next: take store and store_file out of the settings, and start the server.")


@app.command(epilog="\b\nExample:\n  thingmint store check --data-dir data")
def check(data_dir: DataDirOption = None) -> None:
    """Look for damage in all records, with or without a running server. Exit status 1 means damage."""
    from thingmint.domain.errors import Unavailable
    from thingmint.instance.layout import DataDirectory
    from thingmint.services.certificate_counts import find_wrong_counts
    from thingmint.store.database import Database, DatabaseError
    from thingmint.store.integrity import find_altered_certificates, find_damage

    settings = settings_for(data_dir)
    directory = DataDirectory(settings.data_dir.absolute())
    database = settings.database() or Database.in_file(directory.database)
    check_exists(database.file)

    async def certificates() -> tuple[int, list[str], list[str]]:
        reader = await database.open_to_read(directory.database_timelines)
        try:
            return *await find_altered_certificates(reader), await find_wrong_counts(reader)
        finally:
            await reader.close()

    damage = find_damage(database.file) if database.file is not None else []
    altered: list[str] = []
    wrong: list[str] = []
    try:
        count, altered, wrong = asyncio.run(certificates())
    except (DatabaseError, sqlite3.Error) as error:
        damage.append(str(error))
    except Unavailable as error:
        raise ConfigError("store", f"could not be checked: {error}; try again") from None
    damage += [f"certificate {fingerprint} does not match its fingerprint" for fingerprint in altered]
    for line in damage:
        print(f"thingmint: {database} is damaged: {line}", file=sys.stderr)
    if damage:
        print("thingmint: restore it from a backup", file=sys.stderr)
    for line in wrong:
        print(f"thingmint: {database} has a wrong count: {line}", file=sys.stderr)
    if damage or wrong:
        raise typer.Exit(1)
    print(f"{database} and the {count} certificates in it are intact.")
    print(f"Next, for the audit log: thingmint audit verify --data-dir {directory.root}")


def _database(directory: DataDirectory, where: str) -> Database:
    from thingmint.store.database import Database, parse_store_url

    try:
        url = parse_store_url(Path(where[1:]).read_text().strip() if where.startswith("@") else where)
    except (OSError, ValueError) as error:
        raise ConfigError("store", str(error)) from None
    return Database.in_file(directory.database) if url == "sqlite:" else Database(url)


async def _copy(directory: DataDirectory, source: Database, target: Database) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from thingmint.instance.create import check_keys, exists
    from thingmint.instance.layout import write_private
    from thingmint.services.leases import running_processes
    from thingmint.store.copying import CopyError, copy_store, count_rows

    if not exists(directory):
        raise ConfigError("data-dir", f"{directory.root} holds no instance")
    if target.file is not None and not target.file.exists():
        write_private(target.file, b"")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    async with _opened(directory, source) as ours, _opened(directory, target) as theirs:
        await check_keys(ours, directory)
        if running := await running_processes(ours):
            raise ConfigError("store", f"{source} is in use by {', '.join(running)}: stop all its servers first")
        rows = await count_rows(ours)
        with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
            task = progress.add_task("copying", total=rows)
            progress.advance(task, await count_rows(theirs))  # rows of an earlier, interrupted copy
            try:
                await copy_store(ours, theirs, lambda table, n: progress.update(task, description=table, advance=n))
            except CopyError as error:
                raise ConfigError("store", str(error)) from None
        return rows


@contextlib.asynccontextmanager
async def _opened(directory: DataDirectory, database: Database) -> AsyncIterator[Store]:
    from thingmint.instance.create import open_store

    store = await open_store(directory, database)
    try:
        yield store
    finally:
        await store.close()
