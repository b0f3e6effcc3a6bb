"""The disk reserve is released before the disk is full; urgent changes are still accepted then."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.store.bodies import ids, insert
from tests.unit.store.test_sqlite import Disk, disk, fail, tamper, until
from thingmint.domain.errors import Unavailable
from thingmint.store import disk_reserve, sqlite
from thingmint.store.disk_reserve import DiskReserve, free_bytes, why_not_writable
from thingmint.store.sqlite import SQLiteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ["disk"]  # a fixture

SIZE = 256 * 1024


class Reserve:
    """A DiskReserve on a disk that is as full as the test sets."""

    size = SIZE

    def __init__(self) -> None:
        self.held = False
        self.low = False
        self.room = True
        self.error: OSError | None = None

    def make(self) -> bool:
        if self.error is not None:
            raise self.error
        self.held = self.held or self.room
        return self.held

    def release(self) -> bool:
        held, self.held = self.held, False
        return held


@pytest.fixture
def reserve(monkeypatch: pytest.MonkeyPatch) -> Reserve:
    monkeypatch.setattr(sqlite, "_CHECK_SPACE_EVERY", 0)
    monkeypatch.setattr(sqlite, "_MAKE_RESERVE_EVERY", 0)
    monkeypatch.setattr(sqlite, "_RETRY_AFTER", 0)
    return Reserve()


@pytest.fixture
async def store(database: Path, reserve: Any) -> AsyncIterator[SQLiteStore]:
    opened = SQLiteStore(database, reserve)
    yield opened
    await opened.close()


async def test_opening_the_store_makes_the_reserve(store: SQLiteStore, reserve: Reserve) -> None:
    assert reserve.held
    assert store.ready


async def test_only_urgent_changes_are_accepted_when_space_is_low(store: SQLiteStore, reserve: Reserve) -> None:
    reserve.low, reserve.room = True, False
    with pytest.raises(Unavailable):
        await store.write(insert("late"))
    assert (store.ready, store.trouble, reserve.held) == (False, "the disk is full", False)
    assert await store.write(insert("urgent"), urgent=True) == "urgent"
    assert await store.read(ids) == ["urgent"]
    with pytest.raises(Unavailable):
        await store.write(insert("late"))
    reserve.low, reserve.room = False, True
    await until(lambda: store.ready)
    assert (store.trouble, reserve.held) == (None, True)
    assert await store.write(insert("after")) == "after"


async def test_an_urgent_change_is_run_again_after_the_disk_was_full(store: SQLiteStore, reserve: Reserve) -> None:
    reserve.room = False
    tamper(store, fail)
    urgent, ordinary, queued = await asyncio.gather(
        store.write(insert("urgent"), urgent=True),
        store.write(insert("ordinary")),
        store.write(insert("next"), urgent=True),
        return_exceptions=True,
    )
    assert (urgent, queued) == ("urgent", "next")
    assert isinstance(ordinary, Unavailable)
    assert not store.ready
    assert await store.read(ids) == ["next", "urgent"]


async def test_an_urgent_change_fails_if_writing_fails_without_the_reserve_too(
    store: SQLiteStore, reserve: Reserve, disk: Disk
) -> None:
    reserve.room = False
    tamper(store, fail)
    disk.works = False
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable):
            await store.write(insert("urgent"), urgent=True)
    with pytest.raises(Unavailable):
        await store.write(insert("urgent"), urgent=True)
    assert await store.read(ids) == []


async def test_closing_fails_waiting_urgent_changes(database: Path, reserve: Any, disk: Disk) -> None:
    store = SQLiteStore(database, reserve)
    tamper(store, fail)
    waiting = asyncio.create_task(store.write(insert("urgent"), urgent=True))
    await until(lambda: not store.ready)
    disk.works = False
    await store.close()
    async with asyncio.timeout(1):
        with pytest.raises(Unavailable):
            await waiting
    with pytest.raises(Unavailable):
        await store.read(ids)


async def test_changes_are_accepted_if_the_reserve_cannot_be_made(store: SQLiteStore, reserve: Reserve) -> None:
    reserve.release()
    reserve.error, reserve.low = OSError("File too large"), True
    assert await store.write(insert("a")) == "a"
    await until(lambda: store._recovery is None)
    assert await store.write(insert("b")) == "b"
    reserve.error = None
    await store.write(insert("c"))
    await until(lambda: reserve.held)


def test_the_reserve_allocates_space_and_frees_it(tmp_path: Path) -> None:
    reserve = DiskReserve(tmp_path / "reserve", SIZE)
    assert reserve.make()
    assert reserve.held
    assert reserve.path.stat().st_blocks * 512 >= SIZE
    assert reserve.path.stat().st_mode & 0o777 == 0o600
    assert reserve.release()
    assert not reserve.release()
    assert not list(tmp_path.iterdir())


def test_a_reserve_of_another_size_is_made_again(tmp_path: Path) -> None:
    assert DiskReserve(tmp_path / "reserve", SIZE).make()
    larger = DiskReserve(tmp_path / "reserve", 2 * SIZE)
    assert not larger.held
    assert larger.make()
    assert larger.path.stat().st_size == 2 * SIZE


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_no_reserve_is_made_without_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    assert not DiskReserve(tmp_path / "reserve", SIZE).make()
    assert not list(tmp_path.iterdir())


def test_low_is_true_if_little_space_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve = DiskReserve(tmp_path / "reserve", SIZE)
    monkeypatch.setattr(disk_reserve, "_LOW", 0)
    assert not reserve.low
    monkeypatch.setattr(disk_reserve, "_LOW", free_bytes(tmp_path) * 2)
    assert reserve.low


def test_the_reason_why_a_file_cannot_grow(tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert why_not_writable(file) is None
    file.write_bytes(bytes(SIZE))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE, limits[1]))
    try:
        assert why_not_writable(file) == "files cannot be written: File too large"
        with pytest.raises(OSError, match="File too large"):
            DiskReserve(tmp_path / "reserve", 2 * SIZE).make()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert why_not_writable(tmp_path / "missing" / "file") == "files cannot be written: No such file or directory"
