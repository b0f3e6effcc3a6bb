"""Runs the tasks of bulk registration: registers a device for each line of a file.

The effects of lines, their records in the reports and the place in the file are written in one transaction, so no line
is executed twice, whatever ends the process. A transaction ends early if its lines take long, so that devices and
other callers are served in between.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog

from thingmint.access.context import RequestContext
from thingmint.access.operations import write_with_new_ids
from thingmint.aws.errors import COMMON_STATUS, AwsError
from thingmint.aws.registration_lines import discard_lines, execute_line, prepare_line, records_of
from thingmint.domain.errors import Denied, Invalid, NotFound, Unavailable
from thingmint.domain.templates import Kind
from thingmint.services.bulk_lines import FileChanged, LineReader
from thingmint.services.change import Change, Ids
from thingmint.services.leases import LeaseLost
from thingmint.services.registration_tasks import (
    TASKS,
    RegistrationTask,
    TaskStatus,
    add_records,
    ended,
    forget_old_tasks,
    make_room,
    running_tasks,
)
from thingmint.services.template_execution import Executed
from thingmint.services.templates import compile_template
from thingmint.store.engine import ConstraintViolated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from thingmint.access.authorization import Roles
    from thingmint.aws.registration_lines import LineOutcome, PreparedLine
    from thingmint.services.bulk_lines import Line
    from thingmint.services.change import Environment
    from thingmint.services.leases import LeasedStore
    from thingmint.store.engine import Transaction

BULK_LEASE = "bulk"
"""The name of the lease of the process that runs the tasks."""

_LOOK_EVERY = 1.0  # seconds
_PREPARED = 16  # lines, which one transaction registers if they are quick
_SECONDS = 0.004  # of CPU, after which a transaction takes no further line, if it runs on the event loop in one step
_SECONDS_SHARED = 0.25  # the same in time, for a database whose transactions do not block the event loop
_PAUSE = 0.002  # seconds between two transactions
_FORGET_EVERY = 600.0
_RETRY_EVERY = 5.0  # seconds, while the bucket or the database cannot be used
_MOST_VIOLATIONS = 5  # of constraints of the database at one place, by changes of others at the same time
_RETRY_FOR = 900.0
_LONGEST = timedelta(days=30)

_log = structlog.get_logger("thingmint.bulk")


class _Failed(Exception):
    """The task cannot go on. The text is for the account, and says what to do."""


class _Stopped(Exception):
    """Why a certificate that was signed is not registered: the task was stopped."""


class _Refused(Exception):
    """Why a certificate that was signed is not registered: another part of its line was refused."""


class BulkRegistration:
    """Runs the tasks of all accounts. ``succeeded`` and ``failed`` count lines, ``running`` tasks.

    ``status`` has the HTTP status of each error's code. ``report_bytes`` is the space for the reports of an account's
    tasks that have ended, and for those of its running task.
    """

    def __init__(
        self,
        store: LeasedStore,
        environment: Environment,
        roles: Roles,
        status: Mapping[str, int],
        clock: Callable[[], datetime],
        report_bytes: int,
    ) -> None:
        self.succeeded = 0
        self.failed = 0
        self.running = 0
        self.store = store
        self.environment = environment
        self.roles = roles
        self.status = {**status, **COMMON_STATUS}
        self.clock = clock
        self.report_bytes = report_bytes
        self.turn = asyncio.Semaphore(1)  # the next one's after each transaction, in order
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._interrupted: dict[str, tuple[int, int]] = {}  # by task: the position, and how often there

    async def run(self) -> None:
        """Run the tasks until cancelled. Then the buckets are closed."""
        failing, forget_at = False, 0.0
        try:
            while True:
                try:
                    await self.look()
                    if self.store.held and time.monotonic() >= forget_at:
                        forget_at = time.monotonic() + _FORGET_EVERY
                        await forget_old_tasks(self.store, self.clock())
                    failing = False
                except LeaseLost:
                    pass
                except Unavailable as error:
                    if not failing:
                        _log.warning("bulk_registration_waits_for_the_store", error=str(error))
                    failing = True
                await asyncio.sleep(_LOOK_EVERY)
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            self.environment.buckets.close()

    async def look(self) -> None:
        """Begin the tasks that do not run yet. Raises Unavailable."""
        found = await self.store.read(running_tasks) if self.store.held else []
        self.running = len(found)
        for task in found:
            if task.id not in self._tasks:
                run = self._tasks[task.id] = asyncio.create_task(self._run(task))
                run.add_done_callback(partial(self._has_run, task.id))

    def _has_run(self, task: str, _: asyncio.Task[None]) -> None:
        del self._tasks[task]

    async def _run(self, task: RegistrationTask) -> None:
        about = {"task": task.id, "account": task.scope.account, "region": task.scope.region}
        is_first = task.id not in self._interrupted
        try:
            if is_first:
                _log.info("bulk_registration_runs", line=task.line, **about)
            if task.position == 0:
                await make_room(self.store, task.scope.account, self.report_bytes)
            done = await _Run(self, task).finish()
            self._interrupted.pop(task.id, None)
            counts = {"succeeded": done.succeeded, "failed": done.failed}
            _log.info("bulk_registration_ended", status=done.status, why=done.message, **counts, **about)
        except (Unavailable, LeaseLost, ConstraintViolated) as error:
            # A later look goes on, from the place that is stored. Two of these errors are not the task's.
            before, times = self._interrupted.get(task.id, (0, 0))
            times = times + 1 if before == task.position else 1
            self._interrupted[task.id] = task.position, times
            if is_first or times == 1:
                _log.warning("bulk_registration_interrupted", why=str(error), **about)
            if isinstance(error, ConstraintViolated) and times >= _MOST_VIOLATIONS:
                _log.exception("bulk_registration_failed", **about)
                await self._give_up(task)
            await asyncio.sleep(_RETRY_EVERY)
        except Exception:  # noqa: BLE001 - the task must not be tried for ever
            _log.exception("bulk_registration_failed", **about)
            await self._give_up(task)

    async def _give_up(self, task: RegistrationTask) -> None:
        why = f"The server failed at this task; its log has the details under {task.id}"

        async def body(tx: Transaction) -> None:
            current = await TASKS.find(tx, *task.scope, task.id)
            if current is not None and current.status.runs:
                await TASKS.update(tx, ended(current, TaskStatus.FAILED, self.clock(), why))

        try:
            await self.store.write(body)
        except (Unavailable, LeaseLost) as error:
            _log.warning("bulk_registration_interrupted", why=str(error), task=task.id)


class _Run:
    """One run of a task in this process."""

    def __init__(self, of: BulkRegistration, task: RegistrationTask) -> None:
        self._of = of
        self._task = task
        self._reader = LineReader(of.environment.buckets, task)
        self._template = compile_template(task.template, Kind.BULK)
        shared = of.store.is_shared
        self._seconds, self._elapsed = (_SECONDS_SHARED, time.monotonic) if shared else (_SECONDS, time.thread_time)

    async def finish(self) -> RegistrationTask:
        """Return the task at its end. Raises Unavailable and LeaseLost."""
        try:
            while self._task.status.runs:
                lines = await self._lines() if self._task.status is TaskStatus.IN_PROGRESS else []
                if not lines:
                    await self._end(TaskStatus.COMPLETED)
                for start in range(0, len(lines), _PREPARED):
                    if self._task.status is not TaskStatus.IN_PROGRESS:
                        break
                    await self._register(lines[start : start + _PREPARED])
        except _Failed as failed:
            await self._end(TaskStatus.FAILED, str(failed))
        return self._task

    async def _lines(self) -> list[Line]:
        """Return the next lines. Raises _Failed."""
        task, tried_since = self._task, time.monotonic()
        if self._of.clock() - task.created_at > _LONGEST:
            raise _Failed(f"The task took longer than 30 days. {self._so_far()}")
        if task.report_bytes > self._of.report_bytes:
            raise _Failed(f"The reports of the task have no space left. {self._so_far()}")
        while True:
            try:
                return await self._reader.lines()
            except FileChanged:
                raise _Failed(f"The file changed during the task. {self._so_far()}") from None
            except Invalid:
                raise _Failed(f"The file is not in its bucket any more. {self._so_far()}") from None
            except NotFound:
                raise _Failed(f"The account may not use the bucket any more. {self._so_far()}") from None
            except Unavailable:
                if time.monotonic() - tried_since > _RETRY_FOR:
                    raise _Failed(f"The bucket could not be read for 15 minutes. {self._so_far()}") from None
            if await self._is_stopping():
                return []
            await asyncio.sleep(_RETRY_EVERY)

    async def _is_stopping(self) -> bool:
        task = await self._of.store.read(lambda tx: TASKS.get(tx, *self._task.scope, self._task.id))
        return task.status is TaskStatus.CANCELLING

    async def _register(self, lines: Sequence[Line]) -> None:
        """Register the lines in order, in as many transactions as that takes. Raises _Failed."""
        if (trouble := self._of.store.trouble) is not None:  # sign nothing that cannot be kept
            raise Unavailable(trouble)
        context, change = await self._as_role()
        left: list[PreparedLine] = []
        try:
            for line in lines:
                left.append(await prepare_line(change, self._template, line, self._task.id))
                await asyncio.sleep(0)
            while left and self._task.status is TaskStatus.IN_PROGRESS:
                async with self._of.turn:
                    outcomes = await self._write(context, change, left)
                    await asyncio.sleep(_PAUSE)
                self._count(change, left[: len(outcomes)], outcomes)
                left = left[len(outcomes) :]
        except BaseException as error:
            discard_lines(change, left, error)
            raise
        discard_lines(change, left, _Stopped())

    async def _as_role(self) -> tuple[RequestContext, Change]:
        """Return the context and the change with the permissions that the role has now. Raises _Failed."""
        task, now = self._task, self._of.clock()
        context = RequestContext(api="aws", operation="RegisterThing", now=now, scope=task.scope)
        try:
            caller, authorize = await self._of.roles.assume(context, task.scope, task.role_arn, task.arn)
        except Denied:
            advice = "it must be in this account and enabled, and its trust policy must allow iot.amazonaws.com"
            raise _Failed(f"The role cannot be assumed: {advice}. {self._so_far()}") from None
        return context.by(caller, task.scope), Change(task.scope, now, self._of.environment, authorize, Ids())

    async def _write(self, context: RequestContext, change: Change, works: Sequence[PreparedLine]) -> list[LineOutcome]:
        """Return the outcomes of the first works, which are stored with them. Raises LeaseLost and Unavailable."""
        known, now = self._task.place, self._of.clock()

        async def body(tx: Transaction) -> tuple[RegistrationTask, list[LineOutcome]]:
            change.ids.restart()
            task = await TASKS.get(tx, *self._task.scope, self._task.id)
            if task.place != known or not task.status.runs:
                raise LeaseLost(BULK_LEASE)
            outcomes: list[LineOutcome] = []
            until = self._elapsed() + self._seconds
            for work in works:
                outcomes.append(await execute_line(tx, context, change, work, task.id))
                if self._elapsed() >= until:
                    break
            task = await add_records(tx, task, records_of(works, outcomes, self._of.status))
            place = works[len(outcomes) - 1].line.place
            task = replace(
                task,
                position=place.position,
                line=place.line,
                within_line=place.within_line,
                succeeded=task.succeeded + sum(isinstance(each, Executed) for each in outcomes),
                failed=task.failed + sum(isinstance(each, AwsError) for each in outcomes),
                modified_at=now,
            )
            await TASKS.update(tx, task)
            return task, outcomes

        stored: tuple[RegistrationTask, list[LineOutcome]] = await write_with_new_ids(self._of.store, change, body)
        self._task, outcomes = stored
        return outcomes

    def _count(self, change: Change, works: Sequence[PreparedLine], outcomes: Sequence[LineOutcome]) -> None:
        for work, outcome in zip(works, outcomes, strict=True):
            self._of.succeeded += isinstance(outcome, Executed)
            self._of.failed += isinstance(outcome, AwsError)
            if isinstance(outcome, AwsError):
                discard_lines(change, [work], _Refused())

    def _so_far(self) -> str:
        return f"The lines before line {self._task.line} (counted from 0) are done: start a task with the others"

    async def _end(self, status: TaskStatus, message: str | None = None) -> None:
        """Store the task's end. A task that was to be stopped is Cancelled."""

        async def body(tx: Transaction) -> RegistrationTask:
            task = await TASKS.get(tx, *self._task.scope, self._task.id)
            if not task.status.runs:
                return task
            stopped = task.status is TaskStatus.CANCELLING
            now = self._of.clock()
            done = ended(task, TaskStatus.CANCELLED, now) if stopped else ended(task, status, now, message)
            await TASKS.update(tx, done)
            return done

        self._task = await self._of.store.write(body)
