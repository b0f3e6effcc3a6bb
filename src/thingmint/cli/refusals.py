"""`thingmint refusal`: what devices were refused, and how often."""

from __future__ import annotations

from typing import Annotated

import typer

from thingmint.cli.asking import (
    MOMENT,
    LimitOption,
    Output,
    RegionOption,
    ask,
    ask_all,
    examples,
    moment,
    print_json,
)
from thingmint.cli.directory import DataDirOption
from thingmint.cli.tables import console, print_rows

app = typer.Typer(help="Refusals of devices: list, counts.", no_args_is_help=False)

_Account = Annotated[
    str | None,
    typer.Option(
        "--account",
        metavar="ID",
        help="The account's 12 digits, or none for devices whose account is not known, such as those with an unknown "
        "certificate (default: the first account).",
    ),
]


@app.callback()
def refusal() -> None:
    """Refusals of devices: list, counts."""


@app.command(
    name="list",
    epilog=examples(
        "thingmint refusal list --since=-1h",
        "thingmint refusal list --client-id lamp-7 --output json",
        "thingmint refusal list --account none",
    ),
)
def list_(
    certificate: Annotated[
        str | None, typer.Option(metavar="ID", help="The id of a certificate, or its first digits.")
    ] = None,
    client_id: Annotated[str | None, typer.Option(metavar="ID", help="The last MQTT client id.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help=MOMENT)] = None,
    limit: LimitOption = 100,
    account: _Account = None,
    region: RegionOption = None,
    data_dir: DataDirOption = None,
    output: Output = "table",
) -> None:
    """List what devices were refused in the last 7 days, in groups with the same cause, the last refused first.

    `thingmint why` explains what a device may do now.
    """
    query = {
        "certificate": certificate,
        "client_id": client_id,
        "since": moment("--since", since) if since is not None else None,
    }
    found, is_more = ask_all(data_dir, "ListRefusals", "refusals", account, region, query, limit)
    if output == "json":
        print_json(found)
        return
    out = console()
    columns = ["last", "times", "client id", "certificate", "action", "resource", "reason"]
    rows = [
        [
            each["last_at"],
            str(each["count"]),
            each["client_id"],
            each["certificate"][:12],
            each["action"],
            each["resource"],
            each["reason"],
        ]
        for each in found
    ]
    print_rows(columns, rows, out)
    if is_more:
        out.print(f"There are more: the first {limit} are shown; see --limit.", markup=False)


@app.command(epilog=examples("thingmint refusal counts", "thingmint refusal counts --minutes 1440 --output json"))
def counts(
    minutes: Annotated[int, typer.Option(min=5, max=10_080, help="In the last minutes.")] = 60,
    account: _Account = None,
    region: RegionOption = None,
    data_dir: DataDirOption = None,
    output: Output = "table",
) -> None:
    """Count the refusals of the last hour by reason."""
    found = ask(data_dir, "CountRefusals", account, region, {"minutes": minutes})
    if output == "json":
        print_json(found)
        return
    out = console()
    print_rows(["times", "reason"], [[str(count), reason] for reason, count in found["by_reason"].items()], out)
