"""What unit tests share: no socket but the AF_UNIX pair that an event loop is made with, and no deadlines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_socket
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile("unit", deadline=None, max_examples=60)
settings.load_profile("unit")


@pytest.fixture(autouse=True)
def _only_unix_sockets() -> None:
    """The marker of tests/conftest.py forbids AF_UNIX too, without which there is no event loop."""
    pytest_socket.enable_socket()
    pytest_socket.disable_socket(allow_unix_socket=True)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Long texts and bytes may be random, and xdist wants the same names in every process."""
    return argname if isinstance(val, bytes) or (isinstance(val, str) and len(val) > 40) else None


@pytest.fixture(autouse=True, scope="session")
def _every_statement_is_explained() -> Iterator[None]:
    from tests.plans import UNINDEXED, Plans  # here, as it imports the engines

    with Plans(UNINDEXED).checked():
        yield
