"""Lists a page at a time, by keyset: a page begins beyond the last row of the one before.

Where it begins is told to clients as a sealed token, which only its own list takes back.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from thingmint.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from thingmint.domain.arns import Scope
    from thingmint.services.change import Query


T = TypeVar("T")

Position = tuple[int, str]
"""Where a row stands in its list: microseconds (0 in lists that have no times), and a name or id."""

_MICROS = struct.Struct(">q")
_MAC_BYTES = 16


class PageTokens:
    """Seals positions with a key of the instance: a token of one account, region or list is useless in another.

    The alphabet is that of AWS's Marker shape: standard base64.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, listing: str, scope: Scope, position: Position) -> str:
        packed = _MICROS.pack(position[0]) + position[1].encode()
        return base64.b64encode(packed + self._mac(listing, scope, packed)).decode()

    def open(self, listing: str, scope: Scope, token: str, field: str = "marker") -> Position:
        """The position sealed in ``token``. Raises Invalid, naming ``field``, for any other text."""
        try:
            sealed = base64.b64decode(token, validate=True)
        except (binascii.Error, ValueError):
            sealed = b""
        packed, mac = sealed[:-_MAC_BYTES], sealed[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(listing, scope, packed)):
            raise Invalid(field, "is not one that this list returned")
        return _MICROS.unpack_from(packed)[0], packed[_MICROS.size :].decode()

    def _mac(self, listing: str, scope: Scope, packed: bytes) -> bytes:
        context = "\0".join((listing, *scope, "")).encode()
        return hmac.new(self._key, context + packed, hashlib.sha256).digest()[:_MAC_BYTES]


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


PageRequest = Cursor  # until the last list is converted


@dataclass(frozen=True, slots=True)
class Listing:
    """One list of one account: ``name`` holds everything that tells it from others, its filters too."""

    markers: PageTokens
    name: str
    scope: Scope

    def after(self, request: PageRequest) -> str:
        """The position that the page begins beyond; empty for the first page. Raises Invalid."""
        if request.token is None:
            return ""
        return self.markers.open(self.name, self.scope, request.token, request.field)[1]

    def page(self, request: PageRequest, found: list[T], position: Callable[[T], str]) -> Page[T]:
        """The page that ``found`` begins with, which should hold one more than the page if there is one more."""
        items = found[: request.limit]
        if len(found) == len(items):
            return Page(items, None)
        return Page(items, self.markers.seal(self.name, self.scope, (0, position(items[-1]))))
