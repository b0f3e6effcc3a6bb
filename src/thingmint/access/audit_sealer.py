"""Chains audit records, signs checkpoints of the chains, and prunes old records."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import structlog

from thingmint.access.audit_chain import (
    Checkpoint,
    Tampering,
    append_checkpoint,
    chain_end,
    chained,
    is_pruning,
    pruning,
)
from thingmint.access.audit_events import new_record_id
from thingmint.access.audit_keys import AuditKeys
from thingmint.domain.errors import Unavailable
from thingmint.services.leases import LeaseLost
from thingmint.store import audit as sql
from thingmint.store.audit import ACTIVITY, CHANGES, STREAMS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from thingmint.access.audit_keys import FormerKey
    from thingmint.services.leases import LeasedStore
    from thingmint.store.audit import AuditRow, Stream
    from thingmint.store.engine import Store, Transaction


AUDIT_LEASE = "audit"
"""The lease of the process that seals, signs and prunes."""

_SEAL_EVERY = 0.5  # seconds
_SEAL_AT_ONCE = 250  # records a transaction, which blocks the event loop for some milliseconds
_CHECKPOINT_EVERY = 10.0  # seconds, while there is anything new
# For reads and refusals, less often: each checkpoint is a line in a file that is kept for ever.
_CHECKPOINT_ACTIVITY_EVERY = 60.0  # seconds
_CHECKPOINT_ACTIVITY_AT = 10_000  # records
_PRUNE_EVERY = 60.0  # seconds
_PRUNE_AT_ONCE = 500  # records a transaction, which blocks the event loop for some milliseconds
_LOOK_AT_ONCE = 1000  # checkpoints
_OVERHEAD = 300  # bytes that a record takes in the database in addition to its text, mostly in indexes
_PRUNE_TO = 0.9  # of the allowed size, so that pruning is not needed all the time

_log = structlog.get_logger("thingmint.audit")


class Kept(NamedTuple):
    """How long records are kept, and how many bytes of them. None means no limit."""

    retention: timedelta | None = None
    size: int | None = None


_FOR_EVER = Kept()


class Sealer:
    """Chains new records within a second. Two processes cannot fork the chain: the transaction reads its end.

    If several processes share the store, only the process with the lease does this work.
    """

    def __init__(
        self,
        store: Store,
        key: Ed25519PrivateKey,
        checkpoints: Path,
        clock: Callable[[], datetime],
        changes: Kept = _FOR_EVER,
        activity: Kept = _FOR_EVER,
        former: tuple[FormerKey, ...] = (),
    ) -> None:
        """``checkpoints`` is a file outside of the store that gets a copy of each checkpoint."""
        self._store = store
        self._key = key
        self._keys = AuditKeys(key.public_key(), former)
        self._checkpoints = checkpoints
        self._clock = clock
        self.keep(changes, activity)
        self._signed = dict.fromkeys(STREAMS, 0)
        self._due_at: dict[str, float] = {}
        self.activity_size = 0

    def keep(self, changes: Kept, activity: Kept) -> None:
        """Sets the limits, from the next pruning on."""
        self._kept = {CHANGES: changes, ACTIVITY: activity}

    async def run(self) -> None:
        started = asyncio.get_running_loop().time()
        self._due_at = {"checkpoint": started + _CHECKPOINT_EVERY, "activity": started + _CHECKPOINT_EVERY}
        failing = ""
        while True:
            await asyncio.sleep(_SEAL_EVERY)
            try:
                try:
                    await self._turn()
                except LeaseLost:
                    if self._is_due("follow", _CHECKPOINT_EVERY):
                        await self.follow()
                failing = ""
            except (Unavailable, OSError, Tampering) as error:
                if str(error) != failing:
                    failing = str(error)
                    _log.error("audit_log_not_sealed", error=failing)

    async def _turn(self) -> None:
        await self.seal()
        if self._is_due("checkpoint", _CHECKPOINT_EVERY):
            await self._checkpoint(CHANGES)
            end = await self._store.read(partial(chain_end, stream=ACTIVITY))
            many = end is not None and end[0] - self._signed[ACTIVITY] >= _CHECKPOINT_ACTIVITY_AT
            if self._is_due("activity", _CHECKPOINT_ACTIVITY_EVERY) or many:
                await self._checkpoint(ACTIVITY)
        if self._is_due("prune", _PRUNE_EVERY):
            await self.prune()

    def _is_due(self, work: str, every: float) -> bool:
        now = asyncio.get_running_loop().time()
        if now < self._due_at.get(work, now):
            return False
        self._due_at[work] = now + every
        return True

    async def follow(self) -> None:
        """Copies the checkpoints of the other processes: each host's file has the checkpoints of all processes."""
        for stream in STREAMS:
            for line in await self._store.read(partial(self._unknown_checkpoints, stream)):
                await self._copy(Checkpoint.parse(line), stream)

    async def _unknown_checkpoints(self, stream: Stream, tx: Transaction) -> list[str]:
        """The checkpoints signed since the last one that this process has; right after its start, only the last one."""
        if self._signed[stream]:
            return await sql.list_checkpoints(tx, stream, self._signed[stream], _LOOK_AT_ONCE)
        last = await sql.last_checkpoint(tx, stream)
        return [] if last is None else [last]

    async def _copy(self, checkpoint: Checkpoint, stream: Stream) -> None:
        self._signed[stream] = checkpoint.sequence
        if checkpoint.is_signed_by(self._keys):
            await asyncio.to_thread(append_checkpoint, self._checkpoints, checkpoint.line())
        else:
            _log.error("audit_checkpoint_not_ours", stream=stream.name, sequence=checkpoint.sequence)

    async def close(self) -> None:
        """Seals and signs the rest. Call it after the task of run() has ended."""
        with contextlib.suppress(LeaseLost):  # the process that has the lease now does the rest
            await self.seal()
            await self.checkpoint()

    async def seal(self) -> None:
        for stream in STREAMS:
            while await self._store.write(partial(_seal, stream), urgent=True) == _SEAL_AT_ONCE:
                pass

    async def checkpoint(self) -> None:
        """Signs the chains' ends, if they have moved."""
        for stream in STREAMS:
            await self._checkpoint(stream)

    async def _checkpoint(self, stream: Stream) -> None:
        end = await self._store.read(partial(chain_end, stream=stream))
        if end is None or end[0] <= self._signed[stream]:
            return
        size = await self._size(end[0]) if stream is ACTIVITY else None
        checkpoint = Checkpoint.sign(*end, self._clock(), self._key, stream, size)
        line = checkpoint.line()
        await self._store.write(
            lambda tx: sql.insert_checkpoint(tx, checkpoint.sequence, line, stream), urgent=stream is CHANGES
        )
        await asyncio.to_thread(append_checkpoint, self._checkpoints, line)
        self._signed[stream] = checkpoint.sequence

    async def _size(self, end: int) -> int:
        """The bytes of all records of activity up to ``end``: the last checkpoint's size plus the newer records."""
        last = await self._store.read(partial(sql.last_checkpoint, stream=ACTIVITY))
        before = Checkpoint.parse(last) if last is not None else None
        size, after = ((before.size or 0), before.sequence) if before else (0, 0)
        while after < end:
            through = min(end, after + _SEAL_AT_ONCE)
            size += await self._store.read(partial(sql.size_of_records, after=after, through=through, stream=ACTIVITY))
            size += _OVERHEAD * (through - after)
            after = through
        return size

    async def prune(self) -> None:
        """Deletes records beyond the retention or the size, up to a checkpoint from which the rest can be verified."""
        for stream in STREAMS:
            pruned, recorded = 0, 0
            while through := await self._prunable(stream):
                now = self._clock()
                notice = pruning(stream, through, now, self._key) if through != recorded else None
                row = sql.AuditRow(new_record_id(now), None, notice) if notice is not None else None
                recorded = through
                deleted = await self._store.write(partial(_prune, stream, through, row))
                pruned += deleted
                if not deleted:
                    break
            if pruned:
                _log.info("audit_records_pruned", stream=stream.name, records=pruned)

    async def _prunable(self, stream: Stream) -> int | None:
        """The record, at a checkpoint, up to which records are to be deleted; None if there is nothing to delete."""
        kept, now = self._kept[stream], self._clock()
        if kept == _FOR_EVER:
            return None
        lines = await self._store.read(partial(sql.list_checkpoints, stream=stream, limit=_LOOK_AT_ONCE))
        last = await self._store.read(partial(sql.last_checkpoint, stream=stream))
        first = await self._store.read(partial(sql.sealed_records, after=0, limit=1, stream=stream))
        if not first or last is None:
            return None
        checkpoints, total = [Checkpoint.parse(line) for line in lines], Checkpoint.parse(last).size or 0
        past = sum(_is_past(one, now, kept.retention) for one in checkpoints)
        if kept.size is not None:
            # The records that the first checkpoint counts have been deleted already.
            gone = checkpoints[0].size or 0 if checkpoints[0].sequence < (first[0].sequence or 0) else 0
            self.activity_size = total - gone
            if self.activity_size > kept.size:
                allowed = int(kept.size * _PRUNE_TO)
                past = max(past, 1 + sum(total - (one.size or 0) > allowed for one in checkpoints))
        if not past:
            return None
        through = checkpoints[min(past, len(checkpoints)) - 1]
        # In an idle trail only the record of the last pruning is left. Pruning it would only write another one.
        is_rest = first[0].sequence == through.sequence and is_pruning(first[0])
        if is_rest or (first[0].sequence or 0) > through.sequence:
            return None
        if not through.is_signed_by(self._keys):
            _log.error("audit_checkpoint_not_ours", stream=stream.name, sequence=through.sequence)
            return None
        return through.sequence


def _is_past(checkpoint: Checkpoint, now: datetime, retention: timedelta | None) -> bool:
    """True if the checkpoint, and so all records before it, are older than the retention."""
    return retention is not None and datetime.fromisoformat(checkpoint.time) <= now - retention


async def _seal(stream: Stream, tx: Transaction) -> int:
    records = await sql.unsealed_records(tx, _SEAL_AT_ONCE, stream)
    if records:
        await sql.seal_records(tx, chained(await chain_end(tx, stream), records), stream)
    return len(records)


async def _prune(stream: Stream, through: int, notice: AuditRow | None, tx: Transaction) -> int:
    """Deletes records and returns how many. ``notice`` enters the chain first, so that no gap is without a notice."""
    if notice is not None:
        await insert_sealed(tx, [notice], stream)
    return await sql.delete_records(tx, through, _PRUNE_AT_ONCE, stream)


async def insert_sealed(tx: Transaction, records: Iterable[AuditRow], stream: Stream = CHANGES) -> None:
    """Writes new records as part of the chain, which costs 40 % less than chaining them later.

    Like the sealer, this reads the chain's end within the transaction.
    """
    await sql.insert_sealed_records(tx, chained(await chain_end(tx, stream), records), stream)


def insert_activity_with(store: LeasedStore) -> Callable[[Transaction, Sequence[AuditRow]], Awaitable[None]]:
    """A function that writes records of activity: chained if this process has the lease, else left to that process."""

    async def insert(tx: Transaction, records: Sequence[AuditRow]) -> None:
        if store.held and await store.still_held(tx):
            with contextlib.suppress(Tampering):  # the records are kept all the same
                await insert_sealed_activity(tx, records)
                return
        await sql.insert_activity(tx, records)

    return insert


async def insert_sealed_activity(tx: Transaction, records: Iterable[AuditRow]) -> None:
    await insert_sealed(tx, records, ACTIVITY)
