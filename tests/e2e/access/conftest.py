"""The local administrator of the session's server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.access.local_admin import LocalAdmin

if TYPE_CHECKING:
    from thingmint.testing import RunningServer


@pytest.fixture(scope="session")
def local_admin(server: RunningServer) -> LocalAdmin:
    return LocalAdmin(server)


@pytest.fixture(scope="session")
def account(local_admin: LocalAdmin) -> str:
    """The number of the first account."""
    number: str = local_admin.ask("account.list")[0]["id"]
    return number
