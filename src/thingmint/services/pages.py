"""Lists in pages, by keyset pagination: a page begins after the last row of the page before.

A sealed token, which is returned to the client, has that position.
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
"""Characters in the items of a page. A page ends with the item that reaches this size, even below its limit."""

_BATCH = 100  # large rows that one query reads: few, because their size can end the page
_MAX_READ = 1_000  # rows that are read for a page of a list whose filter has no index


@dataclass(frozen=True, slots=True)
class Cursor:
    """The page that a caller asks for: at most ``limit`` items, from the token in the input's ``field``.

    An empty token means the first page, as no token does: clients start their loops with an empty one.
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
    """Return a page. ``listing`` is a unique name of the list; it must include the filters.

    ``fetch(after, limit)`` returns the rows after a position, or the first rows. ``size`` is required if items can be
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


async def page_of_kept(
    query: Query,
    cursor: Cursor,
    listing: str,
    fetch: Callable[[Position | None, int], Awaitable[list[T]]],
    position: Callable[[T], Position],
    keep: Callable[[T], bool],
) -> Page[T]:
    """Return a page of the rows that ``keep`` accepts, for a filter that has no index.

    The page ends after _MAX_READ rows, also with fewer items than its limit; its token continues from there.
    """
    tokens, scope = query.environment.page_tokens, query.scope
    after = None if not cursor.token else tokens.open(listing, scope, cursor.token, cursor.field)
    items: list[T] = []
    for _ in range(_MAX_READ // _BATCH):
        rows = await fetch(after, _BATCH)
        for row in rows:
            if keep(row):
                if len(items) == cursor.limit and after is not None:
                    return Page(items, tokens.seal(listing, scope, after))
                items.append(row)
            after = position(row)
        if len(rows) < _BATCH or after is None:
            return Page(items, None)
    assert after is not None, "rows were read"
    return Page(items, tokens.seal(listing, scope, after))


async def page_by_text(
    query: Query,
    cursor: Cursor,
    listing: str,
    fetch: Callable[[str, int], Awaitable[list[T]]],
    position: Callable[[T], str],
    size: Callable[[T], int] | None = None,
) -> Page[T]:
    """Do the same as page_of for lists that are sorted by text, such as a name. ``after`` is empty at first."""
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
