"""The embedded engine: SQLite in WAL mode, with group commit.

Each body runs on the event loop in one step, inside a savepoint of the current batch. The batch's COMMIT, which waits
for the disk, runs in a thread while the next batch is collected. Reads use a separate connection and see committed
changes. They work even while nothing can be written, for example on a full disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from thingmint.domain.errors import Unavailable
from thingmint.store.disk_reserve import FULL, why_not_writable
from thingmint.store.migrate import HISTORY, HISTORY_TABLE, add_functions_to_sqlite, check_current, for_sqlite, pending
from thingmint.store.plain_parameters import CONNECTION
from thingmint.store.search_keys import BACKFILLS
from thingmint.store.sqlite_transaction import SQLiteTransaction, run_body, translated

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from thingmint.store.disk_reserve import DiskReserve
    from thingmint.store.engine import Body, Row, Value


T = TypeVar("T")

_MAX_BATCH = 64
_RETRY_AFTER = 1.0  # seconds
_CHECK_SPACE_EVERY = 1.0  # seconds
_MAKE_RESERVE_EVERY = 60.0  # seconds, after it could not be made

_log = structlog.get_logger("thingmint.store")


class SQLiteStore:
    """A Store in one file. The file must exist: its creator sets its mode, which SQLite copies to its other files.

    The store has three states. It accepts all changes; or only urgent ones, while the disk reserve is released; or
    none, until a new connection has written successfully.
    """

    spreads_keys = False

    def __init__(self, path: Path, reserve: DiskReserve | None = None) -> None:
        """Raises sqlite3.Error and MigrationError."""
        self._path = path
        self._reserve = reserve
        self._trouble: str | None = None
        try:
            self._writer, self._reader = _open_both(path)
        except sqlite3.OperationalError as error:
            if reserve is None or not reserve.release():
                raise
            _log.warning("disk_reserve_released", error=str(error))
            self._writer, self._reader = _open_both(path)
        if not self._make_reserve():
            self._trouble = FULL  # until the first change checks again
        self._writable = True
        self._closed = False
        self._queue: deque[_Job] = deque()
        self._again: list[_Job] = []  # urgent jobs that are run again on a new connection
        self._committer = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._drain_task: asyncio.Task[None] | None = None
        self._recovery: asyncio.Task[None] | None = None
        self._space_checked_at = 0.0

    @property
    def is_shared(self) -> bool:
        return False  # this process has locked the data directory

    @property
    def ready(self) -> bool:
        return self._trouble is None

    @property
    def trouble(self) -> str | None:
        return self._trouble

    @property
    def retries(self) -> int:
        return 0  # bodies run one after the other

    async def read(self, body: Body[T]) -> T:
        if self._closed:
            raise Unavailable("The store is closed")
        # Reads between two writes share one snapshot, because opening one costs more than a look-up. It is not kept
        # during a commit: the checkpoint could not go past it.
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

    async def fetch_all(self, sql: str, *parameters: Value) -> list[Row]:
        return await self.read(lambda tx: tx.fetch_all(sql, *parameters))

    async def write(self, body: Body[T], *, urgent: bool = False, once: bool = False) -> T:
        del once  # a COMMIT that failed is not repeated, but reported as unknown
        self._check_space()
        if not self._writable or self._closed or (self._trouble is not None and not urgent):
            raise Unavailable("The store cannot keep changes now")
        job = _Job(body, asyncio.get_running_loop().create_future(), urgent=urgent)
        self._enqueue([job])
        # Cancelling ends only this caller's wait, never a commit that other callers wait for.
        result: T = await job.outcome
        return result

    async def close(self) -> None:
        """Waits for the writes in progress. Closing the last connection moves the WAL into the database file."""
        while self._drain_task is not None:
            await asyncio.wait([self._drain_task])
        self._closed = True
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.wait([self._recovery])
        for job in self._again:
            job.fail(Unavailable("The store is closed"))
        self._trouble = self._trouble or "the store is closed"
        self._committer.shutdown()
        self._reader.close()
        self._writer.close()

    def _enqueue(self, jobs: Iterable[_Job]) -> None:
        self._queue.extend(jobs)
        if self._drain_task is None and self._queue:
            self._drain_task = asyncio.create_task(self._drain())

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
        except Exception as error:  # noqa: BLE001 - after any error, all callers must get an answer
            _log.error("batch_not_committed", waiters=len(batch), error=str(error))
            self._failed(batch, error)
        else:
            for job in batch:
                job.answer()

    def _failed(self, batch: list[_Job], error: Exception) -> None:
        """Refuses changes until a new connection can write. Urgent ones wait for that, and are run again once."""
        self._writable = False
        self._again += [job for job in batch if job.urgent and not job.repeated]
        for job in batch:
            if job not in self._again:
                job.fail(Unavailable("The store failed; whether the change was kept is unknown"))
        self._again += [job for job in self._queue if job.urgent]
        for job in self._queue:
            if not job.urgent:
                job.fail(Unavailable("The store failed"))
        self._queue.clear()
        full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        self._refuse_changes(FULL if full else why_not_writable(self._path) or f"the database failed: {error}")

    def _check_space(self) -> None:
        """Releases the disk reserve before a change fails on a full disk."""
        now = time.monotonic()
        if self._reserve is None or self._recovery is not None or now - self._space_checked_at < _CHECK_SPACE_EVERY:
            return
        self._space_checked_at = now
        if self._trouble is not None or (self._reserve.held and self._reserve.low):
            self._refuse_changes(FULL)
        elif not self._reserve.held:
            self._space_checked_at = now + _MAKE_RESERVE_EVERY
            self._recovery = asyncio.create_task(self._recover())

    def _refuse_changes(self, why: str) -> None:
        """Refuses all changes except urgent ones until the store has recovered."""
        if self._trouble != why:
            _log.error("changes_refused", reason=why, reads="go on")
        self._trouble = why
        if self._reserve is not None and self._reserve.release():
            _log.warning("disk_reserve_released", bytes=self._reserve.size)
        if self._recovery is None:
            self._recovery = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        """Runs until changes can be written and there is space for the disk reserve again."""
        loop, logged = asyncio.get_running_loop(), ""
        try:
            while True:
                try:
                    if not self._writable:
                        self._writer.close()
                        self._writer = _connect(self._path)
                        await loop.run_in_executor(self._committer, _try_writing, self._writer)
                        self._writable = True
                        again, self._again = self._again, []
                        self._enqueue([job for job in again if job.repeat()])
                    if await loop.run_in_executor(self._committer, self._make_reserve) and self._writable:
                        break
                except sqlite3.Error as error:
                    if self._reserve is not None:
                        self._reserve.release()
                    for job in self._again:
                        job.fail(Unavailable("The store failed"))
                    self._again.clear()
                    if str(error) != logged:
                        logged = str(error)
                        _log.error("store_not_writable_yet", error=logged)
                await asyncio.sleep(_RETRY_AFTER)
            if self._trouble is not None:
                self._renew_reader()
                self._trouble = None
                _log.info("changes_kept_again")
        finally:
            self._recovery = None

    def _make_reserve(self) -> bool:
        """Makes the disk reserve if it is configured. False if there is too little space; other failures are logged."""
        try:
            return self._reserve is None or self._reserve.make()
        except OSError as error:
            _log.error("disk_reserve_not_made", error=str(error))
            return True

    def _renew_reader(self) -> None:
        """Replaces the reading connection, which may repeat earlier errors. If that fails, the old one stays in use."""
        try:
            reader = _open_reader(self._path)
        except sqlite3.Error as error:
            _log.error("reader_not_renewed", error=str(error))
            return
        self._reader.close()
        self._reader = reader


class SQLiteReader:
    """Reads a database while another process may be writing to it."""

    def __init__(self, path: Path) -> None:
        """Raises sqlite3.Error and MigrationError."""
        self._connection = connect_to_read(path)
        try:
            check_current(self._connection.execute(HISTORY).fetchall())
        except BaseException:
            self._connection.close()
            raise
        # The search for tampering must be able to read values that are not valid text.
        self._connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")

    async def read(self, body: Body[T]) -> T:
        self._connection.execute("BEGIN")
        try:
            result: T = run_body(body, SQLiteTransaction(self._connection))
            return result
        finally:
            self._connection.rollback()

    async def close(self) -> None:
        self._connection.close()


class _Job:
    """One body, and the future on which its caller waits."""

    __slots__ = ("_body", "_error", "_result", "outcome", "repeated", "urgent")

    def __init__(self, body: Body[Any], outcome: asyncio.Future[Any], *, urgent: bool) -> None:
        self._body = body
        self._result: Any = None
        self._error: Exception | None = None
        self.urgent = urgent
        self.repeated = False
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

    def repeat(self) -> bool:
        """Prepares another run, after a new connection showed that the commit failed. False if the caller is gone."""
        self.repeated = True
        self._error = None
        return not self.outcome.done()

    def answer(self) -> None:
        if self.outcome.done():  # the caller was cancelled
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


def _open_both(path: Path) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """A connection that writes, after the migrations, and one that reads."""
    writer = _connect(path)
    try:
        _migrate(writer)
        return writer, _open_reader(path)
    except BaseException:
        writer.close()
        raise


def _open_reader(path: Path) -> sqlite3.Connection:
    return _connect(path, "PRAGMA query_only = ON")


def _connect(path: Path, *pragmas: str) -> sqlite3.Connection:
    return _open(
        path,
        "rw",
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        "PRAGMA foreign_keys = ON",
        "PRAGMA busy_timeout = 5000",
        # Sorting and savepoints must work on a full disk too.
        "PRAGMA temp_store = MEMORY",
        *pragmas,
    )


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that reads while another process may be writing. Raises sqlite3.Error."""
    return _open(path, "ro", "PRAGMA busy_timeout = 5000")


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
    add_functions_to_sqlite(connection)
    connection.execute("PRAGMA temp_store = FILE")  # a million rows may have to be sorted
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(HISTORY_TABLE)
        applied = connection.execute(HISTORY).fetchall()
        for migration in pending(applied):
            for statement in migration.statements:
                connection.execute(for_sqlite(statement))
            for backfill in BACKFILLS.get(migration.version, ()):
                run_body(backfill.run, SQLiteTransaction(connection))
            connection.execute(
                "INSERT INTO schema_migrations (version, name, sha256) VALUES (?, ?, ?)",
                (migration.version, migration.name, migration.sha256),
            )
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.rollback()
        connection.execute("PRAGMA temp_store = MEMORY")
