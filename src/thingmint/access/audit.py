"""The audit log: each record has the caller, the action, the time, the address and the result.

Records never contain a secret, a key, a token or a query string. The record of a change is written in the transaction
of the change, so neither exists without the other. Reads and refusals are written in batches. Repeated refusals of one
caller for one reason are counted in one record, and so are the connections of a device that connects too often: they
cannot fill the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
import structlog

from thingmint.access.audit_events import (
    DISCONNECT,
    account_of,
    copy_of,
    facts_of,
    is_urgent,
    kind_of,
    new_record_id,
    record_of,
    text_of_time,
)
from thingmint.access.context import LOCAL_ADMIN
from thingmint.access.repeats import OTHER, Kind, Repeats
from thingmint.access.throttle import Rate, Throttle
from thingmint.domain.errors import Throttled, Unavailable
from thingmint.domain.ids import new_uuid
from thingmint.store import audit as sql
from thingmint.store.audit import AuditRow
from thingmint.store.engine import AlreadyKept, StoreWrapper

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from thingmint.access.context import Caller, Outcome, RequestContext
    from thingmint.access.repeats import Repeated
    from thingmint.store.engine import Body, Store, Transaction


T = TypeVar("T")

_FLUSH_EVERY = 0.5  # seconds
_FLUSH_AT = 256  # records, which block the event loop for some milliseconds
_MAX_PENDING = 32 * 1024 * 1024  # characters of records that wait for the store
_LOG_LOST_EVERY = 10_000  # records
_MAX_COUNTS = 256  # records of counted events in one flush
# A device's connections up to this rate have a record each; those beyond it are counted.
_CONNECTIONS = {"Connect": Rate(1 / 60, 5)}

_OF_ONE_EVENT = frozenset({"closest"})
_OF_ONE_ACTION = _OF_ONE_EVENT | {"source", "event", "resource", "error", "reason", "clientId"}
_OF_ONE_CALLER = _OF_ONE_ACTION | {"account", "principal", "credential", "address", "agent", "request"}

_log = structlog.get_logger("thingmint.audit")


async def add_record(
    tx: Transaction, context: RequestContext, outcome: Outcome, now: datetime, resources: Sequence[str]
) -> None:
    """Inserts the record of a change that is one of several in its transaction, and not a request of its own."""
    record = record_of(context, outcome, now, resources=resources, **tx.audit_details)
    await sql.insert_record(tx, new_record_id(now), account_of(context, outcome), record)


class AuditedStore(StoreWrapper):
    """A Store that writes the audit record of a request in the transaction of its change."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], datetime],
        request: tuple[RequestContext, Outcome] | None = None,
    ) -> None:
        super().__init__(store)
        self._clock = clock
        self._request = request

    def of(self, context: RequestContext, outcome: Outcome) -> AuditedStore:
        """The store for one request."""
        return AuditedStore(self._store, self._clock, (context, outcome))

    async def write(self, body: Body[T], *, urgent: bool = False, once: bool = False) -> T:
        if self._request is None:
            return await self._store.write(body, urgent=urgent, once=once)
        context, outcome = self._request
        now = self._clock()
        id = new_record_id(now)
        call = new_uuid() if outcome.recorded else context.id  # each change of a request has its own record
        details: Mapping[str, Any] = {}

        async def audited(tx: Transaction) -> T:
            nonlocal details
            if tx.perhaps_kept and await sql.has_record_of(tx, call):
                raise AlreadyKept
            result = await body(tx)
            details = tx.audit_details
            record = record_of(context, outcome, now, resources=tx.audit_resources, **details)
            await sql.insert_record(tx, id, account_of(context, outcome), record, call)
            for account, resources in tx.audit_copies.items():
                copy = copy_of(context, outcome, now, account, resources=resources, **details)
                await sql.insert_record(tx, new_record_id(now), account, copy)
            return result

        result = await self._store.write(audited, urgent=urgent or is_urgent(context.operation), once=True)
        outcome.recorded = True
        if details:
            outcome.details = {**outcome.details, **details}
        return result


class AuditLog:
    """Writes the records of requests that changed nothing, in batches. Repeated refusals are counted in one record.

    ``insert`` writes records that cannot be in the store yet. The default leaves sealing them to the sealer.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], datetime],
        insert: Callable[[Transaction, Sequence[AuditRow]], Awaitable[None]] = sql.insert_activity,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._clock = clock
        self._insert = insert
        self._pending: deque[AuditRow] = deque()
        self._pending_size = 0
        self._perhaps_kept = 0  # how many of the oldest pending records the store may have already
        self._waits = False  # the store refused records, and the log has a line about it
        self._repeats = Repeats(monotonic)
        self._connections = Throttle(None, _CONNECTIONS, monotonic)
        self._full = asyncio.Event()
        self.lost = 0

    @property
    def pending(self) -> int:
        """How many records wait to be written."""
        return len(self._pending)

    @property
    def counted(self) -> int:
        """How many events were counted instead of recorded one by one."""
        return self._repeats.counted

    def add(self, context: RequestContext, outcome: Outcome, *, counted: bool = False) -> bool:
        """Records an answered request, without I/O. True if the log should have a line about it.

        ``counted``: count the event, because the event that it belongs to (a disconnect's connect) was counted.
        """
        if outcome.recorded:
            return True
        now = self._clock()
        if counted:
            self._count(context, outcome, now)
            return False
        if self._is_repeated(context, outcome, now):
            return False
        if context.api != "probe":
            self._append(account_of(context, outcome), now, record_of(context, outcome, now))
        return True

    def is_repeated(
        self, caller: Caller, event: str, address: str | None, now: datetime, facts: Mapping[str, Any]
    ) -> bool:
        """True if an event that is only logged, not audited, is counted instead of logged."""
        kind = Kind(caller.account, caller.principal, event, audited=False)
        return not self._repeats.is_first(kind, now, address, lambda: facts)

    async def run(self) -> None:
        """Writes batches for ever. A batch that the store refused is kept and tried again."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), _FLUSH_EVERY)
            self._report(self._repeats.due(_MAX_COUNTS))
            # A commit of a few records costs as much as one of a full batch: after full batches, the rest waits.
            waiting = len(self._pending)
            await self._write(waiting - waiting % _FLUSH_AT or waiting)
            self._full.clear()

    async def close(self) -> None:
        """Writes the rest. Call it after the task of run() has ended. Raises Unavailable."""
        self._report(self._repeats.all())
        await self.flush(urgent=True)
        if self._pending:
            _log.error("audit_records_lost", records=len(self._pending))
            raise Unavailable("The store cannot keep changes now")

    async def flush(self, *, urgent: bool = False) -> None:
        await self._write(len(self._pending), urgent=urgent)

    async def _write(self, left: int, *, urgent: bool = False) -> None:
        """Writes the oldest ``left`` records."""
        while left > 0:
            # Records that may be in the store are not sealed here: a record must not be in the chain twice.
            again = self._perhaps_kept
            insert, size = (sql.insert_activity, again) if again else (self._insert, _FLUSH_AT)
            batch = list(islice(self._pending, min(size, left)))
            self._perhaps_kept = max(again, len(batch))  # also if this is cancelled
            try:
                await self._store.write(partial(_inserted, insert, batch), urgent=urgent)
            except Unavailable:
                if not self._waits:
                    _log.error("audit_records_waiting", records=len(self._pending))
                self._waits = True
                return
            self._written(batch)
            left -= len(batch)
            self._waits = False

    def _written(self, batch: Sequence[AuditRow]) -> None:
        for row in batch:
            if self._pending and self._pending[0] is row:  # else _drop() has removed it
                self._pending_size -= len(self._pending.popleft().record)
        self._perhaps_kept = max(0, self._perhaps_kept - len(batch))

    def _is_repeated(self, context: RequestContext, outcome: Outcome, now: datetime) -> bool:
        """True if the event was counted. Changes and an authenticated caller's reads are recorded one by one.

        The rate limit bounds them.
        """
        caller = outcome.caller or context.caller
        if outcome.code is None and context.api != "probe":
            if context.api == "mqtt":
                return self._connects_too_often(context, outcome, now)
            if caller is not None or context.api == LOCAL_ADMIN:
                return False
        return not self._repeats.is_first(
            kind_of(context, outcome), now, context.address, lambda: facts_of(context, outcome)
        )

    def _connects_too_often(self, context: RequestContext, outcome: Outcome, now: datetime) -> bool:
        if context.operation == DISCONNECT:
            return False  # the connection has a record of its own, so its end has one too
        kind = kind_of(context, outcome)
        try:
            self._connections.take(kind.who or "", "Connect")
        except Throttled:
            self._count(context, outcome, now)
            return True
        return False

    def _count(self, context: RequestContext, outcome: Outcome, now: datetime) -> None:
        facts = partial(facts_of, context, outcome)
        self._repeats.is_first(kind_of(context, outcome), now, context.address, facts, counted=True)

    def _append(self, account: str | None, now: datetime, record: str) -> None:
        self._pending.append(AuditRow(new_record_id(now), account, record))
        self._pending_size += len(record)
        if len(self._pending) >= _FLUSH_AT:
            self._full.set()
        if self._pending_size > _MAX_PENDING:
            self._drop()

    def _drop(self) -> None:
        """Drops the oldest records, to bound memory: the store has refused writes for long, and so refuses changes."""
        for _ in range(_FLUSH_AT):
            if self._pending:
                self._pending_size -= len(self._pending.popleft().record)
                self.lost += 1
        self._perhaps_kept = max(0, self._perhaps_kept - _FLUSH_AT)
        if self.lost <= _FLUSH_AT or self.lost % _LOG_LOST_EVERY < _FLUSH_AT:
            _log.error("audit_records_lost", records=self.lost)

    def _report(self, groups: Iterable[Repeated]) -> None:
        """Writes the counted events to the log and the audit log."""
        for group in groups:
            now, kind, facts = self._clock(), group.kind, group.facts
            counts = {"since": text_of_time(group.since), "count": group.count, "addresses": group.addresses}
            names = {"account": kind.account, "by": kind.who, "code": kind.code, "reason": kind.reason}
            _log.info("repeated", action=kind.action, **names, **counts)
            if kind.audited:
                known = {name: value for name, value in facts.items() if name not in _of_one(kind)}
                record = {"time": text_of_time(now), **dict.fromkeys(facts), **known, **counts}
                self._append(kind.account, now, orjson.dumps(record).decode())


def _of_one(kind: Kind) -> frozenset[str]:
    """The facts that can differ between events of this kind."""
    if kind.action != OTHER:
        return _OF_ONE_EVENT
    return _OF_ONE_ACTION if kind.who is not None else _OF_ONE_CALLER


async def _inserted(
    insert: Callable[[Transaction, Sequence[AuditRow]], Awaitable[None]], batch: Sequence[AuditRow], tx: Transaction
) -> None:
    await insert(tx, batch)
