"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.world import new_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.world import World

# No test may pick up the developer's own cloud, settings or proxy.
for _name in list(os.environ):
    if _name.startswith(("AWS_", "THINGMINT_")) or _name.lower().endswith("_proxy"):
        del os.environ[_name]
os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Unit tests open no socket (an event loop's own pair, which is of AF_UNIX, aside)."""
    unit = Path(__file__).parent / "unit"
    for item in items:
        if unit in item.path.parents:
            item.add_marker(pytest.mark.disable_socket)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["sqlite"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with new_world(tmp_path, engine=request.param) as opened:
        yield opened
