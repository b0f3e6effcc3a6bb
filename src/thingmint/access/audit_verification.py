"""Verifies the audit log while the server runs, one verification at a time, as `thingmint audit verify` does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from thingmint.access.administration.accounts import list_accounts
from thingmint.access.audit_chain import Tampering, verify
from thingmint.access.context import Outcome
from thingmint.domain.errors import Denied, DomainError
from thingmint.domain.ids import new_uuid
from thingmint.store import audit as sql
from thingmint.store.audit import STREAMS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from thingmint.access.audit import AuditLog
    from thingmint.access.audit_chain import Checkpoint, Verified
    from thingmint.access.audit_keys import AuditKeys
    from thingmint.access.context import RequestContext
    from thingmint.store.audit import AuditRow, Stream
    from thingmint.store.engine import Store

VERIFIED = "verified"
"""The field of the record of a verification that has ended."""

_PAUSE = 0.002  # seconds after each page of records, at least; it is as long as reading the page took

_log = structlog.get_logger("thingmint.audit")


@dataclass(frozen=True, slots=True)
class Progress:
    """A verification that runs: ``done`` of ``total`` records. The total is that of its beginning."""

    began_at: datetime
    total: int
    done: int = 0


class AuditVerification:
    """``material`` reads the keys and the checkpoints that are kept outside of the store. It is called in a thread.

    The chains run through all accounts, so only the account that was made with the instance may verify them.
    """

    def __init__(
        self,
        store: Store,
        material: Callable[[], tuple[AuditKeys, Sequence[Checkpoint]]],
        trail: AuditLog,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._material = material
        self._trail = trail
        self._clock = clock
        self._asked: RequestContext | None = None
        self._wake = asyncio.Event()
        self.progress: Progress | None = None

    async def may(self, account: str) -> bool:
        """True for the account of the operator, the oldest one."""
        accounts = await self._store.read(list_accounts)
        return account == accounts[0].id

    async def start(self, context: RequestContext) -> bool:
        """Asks for a verification. False if one runs already. Raises Denied for callers of other accounts."""
        assert context.caller is not None, "callers are authenticated first"
        if not await self.may(context.caller.account):
            raise Denied(context.caller.arn, "thingmint:VerifyAuditLog", "*", explicit=False)
        if self.progress is not None:
            return False
        self.progress = Progress(self._clock(), 0)
        self._asked = context
        self._wake.set()
        return True

    async def run(self) -> None:
        """Runs what was asked for, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._asked is not None:
                try:
                    await self._verify(self._asked)
                finally:
                    self._asked = self.progress = None

    async def _verify(self, context: RequestContext) -> None:
        """Adds the result to the audit log, as a record of the one who asked."""
        found: dict[str, object]
        try:
            found = _shown(await self._chains())
        except Tampering as error:
            found = {"result": "tampered", "record": error.sequence, "why": str(error)}
        except (DomainError, OSError, ValueError) as error:  # the store is away, or a file cannot be read
            _log.error("audit_log_not_verified", error=str(error))
            found = {"result": "failed"}
        except Exception:  # noqa: BLE001 - without a result, the page would still show the one before
            _log.exception("audit_log_not_verified", error="unexpected")
            found = {"result": "failed"}
        if found["result"] == "tampered":
            _log.error("audit_log_tampered", record=found["record"], why=found["why"])
        outcome = Outcome(status=200, details={VERIFIED: found})
        self._trail.add(replace(context, id=new_uuid(), now=self._clock()), outcome)

    async def _chains(self) -> Mapping[Stream, Verified]:
        """Raises Tampering."""
        keys, kept = await asyncio.to_thread(self._material)
        ends = [await self._store.read(partial(sql.last_sealed, stream=stream)) for stream in STREAMS]
        firsts = [
            await self._store.read(partial(sql.sealed_records, after=0, limit=1, stream=stream)) for stream in STREAMS
        ]
        total = sum(_count(end, first) for end, first in zip(ends, firsts, strict=True))
        began = self.progress.began_at if self.progress else self._clock()
        self.progress = Progress(began, total)
        found = {}
        for stream in STREAMS:
            try:
                found[stream] = await verify(self._store, keys, kept, stream, self._step)
            except Tampering as error:
                raise Tampering(error.sequence, f"in the chain of {stream.name}: {error}") from None
        return found

    async def _step(self, records: int, seconds: float) -> None:
        """Notes the progress, and leaves the event loop to others for as long as the step took."""
        if self.progress is not None:
            self.progress = replace(self.progress, done=self.progress.done + records)
        await asyncio.sleep(max(_PAUSE, seconds))


def _count(end: tuple[Any, Any] | None, first: Sequence[AuditRow]) -> int:
    """The number of records in the chain. 0 if it ends in a record without a number, which verification then finds."""
    if not end or not first or not isinstance(end[0], int) or not isinstance(first[0].sequence, int):
        return 0
    return end[0] - first[0].sequence + 1


def _shown(found: Mapping[Stream, Verified]) -> dict[str, object]:
    """``through`` has the last verified record of each chain."""
    return {
        "result": "intact",
        "records": sum(each.records for each in found.values()),
        "checkpoints": sum(each.checkpoints for each in found.values()),
        "uncovered": sum(each.uncovered for each in found.values()),
        "unsealed": sum(each.unsealed for each in found.values()),
        "through": {stream.name: each.end for stream, each in found.items()},
    }
