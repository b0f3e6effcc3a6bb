"""PostgreSQL through asyncpg: each body runs in its own SERIALIZABLE transaction, and again after a conflict.

Bodies, statements and migrations are the same as for SQLite. The cost is in round trips: one each for BEGIN, for every
statement and for COMMIT.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
import structlog

from thingmint.domain.errors import Unavailable
from thingmint.store.engine import (
    AlreadyKept,
    ForeignKeyViolated,
    KeyTaken,
    UniqueViolated,
    UnstorableText,
)
from thingmint.store.postgres_pool import CONNECT_TIMEOUT, open_pool
from thingmint.store.postgres_transaction import PostgresTransaction
from thingmint.store.primary import PrimaryConnector, Timelines
from thingmint.store.write_limit import WriteLimit

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.store.engine import Body, Row, Transaction, Value


T = TypeVar("T")

_CONNECTIONS = 16
_WAIT_FOR_CONNECTION = 10.0  # seconds
_CLOSE_TIMEOUT = 5.0  # seconds
_MAX_RUNS = 50  # of one body
_MAX_PAUSE = 0.1  # seconds, between two runs
_CHECK_EVERY = 1.0  # seconds, at most
_BODY_TIMEOUT = 15.0  # seconds, for all statements of a body; a server that is gone may never answer them
_COMMIT_TIMEOUT = 10.0  # seconds, including the wait for a standby
_WAIT_FOR_ANSWER = 20.0  # seconds to find out what became of a COMMIT without an answer
_LANES = 1024
_UNKNOWN = "The store failed; whether the change was kept is unknown"
_OF_THE_SERVER = ("08", "53", "57", "58", "XX")  # classes of errors: connection, resources, shutdown, system, internal
_log = structlog.get_logger("thingmint.store")


class _Conflict(Exception):
    """The transaction conflicted with another one. It has changed nothing, and is run again."""


class _OutcomeUnknown(Unavailable):
    """It is unknown whether the transaction was committed; ``result`` is what the body returned."""

    def __init__(self, result: Any) -> None:
        super().__init__(_UNKNOWN)
        self.result = result


class PostgresStore:
    """A Store in a database of PostgreSQL 15 or later, which other processes can use at the same time."""

    spreads_keys = True

    def __init__(self, pool: asyncpg.Pool, connector: PrimaryConnector) -> None:
        self.retries = 0
        self._pool = pool
        self._connector = connector
        connector.replaced = pool.expire_connections
        # Random, so that other processes probably have other lanes.
        self._lanes = random.sample(range(1, _LANES + 1), pool.get_max_size())
        self._reached = asyncio.Event()
        self._reached.set()
        self._closed = False
        self._reruns = asyncio.Lock()
        self._limit = WriteLimit(pool.get_max_size())
        self._writes: set[asyncio.Task[Any]] = set()
        self._reconnecting: asyncio.Task[None] | None = None
        self._next_check = 0.0

    @classmethod
    async def open(
        cls, url: str, *, connections: int = _CONNECTIONS, timelines: Path | None = None, reading: bool = False
    ) -> PostgresStore:
        """The store. Its schema is brought up to date, unless the store is only for ``reading``.

        ``timelines`` is the file by which a replaced primary is recognised (see ``primary``).
        Raises MigrationError, OSError and asyncpg.PostgresError.
        """
        connector = PrimaryConnector(url, Timelines(timelines))
        pool = await open_pool(url, connector, connections, reading=reading)
        return cls(pool, connector)

    @property
    def is_shared(self) -> bool:
        return True

    @property
    def ready(self) -> bool:
        return self._reached.is_set()

    @property
    def trouble(self) -> str | None:
        return None if self.ready else "the database cannot be reached"

    async def read(self, body: Body[T]) -> T:
        self._check_open()
        return await self._run(body, "repeatable_read")

    async def fetch_all(self, sql: str, *parameters: Value) -> list[Row]:
        self._check_open()
        return await self._run(lambda tx: tx.fetch_all(sql, *parameters), None)

    async def write(self, body: Body[T], *, urgent: bool = False, once: bool = False) -> T:
        del urgent  # the operator of the database has to watch its disk
        self._check_open()
        # Cancelling ends only the caller's wait: the answer to a cancelled COMMIT can be success.
        task = asyncio.create_task(self._write(body, once=once))
        self._writes.add(task)
        task.add_done_callback(self._written)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Waits for the writes in progress, but not for a standby to confirm what was committed."""
        self._closed = True
        while self._writes:
            await asyncio.wait(self._writes)
        self._reached.clear()
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.wait([self._reconnecting])
        try:
            await asyncio.wait_for(self._pool.close(), _CLOSE_TIMEOUT)
        except TimeoutError:  # a server that does not answer must not keep the process from stopping
            self._pool.terminate()

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("The store is closed")

    def _written(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        _retrieve_error(task)  # if the caller did not: its wait may have been cancelled

    async def _write(self, body: Body[T], *, once: bool) -> T:
        unknown: _OutcomeUnknown | None = None
        deadline = math.inf
        turn: contextlib.AbstractAsyncContextManager[None] = contextlib.nullcontext()
        for run in range(_MAX_RUNS):
            try:
                async with turn:
                    return await self._run_limited(body, perhaps_kept=unknown is not None)
            except _OutcomeUnknown as error:
                if not once:
                    raise
                if unknown is None:
                    deadline = asyncio.get_running_loop().time() + _WAIT_FOR_ANSWER
                unknown = error
                await self._until_reached(deadline)
            except AlreadyKept:
                assert unknown is not None, "the body was run before"
                # If a standby has to confirm commits, the earlier run is safe when a later commit is confirmed.
                if not await self._is_confirmed(deadline):
                    raise unknown from None
                result: T = unknown.result
                return result
            except (_Conflict, UniqueViolated) as error:
                if unknown is None and not isinstance(error, _Conflict):
                    raise
                self.retries += 1
                turn = self._reruns  # one after the other: together they would conflict again
                # The other transaction may belong to another process, or be this body's earlier run, and still be in
                # progress: wait longer each time.
                await asyncio.sleep(random.uniform(0, min(_MAX_PAUSE, 0.001 * 2**run)))  # noqa: S311
            except Unavailable:
                if unknown is None:
                    raise
                await asyncio.sleep(_MAX_PAUSE)
                await self._until_reached(deadline)  # the connection was lost again during the rerun
        raise unknown or Unavailable("Too many changes of the same rows are under way")

    async def _run_limited(self, body: Body[T], *, perhaps_kept: bool) -> T:
        async with self._limit as limit:
            try:
                result = await self._run(body, "serializable", perhaps_kept=perhaps_kept)
            except _Conflict:
                limit.conflicted()
                raise
            limit.succeeded()
            return result

    async def _until_reached(self, deadline: float) -> None:
        """Waits for the server. Raises Unavailable at ``deadline``, also if that is in the past."""
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.sleep(0)  # raises if the deadline is in the past
                await self._reached.wait()
        except TimeoutError:
            raise Unavailable(_UNKNOWN) from None

    async def _is_confirmed(self, deadline: float) -> bool:
        """True if a commit later than all visible ones was confirmed, also by a standby if one is required."""
        while not self._closed and asyncio.get_running_loop().time() < deadline:
            try:
                await self._run(_touch, "serializable")
            except (Unavailable, _Conflict):
                await asyncio.sleep(_MAX_PAUSE)
                await self._until_reached(deadline)
            else:
                return True
        return False

    async def _run(self, body: Body[T], isolation: str | None, *, perhaps_kept: bool = False) -> T:
        """The result of ``body``. Without ``isolation`` the body is one reading statement without BEGIN and COMMIT."""
        if not self._reached.is_set():
            raise Unavailable("The store cannot be reached")
        try:
            connection = await self._pool.acquire(timeout=_WAIT_FOR_CONNECTION)
        except Exception as error:
            raise self._lost(error) from error
        lane = self._lanes.pop()  # there is one for each connection
        tx = PostgresTransaction(connection, self._translated, lane, perhaps_kept=perhaps_kept)
        try:
            if isolation is None:
                return await self._run_alone(connection, tx, body)
            return await self._run_on(connection, tx, body, isolation)
        finally:
            self._lanes.append(lane)
            # The pool replaces a broken connection.
            with contextlib.suppress(Exception):
                await self._pool.release(connection)

    async def _run_alone(self, connection: Any, tx: Transaction, body: Body[T]) -> T:
        try:
            async with asyncio.timeout(_BODY_TIMEOUT):
                try:
                    return await body(tx)
                except asyncio.CancelledError:
                    _terminate(connection)  # the statement may still be in progress
                    raise
        except TimeoutError as error:
            raise self._lost(error) from error

    async def _run_on(self, connection: Any, tx: Transaction, body: Body[T], isolation: str) -> T:
        transaction = connection.transaction(isolation=isolation, readonly=isolation == "repeatable_read")
        try:
            async with asyncio.timeout(_BODY_TIMEOUT):
                result = await self._run_in(connection, transaction, tx, body)
        except TimeoutError as error:
            raise self._lost(error) from error
        await self._commit(connection, transaction, result)
        return result

    async def _run_in(self, connection: Any, transaction: Any, tx: Transaction, body: Body[T]) -> T:
        try:
            await transaction.start()
        except asyncio.CancelledError:
            _terminate(connection)
            raise
        except Exception as error:
            raise self._translated(error) from error
        try:
            return await body(tx)
        except asyncio.CancelledError:
            _terminate(connection)  # a statement may still be in progress
            raise
        except BaseException:
            try:
                await transaction.rollback()
            except Exception:  # noqa: BLE001 - the connection is useless then, and the server rolls back when it ends
                _terminate(connection)
            raise

    async def _commit(self, connection: Any, transaction: Any, result: object) -> None:
        """Commits. Raises _Conflict if the change was not made, _OutcomeUnknown if it may have been."""
        warnings: list[Any] = []

        def note(_: Any, message: Any) -> None:
            warnings.append(message)

        connection.add_log_listener(note)
        # Never cancelled: on a cancel request, the server stops waiting for the standby and answers with success.
        commit = asyncio.ensure_future(transaction.commit())
        try:
            await asyncio.wait([commit], timeout=_COMMIT_TIMEOUT)
            if not commit.done():
                _terminate(connection)
            await commit
        except asyncio.CancelledError:
            _terminate(connection)
            commit.add_done_callback(_retrieve_error)
            raise
        except asyncpg.SerializationError as error:
            raise _Conflict from error
        except Exception as error:
            _terminate(connection)  # a later answer on it could not be assigned to this transaction
            self._lost(error)
            raise _OutcomeUnknown(result) from error
        finally:
            with contextlib.suppress(asyncpg.InterfaceError):  # the connection is gone
                connection.remove_log_listener(note)
        if warnings:  # such as: the server did not wait for the standby
            _log.error("change_unconfirmed", warning=str(warnings[0]))
            raise _OutcomeUnknown(result)

    def _translated(self, error: Any) -> Exception:
        match error:
            case asyncpg.SerializationError() | asyncpg.DeadlockDetectedError():
                return _Conflict()
            case asyncpg.UniqueViolationError():
                name = error.constraint_name
                return KeyTaken(name) if name.endswith("_pkey") else UniqueViolated(name)
            case asyncpg.ForeignKeyViolationError():
                return ForeignKeyViolated(error.constraint_name)
            case asyncpg.CharacterNotInRepertoireError() | UnicodeEncodeError():
                return UnstorableText()
            case asyncpg.DataError() if isinstance(error.__cause__, UnicodeEncodeError):
                return UnstorableText()
            case asyncpg.LockNotAvailableError():
                return Unavailable("Another change of the same rows waits to be confirmed")
            case asyncpg.ReadOnlySQLTransactionError():
                return Unavailable("The store cannot keep changes now")
            case asyncpg.PostgresError() if error.sqlstate is not None and error.sqlstate[:2] not in _OF_THE_SERVER:
                return RuntimeError(f"a statement failed: {error}")
        return self._lost(error)

    def _lost(self, error: Exception) -> Unavailable:
        """Starts to reconnect; returns the error to raise. Until the server answers, calls fail without waiting."""
        if self._reached.is_set() and not self._closed:
            self._reached.clear()
            self._connector.lost()
            _log.error("store_unreachable", error=f"{type(error).__name__}: {error}")
            self._reconnecting = asyncio.create_task(self._reconnect())
        return Unavailable("The store cannot be reached")

    async def _reconnect(self) -> None:
        """Tries to reach the server, immediately after the first loss and then at most once a second."""
        loop = asyncio.get_running_loop()
        await self._pool.expire_connections()  # connections to a host that is gone show no error
        while True:
            await asyncio.sleep(self._next_check - loop.time())
            self._next_check = loop.time() + _CHECK_EVERY
            try:
                async with self._pool.acquire(timeout=_WAIT_FOR_CONNECTION) as connection:
                    await connection.fetchval("SELECT 1", timeout=CONNECT_TIMEOUT)
            except Exception as error:  # noqa: BLE001 - the driver raises errors of many kinds; try again
                _log.warning("store_unreachable_yet", error=f"{type(error).__name__}: {error}")
            else:
                self._reached.set()
                _log.info("store_reached")
                return


async def _touch(tx: Transaction) -> None:
    """A change without an effect. Its commit is confirmed like any other."""
    await tx.execute("UPDATE schema_migrations SET version = version WHERE version = 1")


def _retrieve_error(task: asyncio.Future[Any]) -> None:
    """Retrieves the task's error, as asyncio logs errors that were never retrieved."""
    if not task.cancelled():
        task.exception()


def _terminate(connection: Any) -> None:
    with contextlib.suppress(asyncpg.InterfaceError):  # the connection is closed already
        connection.terminate()
