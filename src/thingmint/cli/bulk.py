"""`thingmint bulk`: shows the tasks of bulk registration."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import orjson
import typer

from thingmint.cli.directory import DataDirOption, settings_for
from thingmint.cli.tables import console, print_rows

app = typer.Typer(help="Show tasks of bulk registration.", no_args_is_help=False)

Output = Annotated[Literal["table", "json"], typer.Option(help="A table for people, or JSON for scripts.")]


@app.callback()
def bulk() -> None:
    """Show tasks of bulk registration."""


@app.command("list", epilog="\b\nExample:\n  thingmint bulk list --account 123456789012 --data-dir data")
def list_(
    data_dir: DataDirOption = None,
    account: Annotated[
        str, typer.Option("--account", metavar="ID", help="The account's 12 digits (default: the first account).")
    ] = "",
    output: Output = "table",
) -> None:
    """List an account's tasks in all its regions, the newest first, with how far each one is."""
    found = _ask("bulk.list", data_dir, account=account)
    if output == "json":
        print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        return
    columns = ("id", "status", "percentage", "succeeded", "failed", "created_at", "bucket", "key")
    rows = [[str(each[column]) for column in columns] for each in found]
    print_rows(["id", "status", "%", "succeeded", "failed", "began", "bucket", "key"], rows, console())


@app.command(epilog="\b\nExample:\n  thingmint bulk show 0b9c2f0e-6a43-4c52-a4c4-8f2a4f3f5d11 --data-dir data")
def show(
    id: Annotated[str, typer.Argument(metavar="ID", help="The task's id: thingmint bulk list.")],
    data_dir: DataDirOption = None,
    output: Output = "table",
) -> None:
    """Show a task: how far it is, and why it failed."""
    found = _ask("bulk.show", data_dir, id=id)
    if output == "json":
        print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        return
    print_rows(["what", "value"], [[name, str(value)] for name, value in found.items() if value is not None], console())


def _ask(command: str, data_dir: Any, **arguments: Any) -> Any:
    from thingmint.cli.reaching import reach

    async def ask() -> Any:
        async with reach(settings_for(data_dir)) as local:
            return await local.call(command, **arguments)

    return asyncio.run(ask())
