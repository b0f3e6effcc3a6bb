"""Lists a page at a time, by keyset: a page begins beyond the last row of the one before.

Clients are told where it begins by a sealed token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from thingmint.services.change import Query
    from thingmint.services.page_tokens import Position


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cursor:
    """The page that a caller asks for: at most ``limit`` items, from the token in the input's ``field``."""

    limit: int
    token: str | None = None
    field: str = "nextToken"


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    items: list[T]
    next_token: str | None


async def page_of(
    query: Query,
    cursor: Cursor,
    listing: str,
    fetch: Callable[[Position | None, int], Awaitable[list[T]]],
    position: Callable[[T], Position],
) -> Page[T]:
    """A page of the list that ``listing`` names, in which everything stands that tells it from others: filters too.

    ``fetch(after, limit)`` gives the rows beyond a position, or the first ones. Raises Invalid for a token of another
    list.
    """
    tokens, scope = query.environment.page_tokens, query.scope
    after = None if cursor.token is None else tokens.open(listing, scope, cursor.token, cursor.field)
    found = await fetch(after, cursor.limit + 1)
    items = found[: cursor.limit]
    if len(found) == len(items):
        return Page(items, None)
    return Page(items, tokens.seal(listing, scope, position(items[-1])))


async def page_by_text(
    query: Query,
    cursor: Cursor,
    listing: str,
    fetch: Callable[[str, int], Awaitable[list[T]]],
    position: Callable[[T], str],
) -> Page[T]:
    """page_of for lists in order of a text, such as a name. ``after`` is empty for the first page."""
    return await page_of(
        query,
        cursor,
        listing,
        lambda after, limit: fetch(after[1] if after else "", limit),
        lambda item: (0, position(item)),
    )
