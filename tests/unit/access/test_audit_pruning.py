"""Old records are pruned up to a checkpoint, and the chains stay intact."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest

from tests.unit.access.sealed_trail import KEY, FailingStore, Trail, alter, rechain, remove
from thingmint.access import audit_sealer
from thingmint.access.audit_chain import (
    PRUNED,
    Tampering,
    Verified,
    pruning,
    read_checkpoints,
    verify_all,
)
from thingmint.access.audit_events import new_record_id
from thingmint.access.audit_keys import AuditKeys
from thingmint.access.audit_sealer import Kept, Sealer, insert_sealed_activity
from thingmint.store import audit as sql
from thingmint.store.audit import AuditRow
from thingmint.store.sqlite import SQLiteReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from thingmint.store.engine import Transaction


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
