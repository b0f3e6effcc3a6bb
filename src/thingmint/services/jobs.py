"""Background jobs: work that changes too many rows for one transaction, and periodic work.

A job is added by the transaction that makes it necessary, and is a row until it is done, so it survives a kill.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog

from thingmint.domain.arns import Scope
from thingmint.domain.errors import Unavailable
from thingmint.services.leases import LeaseLost
from thingmint.store.table import Table, record, to_micros

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.store.engine import Store, Transaction

JOBS_LEASE = "jobs"
"""The name of the lease of the process that runs the jobs."""

_LOOK_EVERY = 1.0  # seconds
_REPEAT_EVERY = 60.0  # seconds
_PAUSE = 0.005  # seconds between two steps, so that callers can use the store
_HELD_FOR = timedelta(seconds=5)  # how long a process keeps a job without a step, for example when it was killed
_LONGEST_PAUSE = timedelta(minutes=5)  # after a failure

_log = structlog.get_logger("thingmint.jobs")


@record
class Job:
    """``due_at`` is when the job may run next. It is moved while a process runs the job, and after ``failures``."""

    scope: Scope
    id: str
    kind: str
    payload: Mapping[str, Any]
    failures: int
    due_at: datetime
    created_at: datetime


JOBS = Table(Job, "jobs", "job", key=("id",))

_DUE = f"{JOBS.select}WHERE due_at <= $1 ORDER BY due_at, id LIMIT 1"
_COUNT = "SELECT count(*), coalesce(sum(CASE WHEN failures > 0 THEN 1 ELSE 0 END), 0) FROM jobs"

Step = Callable[["Transaction", Job], Awaitable[bool]]
"""Changes a bounded number of rows. Returns True if there is more to do. Can run again."""

STEPS: dict[str, Step] = {}
"""By kind; the modules that add jobs register their steps with ``job``."""


def job(kind: str) -> Callable[[Step], Step]:
    def declare(step: Step) -> Step:
        assert kind not in STEPS, f"{kind} is declared twice"
        STEPS[kind] = step
        return step

    return declare


async def add_job(tx: Transaction, scope: Scope, id: str, kind: str, payload: Mapping[str, Any], now: datetime) -> None:
    """Add a job, which the runner starts within a second. ``id`` must be new."""
    assert kind in STEPS, kind
    await JOBS.insert(tx, Job(scope, id, kind, payload, 0, now, now))


class JobRunner:
    """Runs the jobs one after the other, and the functions in ``repeated`` every minute.

    If several processes have a runner with a LeasedStore, only the process with the lease works. ``waiting`` is the
    number of jobs, ``failing`` the number of jobs whose last run failed.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], datetime],
        repeated: Sequence[Callable[[Store, datetime], Awaitable[object]]] = (),
    ) -> None:
        self.waiting = 0
        self.failing = 0
        self._store = store
        self._clock = clock
        self._repeated = repeated

    async def run(self) -> None:
        """Run until cancelled."""
        await asyncio.gather(_keep(self.run_due, _LOOK_EVERY), _keep(self._repeat, _REPEAT_EVERY))

    async def run_due(self) -> None:
        """Run the due jobs, each to its end unless it fails. Raises Unavailable."""
        with contextlib.suppress(LeaseLost):
            while await self._store.read(lambda tx: _find_due(tx, self._clock())):  # a write costs a sync of the disk
                taken = await self._take()
                if taken is not None:
                    await self._run(taken)
        self.waiting, self.failing = await self._store.read(_count)

    async def _take(self) -> Job | None:
        """Take a due job; None if another process was faster."""
        now = self._clock()

        async def body(tx: Transaction) -> Job | None:
            due = await _find_due(tx, now)
            return await _hold(tx, due, now) if due is not None else None

        return await self._store.write(body)

    async def _run(self, taken: Job) -> None:
        held: Job | None = taken
        about = {"job": taken.id, "kind": taken.kind, "account": taken.scope.account, "region": taken.scope.region}
        try:
            while held is not None:
                held = await self._step(held)
                await asyncio.sleep(_PAUSE)
        except (Unavailable, LeaseLost):
            raise
        except Exception:  # noqa: BLE001 - one job that fails must not stop the others
            _log.exception("job_failed", failures=taken.failures + 1, **about)
            await self._postpone(taken)
        else:
            _log.info("job_done", **about)

    async def _step(self, held: Job) -> Job | None:
        """Run one step. Returns the job, held for longer; None if it is done or another process has it."""
        now = self._clock()

        async def body(tx: Transaction) -> Job | None:
            current = await JOBS.find(tx, held.id)
            if current is None or current.due_at != held.due_at:
                return None
            if await STEPS[held.kind](tx, held):
                return await _hold(tx, held, now)
            await JOBS.delete(tx, held.id)
            return None

        return await self._store.write(body)

    async def _postpone(self, failed: Job) -> None:
        failures = failed.failures + 1
        pause = min(timedelta(seconds=2 ** min(failures, 10)), _LONGEST_PAUSE)
        later = replace(failed, failures=failures, due_at=self._clock() + pause)
        await self._store.write(lambda tx: JOBS.update(tx, later))

    async def _repeat(self) -> None:
        for work in self._repeated:
            try:
                await work(self._store, self._clock())
            except Unavailable:
                raise
            except LeaseLost:
                return
            except Exception:  # noqa: BLE001 - a failure must not stop the other work
                _log.exception("job_failed", kind=getattr(work, "__name__", str(work)))


async def _keep(work: Callable[[], Awaitable[None]], pause: float) -> None:
    while True:
        try:
            await work()
        except Unavailable as error:
            _log.warning("jobs_wait_for_the_store", error=str(error))
        await asyncio.sleep(pause)


async def _find_due(tx: Transaction, now: datetime) -> Job | None:
    row = await tx.fetch_one(_DUE, to_micros(now))
    return JOBS.load(row) if row is not None else None


async def _hold(tx: Transaction, job: Job, now: datetime) -> Job:
    held = replace(job, due_at=now + _HELD_FOR)
    await JOBS.update(tx, held)
    return held


async def _count(tx: Transaction) -> tuple[int, int]:
    """Return the number of jobs, and of jobs whose last run failed."""
    row = await tx.fetch_one(_COUNT)
    return (int(row[0]), int(row[1])) if row is not None else (0, 0)
