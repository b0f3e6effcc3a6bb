from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.console.browser import Site
from thingmint.console import updates

if TYPE_CHECKING:
    from tests.world import World


@pytest.fixture
def site(world: World) -> Site:
    return Site(world)


@pytest.fixture
def events_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams of events do not wait for changes that belong together."""
    monkeypatch.setattr(updates, "_QUIET", 0.0)
    monkeypatch.setattr(updates, "_APART", 0.0)
    monkeypatch.setattr(updates, "_GATHER", 0.001)
