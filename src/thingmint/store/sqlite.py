"""The embedded engine: SQLite in WAL mode, with group commit.

Bodies run on the event loop, each to its end in one step and inside a savepoint of the current batch. The batch's
COMMIT, which waits for the disk, runs in a thread while the next batch gathers. Reads have a connection of their own
and see what was committed.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from thingmint.domain.errors import Unavailable
from thingmint.store.migrate import HISTORY_TABLE, pending
from thingmint.store.plain_parameters import CONNECTION
from thingmint.store.sqlite_transaction import SQLiteTransaction, run_body, translated

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.store.engine import Body


T = TypeVar("T")

_MAX_BATCH = 64
_REOPEN_AFTER = 1.0  # seconds

_log = structlog.get_logger("thingmint.storage")


class SQLiteStore:
    """A Store in one file. The file must exist, so that its mode is the maker's choice; SQLite's others inherit it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = _connect(path)
        try:
            _migrate(self._writer)
            self._reader = self._open_reader()
        except BaseException:
            self._writer.close()
            raise
        self._queue: deque[_Job] = deque()
        self._committer = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._drain_task: asyncio.Task[None] | None = None
        self._reopen_task: asyncio.Task[None] | None = None
        self._ready = True
        self._changes = 0
        self._access_changes = 0

    @property
    def changes(self) -> int:
        return self._changes

    @property
    def access_changes(self) -> int:
        return self._access_changes

    @property
    def ready(self) -> bool:
        return self._ready

    async def read(self, body: Body[T]) -> T:
        if not self._ready:
            raise Unavailable("The store is being reopened")
        # Reads between two writes share one snapshot, since opening one costs more than a look-up. None is kept while
        # a commit is under way: its checkpoint could not go past it.
        if not self._reader.in_transaction:
            self._reader.execute("BEGIN")
        try:
            result: T = run_body(body, SQLiteTransaction(self._reader))
            return result
        except sqlite3.Error as error:
            self._reader.rollback()
            raise translated(error) from error
        finally:
            if self._drain_task is not None:
                self._reader.rollback()

    async def write(self, body: Body[T]) -> T:
        if not self._ready:
            raise Unavailable("The store is being reopened")
        job = _Job(body, asyncio.get_running_loop().create_future())
        self._queue.append(job)
        if self._drain_task is None:
            self._drain_task = asyncio.create_task(self._drain())
        # Only the caller's own wait can be cancelled, never a commit that others wait for.
        result: T = await job.outcome
        return result

    async def close(self) -> None:
        """Waits for the writes under way. The last connection to close folds the WAL into the database file."""
        while self._drain_task is not None:
            await asyncio.wait([self._drain_task])
        if self._reopen_task is not None:
            self._reopen_task.cancel()
            await asyncio.wait([self._reopen_task])
        self._ready = False
        self._reader.close()
        self._writer.close()
        self._committer.shutdown()

    async def _drain(self) -> None:
        try:
            self._reader.rollback()
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), _MAX_BATCH))]
                await self._commit([job for job in batch if not job.outcome.done()])
        finally:
            self._drain_task = None

    async def _commit(self, batch: list[_Job]) -> None:
        if not batch:
            return
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for job in batch:
                job.run(self._writer)
            await asyncio.get_running_loop().run_in_executor(self._committer, self._writer.execute, "COMMIT")
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may be left waiting
            for job in batch:
                job.fail(Unavailable("The store failed; whether the change was kept is unknown"))
            self._begin_reopening()
            _log.error("a batch was not committed", waiters=len(batch), error=str(error))
        else:
            for job in batch:
                job.answer()
        finally:
            # Before any waiter runs; a failed commit may have been kept too.
            self._changes += 1
            self._access_changes += any(job.concerns_access for job in batch)

    def _begin_reopening(self) -> None:
        self._ready = False
        while self._queue:
            self._queue.popleft().fail(Unavailable("The store failed"))
        self._reopen_task = asyncio.create_task(self._reopen())

    async def _reopen(self) -> None:
        """After a failed COMMIT only a fresh connection knows what the file really holds."""
        while True:
            try:
                self._writer.close()
                self._reader.close()
                self._writer = _connect(self._path)
                self._reader = self._open_reader()
                await asyncio.get_running_loop().run_in_executor(self._committer, _try_writing, self._writer)
            except sqlite3.Error as error:
                _log.error("the store cannot be reopened yet", error=str(error))
                await asyncio.sleep(_REOPEN_AFTER)
            else:
                _log.info("the store was reopened")
                self._ready = True
                return

    def _open_reader(self) -> sqlite3.Connection:
        return _connect(self._path, "PRAGMA query_only = ON")


class SQLiteReader:
    """Reads of a database that another process may hold and write."""

    def __init__(self, path: Path) -> None:
        self._connection = _open(path, "ro", "PRAGMA busy_timeout = 5000")
        # Whoever looks for tampering has to get at what was put there, also if it is no text.
        self._connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")

    async def read(self, body: Body[T]) -> T:
        self._connection.execute("BEGIN")
        try:
            result: T = run_body(body, SQLiteTransaction(self._connection))
            return result
        finally:
            self._connection.rollback()

    def close(self) -> None:
        self._connection.close()


class _Job:
    """One body, and the future on which its caller waits."""

    __slots__ = ("_body", "_error", "_result", "concerns_access", "outcome")

    def __init__(self, body: Body[Any], outcome: asyncio.Future[Any]) -> None:
        self._body = body
        self._result: Any = None
        self._error: Exception | None = None
        self.concerns_access = True  # until its body has run
        self.outcome = outcome

    def run(self, connection: sqlite3.Connection) -> None:
        """Runs the body inside a savepoint. Raises sqlite3.Error if that ended the whole transaction."""
        connection.execute("SAVEPOINT job")
        tx = SQLiteTransaction(connection)
        try:
            self._result = run_body(self._body, tx)
        except Exception as error:
            if isinstance(error, sqlite3.Error):
                if not connection.in_transaction:
                    raise
                error = translated(error)
            self._error = error
            connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")
        self.concerns_access = tx.concerns_access

    def answer(self) -> None:
        if self.outcome.done():  # the caller went away
            return
        if self._error is not None:
            self.outcome.set_exception(self._error)
        else:
            self.outcome.set_result(self._result)

    def fail(self, error: Exception) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)


def _try_writing(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE schema_migrations SET version = version")
    connection.execute("COMMIT")


def _connect(path: Path, *pragmas: str) -> sqlite3.Connection:
    return _open(
        path,
        "rw",
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        "PRAGMA foreign_keys = ON",
        "PRAGMA busy_timeout = 5000",
        *pragmas,
    )


def _open(path: Path, mode: str, *pragmas: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, factory=CONNECTION)
    try:
        for pragma in pragmas:
            connection.execute(pragma)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(HISTORY_TABLE)
        applied = connection.execute("SELECT version, sha256 FROM schema_migrations").fetchall()
        for migration in pending(applied):
            for statement in migration.statements:
                connection.execute(statement)
            connection.execute(
                "INSERT INTO schema_migrations (version, name, sha256) VALUES (?, ?, ?)",
                (migration.version, migration.name, migration.sha256),
            )
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.rollback()
