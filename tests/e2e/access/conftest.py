"""The operator of the session's server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.access.operator import Operator

if TYPE_CHECKING:
    from thingmint.testing import RunningServer


@pytest.fixture(scope="session")
def operator(server: RunningServer) -> Operator:
    return Operator(server)


@pytest.fixture(scope="session")
def account(operator: Operator) -> str:
    """The number of the first account."""
    number: str = operator.ask("account.list")[0]["id"]
    return number
