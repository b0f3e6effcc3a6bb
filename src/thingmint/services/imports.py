"""Imports of fleets: how far each one is, and what it found that its operator has to know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from thingmint.domain.errors import Conflict
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


IMPORTS = Table(Import, "imports", "import", key=("id",))

_UNFINISHED = (
    f"{IMPORTS.select}WHERE account = $1 AND source = $2 AND identity = $3 AND finished_at IS NULL "
    "ORDER BY created_at DESC LIMIT 1"
)
_NEWEST = f"{IMPORTS.select}ORDER BY created_at DESC, id DESC LIMIT $1"
_ADD_FINDING = (
    "INSERT INTO import_findings (import, number, kind, outcome, subject, reason) VALUES ($1, $2, $3, $4, $5, $6)"
)
_FINDINGS = (
    "SELECT number, kind, outcome, subject, reason FROM import_findings WHERE import = $1 AND number > $2 "
    "ORDER BY number LIMIT $3"
)
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


async def findings_after(tx: Transaction, id: str, number: int, limit: int) -> list[tuple[int, Result]]:
    """The findings after that number, with their numbers."""
    rows = await tx.fetch_all(_FINDINGS, uuid_bytes(id), number, limit)
    return [(number, Result(*rest)) for number, *rest in rows]


async def forget_old_imports(store: Store, now: datetime) -> None:
    """Delete what is known of imports that began long ago."""
    before = to_micros(now - _KEEP)
    await _OLD_FINDINGS.run(store, before)
    await _OLD.run(store, before)
