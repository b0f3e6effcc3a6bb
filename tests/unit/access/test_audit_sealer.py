"""The chain of audit records: verification finds each manual change, and the record where it begins."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import resource
import signal
import sqlite3
import stat
import tempfile
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs

from tests.unit.vectors import FakeClock
from thingmint.access import audit_chain, audit_sealer
from thingmint.access.audit_chain import (
    PRUNED,
    Checkpoint,
    Tampering,
    Verified,
    append_checkpoint,
    pruning,
    read_checkpoints,
    verify,
    verify_all,
)
from thingmint.access.audit_events import new_record_id
from thingmint.access.audit_keys import AuditKeys
from thingmint.access.audit_sealer import Kept, Sealer, insert_activity_with, insert_sealed_activity
from thingmint.domain.errors import Unavailable
from thingmint.services.leases import LeasedStore, SoleHolder
from thingmint.store import audit as sql
from thingmint.store.audit import ACTIVITY, AuditRow
from thingmint.store.sqlite import SQLiteReader, SQLiteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from thingmint.store.engine import Body, Transaction

T = TypeVar("T")

KEY, OTHER_KEY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


class Trail:
    """A database, a file of checkpoints, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "thingmint.db"
        self.file = folder / "audit-checkpoints.jsonl"
        self.clock = FakeClock()
        self.retention: timedelta | None = None
        self.database.touch()

    def sealer(self, store: Any) -> Sealer:
        return Sealer(store, KEY, self.file, self.clock, Kept(self.retention))

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[SQLiteStore, Sealer]]:
        store = SQLiteStore(self.database)
        try:
            yield store, self.sealer(store)
        finally:
            await store.close()

    async def add(self, store: SQLiteStore, count: int, **step: float) -> None:
        rows = []
        for _ in range(count):
            self.clock.advance(**step or {"seconds": 1})
            id = new_record_id(self.clock())
            rows.append((id, orjson.dumps({"event": "CreateThing", "request": id}).decode()))

        async def body(tx: Transaction) -> None:
            for id, record in rows:
                await sql.insert_record(tx, id, None, record)

        await store.write(body)

    def edit(self, work: Callable[[sqlite3.Connection], object]) -> None:
        with contextlib.closing(sqlite3.connect(self.database)) as connection, connection:
            work(connection)

    async def verify(self, *, kept: bool = True) -> tuple[int, int]:
        """The chain's end, and the number of checkpoints."""
        found = await self.verified(kept=kept)
        return found.end, found.checkpoints

    async def verified(self, *, kept: bool = True) -> Verified:
        """Verifies as the command does; ``kept``: with the checkpoints from outside of the store."""
        reader = SQLiteReader(self.database)
        try:
            return await verify(reader, AuditKeys(KEY.public_key()), list(read_checkpoints(self.file)) if kept else [])
        finally:
            await reader.close()

    async def found(self, *, kept: bool = True) -> Tampering:
        with pytest.raises(Tampering) as caught:
            await self.verify(kept=kept)
        return caught.value


async def sealed() -> tuple[bytes, bytes]:
    """A database of 17 records with checkpoints after 5, 10 and 15, and the file of these checkpoints."""
    with tempfile.TemporaryDirectory() as folder:
        trail = Trail(Path(folder))
        async with trail.opened() as (store, sealer):
            for _ in range(3):
                await trail.add(store, 5)
                await sealer.seal()
                await sealer.checkpoint()
            await trail.add(store, 2)
            await sealer.seal()
        return trail.database.read_bytes(), trail.file.read_bytes()


_sealed: list[tuple[bytes, bytes]] = []


@pytest.fixture
async def trail(tmp_path: Path) -> Trail:
    """A copy of ``sealed`` that a test can change."""
    made = Trail(tmp_path)
    if not _sealed:
        _sealed.append(await sealed())
    for path, content in zip((made.database, made.file), _sealed[0], strict=True):
        path.write_bytes(content)
    return made


def rechain(connection: sqlite3.Connection, start: int = 1) -> None:
    """Renumbers the records and computes all hashes again, as an attacker without the key can."""
    rows = connection.execute("SELECT id, account, record FROM audit_records ORDER BY sequence").fetchall()
    connection.execute("UPDATE audit_records SET sequence = NULL, hash = NULL")
    previous = bytes(32)
    for sequence, (id, account, record) in enumerate(rows, start):
        text = id.hex() if isinstance(id, bytes) else id
        previous = hashlib.sha256(previous + orjson.dumps([sequence, text, account, record])).digest()
        connection.execute("UPDATE audit_records SET sequence = ?, hash = ? WHERE id = ?", (sequence, previous, id))


def alter(connection: sqlite3.Connection, sequence: int) -> None:
    connection.execute(
        "UPDATE audit_records SET record = replace(record, 'Thing', 'thing') WHERE sequence = ?", [sequence]
    )


def swap(connection: sqlite3.Connection, columns: str) -> None:
    """Exchanges the values of records 7 and 8 in these columns."""
    seven, eight = (
        connection.execute(f"SELECT id, {columns} FROM audit_records WHERE sequence = ?", [number]).fetchone()
        for number in (7, 8)
    )
    assignments = ", ".join(f"{column} = ?" for column in columns.split(", "))
    connection.execute("UPDATE audit_records SET sequence = -sequence WHERE sequence IN (7, 8)")
    for (id, *_), (_, *values) in ((seven, eight), (eight, seven)):
        connection.execute(f"UPDATE audit_records SET {assignments} WHERE id = ?", [*values, id])
    connection.execute("UPDATE audit_records SET sequence = -sequence WHERE sequence < 0")


def remove(connection: sqlite3.Connection, first: int, last: int) -> None:
    connection.execute("DELETE FROM audit_records WHERE sequence BETWEEN ? AND ?", [first, last])


def remove_and_close_up(connection: sqlite3.Connection) -> None:
    remove(connection, 7, 7)
    connection.execute("UPDATE audit_records SET sequence = -(sequence - 1) WHERE sequence > 7")
    connection.execute("UPDATE audit_records SET sequence = -sequence WHERE sequence < 0")


def add_between(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE audit_records SET sequence = -(sequence + 1) WHERE sequence > 7")
    connection.execute("UPDATE audit_records SET sequence = -sequence WHERE sequence < 0")
    connection.execute("INSERT INTO audit_records (id, record, sequence) VALUES ('x', '{\"event\":\"x\"}', 8)")
    rechain(connection)


def change_checkpoint(connection: sqlite3.Connection, at: int, /, **changes: Any) -> None:
    where = "WHERE sequence = ?"
    [line] = connection.execute(f"SELECT checkpoint FROM audit_checkpoints {where}", [at]).fetchone()
    changed = orjson.dumps({**orjson.loads(line), **changes}).decode()
    connection.execute(f"UPDATE audit_checkpoints SET checkpoint = ? {where}", [changed, at])


def sign_anew(connection: sqlite3.Connection, key: Ed25519PrivateKey) -> None:
    for (sequence,) in connection.execute("SELECT sequence FROM audit_checkpoints").fetchall():
        [hash] = connection.execute("SELECT hash FROM audit_records WHERE sequence = ?", [sequence]).fetchone()
        line = Checkpoint.sign(sequence, hash, FakeClock()(), key).line()
        connection.execute("UPDATE audit_checkpoints SET checkpoint = ? WHERE sequence = ?", [line, sequence])


def all_of(*edits: Callable[[sqlite3.Connection], object]) -> Callable[[sqlite3.Connection], None]:
    def edit(connection: sqlite3.Connection) -> None:
        for each in edits:
            each(connection)

    return edit


async def test_an_unchanged_trail_is_intact(trail: Trail) -> None:
    assert await trail.verify() == (17, 3)
    assert await trail.verify(kept=False) == (17, 3)


async def test_records_after_the_last_checkpoint_are_counted(trail: Trail) -> None:
    assert await trail.verified() == Verified(end=17, checkpoints=3, records=17, uncovered=2, unsealed=0)
    async with trail.opened() as (store, _):
        await trail.add(store, 3)
    assert await trail.verified() == Verified(end=17, checkpoints=3, records=17, uncovered=2, unsealed=3)
    async with trail.opened() as (_, sealer):
        await sealer.close()
    assert await trail.verified() == Verified(end=20, checkpoints=4, records=20, uncovered=0, unsealed=0)
    trail.edit(lambda c: c.execute("DELETE FROM audit_checkpoints"))
    assert await trail.verified(kept=False) == Verified(end=20, checkpoints=0, records=20, uncovered=20, unsealed=0)


@pytest.mark.parametrize("column", ["record", "account", "id"])
@pytest.mark.parametrize("value", ["x'7b7d'", "x'ff'", "CAST(x'ff' AS TEXT)", "CAST(record AS BLOB)", "7.5"])
async def test_a_value_that_is_not_text_is_an_altered_record(trail: Trail, column: str, value: str) -> None:
    trail.edit(lambda c: c.execute(f"UPDATE audit_records SET {column} = {value} WHERE sequence = 7"))
    found = await trail.found()
    assert (found.sequence, str(found)[:20]) == (7, "record 7 was altered")


@pytest.mark.parametrize("column", ["sequence", "hash"])
@pytest.mark.parametrize("value", ["'x'", "x'ff'", "17.5", "''"])
async def test_a_place_of_another_type_is_found(trail: Trail, column: str, value: str) -> None:
    trail.edit(lambda c: c.execute(f"UPDATE audit_records SET {column} = {value} WHERE sequence = 17"))
    found = await trail.found()
    assert found.sequence == 17
    assert str(found).startswith(("a record after record 16 has a number", "record 17 was altered"))


@pytest.mark.parametrize("column", ["sequence", "hash"])
async def test_records_after_an_end_that_is_not_readable_are_kept_unsealed(trail: Trail, column: str) -> None:
    unreadable = "the end of the chain of changes is not readable"
    async with trail.opened() as (store, sealer):
        add = insert_activity_with(LeasedStore(store, SoleHolder(), "audit"))
        row = AuditRow(new_record_id(trail.clock()), None, "{}")
        await store.write(lambda tx: add(tx, [row]))
        for table in ("audit_records", "audit_activity"):
            await store.write(lambda tx, table=table: spoil_end(tx, table, column))  # type: ignore[misc]
        await trail.add(store, 1)
        for work in (sealer.seal, sealer.checkpoint):
            with pytest.raises(Tampering, match=unreadable):
                await work()
        trail.clock.advance(seconds=1)
        await store.write(lambda tx: add(tx, [row._replace(id=new_record_id(trail.clock()))]))
        assert await store.read(partial(sql.count_unsealed, stream=ACTIVITY)) == 1


async def spoil_end(tx: Transaction, table: str, column: str) -> None:
    await tx.execute(f"UPDATE {table} SET {column} = 'x' WHERE sequence = (SELECT max(sequence) FROM {table})")


@pytest.mark.parametrize("at_once", [1, 2, 3])
async def test_checkpoints_are_read_in_pages(trail: Trail, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(audit_chain, "_CHECKPOINTS_AT_ONCE", at_once)
    assert await trail.verify(kept=False) == (17, 3)
    trail.edit(lambda c: change_checkpoint(c, 10, sequence=0))
    assert "checkpoint at record 0" in str(await trail.found(kept=False)), "reading does not go on from it for ever"


async def test_a_verification_tells_its_progress_and_can_pause(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_chain, "_READ_AT_ONCE", 5)
    steps: list[int] = []

    async def step(records: int, seconds: float) -> None:
        assert seconds >= 0
        steps.append(records)

    reader = SQLiteReader(trail.database)
    try:
        await verify(reader, AuditKeys(KEY.public_key()), [], step=step)
    finally:
        await reader.close()
    assert steps == [5, 5, 5, 2]


async def test_an_empty_trail_is_intact(tmp_path: Path) -> None:
    trail = Trail(tmp_path)
    async with trail.opened() as (_, sealer):
        await sealer.close()
    assert not trail.file.exists()
    assert await trail.verify(kept=False) == (0, 0)


@pytest.mark.parametrize("sequence", range(1, 18))
async def test_altering_any_record_is_found(trail: Trail, sequence: int) -> None:
    trail.edit(lambda connection: alter(connection, sequence))
    found = await trail.found(kept=False)
    assert (found.sequence, str(found)) == (sequence, f"record {sequence} was altered or moved")


FALSE_AT_10 = "the checkpoint at record 10 has a false signature"
ANEW = "a record from 6 to 10 was altered, and the chain computed again"

# The change, the record that is named, and the message. The database alone is enough to find these.
EDITS: dict[str, tuple[Callable[[sqlite3.Connection], object], int, str]] = {
    "a hash": (
        lambda c: c.execute("UPDATE audit_records SET hash = zeroblob(32) WHERE sequence = 7"),
        7,
        "record 7 was altered or moved",
    ),
    "a blank added to a text": (
        lambda c: c.execute("UPDATE audit_records SET record = record || ' ' WHERE sequence = 7"),
        7,
        "record 7 was altered or moved",
    ),
    "an account": (
        lambda c: c.execute("UPDATE audit_records SET account = '0' WHERE sequence = 7"),
        7,
        "record 7 was altered or moved",
    ),
    "an id": (
        lambda c: c.execute("UPDATE audit_records SET id = '0' WHERE sequence = 7"),
        7,
        "record 7 was altered or moved",
    ),
    "numbers swapped": (lambda c: swap(c, "sequence"), 7, "record 7 was altered or moved"),
    "texts swapped": (lambda c: swap(c, "record"), 7, "record 7 was altered or moved"),
    "texts and hashes swapped": (lambda c: swap(c, "record, hash"), 7, "record 7 was altered or moved"),
    "removed": (lambda c: remove(c, 7, 7), 7, "record 7 was removed"),
    "several removed": (lambda c: remove(c, 7, 12), 7, "record 7 was removed"),
    "without sequence number and hash": (
        lambda c: c.execute("UPDATE audit_records SET sequence = NULL, hash = NULL WHERE sequence = 7"),
        7,
        "record 7 was removed",
    ),
    "without sequence number": (
        lambda c: c.execute("UPDATE audit_records SET sequence = NULL WHERE sequence = 7"),
        7,
        "record 7 was removed",
    ),
    "put at the end": (
        lambda c: c.execute("UPDATE audit_records SET sequence = 5000 WHERE sequence = 7"),
        7,
        "record 7 was removed",
    ),
    "removed and renumbered": (remove_and_close_up, 7, "record 7 was altered or moved"),
    "altered and rechained": (all_of(lambda c: alter(c, 7), rechain), 6, ANEW),
    "swapped and rechained": (all_of(lambda c: swap(c, "record"), rechain), 6, ANEW),
    "removed and rechained": (all_of(lambda c: remove(c, 7, 7), rechain), 6, ANEW),
    "added and rechained": (add_between, 6, ANEW),
    "the first, rechained": (
        all_of(lambda c: alter(c, 1), rechain),
        1,
        "a record from 1 to 5 was altered, and the chain computed again",
    ),
    "rechained and signed with another key": (
        all_of(lambda c: alter(c, 7), rechain, lambda c: sign_anew(c, OTHER_KEY)),
        5,
        "the checkpoint at record 5 has a false signature",
    ),
    "cut off": (lambda c: remove(c, 14, 17), 14, "the audit log was cut off: records 14 to 15 are gone"),
    "all removed": (lambda c: remove(c, 1, 17), 1, "the audit log was cut off: records 1 to 15 are gone"),
    "head removed as far as a checkpoint": (
        lambda c: remove(c, 1, 10),
        1,
        "records 1 to 10 are gone, and were not pruned",
    ),
    "head removed": (lambda c: remove(c, 1, 7), 7, "records before 8 are gone, and no checkpoint says"),
    "head removed and rechained": (
        all_of(lambda c: remove(c, 1, 2), rechain),
        1,
        "a record from 1 to 5 was altered, and the chain computed again",
    ),
    "a checkpoint's hash": (lambda c: change_checkpoint(c, 10, hash="00" * 32), 10, FALSE_AT_10),
    "a checkpoint's time": (lambda c: change_checkpoint(c, 10, time="2020-01-01T00:00:00+00:00"), 10, FALSE_AT_10),
    "a checkpoint's place": (
        lambda c: change_checkpoint(c, 10, sequence=9),
        9,
        "the checkpoint at record 9 has a false",
    ),
    "a checkpoint's signature": (lambda c: change_checkpoint(c, 10, signature="AAAA"), 10, FALSE_AT_10),
    "a malformed signature": (lambda c: change_checkpoint(c, 10, signature="\u00e9"), 10, FALSE_AT_10),
    "an unreadable checkpoint": (
        lambda c: c.execute("UPDATE audit_checkpoints SET checkpoint = '[]' WHERE sequence = 10"),
        0,
        "a checkpoint is not readable",
    ),
    "a checkpoint's number that is none": (
        lambda c: change_checkpoint(c, 10, sequence=2**63),
        0,
        "a checkpoint is not readable",
    ),
    "a record of pruning that is no JSON, rechained": (
        all_of(
            lambda c: c.execute(f'UPDATE audit_records SET record = \'{{"event":"{PRUNED}",\' WHERE sequence = 17'),
            rechain,
        ),
        17,
        "record 17 is about pruning, but this instance did not sign it",
    ),
    "a checkpoint without a field": (
        lambda c: c.execute("UPDATE audit_checkpoints SET checkpoint = '{\"sequence\":10}' WHERE sequence = 10"),
        0,
        "a checkpoint is not readable",
    ),
}


@pytest.mark.parametrize("case", EDITS)
async def test_manual_changes_of_the_database_are_found(trail: Trail, case: str) -> None:
    edit, sequence, message = EDITS[case]
    trail.edit(edit)
    for kept in (False, True):
        found = await trail.found(kept=kept)
        assert found.sequence == sequence
        assert str(found).startswith(message)


CHECKPOINTS_TOO: dict[str, tuple[Callable[[sqlite3.Connection], object], int, str]] = {
    "cut off": (lambda c: remove(c, 14, 17), 14, "the audit log was cut off: records 14 to 15 are gone"),
    "all removed": (lambda c: remove(c, 1, 17), 1, "the audit log was cut off: records 1 to 15 are gone"),
    "rechained": (all_of(lambda c: alter(c, 7), rechain), 6, ANEW),
    "head removed": (all_of(lambda c: remove(c, 1, 10), rechain), 1, "a record from 1 to 5 was altered"),
}


@pytest.mark.parametrize("case", CHECKPOINTS_TOO)
async def test_outside_checkpoints_are_enough_to_find_changes(trail: Trail, case: str) -> None:
    edit, sequence, message = CHECKPOINTS_TOO[case]
    trail.edit(all_of(edit, lambda c: c.execute("DELETE FROM audit_checkpoints")))
    await trail.verify(kept=False)  # without them there is no trace
    found = await trail.found()
    assert found.sequence == sequence
    assert str(found).startswith(message)


async def test_a_trail_that_was_cut_off_and_grew_again_is_found(trail: Trail) -> None:
    trail.edit(all_of(lambda c: remove(c, 11, 17), lambda c: c.execute("DELETE FROM audit_checkpoints")))
    async with trail.opened() as (store, sealer):
        await trail.add(store, 5)
        await sealer.close()
    assert await trail.verify(kept=False) == (15, 1)
    found = await trail.found()
    assert (found.sequence, str(found)) == (11, "a record from 11 to 15 was altered, and the chain computed again")


@pytest.mark.parametrize(
    ("line", "sequence", "message"),
    [
        ("{", 0, "a checkpoint is not readable"),
        ('{"sequence":"x","hash":"","time":"","signature":""}', 0, "a checkpoint is not readable"),
        (Checkpoint.sign(5, bytes(32), FakeClock()(), OTHER_KEY).line(), 5, "the checkpoint at record 5 has a false"),
        (Checkpoint.sign(20, bytes(32), FakeClock()(), KEY).line(), 18, "the audit log was cut off: records 18 to 20"),
        (Checkpoint.sign(12, bytes(32), FakeClock()(), KEY).line(), 11, "a record from 11 to 12 was altered"),
    ],
)
async def test_an_outside_checkpoint_that_does_not_match_is_found(
    trail: Trail, line: str, sequence: int, message: str
) -> None:
    with trail.file.open("a") as file:
        file.write(f"\n{line}\n")
    found = await trail.found()
    assert found.sequence == sequence
    assert str(found).startswith(message)


class TestPruning:
    @pytest.fixture
    async def old(self, tmp_path: Path) -> Trail:
        """17 records, one every ten minutes, with checkpoints after 5, 10 and 15; the retention is an hour."""
        trail = Trail(tmp_path)
        trail.retention = timedelta(hours=1)
        async with trail.opened() as (store, sealer):
            for count in (5, 5, 5):
                await trail.add(store, count, minutes=10)
                await sealer.seal()
                await sealer.checkpoint()
            await trail.add(store, 2, minutes=10)
            await sealer.seal()
        return trail

    @staticmethod
    def sequences(trail: Trail) -> list[int | None]:
        with contextlib.closing(sqlite3.connect(trail.database)) as connection:
            rows = connection.execute("SELECT sequence FROM audit_records ORDER BY sequence").fetchall()
        return [row[0] for row in rows]

    async def test_old_records_are_pruned_up_to_a_checkpoint(self, old: Trail) -> None:
        async with old.opened() as (_, sealer):
            await sealer.prune()
        # 11 is an hour old, so it stays, with everything after the checkpoint before it. The record of the pruning
        # is sealed at once: if the server is killed right after it, the audit log must not look tampered with.
        assert self.sequences(old) == [*range(11, 19)]
        for kept in (True, False):
            assert await old.verify(kept=kept) == (18, 3 if kept else 2)

    async def test_records_of_earlier_prunings_are_pruned(self, old: Trail) -> None:
        async with old.opened() as (store, sealer):
            for _ in range(5):
                await sealer.prune()
                await old.add(store, 5, minutes=10)
                await sealer.seal()
                await sealer.checkpoint()
        assert (self.sequences(old)[0] or 0) > 18, "the first record of a pruning was pruned itself"
        assert (await old.verify())[0] == (await old.verify(kept=False))[0] == self.sequences(old)[-1]

    async def test_an_idle_server_prunes(self, old: Trail) -> None:
        """All records are older than the retention."""
        async with old.opened() as (_, sealer):
            await sealer.checkpoint()
            old.clock.advance(hours=10)
            await sealer.prune()
        assert self.sequences(old) == [18]
        for kept in (True, False):
            assert (await old.verified(kept=kept))[2:] == (1, 1, 0)
        async with old.opened() as (store, sealer):
            await sealer.checkpoint()
            old.clock.advance(hours=10)
            await sealer.prune()
            await old.add(store, 2)
            await sealer.close()
        assert self.sequences(old) == [18, 19, 20], "the record of the last pruning stays"
        assert (await old.verified()).uncovered == 0
        old.edit(lambda c: remove(c, 18, 18))
        assert str(await old.found()).startswith("records 1 to 18 are gone")

    @pytest.mark.parametrize(
        ("later", "retention"), [(0, None), (0, timedelta(days=1)), (0, timedelta(hours=2, minutes=30))]
    )
    async def test_records_within_the_retention_are_kept(
        self, old: Trail, later: int, retention: timedelta | None
    ) -> None:
        old.retention = retention
        async with old.opened() as (_, sealer):
            await sealer.prune()
        assert self.sequences(old) == [*range(1, 18)]
        assert await old.verify() == (17, 3)

    async def test_nothing_is_pruned_without_a_checkpoint(self, old: Trail) -> None:
        old.edit(lambda connection: connection.execute("DELETE FROM audit_checkpoints"))
        async with old.opened() as (_, sealer):
            await sealer.prune()
        assert self.sequences(old) == [*range(1, 18)]

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (lambda c: remove(c, 11, 12), "records before 13 are gone, and no checkpoint says"),
            (lambda c: remove(c, 11, 15), "records 11 to 15 are gone, and were not pruned"),
            (lambda c: alter(c, 11), "record 11 was altered"),
            (lambda c: remove(c, 18, 18), "records 1 to 10 are gone, and were not pruned"),
            (rechain, "a record from 1 to 5 was altered, and the chain computed again"),
        ],
    )
    async def test_manual_changes_after_a_pruning_are_found(
        self, old: Trail, edit: Callable[[sqlite3.Connection], object], message: str
    ) -> None:
        async with old.opened() as (_, sealer):
            await sealer.prune()
        old.edit(edit)
        assert str(await old.found()).startswith(message)

    async def test_an_inserted_record_of_a_pruning_is_found(self, trail: Trail) -> None:
        """An attacker who can delete rows can also insert one, and the server seals it."""
        record = orjson.dumps({"event": PRUNED, "through": 10}).decode()
        trail.edit(lambda c: c.execute("INSERT INTO audit_records (id, record) VALUES ('x', ?)", [record]))
        trail.edit(lambda c: remove(c, 1, 10))
        async with trail.opened() as (_, sealer):
            await sealer.close()
        await trail.found()

    async def test_a_text_that_looks_like_a_pruning_explains_no_gap(self, trail: Trail) -> None:
        agent = f'"event":"{PRUNED}","through":10'
        record = orjson.dumps({"event": "CreateThing", "agent": agent, "through": 10}).decode()
        trail.edit(lambda c: c.execute("INSERT INTO audit_records (id, record) VALUES ('x', ?)", [record]))
        trail.edit(lambda c: remove(c, 1, 10))
        async with trail.opened() as (_, sealer):
            await sealer.close()
        assert str(await trail.found()) == "records 1 to 10 are gone, and were not pruned"


async def test_a_process_that_does_not_seal_keeps_copies_of_the_checkpoints(trail: Trail, tmp_path: Path) -> None:
    """Copies begin with the process's start. Its own file is enough to verify the audit log."""
    other = tmp_path / "other.jsonl"
    async with trail.opened() as (store, sealer):
        follower = Sealer(store, KEY, other, trail.clock)
        await follower.follow()
        for _ in range(2):
            await trail.add(store, 2)
            await sealer.seal()
            await sealer.checkpoint()
            await follower.follow()
        await follower.follow()
        assert list(read_checkpoints(other)) == list(read_checkpoints(trail.file))[2:]
        false = Checkpoint.sign(22, b"x" * 32, trail.clock(), OTHER_KEY)
        await store.write(lambda tx: sql.insert_checkpoint(tx, 22, false.line()))
        with capture_logs() as logs:
            await follower.follow()
        assert [(line["event"], line["sequence"]) for line in logs] == [("audit_checkpoint_not_ours", 22)]
        assert len(list(read_checkpoints(other))) == 3


class TestActivity:
    """Reads and refusals have their own chain, which is pruned earlier."""

    @pytest.fixture
    async def busy(self, tmp_path: Path) -> Trail:
        """5 changes, and 2,000 reads of 100 characters with a checkpoint after each 100."""
        trail = Trail(tmp_path)
        async with trail.opened() as (store, sealer):
            await trail.add(store, 5)
            for _ in range(20):
                rows = []
                for _ in range(100):
                    trail.clock.advance(seconds=1)
                    rows.append(AuditRow(new_record_id(trail.clock()), "1", "{" + 98 * " " + "}"))
                await store.write(partial(self._insert, rows))
                await sealer.seal()
                await sealer.checkpoint()
        return trail

    @staticmethod
    async def _insert(rows: list[AuditRow], tx: Transaction) -> None:
        await insert_sealed_activity(tx, rows)

    @staticmethod
    async def verified(trail: Trail, *, kept: bool = True) -> Verified:
        reader = SQLiteReader(trail.database)
        try:
            further = list(read_checkpoints(trail.file)) if kept else []
            return await verify_all(reader, AuditKeys(KEY.public_key()), further)
        finally:
            await reader.close()

    async def found(self, trail: Trail) -> str:
        with pytest.raises(Tampering) as caught:
            await self.verified(trail)
        return str(caught.value)

    async def test_both_chains_are_verified(self, busy: Trail) -> None:
        for kept in (True, False):
            assert await self.verified(busy, kept=kept) == Verified(2005, 21, 2005, 0, 0)

    @pytest.mark.parametrize(
        ("kept", "left"),
        [
            (Kept(None, 40 * 400 * 100), 2000),
            (Kept(None, 10 * 400 * 100), 901),  # 90 % of the allowed size, and the record of the pruning
            (Kept(None, 1), 1),
            (Kept(timedelta(seconds=450)), 501),
            (Kept(timedelta(seconds=450), 10 * 400 * 100), 501),
            (Kept(timedelta(days=1), 10 * 400 * 100), 901),
        ],
    )
    async def test_the_oldest_records_are_pruned_by_age_and_size(self, busy: Trail, kept: Kept, left: int) -> None:
        async with busy.opened() as (store, _):
            sealer = Sealer(store, KEY, busy.file, busy.clock, activity=kept)
            for _ in range(3):
                await sealer.prune()
            rows = await store.read(lambda tx: sql.sealed_records(tx, 0, 10_000, sql.ACTIVITY))
            assert len(rows) == left
            assert sealer.activity_size <= (kept.size or 1_000_000) or left == 1
        for outside in (True, False):
            found = await self.verified(busy, kept=outside)
            assert (found.records, found.unsealed) == (5 + left, 0)

    async def test_few_records_are_deleted_in_one_transaction(
        self, busy: Trail, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between the transactions the audit log is intact, in case the server is killed there."""
        monkeypatch.setattr(audit_sealer, "_PRUNE_AT_ONCE", 70)
        async with busy.opened() as (store, _):
            deleted: list[int] = []

            class Watched(FailingStore):
                async def write(inner, body: Any, *, urgent: bool = False, once: bool = False) -> Any:  # noqa: N805
                    result = await super().write(body, urgent=urgent, once=once)
                    if isinstance(result, int):
                        deleted.append(result)
                        await self.verified(busy)
                        await self.verified(busy, kept=False)
                    return result

            sealer = Sealer(cast("Any", Watched(store, 0)), KEY, busy.file, busy.clock, activity=Kept(None, 400 * 1000))
            await sealer.prune()
        assert sum(deleted) == 1100
        assert max(deleted) == 70

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (
                "DELETE FROM audit_activity WHERE sequence <= 100",
                "records 1 to 100 are gone, and",
            ),
            (
                "DELETE FROM audit_activity WHERE sequence <= 50",
                "records before 51 are gone, and",
            ),
            ("DELETE FROM audit_activity WHERE sequence = 50", "record 50 was removed"),
            (
                "UPDATE audit_activity SET record = '{}' WHERE sequence = 3",
                "record 3 was altered",
            ),
            ("DELETE FROM audit_activity WHERE sequence > 1900", "the audit log was cut off"),
            ("DELETE FROM audit_activity", "the audit log was cut off"),
        ],
    )
    async def test_manual_deletions_are_found(self, busy: Trail, edit: str, message: str) -> None:
        busy.edit(lambda connection: connection.execute(edit))
        assert (await self.found(busy)).startswith(f"in the chain of reads and refusals: {message}")

    async def test_a_pruning_of_changes_explains_no_gap_in_reads(self, busy: Trail) -> None:
        now = busy.clock()
        record = pruning(sql.CHANGES, 100, now, KEY)
        async with busy.opened() as (store, sealer):
            await store.write(partial(self._insert, [AuditRow(new_record_id(now), None, record)]))
            await sealer.close()
        busy.edit(lambda connection: connection.execute("DELETE FROM audit_activity WHERE sequence <= 100"))
        assert "this instance did not sign it" in await self.found(busy)

    async def test_false_sizes_in_checkpoints_prune_nothing(self, busy: Trail) -> None:
        """An attacker who can write to the database must not be able to make the server prune the evidence."""

        def inflate(connection: sqlite3.Connection) -> None:
            for sequence, line in connection.execute("SELECT * FROM audit_activity_checkpoints").fetchall():
                fields = {**orjson.loads(line), "size": sequence * 10**9}
                change = "UPDATE audit_activity_checkpoints SET checkpoint = ? WHERE sequence = ?"
                connection.execute(change, [orjson.dumps(fields).decode(), sequence])

        busy.edit(inflate)
        async with busy.opened() as (store, _):
            await Sealer(store, KEY, busy.file, busy.clock, activity=Kept(None, 10**7)).prune()
            assert len(await store.read(lambda tx: sql.sealed_records(tx, 0, 10_000, sql.ACTIVITY))) == 2000


def test_an_incomplete_line_is_replaced(tmp_path: Path) -> None:
    """A kill or a full disk leaves such a line."""
    file = tmp_path / "checkpoints"
    lines = [Checkpoint.sign(number, bytes(32), FakeClock()(), KEY).line() for number in (1, 2)]
    append_checkpoint(file, lines[0])
    with file.open("a") as half:
        half.write(lines[1][:40])
    assert [one.sequence for one in read_checkpoints(file)] == [1]
    append_checkpoint(file, lines[1])
    assert [one.sequence for one in read_checkpoints(file)] == [1, 2]


def test_a_line_for_which_the_disk_has_no_room_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "checkpoints"
    line = Checkpoint.sign(1, bytes(32), FakeClock()(), KEY).line()
    append_checkpoint(file, line)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 20, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            append_checkpoint(file, line)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert file.read_text() == f"{line}\n"


class TestSealer:
    async def test_two_sealers_at_once_do_not_fork_the_chain(self, tmp_path: Path) -> None:
        trail = Trail(tmp_path)
        async with trail.opened() as (store, sealer):
            other = SQLiteStore(trail.database)
            second = trail.sealer(other)
            for _ in range(3):
                await trail.add(store, 1100)
                await asyncio.gather(sealer.seal(), second.seal(), sealer.seal())
                await asyncio.gather(sealer.checkpoint(), second.checkpoint())
            await other.close()
        assert await trail.verify() == (3300, 3)
        assert stat.S_IMODE(trail.file.stat().st_mode) == 0o600

    async def test_another_process_continues_the_chain(self, trail: Trail) -> None:
        async with trail.opened() as (store, sealer):
            await trail.add(store, 1)
            await sealer.close()
        assert await trail.verify() == (18, 4)
        assert [one.sequence for one in read_checkpoints(trail.file)] == [5, 10, 15, 18]

    async def test_a_checkpoint_is_signed_once(self, trail: Trail) -> None:
        async with trail.opened() as (_, sealer):
            for _ in range(3):
                await sealer.checkpoint()
        assert [one.sequence for one in read_checkpoints(trail.file)] == [5, 10, 15, 17]

    async def test_a_checkpoint_that_could_not_be_copied_is_copied_later(self, trail: Trail) -> None:
        aside = trail.file.rename(trail.file.with_name("aside"))
        trail.file.mkdir()
        async with trail.opened() as (_, sealer):
            with pytest.raises(OSError, match="directory"):
                await sealer.checkpoint()
            trail.file.rmdir()
            aside.rename(trail.file)
            await sealer.checkpoint()
        assert [one.sequence for one in read_checkpoints(trail.file)] == [5, 10, 15, 17]
        assert await trail.verify() == (17, 4)

    async def test_the_sealer_continues_after_a_failure(self, trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(audit_sealer, "_SEAL_EVERY", 0.001)
        async with trail.opened() as (store, _):
            failing = FailingStore(store, failures=2)
            await trail.add(store, 1)
            with capture_logs() as logs:
                task = asyncio.create_task(trail.sealer(failing).run())
                while await store.read(lambda tx: sql.unsealed_records(tx, 1)):  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.001)
                task.cancel()
                await asyncio.wait([task])
            assert [line["event"] for line in logs] == ["audit_log_not_sealed"]
        assert (await trail.verify())[0] == 18


class FailingStore:
    """A store that fails ``failures`` times, then works."""

    def __init__(self, store: SQLiteStore, failures: int) -> None:
        self._store = store
        self._failures = failures

    async def read(self, body: Body[T]) -> T:
        return await self._store.read(body)

    async def write(self, body: Body[T], *, urgent: bool = False, once: bool = False) -> T:
        if self._failures:
            self._failures -= 1
            raise Unavailable("The store failed")
        return await self._store.write(body, urgent=urgent, once=once)
