"""The audit trail: who did what, when, from where, and how it ended. Never a secret, a key, a token or a query string.

A change's record is written in the change's own transaction, so neither is ever there without the other. Reads and
refusals are written in batches; refusals of callers without valid credentials are aggregated, so that they cannot
fill the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import secrets
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
import structlog

from thingmint.access.context import LOCAL_ADMIN
from thingmint.domain.errors import Unavailable
from thingmint.store import audit as sql
from thingmint.store.audit import AuditRow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from thingmint.access.context import Outcome, RequestContext
    from thingmint.store.engine import Body, Store, Transaction


T = TypeVar("T")

_FLUSH_EVERY = 0.5  # seconds
_FLUSH_AT = 256  # records, which keep the event loop for some milliseconds
_COUNT_FOR = 10.0  # seconds over which refusals of unauthenticated callers are added up
_MAX_PENDING = 100_000  # records that wait for the store
_MAX_UNAUTHENTICATED = 1000  # kinds of refusals that are told apart meanwhile
_MAX_OF_ONE = 20  # of them from one address: trying out all operations must not fill the disk either

_SOURCES = {
    "aws": "iot.amazonaws.com",
    "yandex": "iot-devices.api.cloud.yandex.net",
    "mqtt": "iot.amazonaws.com",
    "native": "thingmint",
    LOCAL_ADMIN: "thingmint",
}

# Yandex's names of the events, where they are not just the method's.
_YANDEX_EVENTS = {
    "RegistryService.Create": "CreateRegistry",
    "RegistryService.Delete": "DeleteRegistry",
    "DeviceService.Create": "CreateDevice",
    "DeviceService.Delete": "DeleteDevice",
    "DeviceService.AddCertificate": "AddDeviceCertificate",
    "DeviceService.DeleteCertificate": "DeleteDeviceCertificate",
}

# Operations that end somebody's access, or make room: these are taken on a full disk too, from its reserve.
_URGENT = re.compile(
    r"(?:.*[./])?(?:Deactivate|Delete|Detach|Disable|Reject|Remove|Revoke|SetDefaultPolicyVersion|"
    r"Update(?:AccessKey|ApiToken|CACertificate|Certificate|Key|User)$)"
)

_log = structlog.get_logger("thingmint.audit")


def new_record_id(now: datetime) -> str:
    """Sorts by time: the microsecond, and enough chance to tell two of the same."""
    return f"{first_record_id(now)}{secrets.token_hex(8)}"


def first_record_id(time: datetime) -> str:
    """Not above any id of that time or later, and above those of earlier times."""
    return f"{max(0, int(time.timestamp() * 1_000_000)):016x}"


def event_name(context: RequestContext) -> str:
    """CloudTrail's name of an AWS operation, Yandex Audit Trails' of one of theirs; commands bring theirs along."""
    if context.api != "yandex":
        return context.operation
    name = _YANDEX_EVENTS.get(context.operation)
    return f"yandex.cloud.audit.iot.devices.{name}" if name else context.operation


@functools.cache
def is_urgent(operation: str) -> bool:
    """Operations are few: the contracts' and the commands' events."""
    return _URGENT.match(operation) is not None


def _record(context: RequestContext, outcome: Outcome, now: datetime, **further: Any) -> str:
    caller = outcome.caller or context.caller
    record = {
        "time": now.isoformat(timespec="microseconds"),
        "source": _SOURCES.get(context.api, "thingmint"),
        "event": event_name(context),
        "account": _account(context, outcome),
        "principal": caller.arn if caller else None,
        "credential": caller.credential if caller else None,
        "address": context.address,
        "agent": context.user_agent,
        "resource": outcome.resource,
        "outcome": "refused" if outcome.code else "success",
        "error": outcome.code,
        "request": context.id,
        **outcome.details,
        **further,
    }
    if context.parameters and not outcome.code:
        record["parameters"] = context.parameters
    return orjson.dumps(record).decode()


def _account(context: RequestContext, outcome: Outcome) -> str | None:
    """Whose part of the audit log a record belongs to."""
    caller = outcome.caller or context.caller
    return caller.account if caller else context.account


class AuditedStore:
    """A Store whose writes carry the record of the request that they are made for."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], datetime],
        request: tuple[RequestContext, Outcome] | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._request = request

    def of(self, context: RequestContext, outcome: Outcome) -> AuditedStore:
        """The store for one request."""
        return AuditedStore(self._store, self._clock, (context, outcome))

    @property
    def ready(self) -> bool:
        return self._store.ready

    @property
    def trouble(self) -> str | None:
        return self._store.trouble

    @property
    def changes(self) -> int | None:
        return self._store.changes

    @property
    def access_changes(self) -> int | None:
        return self._store.access_changes

    async def read(self, body: Body[T]) -> T:
        return await self._store.read(body)

    async def write(self, body: Body[T], *, urgent: bool = False) -> T:
        if self._request is None:
            return await self._store.write(body, urgent=urgent)
        context, outcome = self._request
        now = self._clock()
        id = new_record_id(now)

        async def audited(tx: Transaction) -> T:
            result = await body(tx)
            record = _record(context, outcome, now, resources=tx.audit_resources)
            await sql.insert_record(tx, id, _account(context, outcome), record)
            return result

        result = await self._store.write(audited, urgent=urgent or is_urgent(context.operation))
        outcome.recorded = True
        return result

    async def close(self) -> None:
        await self._store.close()


@dataclass(slots=True)
class _Unauthenticated:
    """Refusals of one kind: the first request stands for all."""

    context: RequestContext
    outcome: Outcome
    since: datetime
    count: int = 1


class AuditTrail:
    """Takes the requests that changed nothing and writes their records in batches, unauthenticated ones added up.

    ``insert`` writes records that are surely new; the usual one leaves sealing them to the sealer.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], datetime],
        insert: Callable[[Transaction, Sequence[AuditRow]], Awaitable[None]] = sql.insert_records,
    ) -> None:
        self._store = store
        self._clock = clock
        self._insert = insert
        self._pending: list[AuditRow] = []
        self._perhaps_kept = False  # some of those pending
        self._unauthenticated: dict[tuple[str | None, str, str | None], _Unauthenticated] = {}
        self._kinds: Counter[str | None] = Counter()
        self._full = asyncio.Event()

    def add(self, context: RequestContext, outcome: Outcome) -> None:
        """Once the request is answered. Costs no I/O."""
        if outcome.recorded or context.api == "probe":
            return
        now = self._clock()
        if context.caller is None and outcome.caller is None and context.api != LOCAL_ADMIN:
            self._count(context, outcome, now)
            return
        record = _record(context, outcome, now)
        self._pending.append(AuditRow(new_record_id(now), _account(context, outcome), record))
        if len(self._pending) > _MAX_PENDING:
            # The store has been down for long: nothing changes meanwhile, and memory is bounded.
            del self._pending[:_FLUSH_AT]
            _log.error("audit records of reads and refusals were lost", records=_FLUSH_AT)
        if len(self._pending) >= _FLUSH_AT:
            self._full.set()

    async def run(self) -> None:
        """Writes for ever; a batch that the store could not take is kept and tried again."""
        counted_at = asyncio.get_running_loop().time()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), _FLUSH_EVERY)
            self._full.clear()
            if asyncio.get_running_loop().time() - counted_at >= _COUNT_FOR:
                counted_at = asyncio.get_running_loop().time()
                self._flush_unauthenticated()
            await self.flush()

    async def close(self) -> None:
        """Writes what is left; the task that runs has to be ended before."""
        self._flush_unauthenticated()
        await self.flush()

    async def flush(self) -> None:
        batch, self._pending = self._pending, []
        if not batch:
            return
        # Sealing a record again would put it into the chain twice.
        insert = sql.insert_records if self._perhaps_kept else self._insert
        try:
            await self._store.write(lambda tx: insert(tx, batch))
        except Unavailable:
            _log.error("audit records wait for the store", records=len(batch))
            self._pending[:0] = batch
            self._perhaps_kept = True
        else:
            self._perhaps_kept = False

    def _count(self, context: RequestContext, outcome: Outcome, now: datetime) -> None:
        key = (context.address, context.operation, outcome.code)
        if key not in self._unauthenticated and self._kinds[context.address] >= _MAX_OF_ONE:
            context = context.of("-")
            key = (context.address, "-", outcome.code)
        if key not in self._unauthenticated and len(self._unauthenticated) >= _MAX_UNAUTHENTICATED:
            key = (None, "-", "other")
        known = self._unauthenticated.get(key)
        if known is not None:
            known.count += 1
        else:
            self._unauthenticated[key] = _Unauthenticated(context, outcome, now)
            self._kinds[context.address] += 1

    def _flush_unauthenticated(self) -> None:
        groups, self._unauthenticated = self._unauthenticated, {}
        self._kinds.clear()
        now = self._clock()
        for group in groups.values():
            since = group.since.astimezone(UTC).isoformat(timespec="microseconds")
            record = _record(group.context, group.outcome, now, since=since, count=group.count)
            self._pending.append(AuditRow(new_record_id(now), None, record))
