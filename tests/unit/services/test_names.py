"""Host names and regions are extended, never changed, and keep their order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.unit.vectors import NOW
from thingmint.access.administration import Administration
from thingmint.access.directory import Directory
from thingmint.access.vault import Vault
from thingmint.services.names import NameRegistry
from thingmint.store.sqlite import SQLiteStore

if TYPE_CHECKING:
    from pathlib import Path


def test_names_and_regions(tmp_path: Path) -> None:
    database = tmp_path / "thingmint.db"
    database.touch()

    async def scenario() -> None:
        store = SQLiteStore(database)
        vault, names = Vault(b"m" * 32), NameRegistry(store)
        await Administration(store, vault, lambda: NOW).create_account("default", ["us-east-1"])
        directory = Directory(store, vault, lambda: NOW)
        assert await names.hostnames() == []
        assert await names.add_hostnames(["b", "a", "b"]) == ["b", "a"]
        assert await names.add_hostnames(["a", "c", "b"]) == ["c"]
        assert await names.add_hostnames([]) == []
        assert await names.hostnames() == ["b", "a", "c"]
        assert await names.add_regions(["us-east-1", "eu-central-1", "eu-central-1"]) == ["eu-central-1"]
        assert await names.add_regions(["eu-central-1"]) == []
        assert (await directory.developer()).regions == ("us-east-1", "eu-central-1")
        await store.close()

    asyncio.run(scenario())
