"""`thingmint session`: the sessions of connected devices."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thingmint.cli.asking import (
    AccountOption,
    LimitOption,
    Output,
    RegionOption,
    ask,
    ask_all,
    change,
    examples,
    print_json,
    shown,
)
from thingmint.cli.directory import DataDirOption
from thingmint.cli.tables import console, print_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

app = typer.Typer(help="Sessions of connected devices: list, show, kick.", no_args_is_help=False)

_ClientId = Annotated[str, typer.Argument(metavar="CLIENT_ID")]
_Owner = Annotated[
    str | None, typer.Option(metavar="ID", help="The Yandex device, registry or broker that the client connected as.")
]


@app.callback()
def session() -> None:
    """Sessions of connected devices: list, show, kick."""


@app.command(
    name="list",
    epilog=examples("thingmint session list", "thingmint session list --text lamp --limit 1000 --output json"),
)
def list_(
    text: Annotated[
        str | None,
        typer.Option(help="Part of the client id, thing, owner or address, or the beginning of the certificate's id."),
    ] = None,
    thing: Annotated[str | None, typer.Option(metavar="NAME", help="The thing of the certificate.")] = None,
    owner: _Owner = None,
    certificate: Annotated[str | None, typer.Option(metavar="ID", help="The id of the certificate.")] = None,
    address: Annotated[str | None, typer.Option(metavar="IP", help="The device's address.")] = None,
    limit: LimitOption = 100,
    account: AccountOption = None,
    region: RegionOption = None,
    data_dir: DataDirOption = None,
    output: Output = "table",
) -> None:
    """List the sessions of connected devices, of all processes on the database, the newest connection first."""
    query = {"text": text, "thing": thing, "owner": owner, "certificate": certificate, "address": address}
    found, is_more = ask_all(data_dir, "ListSessions", "sessions", account, region, query, limit, note=_missing)
    if output == "json":
        print_json(found)
        return
    out = console()
    columns = ["client id", "thing or owner", "certificate", "address", "protocol", "since", "idle", "subs", "queued"]
    rows = [
        [
            each["client_id"],
            each["thing"] or each["owner"] or "",
            each["certificate"][:12],
            each["address"],
            each["protocol"].removeprefix("MQTT "),
            each["connected_at"],
            f"{each['idle']:.0f} s",
            str(each["subscriptions"]),
            "" if each["queued"] is None else str(each["queued"]),
            str(each["received"]),
            str(each["sent"]),
        ]
        for each in found
    ]
    print_rows([*columns, "in", "out"], rows, out)
    if is_more:
        out.print(f"There are more: the first {limit} are shown; see --limit.", markup=False)


def _missing(page: Mapping[str, Any]) -> None:
    if page["missing"]:
        names = ", ".join(page["missing"])
        print(f"thingmint: these processes did not tell their sessions in time: {names}", file=sys.stderr)


@app.command(epilog=examples("thingmint session show lamp-7", "thingmint session show client --owner are12345"))
def show(
    client_id: _ClientId,
    owner: _Owner = None,
    account: AccountOption = None,
    region: RegionOption = None,
    data_dir: DataDirOption = None,
    output: Output = "table",
) -> None:
    """Show one session with its subscriptions."""
    found = ask(data_dir, "GetSession", account, region, {"client_id": client_id, "owner": owner})
    if output == "json":
        print_json(found)
        return
    out = console()
    filters = found.pop("filters")
    for line in shown({name.replace("_", " "): value for name, value in found.items() if value != ""}):
        out.print(line, markup=False)
    for filter in filters:
        out.print(f"  subscribed to {filter}", markup=False)


@app.command(
    epilog=examples("thingmint session kick lamp-7", "thingmint session kick lamp-7 --clean-session --prevent-will")
)
def kick(
    client_id: _ClientId,
    owner: _Owner = None,
    clean_session: Annotated[
        bool, typer.Option("--clean-session", help="End the session too, also of a client that is not connected.")
    ] = False,
    prevent_will: Annotated[bool, typer.Option("--prevent-will", help="Do not publish its will.")] = False,
    account: AccountOption = None,
    region: RegionOption = None,
    data_dir: DataDirOption = None,
    output: Output = "table",
) -> None:
    """Close a device's connection. The device can connect again: to keep it out, deactivate its certificate."""
    body = {
        "client_id": client_id,
        "owner": owner,
        "clean_session": clean_session or None,
        "prevent_will": prevent_will or None,
    }
    found = change(data_dir, "EndSession", account, region, body)
    if output == "json":
        print_json(found)
    elif found["was_connected"]:
        print(f"The connection of {client_id} is closed, within a second if another process has it.")
    else:
        print(f"{client_id} was not connected. If it had a session, that has ended.")
