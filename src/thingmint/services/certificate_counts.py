"""Counts of certificates: by status, by day of expiry, and how many were added each day.

The table of registrations counts in the transaction of each change, whichever function makes it. Each lane has its own
rows, so concurrent transactions change different rows, as with quotas. A count is the sum over at most _LANES rows.
"""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from thingmint.domain.arns import Scope
from thingmint.domain.status import Status
from thingmint.services.live_changes import CERTIFICATES
from thingmint.store.table import Table, id_of, to_micros

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from thingmint.store.engine import Reader, Transaction, Value

R = TypeVar("R")

WEEKS = 26
"""For which CertificateCounts has expiry by default, the current one included."""
_LANES = 32
_DAY = 24 * 60 * 60 * 1_000_000  # microseconds
_EPOCH = date(1970, 1, 1)
_MAX_DIFFERENCES = 10

_ADD = (
    "INSERT INTO certificate_counts (account, region, kind, day, status, lane, amount) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (account, region, kind, day, status, lane) "
    "DO UPDATE SET amount = certificate_counts.amount + excluded.amount"
)
_OF_KIND = "SELECT day, status, amount FROM certificate_counts WHERE account = $1 AND region = $2 AND kind = $3"
_OF_DAYS = f"{_OF_KIND} AND day >= $4 AND day < $5"
_OF_STATUS = f"{_OF_KIND} AND day = 0"
_ALL_COUNTS = (
    "SELECT account, region, kind, day, status, sum(amount) FROM certificate_counts "
    "WHERE kind IN ('status', 'expiry') GROUP BY account, region, kind, day, status"
)
_ALL_REGISTRATIONS = (
    "SELECT account, region, status, end_day, count(*) FROM (SELECT account, region, status, "
    f"CASE WHEN not_after < 0 THEN 0 ELSE not_after / {_DAY} END AS end_day FROM registrations) AS ends "
    "GROUP BY account, region, status, end_day"
)
_STATE = "SELECT status, not_after FROM registrations WHERE account = $1 AND region = $2 AND certificate = "
_DELETE = (
    f"DELETE FROM registrations WHERE account = $1 AND region = $2 AND certificate = {id_of('$3')} "
    "RETURNING status, not_after"
)

_Key = tuple[str, str, str, int, str]
"""Account, region, kind, day, and status or origin."""


class CountedTable(Table[R], Generic[R]):
    """The table of registrations: each change of its rows also changes the counts.

    The first of the ``further`` columns must be ``not_after``.
    """

    async def insert(self, tx: Transaction, record: R, *further: Value) -> bool:
        if not await super().insert(tx, record, *further):
            return False
        await _add(tx, Counter(_added(record, further)))
        return True

    async def insert_many(self, tx: Transaction, rows: Iterable[tuple[R, *tuple[Value, ...]]]) -> None:
        rows = list(rows)
        await super().insert_many(tx, rows)
        await _add(tx, Counter(key for record, *further in rows for key in _added(record, further)))

    async def update(self, tx: Transaction, record: R) -> bool:
        registration: Any = record
        scope, certificate = registration.scope, registration.certificate
        before = await tx.fetch_one(f"{_STATE}$3", *scope, certificate)
        if not await super().update(tx, record) or before is None:
            return False
        await count_status_change(tx, scope, before[0], registration.status, before[1])
        return True

    async def delete(self, tx: Transaction, *key: Value) -> bool:
        account, region, fingerprint = self._dump_key(key)
        row = await tx.fetch_one(_DELETE, account, region, fingerprint)
        if row is None:
            return False
        await _add(tx, Counter(dict.fromkeys(_existing((account, region), *row), -1)))
        return True


async def count_status_change(tx: Transaction, scope: Scope, before: str, after: str, not_after: int) -> None:
    """Call after changing the status of a registration without CountedTable."""
    if before != after:
        changes = Counter(_existing(scope, after, not_after))
        changes.subtract(_existing(scope, before, not_after))
        await _add(tx, changes)


def _existing(scope: Sequence[Any], status: str, not_after: int) -> list[_Key]:
    account, region = scope
    return [(account, region, "status", 0, str(status)), (account, region, "expiry", _day(not_after), str(status))]


def _added(record: Any, further: Sequence[Any]) -> list[_Key]:
    """The keys of a new registration. One that is transferred to the account was added elsewhere."""
    keys = _existing(record.scope, record.status, further[0])
    if record.previous_owner is None:
        keys.append((*record.scope, "added", _day(to_micros(record.created_at)), record.origin))
    return keys


def _day(micros: int) -> int:
    return max(0, micros // _DAY)


async def _add(tx: Transaction, amounts: Mapping[_Key, int]) -> None:
    lane = tx.lane % _LANES
    tx.noted.update((Scope(account, region), CERTIFICATES) for account, region, *_ in amounts)
    # In the order of keys, so that transactions which share a lane do not wait for each other in a circle.
    await tx.execute_many(_ADD, [(*key, lane, amount) for key, amount in sorted(amounts.items()) if amount])


@dataclass(frozen=True, slots=True)
class Week:
    """The certificates that end from Monday ``begins`` on, up to the next Monday, by status."""

    begins: date
    by_status: Mapping[str, int]

    @property
    def active(self) -> int:
        return self.by_status.get(Status.ACTIVE, 0)


@dataclass(frozen=True, slots=True)
class CertificateCounts:
    """The certificates of an account in a region.

    ``expired`` and ``expiring`` (by a number of days from now) count ACTIVE certificates only. ``expiring`` includes
    today and the last day, but not what ended before today. ``added`` has the last days, the oldest first: how many
    certificates were added by origin (keys, csr, registered), whether or not they were deleted since.
    """

    by_status: Mapping[str, int]
    expired: int
    expiring: Mapping[int, int]
    weeks: Sequence[Week]
    added: Sequence[tuple[date, Mapping[str, int]]]

    @property
    def total(self) -> int:
        return sum(self.by_status.values())


def monday_of(now: datetime) -> datetime:
    """Return when the week began with which ``CertificateCounts.weeks`` begin."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(days=midnight.weekday())


async def count_by_status(tx: Transaction, scope: Scope) -> Counter[str]:
    """Count the certificates of an account in a region by status, along an index of few rows."""
    statuses: Counter[str] = Counter()
    for _, status, amount in await tx.fetch_all(_OF_STATUS, *scope, "status"):
        statuses[status] += amount
    return statuses


async def count_certificates(
    tx: Transaction,
    scope: Scope,
    now: datetime,
    *,
    weeks: int = WEEKS,
    days: int = 30,
    expiring: Sequence[int] = (7, 30, 90),
) -> CertificateCounts:
    """Count the certificates of an account in a region. ``weeks`` begin with the current one, ``days`` end with today.

    Reads at most one row for each day, status and lane, whatever the number of certificates.
    """
    today = (now.astimezone(UTC).date() - _EPOCH).days
    monday = today - (today + 3) % 7  # 1970-01-01 was a Thursday
    end = max(monday + 7 * weeks, today + max(expiring, default=0) + 1)
    statuses = await count_by_status(tx, scope)
    ends = await _by_day(tx, scope, "expiry", 0, end)
    added = await _by_day(tx, scope, "added", today - days + 1, today + 1)

    def active(first: int, after: int) -> int:
        return sum(by_status[Status.ACTIVE] for day, by_status in ends.items() if first <= day < after)

    def week(begins: int) -> Week:
        total: Counter[str] = Counter()
        for day in range(begins, begins + 7):
            total.update(ends.get(day, ()))
        return Week(_date(begins), _above_zero(total))

    return CertificateCounts(
        by_status=_above_zero(statuses),
        expired=active(0, today),
        expiring={within: active(today, today + within + 1) for within in expiring},
        weeks=[week(monday + 7 * number) for number in range(weeks)],
        added=[(_date(day), _above_zero(added.get(day, Counter()))) for day in range(today - days + 1, today + 1)],
    )


async def _by_day(tx: Transaction, scope: Scope, kind: str, first: int, after: int) -> dict[int, Counter[str]]:
    days: dict[int, Counter[str]] = {}
    for day, status, amount in await tx.fetch_all(_OF_DAYS, *scope, kind, first, after):
        days.setdefault(day, Counter())[status] += amount
    return days


def _date(day: int) -> date:
    return _EPOCH + timedelta(days=day)


def _above_zero(amounts: Mapping[str, int]) -> dict[str, int]:
    return {name: amount for name, amount in sorted(amounts.items()) if amount}


async def find_wrong_counts(store: Reader) -> list[str]:
    """Compare the counts by status and by day of expiry with the registrations. Returns the first 10 differences.

    The database adds up both in one consistent state, so only sums are read.
    """

    async def body(tx: Transaction) -> list[str]:
        actual: Counter[_Key] = Counter()
        for account, region, status, day, amount in await tx.fetch_all(_ALL_REGISTRATIONS):
            actual[account, region, "status", 0, status] += amount
            actual[account, region, "expiry", day, status] += amount
        for *key, amount in await tx.fetch_all(_ALL_COUNTS):
            account, region, kind, day, status = key
            actual[account, region, kind, day, status] -= int(amount)  # PostgreSQL's sums are decimal numbers
        wrong = [(key, amount) for key, amount in sorted(actual.items()) if amount]
        return [_described(key, amount) for key, amount in wrong[:_MAX_DIFFERENCES]]

    return await store.read(body)


def _described(key: _Key, amount: int) -> str:
    account, region, kind, day, status = key
    about = f"that end on {_date(day)}" if kind == "expiry" else "in all"
    side = "more" if amount > 0 else "fewer"
    return f"account {account}, {region}: {abs(amount)} {side} {status} certificates {about} than counted"
