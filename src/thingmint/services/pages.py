"""Lists a page at a time, by keyset: a page begins beyond the last row of the one before.

Clients are told where it begins by a sealed token.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from thingmint.services.change import Query
    from thingmint.services.page_tokens import Position


T = TypeVar("T")

MAX_SIZE = 1_000_000
"""Characters in the items of a page: with the item that reaches it, a page ends before it is full."""

_BATCH = 100  # large rows that are read at once: no more than needed when they end the page


@dataclass(frozen=True, slots=True)
class Cursor:
    """The page that a caller asks for: at most ``limit`` items, from the token in the input's ``field``.

    An empty token means the first page, as none does: callers begin their loops with one.
    """

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
    size: Callable[[T], int] | None = None,
) -> Page[T]:
    """A page of the list that ``listing`` names, in which everything stands that tells it from others: filters too.

    ``fetch(after, limit)`` gives the rows beyond a position, or the first ones. ``size`` is needed where items can be
    large. Raises Invalid for a token of another list.
    """
    tokens, scope = query.environment.page_tokens, query.scope
    after = None if not cursor.token else tokens.open(listing, scope, cursor.token, cursor.field)
    found: list[T] = []
    while True:
        wanted = cursor.limit + 1 - len(found)
        asked = wanted if size is None else min(wanted, _BATCH)
        rows = await fetch(after, asked)
        found += rows
        items = found[: cursor.limit] if size is None else _fitting(found[: cursor.limit], size)
        if len(rows) < asked or len(items) < len(found):
            break
        after = position(found[-1])
    if len(found) == len(items):
        return Page(items, None)
    return Page(items, tokens.seal(listing, scope, position(items[-1])))


async def page_by_text(
    query: Query,
    cursor: Cursor,
    listing: str,
    fetch: Callable[[str, int], Awaitable[list[T]]],
    position: Callable[[T], str],
    size: Callable[[T], int] | None = None,
) -> Page[T]:
    """page_of for lists in order of a text, such as a name. ``after`` is empty for the first page."""
    return await page_of(
        query,
        cursor,
        listing,
        lambda after, limit: fetch(after[1] if after else "", limit),
        lambda item: (0, position(item)),
        size,
    )


def size_of_texts(texts: Mapping[str, str]) -> int:
    return sum(map(len, texts)) + sum(map(len, texts.values()))


def _fitting(items: list[T], size: Callable[[T], int]) -> list[T]:
    sizes = accumulate(map(size, items))
    return items[: next((number for number, total in enumerate(sizes, 1) if total >= MAX_SIZE), None)]
