"""What the tests of imports from AWS share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.importing.aws.imports import Imports

if TYPE_CHECKING:
    from tests.world import World


@pytest.fixture
def imports(world: World) -> Imports:
    return Imports(world)
