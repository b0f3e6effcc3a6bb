"""Tasks of bulk registration: how far each one is, and its reports."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from thingmint.domain.arns import Scope, arn
from thingmint.domain.errors import Disallowed, NotFound
from thingmint.services.pages import Page, page_of
from thingmint.store.table import BoundedDelete, NoUuid, Table, Uuid, fetch_in_order, record, to_micros, uuid_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.services.change import Change, Query
    from thingmint.services.page_tokens import Position
    from thingmint.services.pages import Cursor
    from thingmint.services.report_links import ReportKind
    from thingmint.store.engine import Store, Transaction

MAX_MESSAGE = 2048
FILE_BYTES = 4 * 1024 * 1024
"""A file of a report ends with the records that reach this size."""
_KEEP = timedelta(days=30)
_KIND = "thing registration task"
_MOST_RUN = 32  # tasks at once, of different accounts


class TaskStatus(StrEnum):
    IN_PROGRESS = "InProgress"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLING = "Cancelling"
    CANCELLED = "Cancelled"

    @property
    def runs(self) -> bool:
        return self in (TaskStatus.IN_PROGRESS, TaskStatus.CANCELLING)


@record
class RegistrationTask:
    """``position``, ``line`` and ``within_line`` are where the task goes on; see Place."""

    scope: Scope
    id: Uuid
    status: TaskStatus
    template: str
    bucket: str
    key: str
    role_arn: str
    created_at: datetime
    modified_at: datetime
    runs_for: str | None
    message: str | None
    size: int
    file_version: str
    position: int = 0
    line: int = 0
    within_line: bool = False
    succeeded: int = 0
    failed: int = 0
    reports: Mapping[str, Any] = field(default_factory=dict)
    report_bytes: int = 0

    @property
    def arn(self) -> str:
        return arn(self.scope, f"thingregistrationtask/{self.id}")

    @property
    def place(self) -> Place:
        return Place(self.position, self.line, self.within_line)

    @property
    def percentage(self) -> int:
        """How much of the file is done. 100 only when the task is completed."""
        if self.status is TaskStatus.COMPLETED:
            return 100
        return min(99, self.position * 100 // self.size) if self.size else 0

    def files(self, kind: ReportKind) -> int:
        """Return the number of files of a report. They do not change: the last one comes when the task has ended."""
        state = self.reports.get(kind)
        if state is None:
            return 0
        return int(state["file"]) + (not self.status.runs and state["bytes"] > 0)


class Place(NamedTuple):
    """The bytes of the file that are done, the number of the line that is next, and whether its beginning is done.

    Only a line that is too long is done in parts.
    """

    position: int
    line: int
    within_line: bool


TASKS = Table(RegistrationTask, "registration_tasks", _KIND, key=("account", "region", "id"), unique="(runs_for)")

_OF_SCOPE = f"{TASKS.select}WHERE account = $1 AND region = $2"
_OF_STATUS = f"{_OF_SCOPE} AND status = $3"
_BY_ID = f"{TASKS.select}WHERE id = $1"
_RUNNING = f"{TASKS.select}WHERE runs_for IS NOT NULL ORDER BY created_at, id LIMIT {_MOST_RUN}"
_NEWEST = f"{TASKS.select}WHERE account = $1 ORDER BY created_at DESC, id DESC LIMIT $2"
_ADD = "INSERT INTO registration_reports (task, kind, file, number, content) VALUES ($1, $2, $3, $4, $5)"
_FILE = "SELECT content FROM registration_reports WHERE task = $1 AND kind = $2 AND file = $3 ORDER BY number"
_WITH_REPORTS = (
    f"{TASKS.select}WHERE account = $1 AND report_bytes > 0 ORDER BY created_at LIMIT 2"  # of which one may run
)
_SPACE = "SELECT sum(report_bytes) FROM registration_tasks WHERE account = $1 AND report_bytes > 0"
_REPORTS_OF_TASK = BoundedDelete("registration_reports", ("task", "kind", "file", "number"), "task = $1")
_ENDED = "SELECT id FROM registration_tasks WHERE runs_for IS NULL AND modified_at < $1"
_OLD_REPORTS = BoundedDelete("registration_reports", ("task", "kind", "file", "number"), f"task IN ({_ENDED})")
_OLD_TASKS = BoundedDelete("registration_tasks", ("id",), "runs_for IS NULL AND modified_at < $1")


async def start_task(tx: Transaction, new: RegistrationTask) -> RegistrationTask:
    """Add a task, which the runner starts within a second. Raises Disallowed while the account has one that runs."""
    if not await TASKS.insert(tx, new):
        reason = "The account has a thing registration task that is not finished: wait for its end, or stop it"
        raise Disallowed(_KIND, new.id, reason)
    tx.audit_resources.append(new.arn)
    return new


async def stop_task(tx: Transaction, change: Change, id: str) -> None:
    """Ask for a task's end. Raises NotFound, and Disallowed for a task that has ended otherwise."""
    task = await TASKS.get(tx, *change.scope, id)
    if task.status is TaskStatus.IN_PROGRESS:
        await TASKS.update(tx, replace(task, status=TaskStatus.CANCELLING, modified_at=change.now))
    elif task.status not in (TaskStatus.CANCELLING, TaskStatus.CANCELLED):
        raise Disallowed(_KIND, id, f"The thing registration task is {task.status} already, and cannot be stopped")
    tx.audit_resources.append(task.arn)


async def list_tasks(tx: Transaction, query: Query, status: str | None, cursor: Cursor) -> Page[RegistrationTask]:
    """Return a page of tasks, the newest first, of one status or of all. Raises Invalid."""

    statement, parameters = (_OF_SCOPE, query.scope) if status is None else (_OF_STATUS, (*query.scope, status))

    async def fetch(after: Position | None, limit: int) -> list[RegistrationTask]:
        beyond = () if after is None else (after[0], uuid_bytes(after[1]))
        order = ("created_at", "id")
        return TASKS.load_all(await fetch_in_order(tx, statement, parameters, order, beyond, limit, ascending=False))

    listing = f"registration tasks {status or ''}"
    return await page_of(query, cursor, listing, fetch, lambda task: (to_micros(task.created_at), task.id))


async def find_task(tx: Transaction, id: str) -> RegistrationTask | None:
    """Return a task of any account."""
    try:
        row = await tx.fetch_one(_BY_ID, uuid_bytes(id))
    except NoUuid:
        return None
    return TASKS.load(row) if row is not None else None


async def running_tasks(tx: Transaction) -> list[RegistrationTask]:
    return TASKS.load_all(await tx.fetch_all(_RUNNING))


async def newest_tasks(tx: Transaction, account: str, limit: int) -> list[RegistrationTask]:
    return TASKS.load_all(await tx.fetch_all(_NEWEST, account, limit))


async def add_records(
    tx: Transaction, task: RegistrationTask, records: Mapping[ReportKind, Sequence[Mapping[str, Any]]]
) -> RegistrationTask:
    """Return the task, changed, with further records in its reports. The caller stores it."""
    reports, added = dict(task.reports), 0
    for kind, new in records.items():
        if not new:
            continue
        state = reports.get(kind) or {"file": 0, "number": 0, "bytes": 0}
        lines = b"".join(orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in new)
        content = zlib.compress(lines, 1)
        await tx.execute(_ADD, uuid_bytes(task.id), kind, state["file"], state["number"], content)
        added += len(content)
        size = state["bytes"] + len(lines)
        full = {"file": state["file"] + 1, "number": 0, "bytes": 0}
        reports[kind] = full if size >= FILE_BYTES else {**state, "number": state["number"] + 1, "bytes": size}
    return replace(task, reports=reports, report_bytes=task.report_bytes + added)


def ended(task: RegistrationTask, status: TaskStatus, now: datetime, message: str | None = None) -> RegistrationTask:
    """Return the task as it is after its end."""
    message = message and message[:MAX_MESSAGE]
    return replace(task, status=status, runs_for=None, modified_at=now, message=message)


async def report_file(tx: Transaction, id: str, kind: ReportKind, file: int) -> tuple[RegistrationTask, list[bytes]]:
    """Return a task and the parts of a file of its reports, each compressed by zlib. Raises NotFound."""
    task = await find_task(tx, id)
    if task is None or not 0 <= file < task.files(kind):
        raise NotFound("report", id)
    return task, [content for (content,) in await tx.fetch_all(_FILE, uuid_bytes(id), kind, file)]


async def make_room(store: Store, account: str, limit: int) -> None:
    """Delete the reports of an account's oldest tasks, until the others use ``limit`` bytes at most."""

    async def forget_one(tx: Transaction) -> str | None:
        space = await tx.fetch_one(_SPACE, account)
        if space is None or (space[0] or 0) <= limit:
            return None
        found = TASKS.load_all(await tx.fetch_all(_WITH_REPORTS, account))
        oldest = next((task for task in found if not task.status.runs), None)
        if oldest is None:
            return None
        await TASKS.update(tx, replace(oldest, reports={}, report_bytes=0))
        return oldest.id

    while (id := await store.write(forget_one)) is not None:
        await _REPORTS_OF_TASK.run(store, uuid_bytes(id))


async def forget_old_tasks(store: Store, now: datetime) -> None:
    """Delete tasks that ended 30 days ago, with their reports. To be called from time to time."""
    before = to_micros(now - _KEEP)
    await _OLD_REPORTS.run(store, before)
    await _OLD_TASKS.run(store, before)
