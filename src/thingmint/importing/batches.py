"""What a source yields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import orjson

from thingmint.services.imports import Result

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

Item = Mapping[str, Any]
"""A JSON object. ``kind`` names one of the importer's kinds, which says what else it has. Times are microseconds since
1970, fingerprints hexadecimal digits."""

Place = Mapping[str, Any]
"""A JSON object from which a source can go on. The empty one is the beginning."""

MAX_ITEMS = 75
"""Devices of a transaction, whose body the event loop of a running server waits for: 6 ms of CPU, 10 ms at most."""
MAX_BYTES = 512 * 1024
MAX_ROWS = 700
"""Rows that the items of a batch become, about. One transaction may touch 1,000."""


@dataclass(frozen=True, slots=True)
class Batch:
    """``place`` is behind the items. ``results`` are about what is not an item: what cannot come."""

    items: Sequence[Item]
    place: Place
    results: Sequence[Result] = ()
    size: int = field(default=0, compare=False)
    """How many of the source's ``total`` are done with this batch."""


class SourceError(Exception):
    """The source cannot be read (any further). The text says what to do; the import can go on later."""


class Source(Protocol):
    """Reads a fleet. ``name`` is the command's word for it, ``origin`` where it reads, for people.

    ``identity`` is the same for the same content, so that an interrupted import of it goes on.
    """

    name: str
    origin: str

    def identity(self) -> str: ...

    def check(self) -> Iterator[int]:
        """Look at what can be read at once, before anything is changed; yields numbers for the progress bar.

        Raises SourceError.
        """
        ...

    def total(self) -> int | None:
        """How many items there are, for the progress bar; None if that is not known."""
        ...

    def batches(self, place: Place) -> Generator[Batch]:
        """The batches after a place. Raises SourceError."""
        ...


@runtime_checkable
class SlowSource(Source, Protocol):
    """A Source that takes hours. ``notice`` tells so beforehand, after ``check``."""

    def notice(self) -> str: ...

    def stop(self) -> None:
        """End ``check`` and ``batches`` soon, with a SourceError. Called from another thread."""
        ...


def in_batches(
    items: Iterable[tuple[Item | None, Sequence[Result], Place, int]], most: int = MAX_ITEMS
) -> Generator[Batch]:
    """Gather items into batches of bounded size, of at most so many. Each comes with results, with the place behind it,
    and with the number of rows that it becomes; the item is None if there are only results."""
    batch: list[Item] = []
    results: list[Result] = []
    rows = size = done = 0
    last: Place = {}
    for item, found, place, weight in items:
        length = len(orjson.dumps(item)) if item is not None else 0
        if (batch or results) and (len(batch) >= most or size + length > MAX_BYTES or rows + weight > MAX_ROWS):
            yield Batch(batch, last, results, done)
            batch, results, rows, size, done = [], [], 0, 0, 0
        if length > MAX_BYTES:
            assert item is not None
            subject = str(item.get("id") or item.get("name"))[:100]
            results.append(Result(item["kind"], "refused", subject, f"it is larger than {MAX_BYTES // 1024} KiB"))
        elif item is not None:
            batch.append(item)
        results.extend(found)
        rows, size = rows + weight + len(found), size + length
        done, last = done + (place != last), place
    if batch or results:
        yield Batch(batch, last, results, done)
