"""What the commands share that ask an endpoint of the native API, of a running server or without one."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
import typer

from thingmint.cli.directory import settings_for
from thingmint.domain.durations import parse_duration
from thingmint.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from thingmint.settings import Settings

Output = Annotated[Literal["table", "json"], typer.Option(help="A table for people, or JSON for scripts.")]
AccountOption = Annotated[
    str | None, typer.Option("--account", metavar="ID", help="The account's 12 digits (default: the first account).")
]
RegionOption = Annotated[
    str | None, typer.Option("--region", metavar="R", help="One of its regions (default: its home region).")
]
LimitOption = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Show at most so many.")]

MOMENT = "A date or time such as 2027-01-31 or 2027-01-31T12:00Z, or a time from now such as 30d or -12h."

_PAGE = 250
_FORMS = "2027-01-31, 2027-01-31T12:00Z, 30d or -12h"


def ask(
    data_dir: Path | None, operation: str, account: str | None, region: str | None, query: Mapping[str, Any]
) -> Any:
    """The "data" of the endpoint's answer. Values that are None are left out. Raises AdminError and ConfigError."""
    given = {name: value for name, value in query.items() if value is not None}
    return asyncio.run(_ask(settings_for(data_dir), operation, account, region, given))


def change(
    data_dir: Path | None, operation: str, account: str | None, region: str | None, body: Mapping[str, Any]
) -> Any:
    """The same for an endpoint that takes a body."""
    given = {name: value for name, value in body.items() if value is not None}
    return asyncio.run(_ask(settings_for(data_dir), operation, account, region, {}, given))


def ask_all(
    data_dir: Path | None,
    operation: str,
    items: str,
    account: str | None,
    region: str | None,
    query: Mapping[str, Any],
    limit: int,
    note: Callable[[Mapping[str, Any]], None] | None = None,
) -> tuple[list[dict[str, Any]], bool]:
    """Up to ``limit`` items of a list, of as many pages as needed, and True if there are more.

    ``note`` is called with each page.
    """
    given = {name: value for name, value in query.items() if value is not None}
    return asyncio.run(_ask_all(settings_for(data_dir), operation, items, account, region, given, limit, note))


async def _ask(
    settings: Settings,
    operation: str,
    account: str | None,
    region: str | None,
    query: Mapping[str, Any],
    body: Mapping[str, Any] | None = None,
) -> Any:
    from thingmint.cli.reaching import reach

    async with reach(settings) as local:
        return await local.call("native", operation=operation, account=account, region=region, query=query, body=body)


async def _ask_all(
    settings: Settings,
    operation: str,
    items: str,
    account: str | None,
    region: str | None,
    query: Mapping[str, Any],
    limit: int,
    note: Callable[[Mapping[str, Any]], None] | None,
) -> tuple[list[dict[str, Any]], bool]:
    from thingmint.cli.reaching import reach

    found: list[dict[str, Any]] = []
    marker: str | None = None
    async with reach(settings) as local:
        while True:
            page_of = {"page_size": min(_PAGE, limit - len(found)), **query} | ({"marker": marker} if marker else {})
            page = await local.call("native", operation=operation, account=account, region=region, query=page_of)
            found += page[items]
            if note is not None:
                note(page)
            marker = page["next_marker"]
            if marker is None or len(found) >= limit:
                return found, marker is not None


def moment(flag: str, text: str) -> str:
    """Return the time that ``text`` means, for the API."""
    sign, duration = (-1, text[1:]) if text.startswith("-") else (1, text)
    try:
        if re.fullmatch(r"\d+[a-z]+", duration):
            span = parse_duration(duration)
            assert isinstance(span, timedelta), "the text is not ISO 8601"
            return (datetime.now(UTC) + sign * span).isoformat()
        found = datetime.fromisoformat(text)
    except (Invalid, ValueError, OverflowError, TypeError):
        raise typer.BadParameter(f"{flag}: {text} is not a date or time, as {_FORMS}") from None
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).isoformat()


def print_json(value: Any) -> None:
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def examples(*lines: str) -> str:
    """An epilog with the examples; the \b keeps click from wrapping the lines."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def shown(values: Mapping[str, Any]) -> Iterator[str]:
    """Lines of names and values; None is left out."""
    width = max(map(len, values), default=0) + 1
    for name, value in values.items():
        if value is not None:
            yield f"{name + ':':<{width}} {value}"
