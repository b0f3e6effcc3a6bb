"""`thingmint import`: brings a fleet in from another service."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
import typer

from thingmint.cli.directory import DataDirOption, settings_for
from thingmint.cli.tables import console, print_rows
from thingmint.settings import ConfigError

if TYPE_CHECKING:
    from thingmint.cli.import_runner import Summary
    from thingmint.importing.batches import Source
    from thingmint.settings import Settings

app = typer.Typer(help="Bring a fleet in: from Yandex IoT Core, from AWS IoT, from a table.", no_args_is_help=False)

Output = Annotated[Literal["table", "json"], typer.Option(help="A table for people, or JSON for scripts.")]
AccountOption = Annotated[
    str | None, typer.Option("--account", metavar="ID", help="The account's 12 digits (default: the first account).")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would come. Nothing is changed.")]
AgainOption = Annotated[
    bool, typer.Option("--again", help="Begin again, even if an earlier run was interrupted and could go on.")
]
ReportOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write everything that did not come as it was to this file, a JSON line each."),
]

_SHOWN = 20  # findings


@app.callback()
def import_() -> None:
    """Bring a fleet in: from Yandex IoT Core, from AWS IoT, from a table."""


@app.command(
    epilog="\b\nExamples:\n  thingmint import yandex iot-export-b1gmj783jarjcl4upv2j --dry-run\n"
    "  thingmint import yandex iot-export-b1gmj783jarjcl4upv2j --new-passwords passwords.csv\n"
    "  thingmint import yandex backup --account 123456789012 --report report.jsonl --output json"
)
def yandex(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The export: registries.json, devices-ID.json ...")],
    data_dir: DataDirOption = None,
    account: AccountOption = None,
    dry_run: DryRunOption = False,
    new_passwords: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Make passwords for devices without certificates, and write them to this new file."
        ),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Take what can be read of damaged files. Else they end the import.")
    ] = False,
    report: ReportOption = None,
    again: AgainOption = False,
    output: Output = "table",
) -> None:
    """Import registries, devices and brokers that were exported from Yandex IoT Core.

    Ids, names, labels, times, aliases and certificates stay. Nothing that is there is changed. If the import is
    interrupted, the same command goes on.
    """
    from thingmint.importing.batches import SourceError
    from thingmint.importing.sources.yandex import YandexExport

    try:
        source = YandexExport(directory, partial=partial)
    except SourceError as error:
        raise ConfigError("dir", str(error)) from None
    if new_passwords is not None and dry_run:
        raise ConfigError("new-passwords", "has nothing to do in a --dry-run")
    run_import(source, settings_for(data_dir), account, dry_run, report, again, output, new_passwords)


@app.command(
    epilog="\b\nExamples:\n  thingmint import aws --profile fleet --region eu-west-1 --dry-run\n"
    "  thingmint import aws --profile fleet --region eu-west-1 --region us-east-1 --report report.jsonl\n"
    "  thingmint import aws --endpoint-url https://other.example.org:8443 --rate none\n"
    "  thingmint import aws --permissions"
)
def aws(
    data_dir: DataDirOption = None,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="The profile in AWS's own configuration (default: AWS_PROFILE).")
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(metavar="R", help="A region to read; repeatable (default: that of the profile or AWS_REGION)."),
    ] = None,
    endpoint_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Read another server that serves the API of AWS IoT.")
    ] = None,
    rate: Annotated[
        str, typer.Option(metavar="N|none", help="Calls a second of each operation (default: what AWS allows).")
    ] = "",
    permissions: Annotated[
        bool, typer.Option("--permissions", help="Print the IAM policy that the import needs, and end.")
    ] = False,
    account: AccountOption = None,
    dry_run: DryRunOption = False,
    report: ReportOption = None,
    again: AgainOption = False,
    output: Output = "table",
) -> None:
    """Import things, groups, policies, certificates and provisioning templates from AWS IoT.

    The account is read over its API with your credentials for AWS, and is not changed. What is here already stays. If
    the import is interrupted, the same command goes on.
    """
    from thingmint.importing.batches import SourceError
    from thingmint.importing.sources.aws import open_account, policy_document

    if permissions:
        print(orjson.dumps(policy_document(), option=orjson.OPT_INDENT_2).decode())
        return
    try:
        source = open_account(profile, region or (), endpoint_url, _rate(rate), _tell)
    except SourceError as error:
        raise ConfigError("aws", str(error)) from None
    run_import(source, settings_for(data_dir), account, dry_run, report, again, output)


def _tell(line: str) -> None:
    print(f"thingmint: {line}", file=sys.stderr)


def _rate(text: str) -> float | None:
    """The calls a second, 0 for no limit, None for the default."""
    if text in ("", "none"):
        return 0.0 if text else None
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1_000_000:
        raise ConfigError("rate", "must be a number above 0, or none")
    return rate


@app.command(
    epilog="\b\nExamples:\n  thingmint import csv devices.csv --dry-run --report findings.jsonl\n"
    "  thingmint import csv export/devices.csv --definitions export/definitions.jsonl\n"
    "\n\b\nColumns:\n  name, certificate (a PEM, or a file in the table's directory), status; policies, groups, with\n"
    "  spaces between names; type, serial, attributes (JSON) or attributes.NAME, exclusive, ca, mode, created_at,\n"
    "  region. For devices of Yandex IoT Core also registry, device_id, description, topic_aliases (JSON)."
)
def csv(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The table, with a header.")],
    data_dir: DataDirOption = None,
    definitions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Policies, groups, registries and so on, as fleet export writes them."),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(metavar="R", help="The region of rows without one (default: the account's home region)."),
    ] = None,
    account: AccountOption = None,
    dry_run: DryRunOption = False,
    report: ReportOption = None,
    again: AgainOption = False,
    output: Output = "table",
) -> None:
    """Import devices from a table (CSV): a row for each device, or for each certificate of a device.

    Cells are separated by commas, semicolons or tabs, and the text is UTF-8. What is here already stays. If the import
    is interrupted, the same command goes on.
    """
    from thingmint.importing.batches import SourceError
    from thingmint.importing.sources.csv import CsvDevices

    settings = settings_for(data_dir)
    home = region or _ask(settings, "fleet.export_start", account=account or "")["regions"][0]
    try:
        source = CsvDevices(file, home, definitions)
    except SourceError as error:
        raise ConfigError("file", str(error)) from None
    run_import(source, settings, account, dry_run, report, again, output)


@app.command("list", epilog="\b\nExample:\n  thingmint import list --data-dir data")
def list_(data_dir: DataDirOption = None, output: Output = "table") -> None:
    """List imports, the newest first. What is known of them is kept for 90 days."""
    found = _ask(settings_for(data_dir), "import.list")
    if output == "json":
        print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        return
    rows = [
        [
            each["id"],
            each["source"],
            each["account"],
            each["created_at"],
            each["finished_at"] or each["state"],
            "" if each["percentage"] is None else str(each["percentage"]),
            str(sum(count for key, count in each["counts"].items() if key.endswith(".new"))),
            str(each["findings"]),
            each["origin"],
        ]
        for each in found
    ]
    print_rows(["id", "source", "account", "began", "ended", "%", "new", "findings", "from"], rows, console())


@app.command(epilog="\b\nExample:\n  thingmint import show 0b9c2f0e-6a43-4c52-a4c4-8f2a4f3f5d11 --data-dir data")
def show(
    id: Annotated[str, typer.Argument(metavar="ID", help="The import's id: thingmint import list.")],
    data_dir: DataDirOption = None,
    output: Output = "table",
) -> None:
    """Show everything of an import that did not come as it was, and what to do about it."""
    findings = _ask_all_findings(settings_for(data_dir), id)
    if output == "json":
        print(orjson.dumps(findings, option=orjson.OPT_INDENT_2).decode())
        return
    rows = [[each["kind"], each["outcome"], each["subject"], each["reason"]] for each in findings]
    print_rows(["kind", "outcome", "what", "why"], rows, console())


def run_import(
    source: Source,
    settings: Settings,
    account: str | None,
    dry_run: bool,
    report: Path | None,
    again: bool,
    output: str,
    new_passwords: Path | None = None,
) -> None:
    """Run the import and print its report. Ends the command with status 1 if something could not come."""
    from thingmint.cli.import_runner import Interrupted, Options, run
    from thingmint.importing.batches import SourceError

    options = Options(account or "", dry_run, report, again, new_passwords, progress=sys.stderr.isatty())
    try:
        summary = asyncio.run(run(source, settings, options))
    except SourceError as error:
        print(f"thingmint: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print("thingmint: interrupted; the same command goes on from there", file=sys.stderr)
        raise typer.Exit(130) from None
    except Interrupted as error:
        print(f"thingmint: {error}", file=sys.stderr)
        print("thingmint: the same command goes on from there", file=sys.stderr)
        raise typer.Exit(1) from None
    if output == "json":
        print(orjson.dumps(summary.as_json(), option=orjson.OPT_INDENT_2).decode())
    else:
        _print_summary(summary)
    if summary.failed:
        raise typer.Exit(1)


def _print_summary(summary: Summary) -> None:
    out = console()
    verb = "Would import" if summary.dry_run else "Imported"
    out.print(f"{verb} from {summary.origin} into account {summary.account}", markup=False)
    outcomes = ("new", "same", "completed", "conflict", "refused", "noted")
    rows = [
        [kind, *(str(summary.counts.get(f"{kind}.{outcome}", "")) for outcome in outcomes)]
        for kind in dict.fromkeys(key.partition(".")[0] for key in summary.counts)
    ]
    print_rows(["", "new", "there already", "completed", "conflict", "refused", "note"], rows, out)
    for finding in summary.findings[:_SHOWN]:
        out.print(f"- {finding.kind} {finding.subject}: {finding.outcome}: {finding.reason}", markup=False)
    if (more := summary.finding_count - min(len(summary.findings), _SHOWN)) > 0:
        if summary.dry_run:
            out.print(f"- and {more} more: --report FILE writes all of them")
        else:
            out.print(f"- and {more} more: thingmint import show {summary.id}")
    for line in summary.next_steps:
        out.print(line, markup=False)


def _ask(settings: Settings, command: str, **arguments: Any) -> Any:
    from thingmint.cli.reaching import reach

    async def ask() -> Any:
        async with reach(settings) as local:
            return await local.call(command, **arguments)

    return asyncio.run(ask())


def _ask_all_findings(settings: Settings, id: str) -> list[dict[str, Any]]:
    from thingmint.cli.import_runner import all_findings
    from thingmint.cli.reaching import reach

    async def ask() -> list[dict[str, Any]]:
        async with reach(settings) as local:
            return [finding async for finding in all_findings(local, id)]

    return asyncio.run(ask())
