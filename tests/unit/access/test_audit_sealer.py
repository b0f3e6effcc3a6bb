"""Sealing of audit records: several sealers, failures, and copies of the checkpoints."""

from __future__ import annotations

import asyncio
import stat
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tests.unit.access.sealed_trail import KEY, OTHER_KEY, FailingStore, Trail
from thingmint.access import audit_sealer
from thingmint.access.audit_chain import (
    Checkpoint,
    read_checkpoints,
)
from thingmint.access.audit_sealer import Sealer
from thingmint.store import audit as sql
from thingmint.store.sqlite import SQLiteStore

if TYPE_CHECKING:
    from pathlib import Path


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
