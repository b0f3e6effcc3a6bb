"""One account on the session's server, over gRPC and REST."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.yandex.clients import Cloud

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.yandex.clients import Wire
    from thingmint.testing import RunningServer


@pytest.fixture(scope="session")
def cloud(server: RunningServer) -> Iterator[Cloud]:
    cloud = Cloud(server)
    yield cloud
    cloud.close()


@pytest.fixture(scope="session", params=["grpc", "rest"])
def wire_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def wire(cloud: Cloud, wire_name: str) -> Wire:
    return cloud.wire(wire_name)
