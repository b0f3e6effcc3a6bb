"""The engines that the same tests run on."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

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


@pytest.fixture(params=["sqlite"])
def store(request: pytest.FixtureRequest, database: Path) -> OpenStore:
    """Opens the one store of a test, inside the event loop that is to use it; as often as is asked for."""
    assert request.param == "sqlite"

    @contextlib.asynccontextmanager
    async def open_sqlite() -> AsyncIterator[Store]:
        opened = SQLiteStore(database)
        try:
            yield opened
        finally:
            await opened.close()

    return open_sqlite
