"""Limits of unauthenticated callers on the gRPC port: no memory, few connections and calls, a rate."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from yandex.cloud.iot.devices.v1 import device_service_pb2

from tests.e2e.test_unauthenticated_callers import metric, resident
from tests.e2e.wire import until
from tests.e2e.yandex import http2
from tests.e2e.yandex.clients import Cloud, open_channel, path_of, refused_over_grpc
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024
ADD = path_of("DeviceService/AddCertificate")
TOKEN = path_of("IamTokenService/Create")


def headers(path: str, token: str | None = None) -> bytes:
    fields = [(":method", "POST"), (":scheme", "https"), (":path", path), (":authority", "localhost")]
    fields += [("te", "trailers"), ("content-type", "application/grpc")]
    return http2.hpack(fields + ([("authorization", f"Bearer {token}")] if token else []))


@pytest.fixture(scope="module")
def small() -> Iterator[Cloud]:
    """A server with low limits."""
    environment = {
        "THINGMINT_CONNECTIONS__GRPC__TOTAL": "60",
        "THINGMINT_CONNECTIONS__GRPC__PER_ADDRESS": "50",
        "THINGMINT_CONNECTIONS__GRPC__HALF_OPEN_PER_ADDRESS": "45",
        "THINGMINT_CONNECTIONS__GRPC__RESERVE": "20",
        "THINGMINT_UNAUTHENTICATED_RATE": "2",
    }
    with running_server(environment=environment, arguments=["--log-format=json"]) as server:
        cloud = Cloud(server)
        yield cloud
        cloud.close()


@pytest.mark.parametrize("token", [None, "t1.a.b", "x"])
def test_a_call_without_a_valid_token_is_refused_before_its_message(cloud: Cloud, token: str | None) -> None:
    with http2.Connection(cloud.server) as connection:
        connection.socket.settimeout(5)
        connection.send(http2.HEADERS, http2.END_HEADERS, 1, headers(ADD, token))
        assert b"grpc-status" in connection.wait_for(http2.HEADERS, 1, http2.END_STREAM)


def test_messages_without_a_token_are_not_kept(cloud: Cloud) -> None:
    before, sent = resident(cloud.server), http2.message(b"\x0a" + b"x" * 900_000)
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            connection = stack.enter_context(http2.Connection(cloud.server))
            for stream in range(1, 20, 2):
                connection.send(http2.HEADERS, http2.END_HEADERS, stream, headers(ADD))
                for start in range(0, 65_000 // 10, 16_000):
                    connection.send(http2.DATA, 0, stream, sent[start : start + 16_000])
        assert resident(cloud.server) - before < 40 * MIB
    assert cloud.operation_is_unknown()


def test_calls_without_a_token_are_limited(cloud: Cloud) -> None:
    """Each of them can wait for its message. Calls with a token still work."""
    cloud.token  # noqa: B018 - getting the token is such a call
    with http2.Connection(cloud.server) as connection:
        for stream in range(1, 200, 2):
            connection.send(http2.HEADERS, http2.END_HEADERS, stream, headers(TOKEN))
        for stream in range(129, 200, 2):
            connection.wait_for_the_end_of(stream)
        assert not connection.ended & set(range(1, 129, 2))
        assert cloud.operation_is_unknown()


def test_one_address_cannot_use_all_connections(small: Cloud) -> None:
    address, crowd, refused = ("127.0.0.1", small.server.ports["grpc"]), [], 0
    with contextlib.ExitStack() as stack:
        for _ in range(70):
            sock = socket.create_connection(address, timeout=5, source_address=("127.0.0.2", 0))
            crowd.append(stack.enter_context(sock))
        for sock in crowd:  # refused connections are closed without sending anything
            sock.settimeout(0.02)
            with contextlib.suppress(TimeoutError):
                try:
                    refused += sock.recv(1) == b""
                except ConnectionError:
                    refused += 1
        assert refused == 30
        assert small.operation_is_unknown()
        assert metric(small.server, 'thingmint_connections_refused_total{listener="grpc"') == 30
    until(
        lambda: metric(small.server, 'thingmint_handshakes{listener="grpc"}') == 0,
        seconds=5,
        what="places of closed connections are released",
    )


def test_a_connection_counts_as_open_after_its_handshake(small: Cloud) -> None:
    tls = ssl.create_default_context(cafile=small.server.ca)
    tls.set_alpn_protocols(["h2"])
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        tls.minimum_version = tls.maximum_version = version
        plain = socket.create_connection(("127.0.0.1", small.server.ports["grpc"]), timeout=5)
        assert metric(small.server, 'thingmint_handshakes{listener="grpc"}') == 1
        with tls.wrap_socket(plain, server_hostname="localhost") as sock:
            sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + http2.frame(http2.SETTINGS, 0, 0))
            until(
                lambda: metric(small.server, 'thingmint_handshakes{listener="grpc"}') == 0,
                seconds=5,
                what="the handshake counts as done",
            )


def test_the_clients_own_address_is_logged(small: Cloud) -> None:
    device = small.device()
    records = [json.loads(line) for line in small.server.output.read_text().splitlines() if line.startswith("{")]
    assert device
    addresses = {record["client"] for record in records if record.get("method") == "gRPC"}
    assert addresses == {"127.0.0.1"}


def test_an_address_with_too_many_failures_is_throttled(small: Cloud) -> None:
    channel = open_channel(small.server.ca, small.server.ports["grpc"])
    call: Any = channel.unary_unary(ADD)
    request = device_service_pb2.AddDeviceCertificateRequest().SerializeToString()
    codes = []
    for _ in range(60):
        with pytest.raises(grpc.RpcError) as caught:
            call(request, metadata=[("authorization", "Bearer t1.a.b")], timeout=5)
        codes.append(refused_over_grpc(caught.value).code)
    channel.close()
    assert codes[0] == "UNAUTHENTICATED"
    assert codes[-1] == "RESOURCE_EXHAUSTED"
    assert small.operation_is_unknown()  # with a token, from the same address
