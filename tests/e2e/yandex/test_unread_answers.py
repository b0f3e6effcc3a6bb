"""Answers over gRPC that the client never reads: with HTTP/2's flow control it can allow the server to send nothing."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from yandex.cloud.iot.devices.v1 import device_service_pb2

from tests.e2e.test_unauthenticated_callers import metric
from tests.e2e.wire import until
from tests.e2e.yandex import http2
from tests.e2e.yandex.clients import Cloud, path_of
from tests.e2e.yandex.test_unauthenticated_grpc import headers
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024
LIST = path_of("DeviceService/List")
HELD = "thingmint_authenticated_request_bytes"
_IMPATIENT = Path(__file__).parents[1] / "impatient"
_INITIAL_WINDOW_SIZE = 4  # RFC 9113 6.5.2


@pytest.fixture(scope="module")
def small() -> Iterator[Cloud]:
    """A server with 4 MiB for requests, half of it for one account, and 4 seconds for a client to read an answer."""
    environment = {
        "THINGMINT_AUTHENTICATED_REQUEST_BYTES": str(4 * MIB),
        "PYTHONPATH": os.pathsep.join([str(_IMPATIENT), os.environ.get("PYTHONPATH", "")]),
        "IMPATIENT": "10 4 10 10",
    }
    with running_server(environment=environment) as server:
        cloud = Cloud(server)
        yield cloud
        cloud.close()


@pytest.fixture(scope="module")
def question(small: Cloud) -> bytes:
    """A request whose answer has about 200 KiB."""
    registry = small.registry()
    for device in range(20):
        aliases = {f"{device:02}{n}".ljust(1024, "x"): "$devices/{id}/".ljust(1007, "t") for n in range(5)}
        small.device(registry, topic_aliases=aliases)
    return device_service_pb2.ListDevicesRequest(registry_id=registry).SerializeToString()


def ask(cloud: Cloud, connection: http2.Connection, question: bytes, streams: range) -> None:
    """Sends the request on streams with a flow-control window of 0, so that the answers cannot be sent."""
    connection.send(http2.SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW_SIZE, 0))
    for stream in streams:
        connection.send(http2.HEADERS, http2.END_HEADERS, stream, headers(LIST, cloud.token))
        connection.send(http2.DATA, http2.END_STREAM, stream, http2.message(question))


def test_unread_answers_use_at_most_the_memory_of_an_account(small: Cloud, question: bytes) -> None:
    """gRPC keeps a copy of each answer, so the limit allows five answers. The other calls are refused."""
    with http2.Connection(small.server) as connection:
        ask(small, connection, question, range(1, 120, 2))
        for stream in range(21, 120, 2):
            connection.wait_for_the_end_of(stream)
        assert MIB < metric(small.server, HELD) <= 2 * MIB
        assert small.operation_is_unknown()  # small answers are still sent
    until(lambda: metric(small.server, HELD) == 0, seconds=20, what="their memory is released")
    small.grpc.call("DeviceService/List", device_service_pb2.ListDevicesRequest.FromString(question))
    assert "Traceback" not in small.server.output.read_text()


def test_a_connection_is_closed_if_an_answer_is_not_read(small: Cloud, question: bytes) -> None:
    with http2.Connection(small.server) as connection:
        ask(small, connection, question, range(1, 2, 2))
        until(lambda: metric(small.server, HELD) > 0, seconds=20, what="the answer is held")
        until(lambda: metric(small.server, HELD) == 0, seconds=20, what="the answer is discarded")
        with pytest.raises(ConnectionError):
            connection.wait_for_the_end_of(1)
    assert "Traceback" not in small.server.output.read_text()
