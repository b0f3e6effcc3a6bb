"""Lists that run along a text (names, fingerprints, paths), a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from thingmint.domain.registration import Scope
    from thingmint.services.markers import Markers

__all__ = ["Listing", "Page", "PageRequest"]

T = TypeVar("T")

_FIELD = "nextToken"  # the only face with such lists is AWS's


@dataclass(frozen=True, slots=True)
class PageRequest:
    limit: int
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    items: list[T]
    next_token: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """One list of one account: ``name`` holds everything that tells it from others, its filters too."""

    markers: Markers
    name: str
    scope: Scope

    def after(self, request: PageRequest) -> str:
        """The position that the page begins beyond; empty for the first page. Raises Invalid."""
        if request.token is None:
            return ""
        return self.markers.open(self.name, self.scope, request.token, _FIELD)[1]

    def page(self, request: PageRequest, found: list[T], position: Callable[[T], str]) -> Page[T]:
        """The page that ``found`` begins with, which should hold one more than the page if there is one more."""
        items = found[: request.limit]
        if len(found) == len(items):
            return Page(items, None)
        return Page(items, self.markers.seal(self.name, self.scope, (0, position(items[-1]))))
