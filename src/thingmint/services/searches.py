"""Searches: the plan for a query, and pages of what it finds.

A search reads a batch at a time, each in a transaction of its own, and lets other work run in between. A request that
has examined MAX_COST rows, or has worked for MAX_SECONDS, ends its page early: the next page continues there.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

import orjson

from thingmint.domain.errors import Invalid
from thingmint.domain.search_conditions import All, Either, Term
from thingmint.services.pages import MAX_SIZE, Page
from thingmint.services.search_sources import START

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.domain.search_conditions import Condition
    from thingmint.services.change import Query
    from thingmint.services.pages import Cursor
    from thingmint.services.search_sources import Candidate, Position, Source
    from thingmint.store.engine import Store

MAX_COST = 50_000
"""Rows that a request examines. Large rows count more."""
MAX_SECONDS = 1.0

_LOOK_AHEAD = 1_000  # rows that a full page may cost further, to find out whether it is the last one
FIRST_BATCH = 100
_MAX_BATCH = 500
_BATCH_SIZE = 200_000  # characters of attributes in a batch
_ROW_SIZE = 400  # characters of attributes that count as a row
_PROBES = 500, 2_000  # rows that are counted to compare ways: first few, then more
_SLICE = 0.005  # seconds after which other work runs

D = TypeVar("D", bound="Sized")


class Sized(Protocol):
    """A Document. ``size`` is the number of characters in its attributes."""

    size: int

    def values(self, field: str | None) -> Sequence[str]: ...


class SearchedIndex(Protocol[D]):
    """An index of AWS, such as AWS_Things. ``everything`` is a source of all documents."""

    name: str
    everything: Source[D]

    def sources(self, term: Term) -> list[Source[D]] | None:
        """Sources of all documents that match the term; None if there is no faster way than to read everything."""
        ...

    async def load(
        self, store: Store, query: Query, candidates: Sequence[Candidate], condition: Condition
    ) -> Mapping[str, D]:
        """The documents of the candidates, by name, with the fields that the condition needs."""
        ...


class _Place(NamedTuple):
    """Where a search continues: the way that was chosen, the source of it, and the position in the source."""

    way: int
    source: int
    position: Position


async def search(
    store: Store, query: Query, index: SearchedIndex[D], text: str, condition: Condition, cursor: Cursor
) -> Page[D]:
    """Return a page of the documents that satisfy the condition, each once. ``text`` is the query.

    A page can have fewer documents than the limit, or none, and a token. Raises Invalid and Throttled.
    """
    async with query.environment.searches.search(query.account):
        return await _Search(store, query, index, condition, cursor).page(text)


class _Search(Generic[D]):
    def __init__(
        self, store: Store, query: Query, index: SearchedIndex[D], condition: Condition, cursor: Cursor
    ) -> None:
        self._store = store
        self._query = query
        self._index = index
        self._condition = condition
        self._cursor = cursor
        self._ways = ways(index, condition) or [[index.everything]]

    async def page(self, text: str) -> Page[D]:
        tokens, scope = self._query.environment.page_tokens, self._query.scope
        ends = time.monotonic() + MAX_SECONDS
        listing = f"search {self._index.name} {hashlib.sha256(text.encode()).hexdigest()}"
        if self._cursor.token:
            place = self._place(tokens.open(listing, scope, self._cursor.token, self._cursor.field)[1])
        else:
            place = _Place(await self._best_way(ends - MAX_SECONDS / 2), 0, START)
        found, end = await self._collect(place, ends)
        token = None if end is None else tokens.seal(listing, scope, (0, orjson.dumps(tuple(end)).decode()))
        return Page(found, token)

    def _place(self, text: str) -> _Place:
        """The place in a token. Raises Invalid for one of an earlier version of this program, which had other ways."""
        way, source, (label, row) = orjson.loads(text)
        if way >= len(self._ways) or source >= len(self._ways[way]):
            raise Invalid(self._cursor.field, "is not one that this list returned")
        return _Place(way, source, (tuple(label), tuple(row)))

    async def _best_way(self, ends: float) -> int:
        """The way with the fewest candidates, as far as they are counted until ``ends``; of equals, the lowest rank."""
        if len(self._ways) == 1:
            return 0
        for most in _PROBES:
            counted = [(await self._count(way, most, ends), _rank(way), at) for at, way in enumerate(self._ways)]
            if min(counted)[0] < most or time.monotonic() > ends:
                break
        return min(counted)[2]

    async def _count(self, way: Sequence[Source[D]], most: int, ends: float) -> int:
        """The number of candidates, or a number from ``most`` on if there are more or the time is over."""
        count = 0
        for source in way:
            position: Position | None = START
            while position is not None and count < most:
                if time.monotonic() > ends:
                    return most
                async with self._query.environment.searches.turn():
                    rows = min(_MAX_BATCH, most - count)
                    batch = await source.fetch(self._store, self._query.scope, position, rows)
                position = batch.position
                count += batch.cost
        return count

    async def _collect(self, place: _Place, ends: float) -> tuple[list[D], _Place | None]:
        """The documents from ``place`` on, found until ``ends``, and where the next page begins; None if none does."""
        found: list[D] = []
        left, rows, size = MAX_COST, FIRST_BATCH, 0
        full: _Place | None = None  # where the next page begins, if this one is full
        while True:
            async with self._query.environment.searches.turn():
                sources = self._ways[place.way]
                batch = await sources[place.source].fetch(self._store, self._query.scope, place.position, rows)
                documents = await self._index.load(self._store, self._query, batch.candidates, self._condition)
                began = time.perf_counter()
                for candidate in batch.candidates:
                    if time.perf_counter() - began > _SLICE:
                        await asyncio.sleep(0)
                        began = time.perf_counter()
                    document = documents.get(candidate.name)
                    if document is None or not self._is_found(document, candidate, sources[: place.source + 1]):
                        continue
                    if full is not None:
                        return found, full
                    found.append(document)
                    size += document.size
                    if len(found) == self._cursor.limit or size >= MAX_SIZE:
                        full = _Place(place.way, place.source, candidate.position)
                        left = min(left, _LOOK_AHEAD)
            if batch.position is not None:
                place = place._replace(position=batch.position)
            elif place.source + 1 < len(sources):
                place = place._replace(source=place.source + 1, position=START)
            else:
                return found, None
            read = sum(document.size for document in documents.values())
            left -= 1 + batch.cost + read // _ROW_SIZE
            if left <= 0 or time.monotonic() > ends:
                return found, full or place
            fitting = _BATCH_SIZE * len(documents) // read if read else _MAX_BATCH
            rows = max(1, min(FIRST_BATCH if full else _MAX_BATCH, left, fitting))

    def _is_found(self, document: D, candidate: Candidate, sources: Sequence[Source[D]]) -> bool:
        """True if the document satisfies the condition, and no earlier candidate was the same document."""
        *earlier, source = sources
        return (
            source.label_of(document) == candidate.label
            and all(each.label_of(document) is None for each in earlier)
            and self._condition.matches(document)
        )


def ways(index: SearchedIndex[D], condition: Condition) -> list[list[Source[D]]]:
    """Ways to find all documents that satisfy the condition: each is a list of sources, which together return them.

    Empty if there is no way but to read everything.
    """
    match condition:
        case Term():
            sources = index.sources(condition)
            return [] if sources is None else [sources]
        case All():
            return [way for each in condition.conditions for way in ways(index, each)]
        case Either():
            of_each = [ways(index, each) for each in condition.conditions]
            if not all(of_each):
                return []
            return [[source for found in of_each for source in min(found, key=_rank)]]
    return []


def _rank(way: Sequence[Source[D]]) -> int:
    return max(source.rank for source in way)
