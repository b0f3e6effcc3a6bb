"""The checks when an instance is opened: damaged records, files that others can read, a wrong clock."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import stat
from datetime import timedelta
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from structlog.testing import capture_logs

from thingmint.domain.certificate_profiles import DEVICE
from thingmint.domain.errors import Unavailable
from thingmint.instance import create as create_module
from thingmint.instance.create import Instance
from thingmint.services.certificates import utc_now
from thingmint.settings import ConfigError
from thingmint.store import integrity
from thingmint.store.integrity import find_damage, find_damage_quickly

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.cli.shell import Shell
    from thingmint.instance.layout import DataDirectory


def opened(directory: DataDirectory, work: Callable[[Instance], object] = lambda instance: None) -> None:
    async def run() -> None:
        instance = await Instance.open(directory, lambda: None, None)
        try:
            work(instance)
        finally:
            await instance.store.close()

    asyncio.run(run())


def damaged(database: Path, how: str) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'accounts'").fetchone()[0]
    data = bytearray(database.read_bytes())
    if how == "page":
        data[(root - 1) * size : root * size] = b"\xa5" * size
    elif how == "end":
        del data[len(data) // 2 :]
    else:
        data[:100] = bytes(100)
    database.write_bytes(data)


@pytest.mark.parametrize("how", ["page", "end", "head"])
def test_damaged_records_stop_the_start(shell: Shell, how: str) -> None:
    opened(shell.directory)
    database = shell.directory.database
    assert find_damage_quickly(database) == ([], True)
    printed = shell("store", "check", "--data-dir", "data")
    assert "are intact" in printed
    assert printed.endswith(f"thingmint audit verify --data-dir {shell.directory.root}\n")
    damaged(database, how)
    with pytest.raises(ConfigError, match=r"is damaged .*thingmint store check") as refused:
        opened(shell.directory)
    assert "\n" not in str(refused.value)
    assert find_damage(database)
    assert "is damaged" in shell("store", "check", "--data-dir", "data", expect=1)


def test_store_check_finds_an_altered_certificate(shell: Shell) -> None:
    shell.edit("INSERT INTO certificates (id, fingerprint, der, not_before, not_after) VALUES (5, x'aa', x'bb', 0, 0)")
    opened(shell.directory)
    assert "certificate aa does not match" in shell("store", "check", "--data-dir", "data", expect=1)


def test_store_check_tells_when_the_database_does_not_answer(shell: Shell) -> None:
    with mock.patch("thingmint.services.certificate_counts.find_wrong_counts", side_effect=Unavailable("It is away")):
        assert "could not be checked: It is away; try again" in shell("store", "check", "--data-dir", "data", expect=2)


def test_a_large_file_is_checked_in_part(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "_QUICK", -1.0)
    monkeypatch.setattr(integrity, "_STEPS", 1)
    with capture_logs() as logs:
        opened(shell.directory)
    assert [line["event"] for line in logs] == ["database_checked_in_part"]


@pytest.mark.parametrize("name", ["ca.key", "device-ca.key", "audit.key", "master.key", "clients/aws.env", "."])
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o777])
def test_files_that_others_can_read_become_private(shell: Shell, name: str, mode: int) -> None:
    path = shell.directory.root / name
    path.chmod(mode | (0o100 if path.is_dir() else 0))
    with capture_logs() as logs:
        opened(shell.directory)
    assert not stat.S_IMODE(path.stat().st_mode) & 0o077
    assert str(path) in [line["path"] for line in logs if line["event"] == "was_open_to_others"]
    with capture_logs() as logs:
        opened(shell.directory)
    assert logs == []


@pytest.mark.parametrize("off", [timedelta(days=-20_000), timedelta(days=-2), timedelta(days=20_000)])
def test_a_clock_outside_the_roots_validity_is_one_line(
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    off: timedelta,
) -> None:
    monkeypatch.setattr(create_module, "utc_now", lambda: utc_now() + off)
    with pytest.raises(ConfigError, match=r"^clock: this machine's clock says .*: set the clock$") as refused:
        opened(shell.directory, lambda instance: instance.listener_authority(DEVICE))
    assert "ca.pem is valid from" in str(refused.value)
