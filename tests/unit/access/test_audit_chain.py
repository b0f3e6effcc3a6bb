"""The chain of audit records: verification finds each manual change, and the record where it begins."""

from __future__ import annotations

import resource
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.unit.access.sealed_trail import KEY, OTHER_KEY, Trail, alter, rechain, remove
from tests.unit.vectors import FakeClock
from thingmint.access import audit_chain
from thingmint.access.audit_chain import (
    PRUNED,
    Checkpoint,
    Tampering,
    Verified,
    append_checkpoint,
    read_checkpoints,
    verify,
)
from thingmint.access.audit_events import new_record_id
from thingmint.access.audit_keys import AuditKeys
from thingmint.access.audit_sealer import insert_activity_with
from thingmint.services.leases import LeasedStore, SoleHolder
from thingmint.store import audit as sql
from thingmint.store.audit import ACTIVITY, AuditRow
from thingmint.store.sqlite import SQLiteReader

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from thingmint.store.engine import Transaction


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
