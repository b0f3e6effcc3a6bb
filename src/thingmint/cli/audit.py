"""`thingmint audit`: reading and verifying the audit log, and replacing its key."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import sqlite3
import sys
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import orjson
import typer

from thingmint.cli.asking import MOMENT, moment
from thingmint.cli.directory import DataDirOption, check_exists, held, passphrase_for, settings_for
from thingmint.cli.tables import console, print_rows
from thingmint.settings import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from thingmint.access.audit_records import AuditFilter
    from thingmint.instance.layout import DataDirectory
    from thingmint.store.audit import AuditRow
    from thingmint.store.database import Database
    from thingmint.store.engine import Reader, Transaction


app = typer.Typer(help="The audit log: list, export and verify its records, and replace its key.")

_PAGE = 1000
_MOST = 10_000  # records that one command lists


@dataclass(frozen=True, slots=True)
class _Filters:
    """The options that choose records. ``_filtered`` adds them to a command."""

    account: Annotated[str | None, typer.Option(help="Only this account's records.")] = None
    event: Annotated[str | None, typer.Option(help="Only this event, such as Connect or CreateThing.")] = None
    outcome: Annotated[Literal["success", "refused"] | None, typer.Option(help="Only records with this outcome.")] = (
        None
    )
    resource: Annotated[
        str | None, typer.Option(help="Only records with this resource, authorized or changed; usually an ARN.")
    ] = None
    client_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Only records of devices with this MQTT client id.")
    ] = None
    certificate: Annotated[
        str | None, typer.Option(metavar="ID", help="Only records in which this certificate acted or was changed.")
    ] = None
    principal: Annotated[str | None, typer.Option(metavar="ARN", help="Only this principal's records.")] = None
    about: Annotated[
        str | None,
        typer.Option(metavar="ARN", help="Only records in which this acted, or which changed it."),
    ] = None
    since: Annotated[str | None, typer.Option(metavar="TIME", help=f"Only records from then on. {MOMENT}")] = None
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only records before then.")] = None

    @property
    def wanted(self) -> AuditFilter:
        """All of them but the account."""
        from thingmint.access.audit_records import AuditFilter

        fields = asdict(self)
        del fields["account"]
        for name in ("since", "until"):
            if fields[name] is not None:
                fields[name] = datetime.fromisoformat(moment(f"--{name}", fields[name]))
        return AuditFilter(**fields)


def _filtered(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of ``_Filters`` in place of its parameter ``filters``."""
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=None)
        for name, annotation in get_type_hints(_Filters, include_extras=True).items()
    ]
    parameters = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        parameters += options if parameter.name == "filters" else [parameter]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        command(filters=_Filters(**{option.name: values.pop(option.name) for option in options}), **values)

    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    run.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in keywords}
    return run


def _count(flag: str, text: str) -> int:
    """The text as a number of records. Raises ConfigError."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= _MOST):
        raise ConfigError(flag, f"must be a whole number from 1 to {_MOST}, for example 50 (--{flag})")
    return int(text)


@app.command("list", epilog="\b\nExample:\n  thingmint audit list --data-dir data --limit 20")
@_filtered
def list_records(
    filters: _Filters,
    data_dir: DataDirOption = None,
    limit: Annotated[str, typer.Option(metavar="N", help=f"Number of records, newest first; at most {_MOST}.")] = "50",
    output: Annotated[
        Literal["table", "json"], typer.Option(help="A table for people, or JSON for scripts.")
    ] = "table",
) -> None:
    """Show the latest records."""
    most = _count("limit", limit)

    async def run() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        async with _reader(data_dir) as (_, reader):
            async for _, record in _chosen(reader, filters):
                found.append(record)
                if len(found) == most:
                    break
        return found

    records = asyncio.run(run())
    if output == "json":
        print(orjson.dumps(records, option=orjson.OPT_INDENT_2).decode())
        return
    columns = ("time", "account", "event", "outcome", "error", "reason", "principal", "address", "resource")
    print_rows(columns, [[_cell(record.get(column)) for column in columns] for record in records], console())


@app.command(epilog="\b\nExample:\n  thingmint audit export --data-dir data > audit.jsonl")
@_filtered
def export(filters: _Filters, data_dir: DataDirOption = None) -> None:
    """Write all records as JSON lines, newest first, each with its place in its chain."""

    async def run() -> None:
        async with _reader(data_dir) as (_, reader):
            async for row, record in _chosen(reader, filters):
                hash = row.hash.hex() if isinstance(row.hash, bytes) else None  # an altered row can have another type
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
        Path | None, typer.Option(metavar="FILE", help="A copy of the checkpoints, kept in another place.")
    ] = None,
) -> None:
    """Verify the chains. If records were altered, moved or removed, name the first one, with exit status 1."""
    from thingmint.access.audit_chain import Tampering, Verified, read_checkpoints, verify_all
    from thingmint.instance.audit_key import kept_checkpoints, read_audit_keys

    async def run() -> Verified:
        async with _reader(data_dir) as (directory, reader):
            keys, kept = read_audit_keys(directory), kept_checkpoints(directory)
            try:
                kept += read_checkpoints(checkpoint) if checkpoint is not None else []
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "it is not text"
                raise ConfigError("checkpoint", f"{checkpoint} cannot be read: {why}") from None
            return await verify_all(reader, keys, kept)

    try:
        found = asyncio.run(run())
    except Tampering as error:
        print(f"thingmint: the audit log was tampered with: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    print(f"{found.records} records and {found.checkpoints} checkpoints are intact.")
    if found.uncovered:
        print(f"No checkpoint covers the last {found.uncovered} records yet: changes to them would not be noticed.")
    if found.unsealed:
        print(f"{found.unsealed} more records are not in the chain yet; a running server adds them.")


@app.command(epilog="\b\nExample:\n  thingmint audit rekey --data-dir data")
def rekey(data_dir: DataDirOption = None) -> None:
    """Replace the key that signs the audit log. Signatures of the old key stay valid. Stop the server first."""
    from thingmint.access.audit_chain import Tampering
    from thingmint.access.audit_keys import key_text
    from thingmint.instance.audit_key import rekey as replace_key
    from thingmint.instance.create import check_keys, exists, open_store
    from thingmint.instance.layout import DirectoryInUse
    from thingmint.services.certificates import utc_now
    from thingmint.store.database import Database

    settings = settings_for(data_dir)
    directory, hold = held(settings)
    passphrase = functools.cache(lambda: passphrase_for(settings))

    async def run() -> tuple[str, bool]:
        if not exists(directory):
            missing = f"{directory.root} holds no instance, as there is no {directory.ca.name} in it"
            raise ConfigError("data-dir", f"{missing}: choose another --data-dir, or restore the file from a backup")
        database = settings.database() or Database.in_file(directory.database)
        store = await open_store(directory, settings.database())
        try:
            with _damage_named(database):
                await check_keys(store, directory, replaced="audit")
                key, signed = await replace_key(store, directory, passphrase, utc_now())
        finally:
            await store.close()
        return key_text(key), signed

    try:
        with hold:
            key, signed = asyncio.run(run())
    except DirectoryInUse:
        raise ConfigError("data-dir", f"{directory.root} is in use: stop the server first") from None
    except Tampering as error:
        what = f"the audit log was tampered with: {error}. The key was not replaced"
        advice = "Run thingmint audit verify, restore what it names from a backup, and run this again"
        print(f"thingmint: {what}. {advice}.", file=sys.stderr)
        raise typer.Exit(1) from None
    print(f"The audit log has a new signing key: {key}")
    print(
        "The old key signed the replacement." if signed else "The old key is missing and did not sign the replacement."
    )
    print(
        f"Back up {directory.audit_key.name}, audit.pem and {directory.audit_key_changes.name}, and copy them to the "
        "other hosts of this database."
    )


def _cell(value: Any) -> str:
    """The value without control characters for the terminal: unauthenticated callers choose parts of it."""
    text = str(value or "")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextlib.asynccontextmanager
async def _reader(data_dir: Path | None) -> AsyncIterator[tuple[DataDirectory, Reader]]:
    from thingmint.instance.layout import DataDirectory
    from thingmint.store.database import Database, DatabaseError

    settings = settings_for(data_dir)
    directory = DataDirectory(settings.data_dir.absolute())
    database = settings.database() or Database.in_file(directory.database)
    check_exists(database.file)
    try:
        reader = await database.open_to_read(directory.database_timelines)
    except DatabaseError as error:
        raise ConfigError("data-dir" if database.file else "store", str(error)) from None
    try:
        with _damage_named(database):
            yield directory, reader
    finally:
        await reader.close()


@contextlib.contextmanager
def _damage_named(database: Database) -> Iterator[None]:
    """Raises ConfigError for a database that opens, and then cannot be read or written."""
    from thingmint.domain.errors import Unavailable

    setting = "data-dir" if database.file else "store"
    try:
        yield
    except sqlite3.Error as error:
        what = f"{database} is damaged ({error}): restore it from a backup"
        raise ConfigError(setting, f"{what}; thingmint store check shows more") from None
    except Unavailable as error:
        raise ConfigError(setting, f"{database} cannot be used now: {error}") from None


async def _page(reader: Reader, account: str | None, before: str | None, wanted: AuditFilter) -> list[AuditRow]:
    """A page of records. Across all accounts, only time has an index."""
    from thingmint.access.audit_events import first_record_id
    from thingmint.store import audit as sql

    since = first_record_id(wanted.since) if wanted.since is not None else None
    searched = wanted.searched if account is not None else None

    async def body(tx: Transaction) -> list[AuditRow]:
        if wanted.about and account is not None:
            return await sql.list_about(
                tx, account=account, about=wanted.about, before=before, since=since, limit=_PAGE
            )
        return await sql.list_records(tx, account=account, before=before, since=since, limit=_PAGE, wanted=searched)

    return await reader.read(body)


async def _chosen(reader: Reader, filters: _Filters) -> AsyncIterator[tuple[AuditRow, dict[str, Any]]]:
    from thingmint.access.audit_records import read_record

    wanted = filters.wanted
    async for row in _all(reader, filters.account, wanted):
        record = read_record(row.record)
        if wanted.matches(record):
            yield row, record


async def _all(reader: Reader, account: str | None, wanted: AuditFilter) -> AsyncIterator[AuditRow]:
    from thingmint.access.audit_events import first_record_id

    before = first_record_id(wanted.until) if wanted.until is not None else None
    while rows := await _page(reader, account, before, wanted):
        for row in rows:
            yield row
        before = rows[-1].id
