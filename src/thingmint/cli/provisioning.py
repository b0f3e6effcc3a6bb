"""`thingmint provisioning`: dry runs and claims of provisioning templates."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thingmint.cli.asking import AccountOption, Output, RegionOption, ask, change, examples, print_json
from thingmint.cli.directory import DataDirOption
from thingmint.cli.tables import console, print_rows

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(help="Provisioning templates: dry-run, claims.", no_args_is_help=False)

_Template = Annotated[str, typer.Argument(metavar="TEMPLATE", help="The name of a provisioning template.")]


@app.callback()
def provisioning() -> None:
    """Provisioning templates: dry-run, claims."""


@app.command(
    "dry-run",
    epilog=examples(
        "thingmint provisioning dry-run pumps --parameter SerialNumber=00412",
        "thingmint provisioning dry-run pumps --parameter SerialNumber=00412 --document new.json",
        "thingmint provisioning dry-run sensors --pem device.pem",
    ),
)
def dry_run(
    template: _Template,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="What the device sends; repeatable. Of a JITP template: a field of the subject, such as CommonName.",
        ),
    ] = None,
    version: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="A version (default: the default one).")
    ] = None,
    document: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A document to try, before it is made a version.")
    ] = None,
    certificate: Annotated[
        str | None, typer.Option(metavar="ID", help="The id of the device's certificate, which is registered.")
    ] = None,
    pem: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The device's certificate, for templates of the type JITP.")
    ] = None,
    client_id: Annotated[str | None, typer.Option(metavar="ID", help="The client id, which a hook gets.")] = None,
    address: Annotated[
        str | None, typer.Option(metavar="IP", help="The device's address, for policies with aws:SourceIp.")
    ] = None,
    account: AccountOption = None,
    region: RegionOption = None,
    data_dir: DataDirOption = None,
    output: Output = "table",
) -> None:
    """Tell what a device would get by a template, and what its role may not do. Nothing is changed.

    The exit status is 1 if such a device would be refused.
    """
    body = {
        "template": template,
        "version": version,
        "document": _read("document", document) if document is not None else None,
        "parameters": dict(map(_parameter, parameter or ())),
        "certificate": certificate,
        "certificate_pem": _read("pem", pem) if pem is not None else None,
        "client_id": client_id,
        "address": address,
    }
    found = change(data_dir, "TestProvisioning", account, region, body)
    if output == "json":
        print_json(found)
    else:
        _print(found, console())
    if not found["succeeds"]:
        raise typer.Exit(1)


@app.command(epilog=examples("thingmint provisioning claims pumps"))
def claims(
    template: _Template,
    account: AccountOption = None,
    region: RegionOption = None,
    data_dir: DataDirOption = None,
    output: Output = "table",
) -> None:
    """List the claims of a template that are valid now, the newest first."""
    found = ask(data_dir, "ListProvisioningClaims", account, region, {"template": template})["claims"]
    if output == "json":
        print_json(found)
        return
    rows = [[each["certificate"], each["created_at"], each["expires_at"]] for each in found]
    print_rows(["certificate", "made", "ends"], rows, console())


def _parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise typer.BadParameter(f"--parameter: {text} must have the form NAME=VALUE")
    return name, value


def _read(option: str, file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"--{option}: {file} cannot be read: {error}") from None


def _print(found: dict[str, Any], out: Console) -> None:
    if found["succeeds"]:
        out.print("Such a device would be provisioned.")
    else:
        out.print("Such a device would be refused:")
        for failure in found["failures"]:
            out.print(f"- {failure['reason']}", markup=False)
    if found["hook_question"] is not None:
        out.print("The pre-provisioning hook is not called in a dry run. It decides first.")
    for subject, lines in groupby(found["changes"], lambda each: each["subject"]):
        title = "certificate of the device" if found["is_stand_in"] and subject.startswith("certificate") else subject
        out.print(f"\n{title}", markup=False)
        for each in lines:
            before, after = (each[name] if each[name] is not None else "-" for name in ("before", "after"))
            shown = f"{after} (as now)" if before == after else f"{before} -> {after}"
            out.print(f"  {each['what']}: {shown}", markup=False)
    for name, value in found["device_configuration"].items():
        out.print(f"  the device is told {name}: {value}", markup=False)
    out.print(f"\nAs {found['role']}", markup=False)
    rows = []
    for each in found["actions"]:
        why = "\n".join([each["why"], *each["closest"]])
        rows.append([each["action"], each["resource"], "allowed" if each["allowed"] else "refused", why])
    print_rows(["action", "resource", "", "why"], rows, out)
