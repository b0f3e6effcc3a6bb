"""The commands that pages show as the same: `thingmint` takes them as they are printed."""

from __future__ import annotations

import html
import re
import shlex
from typing import TYPE_CHECKING, Any

import typer

from tests.unit.console.test_every_page import CLOSED
from thingmint.cli.main import app

if TYPE_CHECKING:
    from tests.unit.console.browser import Browser, Site
    from tests.world import World

SHOWN = re.compile(r'<code id="same">(.*?)</code>', re.DOTALL)
QUERIES = (
    "/refusals?client_id=pump&since=hour",
    "/sessions?q=pump",
    "/certificates?q=pump&status=ACTIVE&ends=30",
    "/access/audit?q=pump&by=client_id&event=Connect&days=7",
)


async def commands(browser: Browser, path: str) -> list[str]:
    found = SHOWN.search((await browser.get(path)).text)
    return html.unescape(found[1]).splitlines() if found is not None else []


def parse(arguments: list[str]) -> None:
    """Parses the arguments of `thingmint`, and runs nothing. Raises click's UsageError."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("thingmint", arguments)
    while hasattr(command, "commands"):
        name, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, arguments, parent=context)


async def test_commands_are_taken_as_they_are_shown(site: Site, world: World) -> None:
    id = await world.certificate()
    await world.aws("CreateThing", thingName="pump")
    browser = await site.signed_in()
    paths = [page.path for page in CLOSED if page.method == "GET" and "{" not in page.path]
    seen = 0
    for path in [*paths, *QUERIES, f"/certificates/{id}", "/things/pump"]:
        for line in await commands(browser, path):
            assert "SERVER" not in line, path
            words = shlex.split(line.partition(" > ")[0], comments=True)
            if words[:1] == ["thingmint"]:
                parse(words[1:])
                seen += 1
    assert seen > 20


async def test_filters_are_in_the_command(site: Site) -> None:
    browser = await site.signed_in()
    assert "thingmint refusal list --client-id pump --since=-1h" in await commands(browser, QUERIES[0])
    shown = await commands(browser, QUERIES[3])
    assert "thingmint audit list --client-id pump --event Connect --since=-7d" in shown


async def test_the_documents_are_at_the_address_of_this_server(site: Site) -> None:
    browser = await site.signed_in()
    for path in ("/playground", "/playground/aws/CreateThing"):
        shown = await commands(browser, path)
        assert shown
        assert all(line.startswith("curl --cacert data/ca.pem https://iot.example.org:8443/openapi") for line in shown)
