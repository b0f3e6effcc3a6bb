"""What devices were refused, in groups with counts, for operators who look for the cause.

A group has the refusals of one certificate (without a certificate, of one client id) for the same action, resource and
reason. The MQTT gateway notes each refusal in memory and stores the groups every few seconds, so a refusal costs
microseconds and a flood of them a few rows:

- A certificate that tries ever new topics has at most _RESOURCES groups for one action and reason. Its further refusals
  are one group with the resource "*".
- At most _NEW_AT_ONCE groups of an account are stored at a time. Further refusals are one group for each action and
  reason, without a certificate and a client id.
- An account has at most MAX_GROUPS groups in a region. The oldest are deleted, and so are all that are older than KEPT.

Refusals of devices whose account is not known, such as those with an unknown certificate, are under NO_ACCOUNT.
"""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

import asyncio
import re
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import orjson
import structlog

from thingmint.domain.arns import Scope
from thingmint.domain.errors import Unavailable
from thingmint.services.pages import page_of
from thingmint.store.search_keys import search_key
from thingmint.store.table import BoundedDelete, fetch_in_order, from_micros, to_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thingmint.services.change import Query
    from thingmint.services.page_tokens import Position
    from thingmint.services.pages import Cursor, Page
    from thingmint.store.engine import Reader, Row, Store, Transaction, Value

NO_ACCOUNT = Scope("", "")
"""The scope of refusals of devices whose account is not known. Only the operator of the machine may see them."""
KEPT = timedelta(days=7)
MAX_GROUPS = 10_000

_FLUSH_EVERY = 5.0  # seconds
_NEW_AT_ONCE = 200
_MAX_WAITING = 5_000  # groups of all accounts
_RESOURCES = 10
_KNOWN = 20_000  # certificates with an action and a reason, whose resources are remembered
_MAX_TEXT = 512  # characters
_PERIOD = 5 * 60 * 1_000_000  # microseconds
_REASONS = 40  # of an account in a region in one flush; the rest is counted as _OTHER
_OTHER = "other reasons"

_STORE = (
    "INSERT INTO refusals (account, region, key, certificate, client_id, action, resource, reason, address, closest, "
    "amount, first_at, last_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) "
    "ON CONFLICT (account, region, key) DO UPDATE SET client_id = excluded.client_id, address = excluded.address, "
    "closest = CASE WHEN excluded.closest = '[]' THEN refusals.closest ELSE excluded.closest END, "
    "amount = refusals.amount + excluded.amount, "
    "last_at = CASE WHEN excluded.last_at > refusals.last_at THEN excluded.last_at ELSE refusals.last_at END"
)
_COUNT = (
    "INSERT INTO refusal_counts (account, region, period, reason, amount) VALUES ($1, $2, $3, $4, $5) "
    "ON CONFLICT (account, region, period, reason) DO UPDATE SET amount = refusal_counts.amount + excluded.amount"
)
_COLUMNS = "certificate, client_id, action, resource, reason, amount, first_at, last_at, address, closest, key"
_LIST = f"SELECT {_COLUMNS} FROM refusals WHERE account = $1 AND region = $2"
_ONE = f"{_LIST} AND key = $3"
_BY_REASON = (
    "SELECT reason, CAST(sum(amount) AS BIGINT) FROM refusal_counts "
    "WHERE account = $1 AND region = $2 AND period > $3 GROUP BY reason"
)
_NEXT_SCOPE = "SELECT account, region FROM refusals WHERE (account, region) > ($1, $2) ORDER BY account, region LIMIT 1"
_BEYOND = (
    "SELECT last_at, key FROM refusals WHERE account = $1 AND region = $2 "
    f"ORDER BY last_at DESC, key DESC LIMIT 1 OFFSET {MAX_GROUPS}"
)
_SURPLUS = BoundedDelete(
    "refusals", ("account", "region", "key"), "account = $1 AND region = $2 AND (last_at, key) <= ($3, $4)"
)
_OLD = BoundedDelete("refusals", ("account", "region", "key"), "last_at < $1")
_OLD_COUNTS = BoundedDelete("refusal_counts", ("account", "region", "period", "reason"), "period < $1")

_VARIABLE = re.compile(r"\b(?:[0-9a-f]{40,64}|[a-z0-9]{20}|\d{4}-\d\d-\d\dT[0-9:.+]+)\b")

_log = structlog.get_logger("thingmint.refusals")


@dataclass(frozen=True, slots=True)
class RefusalGroup:
    """Refusals with the same cause. Texts are empty if they are not known, or differ within the group.

    ``action`` is as in a policy, such as ``iot:Publish``; for Yandex devices ``Publish``, without the prefix.
    ``client_id`` is the last one. ``closest`` are the policy statements that came closest to allowing it. ``address``
    is the last one.
    """

    id: int
    certificate: str
    client_id: str
    action: str
    resource: str
    reason: str
    count: int
    first_at: datetime
    last_at: datetime
    address: str
    closest: Sequence[str]


@dataclass(slots=True)
class _Waiting:
    """A group that is not stored yet."""

    values: tuple[str, str, str, str, str]  # certificate, client id, action, resource, reason
    address: str = ""
    closest: Sequence[str] = ()
    amount: int = 0
    first_at: int = 0
    last_at: int = 0


@dataclass(slots=True)
class _ByScope:
    groups: dict[int, _Waiting] = field(default_factory=dict)
    reasons: Counter[tuple[int, str]] = field(default_factory=Counter)


class Refusals:
    """Notes refusals of this process, and stores them in groups."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._waiting: dict[Scope, _ByScope] = {}
        self._groups = 0  # that wait
        self._known: OrderedDict[tuple[Scope, str, str, str], set[str]] = OrderedDict()
        self._failing = False
        self._followers: list[Callable[[Scope], None]] = []

    def follow(self, follower: Callable[[Scope], None]) -> None:
        """Call ``follower`` with each account and region whose refusals were stored."""
        self._followers.append(follower)

    def note(
        self,
        scope: Scope | None,
        certificate: str | None,
        client_id: str | None,
        action: str,
        resource: str | None,
        reason: str,
        address: str = "",
        explain: Callable[[], Sequence[str]] = tuple,
        subject: str = "",
    ) -> None:
        """Note a refusal. ``explain`` is called for the first of its kind.

        ``subject`` is what the group is of, by default the certificate, or the client id. For refused passwords it is
        the resource: with ever new client ids, a client that has proven nothing would fill the account's list.
        """
        scope = scope or NO_ACCOUNT
        certificate, client_id, reason = certificate or "", _cut(client_id or ""), _cut(reason)
        now = to_micros(self._clock())
        mine = self._waiting.setdefault(scope, _ByScope())
        counted = (now // _PERIOD, general(reason))
        mine.reasons[counted if counted in mine.reasons or len(mine.reasons) < _REASONS else (counted[0], _OTHER)] += 1
        subject = subject or certificate or client_id
        resource, is_new = self._resource(scope, subject, action, _cut(resource or ""), reason)
        key = search_key(" ".join(scope), "refusal", "\0".join((subject, action, resource, reason)))
        group = mine.groups.get(key)
        if group is None:
            values = (certificate, client_id, action, resource, reason)
            closest = [_cut(each) for each in explain()][:5] if is_new else []
            if len(mine.groups) >= _NEW_AT_ONCE or self._groups >= _MAX_WAITING:
                values, closest = ("", "", action, "", general(reason)), []
                key = search_key(" ".join(scope), "refusals of others", "\0".join(values))
            group = mine.groups.setdefault(key, _Waiting(values, closest=closest, first_at=now))
            self._groups += group.amount == 0
        group.values = (group.values[0], group.values[1] and client_id, *group.values[2:])
        group.address = address
        group.amount += 1
        group.last_at = now

    def _resource(self, scope: Scope, subject: str, action: str, resource: str, reason: str) -> tuple[str, bool]:
        """The resource to group by, and True if this is the first refusal of its group that is remembered."""
        kind = (scope, subject, action, reason)
        known = self._known.get(kind)
        if known is None:
            known = self._known[kind] = set()
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(kind)
        if resource not in known and len(known) >= _RESOURCES:
            resource = "*"
        is_new = resource not in known
        known.add(resource)
        return resource, is_new

    async def flush(self) -> None:
        """Store what was noted. What the store does not accept is kept, within the bounds."""
        waiting, self._waiting, self._groups = self._waiting, {}, 0
        for scope, some in waiting.items():
            try:
                await self._store.write(partial(_store, scope, some))
                self._failing = False
            except Unavailable as error:
                if not self._failing:
                    _log.warning("refusals_not_stored", error=str(error))
                self._failing = True
                self._keep(scope, some)
                continue
            for follower in self._followers:
                follower(scope)

    def _keep(self, scope: Scope, some: _ByScope) -> None:
        mine = self._waiting.setdefault(scope, _ByScope())
        mine.reasons.update(dict(islice(some.reasons.items(), _REASONS)))
        for key, group in some.groups.items():
            newer = mine.groups.get(key)
            if newer is not None:
                newer.amount += group.amount
                newer.first_at = group.first_at
            elif len(mine.groups) < _NEW_AT_ONCE and self._groups < _MAX_WAITING:
                mine.groups[key] = group
                self._groups += 1

    async def run(self) -> None:
        """Store until cancelled."""
        while True:
            await asyncio.sleep(_FLUSH_EVERY)
            await self.flush()


def _cut(text: str) -> str:
    """The text without what PostgreSQL cannot store, and of a limited length."""
    text = text[:_MAX_TEXT].replace("\0", "\ufffd")
    return text.encode("utf-8", "replace").decode()


def general(reason: str) -> str:
    """The reason without ids, times and what follows a colon, so that there are only a few different ones."""
    return _VARIABLE.sub("...", reason.partition(": ")[0])


async def _store(scope: Scope, some: _ByScope, tx: Transaction) -> None:
    rows: list[Sequence[Value]] = [
        (
            *scope,
            key,
            *group.values,
            group.address,
            orjson.dumps(group.closest).decode(),
            group.amount,
            group.first_at,
            group.last_at,
        )
        for key, group in sorted(some.groups.items())
    ]
    await tx.execute_many(_STORE, rows)
    await tx.execute_many(_COUNT, [(*scope, *reason, amount) for reason, amount in sorted(some.reasons.items())])


async def list_refusals(
    tx: Transaction,
    query: Query,
    cursor: Cursor,
    *,
    scope: Scope | None = None,
    certificate: str | None = None,
    client_id: str | None = None,
    since: datetime | None = None,
) -> Page[RefusalGroup]:
    """Return a page of groups, the last refused first. ``scope`` is by default the query's.

    ``certificate`` is an id or its first digits.

    Reads at most all groups of an account in a region, of which there are few. Raises Invalid.
    """
    where, values = _LIST, [*(scope or query.scope)]
    # After hexadecimal digits, "g" follows all ids that begin with them.
    after = None if certificate is None else f"{certificate}g"
    for column, value in (("certificate >= ", certificate), ("certificate < ", after), ("client_id = ", client_id)):
        if value is not None:
            values.append(value)
            where += f" AND {column}${len(values)}"
    given: list[Value] = [*values]
    if since is not None:
        given.append(to_micros(since))
        where += f" AND last_at >= ${len(given)}"

    async def fetch(after: Position | None, limit: int) -> list[RefusalGroup]:
        beyond = () if after is None else (after[0], int(after[1]))
        rows = await fetch_in_order(tx, where, given, ("last_at", "key"), beyond, limit, ascending=False)
        return [_group(row) for row in rows]

    filters = " ".join(map(str, (scope, certificate, client_id, since)))
    listing = f"refusals {search_key('', 'listing', filters)}"
    return await page_of(query, cursor, listing, fetch, lambda each: (to_micros(each.last_at), str(each.id)))


async def find_refusal(tx: Transaction, scope: Scope, id: int) -> RefusalGroup | None:
    row = await tx.fetch_one(_ONE, *scope, id)
    return None if row is None else _group(row)


async def count_refusals(
    tx: Transaction, scope: Scope, now: datetime, within: timedelta = timedelta(hours=1)
) -> dict[str, int]:
    """Return the number of refusals by reason, the most frequent first.

    Counts are kept for periods of five minutes: the first one may have begun before ``within``.
    """
    rows = await tx.fetch_all(_BY_REASON, *scope, to_micros(now - within) // _PERIOD)
    return {reason: int(amount) for reason, amount in sorted(rows, key=lambda row: (-row[1], row[0]))}


def _group(row: Row) -> RefusalGroup:
    certificate, client_id, action, resource, reason, amount, first_at, last_at, address, closest, key = row
    times = from_micros(first_at), from_micros(last_at)
    texts = (certificate, client_id, action, resource, reason)
    return RefusalGroup(key, *texts, amount, *times, address, tuple(orjson.loads(closest)))


async def delete_old_refusals(store: Store, now: datetime) -> None:
    """Delete what is older than KEPT, and what an account has beyond MAX_GROUPS. Repeat it about each minute."""
    until = to_micros(now - KEPT)
    await _OLD.run(store, until)
    await _OLD_COUNTS.run(store, until // _PERIOD)
    scope: Scope | None = NO_ACCOUNT
    while scope is not None:
        first = await store.read(partial(_first_beyond, scope))
        if first is not None:
            await _SURPLUS.run(store, *scope, *first)
        scope = await _next_scope(store, scope)


async def _first_beyond(scope: Scope, tx: Transaction) -> Row | None:
    return await tx.fetch_one(_BEYOND, *scope)


async def _next_scope(store: Reader, after: Scope) -> Scope | None:
    row = await store.read(lambda tx: tx.fetch_one(_NEXT_SCOPE, *after))
    return None if row is None else Scope(*row)
