"""The audit trail: who did what, when, from where, and how it ended. Never a secret, a key, a token or a query string.

A change's record is written in the change's own transaction, so neither is ever there without the other. Reads and
refusals are written in batches; refusals of callers without valid credentials are counted, so that nobody can fill
the disk by knocking.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import secrets
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
import structlog

from thingmint.access.exchange import CURRENT, OPERATOR
from thingmint.domain.errors import Unavailable
from thingmint.store import audit as sql
from thingmint.store.audit import AuditRow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from thingmint.access.exchange import Exchange
    from thingmint.store.engine import Body, Store, Transaction

__all__ = ["AuditTrail", "AuditedStore", "event_name", "first_record_id", "new_record_id"]

T = TypeVar("T")

_FLUSH_EVERY = 0.5  # seconds
_FLUSH_AT = 256  # records, which keep the event loop for some milliseconds
_COUNT_FOR = 10.0  # seconds over which refusals of strangers are added up
_MAX_PENDING = 100_000  # records that wait for the store
_MAX_STRANGERS = 1000  # kinds of refusals that are told apart meanwhile
_MAX_OF_ONE = 20  # of them from one address: trying out all operations must not fill the disk either

_SOURCES = {
    "aws": "iot.amazonaws.com",
    "yandex": "iot-devices.api.cloud.yandex.net",
    "mqtt": "iot.amazonaws.com",
    "native": "thingmint",
    OPERATOR: "thingmint",
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

_log = structlog.get_logger("thingmint.audit")


def new_record_id(now: datetime) -> str:
    """Sorts by time: the microsecond, and enough chance to tell two of the same."""
    return f"{first_record_id(now)}{secrets.token_hex(8)}"


def first_record_id(time: datetime) -> str:
    """Not above any id of that time or later, and above those of earlier times."""
    return f"{max(0, int(time.timestamp() * 1_000_000)):016x}"


def event_name(exchange: Exchange) -> str:
    """CloudTrail's name of an AWS operation, Yandex Audit Trails' of one of theirs; commands bring theirs along."""
    if exchange.face != "yandex":
        return exchange.operation
    name = _YANDEX_EVENTS.get(exchange.operation)
    return f"yandex.cloud.audit.iot.devices.{name}" if name else exchange.operation


def _record(exchange: Exchange, now: datetime, **further: Any) -> str:
    caller = exchange.caller
    record = {
        "time": now.isoformat(timespec="microseconds"),
        "source": _SOURCES.get(exchange.face, "thingmint"),
        "event": event_name(exchange),
        "account": exchange.of_account,
        "principal": caller.arn if caller else None,
        "credential": caller.credential if caller else None,
        "address": exchange.source,
        "agent": exchange.user_agent,
        "resource": exchange.resource,
        "outcome": "refused" if exchange.error_code else "success",
        "error": exchange.error_code,
        "request": exchange.id,
        **exchange.details,
        **further,
    }
    if exchange.parameters and not exchange.error_code:
        record["parameters"] = exchange.parameters
    return orjson.dumps(record).decode()


class AuditedStore:
    """A Store whose writes carry the record of the exchange that they are made for."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    @property
    def ready(self) -> bool:
        return self._store.ready

    @property
    def changes(self) -> int | None:
        return self._store.changes

    @property
    def access_changes(self) -> int | None:
        return self._store.access_changes

    async def read(self, body: Body[T]) -> T:
        return await self._store.read(body)

    async def write(self, body: Body[T]) -> T:
        exchange = CURRENT.get()
        if exchange is None:
            return await self._store.write(body)
        now = self._clock()
        id = new_record_id(now)

        async def audited(tx: Transaction) -> T:
            result = await body(tx)
            await sql.insert_record(tx, id, exchange.of_account, _record(exchange, now, resources=tx.audit_resources))
            return result

        result = await self._store.write(audited)
        exchange.recorded = True
        return result

    async def close(self) -> None:
        await self._store.close()


@dataclass(slots=True)
class _Strangers:
    """Refusals of one kind: the first exchange stands for all."""

    exchange: Exchange
    since: datetime
    count: int = 1


class AuditTrail:
    """Takes the exchanges that changed nothing, and writes them in batches; those of strangers added up.

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
        self._strangers: dict[tuple[str | None, str, str | None], _Strangers] = {}
        self._kinds: Counter[str | None] = Counter()
        self._full = asyncio.Event()

    def add(self, exchange: Exchange) -> None:
        """Once the exchange is over. Costs no I/O."""
        if exchange.recorded or exchange.face == "probe":
            return
        now = self._clock()
        if exchange.caller is None and exchange.face != OPERATOR:
            self._count(exchange, now)
            return
        self._pending.append(AuditRow(new_record_id(now), exchange.of_account, _record(exchange, now)))
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
                self._tell_strangers()
            await self.flush()

    async def close(self) -> None:
        """Writes what is left; the task that runs has to be ended before."""
        self._tell_strangers()
        await self.flush()

    async def flush(self) -> None:
        batch, self._pending = self._pending, []
        if not batch:
            return

        # Sealing a record again would put it into the chain twice.
        insert = sql.insert_records if self._perhaps_kept else self._insert

        async def body(tx: Transaction) -> None:
            await insert(tx, batch)

        try:
            await self._store.write(body)
        except Unavailable:
            _log.error("audit records wait for the store", records=len(batch))
            self._pending[:0] = batch
            self._perhaps_kept = True
        else:
            self._perhaps_kept = False

    def _count(self, exchange: Exchange, now: datetime) -> None:
        key = (exchange.source, exchange.operation, exchange.error_code)
        if key not in self._strangers and self._kinds[exchange.source] >= _MAX_OF_ONE:
            exchange = dataclasses.replace(exchange, operation="-")
            key = (exchange.source, "-", exchange.error_code)
        if key not in self._strangers and len(self._strangers) >= _MAX_STRANGERS:
            key = (None, "-", "other")
        known = self._strangers.get(key)
        if known is not None:
            known.count += 1
        else:
            self._strangers[key] = _Strangers(exchange, now)
            self._kinds[exchange.source] += 1

    def _tell_strangers(self) -> None:
        strangers, self._strangers = self._strangers, {}
        self._kinds.clear()
        now = self._clock()
        for group in strangers.values():
            since = group.since.astimezone(UTC).isoformat(timespec="microseconds")
            record = _record(group.exchange, now, since=since, count=group.count)
            self._pending.append(AuditRow(new_record_id(now), None, record))
