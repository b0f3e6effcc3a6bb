"""`thingmint status`: the health of the server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import typer

from thingmint.cli.asking import Output, print_json
from thingmint.cli.directory import DataDirOption, settings_for
from thingmint.cli.tables import console, print_rows

if TYPE_CHECKING:
    from thingmint.settings import Settings

EXAMPLES = ("thingmint status", "thingmint status --data-dir /var/lib/thingmint --output json")


def status(data_dir: DataDirOption = None, output: Output = "table") -> None:
    """Tell whether the server runs, and check its database, broker, audit log, certificates, disk and backups.

    The exit status is 1 if a check finds an error, and 3 if no server runs on the data directory.
    """
    is_running, found = asyncio.run(_ask(settings_for(data_dir)))
    if output == "json":
        print_json({"running": is_running, **found})
    else:
        out = console()
        running = "runs" if is_running else "does not run"
        out.print(f"The server {running} (version {found['version']}); its state: {found['state']}.", markup=False)
        print_rows(
            ["check", "state", ""], [[each["name"], each["state"], each["message"]] for each in found["checks"]], out
        )
    if found["state"] == "error":
        raise typer.Exit(1)
    if not is_running:
        raise typer.Exit(3)


async def _ask(settings: Settings) -> tuple[bool, dict[str, Any]]:
    from thingmint.cli.reaching import reach

    async with reach(settings) as local:
        return local.has_server, await local.call("native", operation="GetHealth")
