from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.console.browser import Site

if TYPE_CHECKING:
    from tests.world import World


@pytest.fixture
def site(world: World) -> Site:
    return Site(world)
