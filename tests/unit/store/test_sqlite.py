"""Group commit, and failures of the disk or the engine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.store.bodies import Refused, ids, insert
from thingmint.domain.errors import Unavailable
from thingmint.store import sqlite
from thingmint.store.sqlite import SQLiteReader, SQLiteStore
from thingmint.store.sqlite_transaction import translated

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from thingmint.store.engine import Transaction


class Tampered:
    """A connection that calls a function before COMMIT, in the committing thread."""

    def __init__(self, connection: sqlite3.Connection, before_commit: Callable[[], None]) -> None:
        self._connection = connection
        self._before_commit = before_commit

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            self._before_commit()
        return self._connection.execute(sql, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def tamper(store: SQLiteStore, before_commit: Callable[[], None]) -> None:
    writer: Any = Tampered(store._writer, before_commit)
    store._writer = writer


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)


def fail() -> None:
    raise sqlite3.OperationalError("disk I/O error")


class Gate:
    """Blocks each COMMIT until the gate is opened."""

    def __init__(self) -> None:
        self._arrived, self._open = threading.Event(), threading.Event()
        self.passed = 0

    def __call__(self) -> None:
        self._arrived.set()
        assert self._open.wait(10)
        self.passed += 1

    async def reached(self) -> None:
        await until(self._arrived.is_set)

    def open(self) -> None:
        self._open.set()


class Disk:
    """A disk on which new connections can fail."""

    def __init__(self) -> None:
        self.works = True
        self.attempts = 0

    def connect(self, path: Path, *pragmas: str) -> sqlite3.Connection:
        self.attempts += 1
        if not self.works:
            fail()
        return CONNECT(path, *pragmas)


CONNECT = sqlite._connect


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(sqlite, "_connect", disk.connect)
    monkeypatch.setattr(sqlite, "_RETRY_AFTER", 0)
    return disk


class TestGroupCommit:
    async def test_concurrent_writes_share_commits(self, database: Path) -> None:
        store = SQLiteStore(database)
        statements: list[str] = []
        store._writer.set_trace_callback(statements.append)
        await asyncio.gather(*(store.write(insert(f"{number}")) for number in range(200)))
        assert statements.count("COMMIT") == 4  # 200 in batches of at most 64
        store._writer.set_trace_callback(None)
        await store.close()

    async def test_nothing_is_answered_before_the_commit(self, database: Path) -> None:
        store = SQLiteStore(database)
        gate = Gate()
        tamper(store, gate)
        write = asyncio.create_task(store.write(insert("a")))
        refusal = asyncio.create_task(store.write(insert("b", error=Refused())))
        await gate.reached()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not write.done()
        assert not refusal.done()
        assert await store.read(ids) == []
        gate.open()
        assert await write == "a"
        with pytest.raises(Refused):
            await refusal
        await store.close()

    async def test_the_next_batch_is_collected_during_a_commit(self, database: Path) -> None:
        store = SQLiteStore(database)
        gate = Gate()
        tamper(store, gate)
        first = asyncio.create_task(store.write(insert("first")))
        await gate.reached()
        others = [asyncio.create_task(store.write(insert(f"{number}"))) for number in range(10)]
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(first, *others)
        assert gate.passed == 2
        await store.close()

    async def test_cancelling_during_the_commit_does_not_undo_the_change(self, database: Path) -> None:
        store = SQLiteStore(database)
        gate = Gate()
        tamper(store, gate)
        leaving = asyncio.create_task(store.write(insert("leaving")))
        staying = asyncio.create_task(store.write(insert("staying")))
        await gate.reached()
        leaving.cancel()
        await asyncio.sleep(0)
        gate.open()
        assert await staying == "staying"
        assert leaving.cancelled()
        assert await store.read(ids) == ["leaving", "staying"]
        await store.close()

    async def test_a_change_that_is_cancelled_in_the_queue_is_not_made(self, database: Path) -> None:
        store = SQLiteStore(database)
        gate = Gate()
        tamper(store, gate)
        first = asyncio.create_task(store.write(insert("first")))
        await gate.reached()
        leaving = asyncio.create_task(store.write(insert("leaving")))
        await asyncio.sleep(0)
        leaving.cancel()
        gate.open()
        await first
        assert await store.write(insert("last")) == "last"
        assert await store.read(ids) == ["first", "last"]
        await store.close()

    @pytest.mark.parametrize("wait", [lambda: asyncio.sleep(0), asyncio.Event().wait, lambda: asyncio.sleep(60)])
    async def test_a_body_that_awaits_something_else_fails_without_harm_to_others(
        self, database: Path, wait: Any
    ) -> None:
        async def suspends(tx: Transaction) -> None:
            await insert("suspended")(tx)
            await wait()

        async def suspends_in_read(tx: Transaction) -> None:
            await ids(tx)
            await wait()

        store = SQLiteStore(database)
        outcomes = await asyncio.gather(
            store.write(insert("a")), store.write(suspends), store.write(insert("b")), return_exceptions=True
        )
        assert (outcomes[0], outcomes[2]) == ("a", "b")
        assert isinstance(outcomes[1], RuntimeError)
        with pytest.raises(RuntimeError, match="awaited something other"):
            await store.read(suspends_in_read)
        assert await store.read(ids) == ["a", "b"]
        await store.close()


class TestFailures:
    async def test_changes_fail_on_a_full_disk_and_work_again_with_space(self, database: Path, disk: Disk) -> None:
        store = SQLiteStore(database)
        await store.write(insert("before"))
        disk.works = False
        [[pages]] = store._writer.execute("PRAGMA page_count").fetchall()
        store._writer.execute(f"PRAGMA max_page_count = {pages}")
        outcomes = await asyncio.gather(
            store.write(insert("a")),
            store.write(insert("large", name="x" * 1_000_000)),
            store.write(insert("refused", error=Refused())),
            store.write(insert("b")),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [Unavailable] * 4
        assert not store.ready
        with pytest.raises(Unavailable):
            await store.write(insert("c"))
        assert await store.read(ids) == ["before"], "reads still work"
        disk.works = True
        await until(lambda: store.ready)
        assert await store.read(ids) == ["before"]
        assert await store.write(insert("large", name="x" * 1_000_000)) == "large"
        await store.close()

    @pytest.mark.parametrize(
        "error",
        [
            sqlite3.OperationalError("disk I/O error"),
            MemoryError(),  # the sqlite3 module raises this for SQLITE_NOMEM
        ],
    )
    async def test_a_failed_commit_fails_the_batch_and_the_queue(
        self, database: Path, disk: Disk, error: Exception
    ) -> None:
        gate = Gate()

        def fail_behind_gate() -> None:
            gate()
            raise error

        store = SQLiteStore(database)
        tamper(store, fail_behind_gate)
        batch = [
            asyncio.create_task(store.write(insert("a"))),
            asyncio.create_task(store.write(insert("refused", error=Refused()))),
        ]
        await gate.reached()
        queued = [asyncio.create_task(store.write(insert(f"{number}"))) for number in range(100)]
        await asyncio.sleep(0)
        disk.works = False
        gate.open()
        async with asyncio.timeout(1):
            outcomes = await asyncio.gather(*batch, *queued, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unavailable] * 102
        assert str(outcomes[0]) == "The store failed; whether the change was kept is unknown"
        assert not store.ready
        disk.works = True
        await until(lambda: store.ready)
        assert await store.read(ids) == []
        assert await store.write(insert("a")) == "a"
        await store.close()

    async def test_reopening_is_repeated_until_it_succeeds(self, database: Path, disk: Disk) -> None:
        store = SQLiteStore(database)
        await store.write(insert("a"))
        tamper(store, fail)
        disk.works = False
        with pytest.raises(Unavailable):
            await store.write(insert("b"))
        attempts = disk.attempts
        await until(lambda: disk.attempts == attempts + 3)
        assert not store.ready
        disk.works = True
        await until(lambda: store.ready)
        assert await store.read(ids) == ["a"]
        await store.close()

    async def test_closing_stops_the_attempts_to_reopen(self, database: Path, disk: Disk) -> None:
        before = asyncio.all_tasks()
        store = SQLiteStore(database)
        tamper(store, fail)
        disk.works = False
        with pytest.raises(Unavailable):
            await store.write(insert("b"))
        await store.close()
        await until(lambda: asyncio.all_tasks() == before, seconds=1)
        assert not store.ready

    async def test_closing_during_a_failing_commit(self, database: Path, disk: Disk) -> None:
        gate = Gate()

        def fail_behind_gate() -> None:
            gate()
            fail()

        before = asyncio.all_tasks()
        store = SQLiteStore(database)
        tamper(store, fail_behind_gate)
        write = asyncio.create_task(store.write(insert("a")))
        await gate.reached()
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0)
        disk.works = False
        gate.open()
        with pytest.raises(Unavailable):
            await write
        await closing
        await until(lambda: asyncio.all_tasks() == before, seconds=1)
        assert not store.ready

    @pytest.mark.parametrize(
        ("code", "of_engine"),
        [
            (sqlite3.SQLITE_FULL, True),
            (sqlite3.SQLITE_IOERR_FSYNC, True),  # an extended code
            (sqlite3.SQLITE_CORRUPT, True),
            (sqlite3.SQLITE_READONLY_DBMOVED, True),
            (sqlite3.SQLITE_CONSTRAINT_CHECK, False),
            (sqlite3.SQLITE_ERROR, False),
            (sqlite3.SQLITE_NOTADB, True),
        ],
    )
    def test_engine_failures_become_unavailable(self, code: int, of_engine: bool) -> None:
        error = sqlite3.OperationalError("a text of SQLite")
        error.sqlite_errorcode = code
        if of_engine:
            assert isinstance(translated(error), Unavailable)
        else:
            assert translated(error) is error


class Broken(sqlite3.Connection):
    """A connection to a disk that fails."""

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        raise sqlite3.OperationalError("disk I/O error")


@pytest.mark.parametrize(
    ("open_", "working"),
    [(SQLiteStore, 0), (SQLiteStore, 1), (SQLiteReader, 0)],
    ids=["the writer fails", "the reader fails", "a store for reading only fails"],
)
def test_a_failed_opening_closes_every_connection(
    database: Path, monkeypatch: pytest.MonkeyPatch, open_: Callable[[Path], object], working: int
) -> None:
    connect, opened = sqlite3.connect, list[sqlite3.Connection]()

    def recording(*arguments: Any, **options: Any) -> sqlite3.Connection:
        if len(opened) == working:
            options["factory"] = Broken
        opened.append(connect(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", recording)
    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        open_(database)
    assert len(opened) == working + 1
    for connection in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
            _ = connection.total_changes


class TestFiles:
    def test_opening_creates_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(sqlite3.OperationalError):
            SQLiteStore(tmp_path / "thingmint.db")
        assert not list(tmp_path.iterdir())

    async def test_all_files_are_private_and_closing_removes_the_wal(self, database: Path) -> None:
        store = SQLiteStore(database)
        await store.write(insert("a"))
        modes = {path.name: path.stat().st_mode & 0o777 for path in database.parent.iterdir()}
        assert modes == dict.fromkeys(("thingmint.db", "thingmint.db-wal", "thingmint.db-shm"), 0o600)
        await store.close()
        assert [path.name for path in database.parent.iterdir()] == ["thingmint.db"]

    async def test_connections_sync_each_commit(self, database: Path) -> None:
        store = SQLiteStore(database)
        assert store._writer.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert store._writer.execute("PRAGMA foreign_keys").fetchone() == (1,)
        await store.close()


# The program of a process that is killed: 8 callers write, and print each answer.
KILLED = """
import asyncio, os, pathlib, sys
from tests.unit.store.bodies import insert
from thingmint.store.sqlite import SQLiteReader, SQLiteStore

async def caller(store, name):
    for number in range(10**6):
        id = await store.write(insert(f"{name}-{number}"))
        os.write(1, f"{id}\\n".encode())

async def main():
    store = SQLiteStore(pathlib.Path(sys.argv[1]))
    await asyncio.gather(*(caller(store, name) for name in range(8)))

asyncio.run(main())
"""

# A limit on the size of files makes a COMMIT fail, because the WAL cannot grow.
LIMITED = """
import asyncio, json, pathlib, resource, signal, sys
from tests.unit.store.bodies import ids, insert
from thingmint.domain.errors import Unavailable
from thingmint.store import sqlite

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sqlite._RETRY_AFTER = 0

async def main():
    store = sqlite.SQLiteStore(pathlib.Path(sys.argv[1]))
    await store.write(insert("before"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
    outcomes = await asyncio.gather(*(store.write(insert(f"{n}")) for n in range(10)), return_exceptions=True)
    ready = store.ready
    for _ in range(50):
        await asyncio.sleep(0)
    still_not = store.ready
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    while not store.ready:
        await asyncio.sleep(0)
    after = await store.write(insert("after"))
    print(json.dumps({
        "unavailable": sum(isinstance(outcome, Unavailable) for outcome in outcomes),
        "ready": [ready, still_not],
        "after": after,
        "ids": await store.read(ids),
    }))
    await store.close()

asyncio.run(main())
"""


def _killed_after(answers: int, database: Path) -> list[bytes]:
    """The lines that a writing process printed before it was killed."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(database)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    answered = [process.stdout.readline() for _ in range(answers)]
    process.send_signal(signal.SIGKILL)
    answered += [line for line in process.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")]
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    return answered


class TestProcesses:
    @pytest.mark.parametrize("answers", [1, 300])
    async def test_a_killed_process_has_stored_every_answered_write(self, database: Path, answers: int) -> None:
        answered = _killed_after(answers, database)
        store = SQLiteStore(database)
        assert {line.decode().strip() for line in answered} <= set(await store.read(ids))
        assert store._writer.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert await store.write(insert("after")) == "after"
        await store.close()

    def test_a_process_that_can_no_longer_write_recovers(self, database: Path) -> None:
        command = [sys.executable, "-c", LIMITED, str(database)]
        finished = subprocess.run(command, capture_output=True, timeout=60, check=False, env=dict(os.environ))
        assert finished.returncode == 0, finished.stderr.decode()
        assert json.loads(finished.stdout.splitlines()[-1]) == {
            "unavailable": 10,
            "ready": [False, False],
            "after": "after",
            "ids": ["after", "before"],
        }
