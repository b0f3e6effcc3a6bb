"""`thingmint fleet`: makes devices for a production line, and writes a fleet to files."""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
import typer

from thingmint.cli.directory import DataDirOption, settings_for
from thingmint.cli.tables import console
from thingmint.settings import ConfigError

if TYPE_CHECKING:
    from thingmint.cli.fleet_runner import Wanted
    from thingmint.fleet.devices import Pattern
    from thingmint.settings import Settings

app = typer.Typer(help="Make devices for a production line; write all devices to files.", no_args_is_help=False)

Output = Annotated[Literal["table", "json"], typer.Option(help="A table for people, or JSON for scripts.")]


@app.callback()
def fleet() -> None:
    """Make devices for a production line; write all devices to files."""


@app.command(
    epilog="\b\nExamples:\n"
    "  thingmint fleet create --count 1000 --template lamp --parameter SerialNumber=L-{n:06} --out lamps\n"
    "  thingmint fleet create --count 500 --start 1001 --template lamp --parameter SerialNumber=L-{n:06} \\\n"
    "      --name L-{n:06} --out lamps-2 --format zip --remove-keys\n"
    "  thingmint fleet create --csv devices.csv --template lamp --name {SerialNumber} --out lamps\n"
    "  thingmint fleet create --count 100 --registry are1a2b3c4d5e6f7g8h9 --name meter-{n:03} --out meters"
)
def create(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="A new or empty directory, or that of a run to go on with.")
    ],
    count: Annotated[int | None, typer.Option(min=1, max=10_000_000, help="How many devices to make.")] = None,
    template: Annotated[
        str | None, typer.Option(metavar="NAME", help="Run this fleet provisioning template for each device.")
    ] = None,
    registry: Annotated[
        str | None, typer.Option(metavar="ID", help="Make devices in this registry of Yandex IoT Core instead.")
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=TEXT",
            help="A parameter of the template; repeatable. In the text, {n} is the device's number, {n:06} the same "
            "with zeros to 6 digits, {Column} a cell of --csv.",
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Instead of --count: a table with a row for each device. Its columns are parameters, or are used in "
            "--parameter and --name.",
        ),
    ] = None,
    start: Annotated[int, typer.Option(min=0, help="The number of the first device.")] = 1,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="The name of a device's directory and of its certificate, in a registry also that of the device "
            "(default: {name} if --csv has such a column, else device-{n:06}).",
        ),
    ] = None,
    key: Annotated[Literal["p256", "rsa2048"], typer.Option(help="The devices' keys.")] = "p256",
    format: Annotated[
        Literal["pem", "zip"],
        typer.Option(help="Directories of PEM files; with zip, also all of them in DIR/devices.zip."),
    ] = "pem",
    remove_keys: Annotated[
        bool, typer.Option("--remove-keys", help="With --format zip: keep the private keys only in the archive.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check all devices. Nothing is made.")] = False,
    account: Annotated[
        str | None, typer.Option(metavar="ID", help="The account's 12 digits (default: the first account).")
    ] = None,
    region: Annotated[
        str | None, typer.Option(metavar="R", help="The template's region (default: the account's home region).")
    ] = None,
    data_dir: DataDirOption = None,
    output: Output = "table",
) -> None:
    """Make keys and certificates for devices, and register the devices.

    Each device gets DIR/NAME/key.pem, certificate.pem and csr.pem. DIR/ca.pem is the root that devices trust, and
    DIR/manifest.csv lists the devices. Private keys never leave this machine.

    All devices are checked before any is made. If the command is interrupted, the same command goes on: no device gets
    a second certificate.
    """
    from thingmint.cli.fleet_runner import Options, Wanted
    from thingmint.importing.csv_rows import CsvTable, UnreadableTable

    if (template is None) == (registry is None):
        raise ConfigError("template", "or --registry must be given, and not both")
    if (count is None) == (csv is None):
        raise ConfigError("count", "or --csv must be given, and not both")
    if registry is not None and parameter:
        raise ConfigError("parameter", "is for templates: devices of a registry have no parameters")
    if remove_keys and format != "zip":
        raise ConfigError("remove-keys", "needs --format zip: without it, the keys would be lost")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would contain private keys
    try:
        table = CsvTable(csv) if csv is not None else None
    except UnreadableTable as error:
        raise ConfigError("csv", str(error)) from None
    wanted = Wanted(
        template=template or "",
        registry=registry or "",
        account=account or "",
        region=region or "",
        count=count,
        start=start,
        name=_pattern("name", name) if name is not None else None,
        parameters=_parameters(parameter or []),
        table=table,
        key=key,
    )
    options = Options(out, dry_run, format == "zip", remove_keys, progress=sys.stderr.isatty())
    settings = settings_for(data_dir)
    own = [name for name, each in settings.server_certificates_in_force().items() if "mqtt" in each.listeners]
    report = {**_run(wanted, options, settings), "other_server_certificates": own}
    if output == "json":
        print(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(report)


@app.command(
    epilog="\b\nExamples:\n  thingmint fleet export --out backup\n"
    "  thingmint fleet export --format yandex --out iot-export --account 123456789012"
)
def export(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="A new directory. It is DIR.part until it is complete.")
    ],
    format: Annotated[
        Literal["csv", "yandex"],
        typer.Option(
            help="csv: a table with a row for each device, and what it names. yandex: registries, devices and brokers "
            "as Yandex's migration guide has people write them."
        ),
    ] = "csv",
    account: Annotated[
        str | None, typer.Option(metavar="ID", help="The account's 12 digits (default: the first account).")
    ] = None,
    data_dir: DataDirOption = None,
    output: Output = "table",
) -> None:
    """Write the devices of an account to files, with everything but secrets: no private keys and no passwords.

    thingmint import csv DIR/devices.csv --definitions DIR/definitions.jsonl takes the one format, and thingmint import
    yandex DIR the other.
    """
    from thingmint.admin import AdminError
    from thingmint.cli.fleet_exporter import export as run
    from thingmint.fleet.export_files import ExportError

    try:
        report = asyncio.run(run(settings_for(data_dir), account or "", format, out, progress=sys.stderr.isatty()))
    except (ExportError, AdminError) as error:
        print(f"thingmint: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except OSError as error:
        print(f"thingmint: {error.filename or out}: {error.strerror}", file=sys.stderr)
        raise typer.Exit(1) from None
    if output == "json":
        print(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
        return
    console().print(f"Exported account {report['account']} to {out}", markup=False)
    for what, count in report["counts"].items():
        console().print(f"  {what.replace('_', ' ')}: {count}", markup=False)
    if left := report["certificates_left_out"]:
        console().print(f"Left out {left} certificates that are not ACTIVE, as an import would make them so.")
    if report["counts"].get("registries") or report["counts"].get("brokers"):
        console().print("Passwords are not exported: what connects with one needs a new one after an import.")


def _run(wanted: Wanted, options: Any, settings: Settings) -> dict[str, Any]:
    """The report. Ends the command with status 1 if not all devices are made."""
    from thingmint.admin import AdminError
    from thingmint.cli.fleet_runner import Stopped, create
    from thingmint.fleet.devices import DevicesUnusable
    from thingmint.fleet.folder import FolderError
    from thingmint.importing.csv_rows import UnreadableTable

    try:
        return asyncio.run(create(wanted, settings, options))
    except DevicesUnusable as error:
        for flaw in error.flaws:
            print(f"thingmint: {flaw}", file=sys.stderr)
        more = " and others" if error.more else ""
        print(f"thingmint: these{more} cannot be made, so none of the run's devices was made", file=sys.stderr)
    except UnreadableTable as error:
        print(f"thingmint: {error}", file=sys.stderr)
    except FolderError as error:
        print(f"thingmint: {error}", file=sys.stderr)
    except OSError as error:
        print(f"thingmint: {error.filename or options.out}: {error.strerror}", file=sys.stderr)
    except (Stopped, AdminError) as error:
        print(f"thingmint: {error}", file=sys.stderr)
        print("thingmint: when that is solved, the same command goes on from there", file=sys.stderr)
    except KeyboardInterrupt:
        print("thingmint: interrupted; the same command goes on from there", file=sys.stderr)
        raise typer.Exit(130) from None
    raise typer.Exit(1)


def _pattern(option: str, text: str) -> Pattern:
    from thingmint.fleet.devices import Pattern, PatternError

    try:
        return Pattern(text)
    except PatternError as error:
        raise ConfigError(option, str(error)) from None


def _parameters(given: list[str]) -> dict[str, Pattern]:
    parameters: dict[str, Pattern] = {}
    for each in given:
        name, separator, text = each.partition("=")
        if not name or not separator:
            raise ConfigError("parameter", f"{each} must have the form NAME=TEXT")
        if name in parameters:
            raise ConfigError("parameter", f"{name} is given twice")
        parameters[name] = _pattern("parameter", text)
    return parameters


def _print(report: dict[str, Any]) -> None:
    out = console()
    where = f"{report['kind']} {report['target']} of account {report['account']}"
    if report["dry_run"]:
        out.print(f"Would make {report['devices'] - report['done']} devices with {where}", markup=False)
        return
    before = report["done"] - report["made"]
    earlier = f", and {before} earlier" if before else ""
    out.print(f"Made {report['made']} devices with {where}{earlier}", markup=False)
    out.print(f"  {report['directory']}/NAME/  key.pem, certificate.pem and csr.pem of each device", markup=False)
    out.print(f"  {report['directory']}/ca.pem  the root that devices trust", markup=False)
    out.print(f"  {report['directory']}/manifest.csv  the list of devices", markup=False)
    if report["other_server_certificates"]:
        names = ", ".join(report["other_server_certificates"])
        out.print(f"Devices that are shown the certificate of {names} need the root of its CA instead of ca.pem.")
    if "zip" in report:
        out.print(f"  {report['zip']}  all of it", markup=False)
