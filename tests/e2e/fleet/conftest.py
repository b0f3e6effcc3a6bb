"""A server with the template ``lamp``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.conftest import iot_client
from tests.e2e.fleet.support import new_template
from tests.e2e.logs import check_log
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from thingmint.testing import RunningServer


@pytest.fixture(scope="package")
def factory() -> Iterator[RunningServer]:
    with running_server(arguments=["--log-format=json"]) as running:
        client = iot_client(running)
        new_template(running, client)
        client.close()
        yield running
        check_log(running.output.read_text(errors="replace"))


@pytest.fixture
def factory_iot(factory: RunningServer) -> Iterator[Any]:
    client = iot_client(factory)
    yield client
    client.close()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "made"
