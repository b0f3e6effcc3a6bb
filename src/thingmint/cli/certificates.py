"""`thingmint certificate`: list, find and count certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from thingmint.cli.asking import (
    MOMENT,
    AccountOption,
    LimitOption,
    Output,
    RegionOption,
    ask,
    ask_all,
    examples,
    moment,
    print_json,
    shown,
)
from thingmint.cli.directory import DataDirOption
from thingmint.cli.tables import console, print_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

app = typer.Typer(help="Certificates: list, find, counts.", no_args_is_help=False)


@app.callback()
def certificate() -> None:
    """Certificates: list, find, counts."""


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


Moment = Annotated[str | None, typer.Option(metavar="TIME", help=MOMENT)]


@app.command(
    name="list",
    epilog=examples(
        "thingmint certificate list --status ACTIVE --ends-before 30d",
        "thingmint certificate list --seen-before=-90d --limit 1000 --output json",
        "thingmint certificate list --without-policy --without-thing",
        "thingmint certificate list --subject-prefix pump- --order ascending",
    ),
)
def list_(
    status: Annotated[str | None, typer.Option(help="Such as ACTIVE, INACTIVE or REVOKED.")] = None,
    ca: Annotated[str | None, typer.Option(metavar="ID", help="Registered under this CA certificate.")] = None,
    ends_from: Moment = None,
    ends_before: Moment = None,
    seen_from: Moment = None,
    seen_before: Moment = None,
    never_seen: Annotated[bool, typer.Option("--never-seen", help="No device has connected with it.")] = False,
    without_policy: Annotated[bool, typer.Option("--without-policy", help="No policy is attached to it.")] = False,
    without_thing: Annotated[bool, typer.Option("--without-thing", help="It is attached to no thing.")] = False,
    id_prefix: Annotated[str | None, typer.Option(metavar="DIGITS", help="The first digits of its id.")] = None,
    serial: Annotated[str | None, typer.Option(metavar="DIGITS", help="Its serial number in hexadecimal.")] = None,
    subject: Annotated[str | None, typer.Option(metavar="NAME", help="The last common name in its subject.")] = None,
    subject_prefix: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The beginning of that common name. Sorts by it.")
    ] = None,
    thing: Annotated[str | None, typer.Option(metavar="NAME", help="A thing that it is attached to.")] = None,
    device: Annotated[
        str | None, typer.Option(metavar="ID", help="The Yandex device, registry or broker that it is bound to.")
    ] = None,
    order: Annotated[
        Literal["ascending", "descending"], typer.Option(help="The direction of the list.")
    ] = "descending",
    limit: LimitOption = 100,
    account: AccountOption = None,
    region: RegionOption = None,
    data_dir: DataDirOption = None,
    output: Output = "table",
) -> None:
    """List the certificates that satisfy all that is given, by age unless a time is given."""
    times = {"ends_from": ends_from, "ends_before": ends_before, "seen_from": seen_from, "seen_before": seen_before}
    query = {
        **{name: moment(f"--{name.replace('_', '-')}", text) for name, text in times.items() if text is not None},
        "status": status,
        "ca": ca,
        "never_seen": never_seen or None,
        "without_policy": without_policy or None,
        "without_thing": without_thing or None,
        "id_prefix": id_prefix,
        "serial": serial,
        "subject": subject,
        "subject_prefix": subject_prefix,
        "thing": thing,
        "device": device,
        "order": order,
    }
    found, is_more = ask_all(data_dir, "SearchCertificates", "certificates", account, region, query, limit)
    _show(found, output, f"There are more: the first {limit} are shown; see --limit." if is_more else None)


@app.command(epilog=examples("thingmint certificate find lamp-7", "thingmint certificate find 4f06 --output json"))
def find(
    text: Annotated[
        str,
        typer.Argument(
            help="The first 4 digits of an id or more, an ARN, a serial number, a common name or the name of a thing "
            "(also its beginning), or the id or name of a Yandex device, registry or broker."
        ),
    ],
    account: AccountOption = None,
    region: RegionOption = None,
    data_dir: DataDirOption = None,
    output: Output = "table",
) -> None:
    """Find certificates by what you know of one."""
    found = ask(data_dir, "FindCertificates", account, region, {"text": text})
    _show(found["certificates"], output, None)


def _show(found: Sequence[Mapping[str, Any]], output: str, note: str | None) -> None:
    if output == "json":
        print_json(found)
        return
    rows = []
    for each in found:
        owner, seen = each["owner"], each["last_seen"]
        bound = f"{owner['kind']} {owner['id']}" if owner is not None else ""
        name, last = each["common_name"] or "", seen["seen_at"] if seen is not None else "never"
        rows.append([each["id"], each["status"], name, each["thing"] or bound, each["not_after"], last])
    out = console()
    print_rows(["certificate", "status", "name", "thing or device", "ends", "last seen"], rows, out)
    if note is not None:
        out.print(note, markup=False)


def _row(day: str, amounts: dict[str, Any]) -> list[str]:
    return [day, ", ".join(f"{number} {name}" for name, number in amounts.items()) or "0"]
