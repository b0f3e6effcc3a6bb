"""The source: regions one after the other, in each the sections in the order in which they refer to each other."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from thingmint.importing.batches import MAX_ITEMS, SourceError, in_batches
from thingmint.importing.sources.aws import definitions, fleet
from thingmint.importing.sources.aws.calls import GO_ON, WORKERS, CallError, Calls, Denied, NotThere, Rejected
from thingmint.importing.sources.aws.listing import walk
from thingmint.importing.sources.aws.permissions import documented_rate
from thingmint.importing.sources.aws.reading import GONE, Made, Region, weight_of
from thingmint.importing.sources.aws.unserved import endpoint, unserved
from thingmint.services.imports import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from thingmint.importing.batches import Batch, Item, Place
    from thingmint.importing.sources.aws.listing import Entry, Listing

    _Entry = tuple[Item | None, Sequence[Result], Place, int]

_AT_ONCE = 50  # entries that are looked at together
_SECTIONS = (
    "endpoint",
    "unserved",
    "thing_types",
    "policies",
    "templates",
    "ca_certificates",
    "things",
    "thing_groups",
    "members",
    "certificates",
)
_COUNTED = {
    "certificate": (fleet.CERTIFICATES, "certificates"),
    "policy": (definitions.POLICIES, "policies"),
    "group": (fleet.THING_GROUPS, "thing groups"),
}
"""The kinds that take calls for each item, with their lists and nouns."""
_DONE = "done"
_NOWHERE = {"marker": None, "after": None, "group": None, "token": None}
"""The parts of a place within a section. Every place has all of them, so that none is left of an earlier place."""


class _Section(NamedTuple):
    """``arrange`` may change what ``make`` has made of an entry, in the order of the entries."""

    listing: Listing
    kind: str
    make: Callable[[Region, Entry], Made]
    arrange: Callable[[Region, Entry, Made], Made] = lambda _region, _entry, made: made


def _sections() -> dict[str, _Section]:
    return {
        "thing_types": _Section(definitions.THING_TYPES, "thing_type", definitions.thing_type),
        "policies": _Section(definitions.POLICIES, "policy", definitions.policy),
        "templates": _Section(definitions.TEMPLATES, "template", definitions.template),
        "ca_certificates": _Section(definitions.CA_CERTIFICATES, "ca", definitions.ca_certificate),
        "things": _Section(fleet.THINGS, "thing", fleet.thing),
        "thing_groups": _Section(fleet.THING_GROUPS, "group", fleet.thing_group, fleet.Groups().arrange),
        "certificates": _Section(fleet.CERTIFICATES, "certificate", fleet.certificate),
    }


class AwsSource:
    """A Source. ``open`` makes the calls of a region to ``server``, at ``rate`` calls a second of each operation.

    A rate of None means AWS's documented rates, 0 no limit.
    """

    name = "aws"

    def __init__(
        self,
        regions: Sequence[str],
        open: Callable[[str], Calls],
        *,
        server: str = "AWS",
        rate: float | None = None,
    ) -> None:
        self._regions = list(dict.fromkeys(regions))
        self._open = open
        self._server = server
        self._rate = rate
        self._opened: dict[str, Region] = {}
        self._stopped = False
        # A batch takes some seconds, so that a kill repeats no more.
        self._at_once = _AT_ONCE if rate == 0 else max(1, min(_AT_ONCE, round(2 * (rate or documented_rate("")))))
        self._counts: dict[str, int] | None = None
        self.origin = f"{server}, {', '.join(self._regions)}"

    def identity(self) -> str:
        """Return a hash of the server, the account and its regions: other credentials for them go on."""
        account = next(filter(None, map(self._account_in, self._regions)), "")
        return hashlib.sha256(" ".join([self._server, account, *self._regions]).encode()).hexdigest()

    def check(self) -> Iterator[int]:
        """Count what takes calls of its own, for `notice`. Yields now and then how many there are so far."""
        counts = dict.fromkeys(_COUNTED, 0)
        try:
            for region in self._regions:
                for kind, (listing, _) in _COUNTED.items():
                    for count in _page_sizes(self._region(region).calls, listing):
                        counts[kind] += count
                        yield sum(counts.values())
        except SourceError:
            self._close()
            raise
        self._counts = counts

    def total(self) -> int | None:
        """Return the number of certificates, policies and groups; None before they are counted."""
        return sum(self._counts.values()) if self._counts is not None else None

    def notice(self) -> str:
        """Return how long the import takes, for people."""
        counts = self._counts or {}
        nouns = [f"{count:,} {_COUNTED[kind][1]}" for kind, count in counts.items() if count or kind == "certificate"]
        rate = documented_rate("DescribeCertificate") if self._rate is None else self._rate
        if not rate:
            return f"About {', '.join(nouns)}, as fast as the server answers."
        seconds = sum(counts.values()) / rate
        return f"About {', '.join(nouns)}, {rate:g} a second: the whole import takes about {_duration(seconds)}."

    def batches(self, place: Place) -> Generator[Batch]:
        for batch in in_batches(self._entries(place), min(MAX_ITEMS, 2 * self._at_once)):
            yield replace(batch, size=sum(item["kind"] in _COUNTED for item in batch.items))

    def stop(self) -> None:
        """End ``check`` and ``batches`` soon, with a SourceError. Called from another thread."""
        self._stopped = True
        for region in list(self._opened.values()):
            region.calls.end()

    def _entries(self, place: Place) -> Iterator[_Entry]:
        region, section = place.get("region", self._regions[0]), place.get("section", _SECTIONS[0])
        if region not in self._regions:
            raise SourceError(f"The import was in region {region}, which is not among {', '.join(self._regions)}")
        if section == _DONE:
            return
        with ThreadPoolExecutor(WORKERS, "thingmint-aws") as pool:
            try:
                for name in self._regions[self._regions.index(region) :]:
                    sections = _SECTIONS[_SECTIONS.index(section) :] if name == region else _SECTIONS
                    for each in sections:
                        begin = place if (name, each) == (region, section) else {}
                        yield from self._section(self._region(name), each, begin, pool)
                yield None, (), {**_NOWHERE, "region": self._regions[-1], "section": _DONE}, 0
            finally:
                for opened in self._opened.values():
                    opened.calls.end()
                pool.shutdown(cancel_futures=True)
                self._close()

    def _close(self) -> None:
        for opened in self._opened.values():
            opened.calls.close()
        self._opened = {}

    def _section(self, region: Region, name: str, place: Place, pool: ThreadPoolExecutor) -> Iterator[_Entry]:
        here: Place = {**_NOWHERE, "region": region.name, "section": name}
        if name in ("endpoint", "unserved"):
            made = endpoint(region, self._account_in(region.name)) if name == "endpoint" else unserved(region, pool)
            after = {**here, "section": _SECTIONS[_SECTIONS.index(name) + 1]}
            yield from _placed(made, here, after)
            return
        try:
            if name == "members":
                entries = _members(region, place, self._at_once)
            else:
                entries = _listed(region, _sections()[name], place, self._at_once, pool)
            for item, results, within, weight in entries:
                yield item, results, {**here, **within}, weight
        except CallError as error:
            # The list itself cannot be read: the rest can.
            yield None, region.once(error, name.replace("_", " ")), here, 0

    def _region(self, name: str) -> Region:
        if name not in self._opened:
            self._opened[name] = Region(name, self._open(name))
            if self._stopped:
                self._opened[name].calls.end()
        return self._opened[name]

    def _account_in(self, region: str) -> str | None:
        """Return the number of the account, which is in every ARN; None if it has nothing that is imported."""
        calls = self._region(region).calls
        listings = (fleet.CERTIFICATES, definitions.POLICIES, fleet.THINGS)
        for listing, arn in zip(listings, ("certificateArn", "policyArn", "thingArn"), strict=True):
            try:
                entries, _ = calls.page(listing.operation, listing.key, **listing.given)
            except CallError:
                continue
            if entries and len(parts := str(entries[0].get(arn)).split(":")) > 4:
                return parts[4]
        return None


def _page_sizes(calls: Calls, listing: Listing) -> Iterator[int]:
    marker: str | None = None
    while True:
        try:
            entries, marker = calls.page(listing.operation, listing.key, marker, **listing.given)
        except CallError:
            return  # a result will tell of it
        yield len(entries)
        if marker is None:
            return


def _listed(
    region: Region, section: _Section, place: Place, at_once: int, pool: ThreadPoolExecutor
) -> Iterator[_Entry]:
    before: Place = place
    for entries in walk(region.calls, section.listing, place, at_once):
        for entry, made in zip(entries, pool.map(partial(_make, region, section), entries), strict=True):
            arranged = _guarded(region, section, entry, partial(section.arrange, region, entry, made))
            yield from _placed(arranged, before, entry.place)
            before = entry.place


def _make(region: Region, section: _Section, entry: Entry) -> Made:
    return _guarded(region, section, entry, partial(section.make, region, entry))


def _guarded(region: Region, section: _Section, entry: Entry, make: Callable[[], Made]) -> Made:
    """Return what ``make`` does, or a result if the resource is gone or cannot be read."""
    try:
        return make()
    except CallError as error:
        return Made((), [_told(region, section.kind, entry.name, error)])


def _told(region: Region, kind: str, name: str, error: CallError) -> Result:
    """Return the result about a resource that is gone or cannot be read. Raises SourceError."""
    if isinstance(error, NotThere):
        return Result(kind, "noted", region.subject(name), GONE)
    if isinstance(error, Denied) and error.operation not in region.calls.answered:
        # It would be the same for all others: nothing should come without what the operation returns.
        raise SourceError(f"{error}, {GO_ON}") from None
    return Result(kind, "refused", region.subject(name), f"not read: {error}")


def _members(region: Region, place: Place, at_once: int) -> Iterator[_Entry]:
    """Read the members of all groups. A place may be within a group: ``group`` and ``token`` say where."""
    before: dict[str, Any] = {key: place[key] for key in ("marker", "after") if key in place}
    begun, token = place.get("group"), place.get("token")
    for entries in walk(region.calls, fleet.THING_GROUPS, before, at_once):
        for entry in entries:
            try:
                for items, following in _pages(region, entry.name, token if entry.name == begun else None):
                    after = entry.place if following is None else {**before, "group": entry.name, "token": following}
                    yield from _placed(Made(items), before, after)
            except CallError as error:
                yield None, [_told(region, "members", entry.name, error)], entry.place, 0
            before = dict(entry.place)


def _pages(region: Region, group: str, token: str | None) -> Iterator[tuple[list[Item], str | None]]:
    try:
        yield from fleet.members_of(region, group, token)
    except Rejected:
        if token is None:
            raise
        yield from fleet.members_of(region, group, None)  # the token is too old


def _placed(made: Made, before: Place, after: Place) -> Iterator[_Entry]:
    """Yield the items of an entry. Only the last one has the place behind the entry."""
    for number, item in enumerate(made.items, 1):
        is_last = number == len(made.items)
        yield item, made.results if is_last else (), after if is_last else before, weight_of(item)
    if not made.items:
        yield None, made.results, after, 0


def _duration(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    if minutes < 120:
        return f"{minutes} minute{'s' if minutes > 1 else ''}"
    return f"{round(minutes / 60)} hours"
