"""For the tests of the audit log's chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.access.sealed_trail import Trail, sealed

if TYPE_CHECKING:
    from pathlib import Path


_sealed: list[tuple[bytes, bytes]] = []


@pytest.fixture
async def trail(tmp_path: Path) -> Trail:
    """A copy of ``sealed`` that a test can change."""
    made = Trail(tmp_path)
    if not _sealed:
        _sealed.append(await sealed())
    for path, content in zip((made.database, made.file), _sealed[0], strict=True):
        path.write_bytes(content)
    return made
