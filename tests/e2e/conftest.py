"""A real server for the end-to-end tests; one for all tests of a worker that leave nothing behind that matters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from thingmint.testing import RunningServer, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def server() -> Iterator[RunningServer]:
    with running_server(arguments=["--log-format=json"]) as running:
        yield running


@pytest.fixture(scope="session")
def iot(server: RunningServer) -> Iterator[Any]:
    client = iot_client(server)
    yield client
    client.close()


def iot_client(server: RunningServer, **overrides: Any) -> Any:
    """boto3's client, told not to try again, so that a test sees the first answer."""
    arguments = server.boto3_arguments() | {"config": Config(retries={"total_max_attempts": 1})} | overrides
    return boto3.session.Session().client("iot", **arguments)
