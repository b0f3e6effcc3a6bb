"""A directory with two accounts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.vectors import NOW, FakeClock
from thingmint.access.directory import Directory, NewCredentials
from thingmint.access.vault import Vault
from thingmint.storage.sqlite import SQLiteStore

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Town:
    directory: Directory
    store: SQLiteStore
    clock: FakeClock
    ours: NewCredentials
    theirs: NewCredentials


Run = Callable[[Callable[[Town], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run_in_town(scenario: Callable[[Town], Coroutine[Any, Any, None]]) -> None:
        database = tmp_path / "thingmint.db"
        database.touch()

        async def main() -> None:
            store = SQLiteStore(database)
            directory = Directory(store, Vault(b"m" * 32))
            ours = await directory.create_account("ours", ["us-east-1", "eu-central-1"], NOW)
            theirs = await directory.create_account("theirs", ["us-west-2"], NOW.replace(year=2027))
            try:
                await scenario(Town(directory, store, FakeClock(), ours, theirs))
            finally:
                await store.close()

        asyncio.run(main())

    return run_in_town
