"""`thingmint certificate`: lists, finds and counts certificates."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from thingmint.cli.asking import AccountOption, Output, RegionOption, ask, examples, print_json, shown
from thingmint.cli.directory import DataDirOption
from thingmint.cli.tables import console, print_rows

app = typer.Typer(help="Certificates: counts.", no_args_is_help=False)


@app.callback()
def certificate() -> None:
    """Certificates: counts."""


@app.command(
    epilog=examples("thingmint certificate counts", "thingmint certificate counts --weeks 52 --output json"),
)
def counts(
    weeks: Annotated[int, typer.Option(min=1, max=1000, help="Weeks of expiry, from the current one on.")] = 13,
    days: Annotated[int, typer.Option(min=1, max=1000, help="Days of addition, up to today.")] = 7,
    account: AccountOption = None,
    region: RegionOption = None,
    data_dir: DataDirOption = None,
    output: Output = "table",
) -> None:
    """Count certificates by status, by week of expiry, and by the day on which they were added. Days are in UTC."""
    found = ask(data_dir, "CountCertificates", account, region, {"weeks": weeks, "days": days})
    if output == "json":
        print_json(found)
        return
    out = console()
    for line in shown({"certificates": found["total"], **found["by_status"]}):
        out.print(line, markup=False)
    out.print("\nACTIVE certificates that end:")
    ends = {f"within {within} days": number for within, number in found["expiring"].items()}
    for line in shown({"before today": found["expired"], **ends}):
        out.print(f"  {line}", markup=False)
    out.print("\nBy the week in which they end:")
    print_rows(["week from", "certificates"], [_row(week["begins"], week["by_status"]) for week in found["weeks"]], out)
    out.print("\nAdded:")
    print_rows(["day", "certificates"], [_row(day["day"], day["by_origin"]) for day in found["added"]], out)


def _row(day: str, amounts: dict[str, Any]) -> list[str]:
    return [day, ", ".join(f"{number} {name}" for name, number in amounts.items()) or "0"]
