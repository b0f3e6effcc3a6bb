"""A directory with two accounts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.vectors import FakeClock
from thingmint.access.administration import Administration
from thingmint.access.audit import AuditedStore
from thingmint.access.directory import Directory
from thingmint.access.vault import Vault
from thingmint.store.sqlite import SQLiteStore

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.access.new_credentials import NewAccount


@dataclass
class Town:
    administration: Administration
    directory: Directory
    store: SQLiteStore
    vault: Vault
    clock: FakeClock
    ours: NewAccount
    theirs: NewAccount


Run = Callable[[Callable[[Town], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run_in_town(scenario: Callable[[Town], Coroutine[Any, Any, None]]) -> None:
        database = tmp_path / "thingmint.db"
        database.touch()

        async def main() -> None:
            store = SQLiteStore(database)
            clock, vault = FakeClock(), Vault(b"m" * 32)
            administration = Administration(AuditedStore(store, clock), vault, clock)
            ours = await administration.create_account("ours", ["us-east-1", "eu-central-1"])
            clock.now += timedelta(seconds=1)
            theirs = await administration.create_account("theirs", ["us-west-2"])
            try:
                await scenario(Town(administration, Directory(store, vault, clock), store, vault, clock, ours, theirs))
            finally:
                await store.close()

        asyncio.run(main())

    return run_in_town
