"""`thingmint audit`: reading the audit trail, and finding out whether anybody touched it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from thingmint.cli.directory import DataDirOption, held, passphrase_for, settings_for
from thingmint.settings import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from thingmint.access.audit_records import AuditFilter
    from thingmint.instance.layout import DataDirectory
    from thingmint.store.audit import AuditRow
    from thingmint.store.engine import Reader, Transaction


app = typer.Typer(help="The audit trail: who did what, when, from where.")

_PAGE = 1000
_WIDE = 1000  # columns
_MOST = 10_000  # records that one command lists
_Account = Annotated[str | None, typer.Option(help="Only this account's records.")]
_Event = Annotated[str | None, typer.Option(help="Only this event, such as Connect or CreateThing.")]
_Outcome = Annotated[Literal["success", "refused"] | None, typer.Option(help="Only what ended so.")]
_Resource = Annotated[str | None, typer.Option(help="Only what was asked of or done to this, mostly an ARN.")]
_ClientId = Annotated[str | None, typer.Option(metavar="ID", help="Only devices of this MQTT client id.")]
_Certificate = Annotated[
    str | None, typer.Option(metavar="ID", help="Only what the certificate of this id did, or what was done to it.")
]
_Principal = Annotated[str | None, typer.Option(metavar="ARN", help="Only what this principal did.")]


def _count(flag: str, text: str) -> int:
    """Raises ConfigError."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= _MOST):
        raise ConfigError(flag, f"must be a whole number from 1 to {_MOST}, for example 50 (--{flag})")
    return int(text)


@app.command("list", epilog="\b\nExample:\n  thingmint audit list --data-dir data --limit 20")
def list_records(
    data_dir: DataDirOption = None,
    account: _Account = None,
    event: _Event = None,
    outcome: _Outcome = None,
    resource: _Resource = None,
    client_id: _ClientId = None,
    certificate: _Certificate = None,
    principal: _Principal = None,
    limit: Annotated[str, typer.Option(metavar="N", help=f"How many, newest first; at most {_MOST}.")] = "50",
    output: Annotated[Literal["table", "json"], typer.Option(help="For people, or for scripts.")] = "table",
) -> None:
    """Show the latest records."""
    from thingmint.access.audit_records import AuditFilter

    most = _count("limit", limit)
    wanted = AuditFilter(None, None, event, principal, outcome, resource, client_id, certificate)

    async def run() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        async with _reader(data_dir) as (_, reader):
            async for _, record in _chosen(reader, account, wanted):
                found.append(record)
                if len(found) == most:
                    break
        return found

    records = asyncio.run(run())
    if output == "json":
        print(orjson.dumps(records, option=orjson.OPT_INDENT_2).decode())
        return
    columns = ("time", "account", "event", "outcome", "error", "reason", "principal", "address", "resource")
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for record in records:
        table.add_row(*(_cell(record.get(column)) for column in columns))
    # Piped, a table is as wide as it has to be, so that words stay whole for grep.
    Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE).print(table)


@app.command(epilog="\b\nExample:\n  thingmint audit export --data-dir data > audit.jsonl")
def export(
    data_dir: DataDirOption = None,
    account: _Account = None,
    event: _Event = None,
    outcome: _Outcome = None,
    resource: _Resource = None,
    client_id: _ClientId = None,
    certificate: _Certificate = None,
    principal: _Principal = None,
) -> None:
    """Write all records as JSON lines, newest first, each with its place in its chain."""
    from thingmint.access.audit_records import AuditFilter

    wanted = AuditFilter(None, None, event, principal, outcome, resource, client_id, certificate)

    async def run() -> None:
        async with _reader(data_dir) as (_, reader):
            async for row, record in _chosen(reader, account, wanted):
                hash = row.hash and row.hash.hex()
                line = {"id": row.id, "stream": row.stream.name, "sequence": row.sequence, "hash": hash}
                sys.stdout.write(orjson.dumps({**line, "record": record}).decode() + "\n")

    asyncio.run(run())


@app.command(
    epilog="\b\nExamples:\n  thingmint audit verify --data-dir data\n"
    "  thingmint audit verify --data-dir data --checkpoint kept-elsewhere.jsonl"
)
def verify(
    data_dir: DataDirOption = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Checkpoints that were copied to another place.")
    ] = None,
) -> None:
    """Recompute the chain; exit status 1 names the first record that was altered, removed, moved or cut off."""
    from thingmint.access.audit_chain import Tampering, Verified, read_checkpoints, verify_all
    from thingmint.instance.audit_key import read_audit_keys

    async def run() -> Verified:
        async with _reader(data_dir) as (directory, reader):
            keys = read_audit_keys(directory)
            try:
                files = [path for path in (directory.audit_checkpoints, checkpoint) if path is not None]
                kept = [one for path in files if path == checkpoint or path.exists() for one in read_checkpoints(path)]
            except (OSError, ValueError) as error:
                raise ConfigError("checkpoint", f"cannot be read: {error}") from None
            return await verify_all(reader, keys, kept)

    try:
        found = asyncio.run(run())
    except Tampering as error:
        print(f"thingmint: the audit trail was tampered with: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    print(f"{found.records} records and {found.checkpoints} checkpoints hold together.")
    if found.uncovered:
        print(f"No checkpoint covers the last {found.uncovered} yet, so these could have been made anew.")
    if found.unsealed:
        print(f"{found.unsealed} more are not in the chain yet; a running server adds them.")


@app.command(epilog="\b\nExample:\n  thingmint audit rekey --data-dir data")
def rekey(data_dir: DataDirOption = None) -> None:
    """Make a new key that signs the trail; what the old one signed stays valid. Stop the server first."""
    from thingmint.access.audit_keys import key_text
    from thingmint.instance.audit_key import rekey as replace_key
    from thingmint.instance.create import check_keys, exists, open_store
    from thingmint.instance.layout import DirectoryInUse
    from thingmint.services.certificates import utc_now

    settings = settings_for(data_dir)
    directory, hold = held(settings)
    passphrase = functools.cache(lambda: passphrase_for(settings))

    async def run() -> tuple[str, bool]:
        if not exists(directory):
            raise ConfigError("data-dir", f"{directory.root} holds no instance")
        store = await open_store(directory, settings.database())
        try:
            await check_keys(store, directory, besides="audit")
            key, signed = await replace_key(store, directory, passphrase, utc_now())
        finally:
            await store.close()
        return key_text(key), signed

    try:
        with hold:
            key, signed = asyncio.run(run())
    except DirectoryInUse:
        raise ConfigError("data-dir", f"{directory.root} is in use: stop the server first") from None
    print(f"The audit trail is signed by a new key from here on: {key}")
    print("The old key signed that too." if signed else "The old key is not there, so only the new one signed that.")
    print(f"Back up {directory.audit_key.name}, audit.pem and {directory.audit_key_changes.name}; on other hosts too.")


def _cell(value: Any) -> Text:
    """Unauthenticated callers wrote some of it, so no control character reaches the terminal."""
    text = str(value or "")
    return Text("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text))


@contextlib.asynccontextmanager
async def _reader(data_dir: Path | None) -> AsyncIterator[tuple[DataDirectory, Reader]]:
    from thingmint.instance.layout import DataDirectory
    from thingmint.store.database import Database, DatabaseError

    settings = settings_for(data_dir)
    directory = DataDirectory(settings.data_dir.absolute())
    database = settings.database() or Database.in_file(directory.database)
    try:
        reader = await database.open_to_read(directory.database_timelines)
    except DatabaseError as error:
        raise ConfigError("data-dir" if database.file else "store", str(error)) from None
    try:
        yield directory, reader
    finally:
        await reader.close()


async def _page(reader: Reader, account: str | None, before: str | None, wanted: AuditFilter) -> list[AuditRow]:
    """The records of all accounts have no index but that of time."""
    from thingmint.store import audit as sql

    searched = wanted.searched if account is not None else None

    async def body(tx: Transaction) -> list[AuditRow]:
        return await sql.list_records(tx, account=account, before=before, limit=_PAGE, wanted=searched)

    return await reader.read(body)


async def _chosen(
    reader: Reader, account: str | None, wanted: AuditFilter
) -> AsyncIterator[tuple[AuditRow, dict[str, Any]]]:
    from thingmint.access.audit_records import read_record

    async for row in _all(reader, account, wanted):
        record = read_record(row.record)
        if wanted.matches(record):
            yield row, record


async def _all(reader: Reader, account: str | None, wanted: AuditFilter) -> AsyncIterator[AuditRow]:
    before: str | None = None
    while rows := await _page(reader, account, before, wanted):
        for row in rows:
            yield row
        before = rows[-1].id
