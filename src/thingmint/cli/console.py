"""`thingmint console`: a link that signs in to the console once."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

import orjson
import typer

from thingmint.cli.directory import DataDirOption, check_exists, held, settings_for

EXAMPLES = (
    "thingmint console --data-dir data",
    "thingmint console --data-dir data --open",
    "thingmint console --data-dir data --user alice --account 123456789012",
)


def open_console(
    user: Annotated[
        str | None, typer.Option(metavar="NAME", help="The user who is signed in (default: the first administrator).")
    ] = None,
    account: Annotated[
        str | None, typer.Option(metavar="ID", help="The user's account (default: the first account).")
    ] = None,
    browser: Annotated[bool, typer.Option("--open", help="Open the link in a browser on this machine.")] = False,
    data_dir: DataDirOption = None,
    output: Annotated[Literal["table", "json"], typer.Option(help="A text for people, or JSON for scripts.")] = "table",
) -> None:
    """Print a link that signs in to the console of the running server. It works once, for five minutes."""
    from thingmint import admin
    from thingmint.domain.names import is_loopback

    directory, _ = held(settings_for(data_dir))
    check_exists(directory.root)
    link = admin.call(directory.admin_socket, "console.link", account=account, user=user)
    if output == "json":
        print(orjson.dumps(link).decode())
    else:
        print(f"On this machine:   {link['local']}")
        is_here = is_loopback(urlsplit(link["url"]).hostname or "")
        print(f"{'With HTTPS:     ' if is_here else 'From other ones:'}   {link['url']}")
        print(f"The link works once, for {link['seconds'] // 60} minutes.")
    if browser:
        import webbrowser

        webbrowser.open(link["local"])
