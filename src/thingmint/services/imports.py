"""Imports of fleets: how far each one is, and what it found that its operator has to know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from thingmint.domain.errors import Conflict, NotFound
from thingmint.store.engine import AlreadyKept
from thingmint.store.table import BoundedDelete, Table, Uuid, record, to_micros, uuid_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.store.engine import Store, Transaction

Outcome = Literal["new", "same", "completed", "conflict", "refused", "noted"]
"""What became of an item. ``new``: it came. ``same``: it was there. ``completed``: it was there in part, the rest came.
``conflict``: something else is in its place, and stayed. ``refused``: it cannot come. ``noted``: it came, and its
operator has to know something."""

MAX_KEPT = 100_000
"""Findings of one import that are kept. Further ones are only counted."""
_KEEP = timedelta(days=90)
_BATCH_TAKES = timedelta(minutes=1)
State = Literal["running", "interrupted", "ended"]


class Result(NamedTuple):
    """What became of an item of that ``kind``. ``reason`` says why, and what to do about it."""

    kind: str
    outcome: Outcome
    subject: str
    reason: str = ""

    @property
    def counted_as(self) -> str:
        """The key under which imports count it, such as ``device.new``."""
        return f"{self.kind}.{self.outcome}"

    @property
    def is_finding(self) -> bool:
        return self.outcome not in ("new", "same")


@record
class Import:
    id: Uuid
    account: str
    source: str
    origin: str
    identity: str
    place: Mapping[str, Any]
    counts: Mapping[str, Any]  # by Result.counted_as
    findings: int
    created_at: datetime
    modified_at: datetime
    finished_at: datetime | None = None

    def state(self, now: datetime) -> State:
        """Where the import is. One that has not told of a batch for a minute was interrupted."""
        if self.finished_at is not None:
            return "ended"
        return "running" if now - self.modified_at < _BATCH_TAKES else "interrupted"

    @property
    def done(self) -> int:
        """How many of ``total`` items are done."""
        return int(self.place.get("done", 0))

    @property
    def total(self) -> int | None:
        """The number of items of the source; None if it does not tell, and for imports of earlier releases."""
        total = self.place.get("total")
        return total if isinstance(total, int) else None

    @property
    def percentage(self) -> int | None:
        """None if it is not known."""
        if self.finished_at is not None:
            return 100
        return min(99, self.done * 100 // self.total) if self.total else None


IMPORTS = Table(Import, "imports", "import", key=("id",))

_UNFINISHED = (
    f"{IMPORTS.select}WHERE account = $1 AND source = $2 AND identity = $3 AND finished_at IS NULL "
    "ORDER BY created_at DESC LIMIT 1"
)
_NEWEST = f"{IMPORTS.select}ORDER BY created_at DESC, id DESC LIMIT $1"
_NEWEST_OF = f"{IMPORTS.select}WHERE account = $1 ORDER BY created_at DESC, id DESC LIMIT $2"
_ADD_FINDING = (
    "INSERT INTO import_findings (import, number, kind, outcome, subject, reason) VALUES ($1, $2, $3, $4, $5, $6)"
)
_FINDINGS = (
    "SELECT number, kind, outcome, subject, reason FROM import_findings WHERE import = $1 AND number > $2 "
    "ORDER BY number LIMIT $3"
)
_FINDINGS_OF_KIND = _FINDINGS.replace("number > $2", "number > $2 AND kind = $4 AND outcome = $5")
_OLD_FINDINGS = BoundedDelete(
    "import_findings", ("import", "number"), "import IN (SELECT id FROM imports WHERE created_at < $1)"
)
_OLD = BoundedDelete("imports", ("id",), "created_at < $1")


async def find_unfinished(tx: Transaction, account: str, source: str, identity: str) -> Import | None:
    """The newest import of the same things that was interrupted."""
    row = await tx.fetch_one(_UNFINISHED, account, source, identity)
    return IMPORTS.load(row) if row is not None else None


async def list_imports(tx: Transaction, limit: int) -> list[Import]:
    """The newest first."""
    return IMPORTS.load_all(await tx.fetch_all(_NEWEST, limit))


async def list_imports_of(tx: Transaction, account: str, limit: int) -> list[Import]:
    """Those of one account, which are few, the newest first."""
    return IMPORTS.load_all(await tx.fetch_all(_NEWEST_OF, account, limit))


async def get_import_of(tx: Transaction, account: str, id: str) -> Import:
    """Raises NotFound, also for an import of another account."""
    found = await get_import(tx, id)
    if found.account != account:
        raise NotFound(IMPORTS.noun, id)
    return found


async def get_import(tx: Transaction, id: str) -> Import:
    """Raises NotFound."""
    return await IMPORTS.get(tx, id)


async def advance(
    tx: Transaction,
    id: str,
    after: Mapping[str, Any],
    place: Mapping[str, Any],
    results: Sequence[Result],
    now: datetime,
) -> Import:
    """Move an import from the place ``after`` to ``place``, and keep its findings.

    Raises Conflict if it is at another place.
    """
    current = await get_import(tx, id)
    if tx.perhaps_kept and current.place == place:
        raise AlreadyKept
    if current.place != after or current.finished_at is not None:
        raise Conflict("import", id, "Another process has gone on with this import: look with thingmint import list")
    counts = Counter(current.counts) + Counter(result.counted_as for result in results)
    found = [result for result in results if result.is_finding]
    numbered = list(enumerate(found, current.findings + 1))
    await tx.execute_many(
        _ADD_FINDING, [(uuid_bytes(id), number, *result) for number, result in numbered if number <= MAX_KEPT]
    )
    after_it = replace(current, place=place, counts=counts, findings=current.findings + len(found), modified_at=now)
    await IMPORTS.update(tx, after_it)
    return after_it


async def findings_after(
    tx: Transaction, id: str, number: int, limit: int, of: tuple[str, str] | None = None
) -> list[tuple[int, Result]]:
    """The findings after that number, with their numbers. ``of`` are a kind and an outcome, by default all."""
    statement, more = (_FINDINGS, ()) if of is None else (_FINDINGS_OF_KIND, of)
    rows = await tx.fetch_all(statement, uuid_bytes(id), number, limit, *more)
    return [(number, Result(*rest)) for number, *rest in rows]


async def forget_old_imports(store: Store, now: datetime) -> None:
    """Delete what is known of imports that began long ago."""
    before = to_micros(now - _KEEP)
    await _OLD_FINDINGS.run(store, before)
    await _OLD.run(store, before)
