"""Stores of both engines, for the same tests."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from thingmint.store.postgres import PostgresStore
from thingmint.store.sqlite import SQLiteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.unit.store.bodies import OpenStore
    from thingmint.store.engine import Store


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "thingmint.db"
    path.touch(mode=0o600)
    return path


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, database: Path) -> OpenStore:
    """A function that opens the test's store in the current event loop. It can be called more than once."""
    url = request.getfixturevalue("postgres") if request.param == "postgres" else None

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Store]:
        store = SQLiteStore(database) if url is None else await PostgresStore.open(url)
        try:
            yield store
        finally:
            await store.close()

    return opened
