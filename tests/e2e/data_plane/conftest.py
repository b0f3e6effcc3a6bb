"""Devices of the shared server's account, and boto3's client of the data plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from tests.e2e.mqtt.conftest import Devices

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from thingmint.testing import RunningServer


def data_client(server: RunningServer, **overrides: Any) -> Any:
    """A boto3 client of iot-data, without retries."""
    arguments = server.boto3_arguments() | {"config": Config(retries={"total_max_attempts": 1})} | overrides
    return boto3.session.Session().client("iot-data", **arguments)


@pytest.fixture(scope="session")
def data(server: RunningServer) -> Iterator[Any]:
    client = data_client(server)
    yield client
    client.close()


@pytest.fixture
def devices(server: RunningServer, iot: Any, tmp_path: Path) -> Devices:
    account = iot.create_thing(thingName="data-plane")["thingArn"].split(":")[4]
    return Devices(server, iot, account, "localhost", {}, tmp_path)
