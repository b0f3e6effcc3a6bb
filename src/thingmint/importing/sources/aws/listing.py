"""Goes through lists of AWS in a way that can go on later, also if AWS does not accept an old marker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from thingmint.importing.batches import SourceError
from thingmint.importing.sources.aws.calls import Rejected

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from thingmint.importing.batches import Place
    from thingmint.importing.sources.aws.calls import Calls

_MAX_RESTARTS = 3


class Listing(NamedTuple):
    """``name`` is the member of an entry that identifies it. ``given`` are further members of the input."""

    operation: str
    key: str
    name: str
    given: Mapping[str, Any] = {}


class Entry(NamedTuple):
    """An entry of a list, and the place behind it: its page and its name."""

    name: str
    members: Mapping[str, Any]
    place: Place


def walk(calls: Calls, listing: Listing, place: Place, at_once: int) -> Iterator[list[Entry]]:
    """Yield the entries behind a place, ``at_once`` together. Raises as ``Calls.call`` does.

    If AWS does not accept the place's marker, the list is read again up to the entry at which the place is. If that is
    gone, the list begins again.
    """
    marker, after = place.get("marker"), place.get("after")
    restarts = 0
    while True:
        try:
            members, following = calls.page(listing.operation, listing.key, marker, **listing.given)
        except Rejected:
            restarts += 1
            if marker is None or restarts > _MAX_RESTARTS:
                raise
            marker, after = _found_again(calls, listing, after)
            continue
        names = [str(each[listing.name]) for each in members]
        begin = names.index(after) + 1 if after in names else 0
        entries = [
            Entry(name, each, {"marker": marker, "after": name})
            for name, each in zip(names[begin:], members[begin:], strict=True)
        ]
        for first in range(0, len(entries), at_once):
            restarts = 0
            yield entries[first : first + at_once]
        if following is None:
            return
        # The place is at the last entry of a page until the next page is known: its marker may be refused, too.
        marker, after = following, names[-1] if names else after


def _found_again(calls: Calls, listing: Listing, after: str | None) -> tuple[str | None, str | None]:
    """Return the marker of the page with the entry ``after``, and that entry; twice None if it is gone."""
    marker: str | None = None
    while after is not None:
        try:
            members, following = calls.page(listing.operation, listing.key, marker, **listing.given)
        except Rejected as error:
            raise SourceError(f"{error}: the list cannot be read to its end") from None
        if any(str(each[listing.name]) == after for each in members):
            return marker, after
        if following is None:
            break
        marker = following
    return None, None
