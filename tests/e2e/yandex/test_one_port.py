"""gRPC and REST at one port: the API port gives the clients that offer HTTP/2 only to gRPC."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest
from yandex.cloud.endpoint import api_endpoint_service_pb2
from yandex.cloud.iot.devices.v1 import registry_service_pb2, registry_service_pb2_grpc
from yandexcloud import SDK  # type: ignore[attr-defined]  # re-exported without saying so

from tests.e2e.databases import metric
from tests.e2e.test_reload import until
from tests.e2e.yandex.clients import Cloud, GrpcWire, open_channel
from thingmint.http.client_hello import ClientHello, peek_hello, read_hello
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Coroutine

    import grpc

    from thingmint.testing import RunningServer

LIST = api_endpoint_service_pb2.ListApiEndpointsRequest()


def over_api_port(cloud: Cloud) -> tuple[grpc.Channel, GrpcWire]:
    channel = open_channel(cloud.server.ca, cloud.server.ports["api"])
    return channel, GrpcWire(channel, cloud.token)


def protocol(server: RunningServer, *offered: str) -> tuple[ssl.SSLSocket, str | None]:
    """An open connection to the API port, and the protocol that the server chose."""
    context = ssl.create_default_context(cafile=server.ca)
    if offered:
        context.set_alpn_protocols(list(offered))
    plain = socket.create_connection(("127.0.0.1", server.ports["api"]), timeout=20)
    secure = context.wrap_socket(plain, server_hostname="localhost")
    return secure, secure.selected_alpn_protocol()


def test_grpc_and_rest_are_served_at_the_api_port(cloud: Cloud) -> None:
    channel, wire = over_api_port(cloud)
    request = registry_service_pb2.ListRegistriesRequest(folder_id=cloud.folder, page_size=1)
    over_rest = cloud.rest.call("RegistryService/List", request)
    assert wire.call("RegistryService/List", request) == over_rest
    channel.close()


def test_discovery_names_the_port_that_was_asked(cloud: Cloud) -> None:
    channel, wire = over_api_port(cloud)
    for asked, port in ((wire, "api"), (cloud.rest, "api"), (cloud.grpc, "grpc")):
        endpoints = asked.call("ApiEndpointService/List", LIST, token="").endpoints
        assert {endpoint.address for endpoint in endpoints} == {f"localhost:{cloud.server.ports[port]}"}
    channel.close()


def test_the_sdk_needs_no_other_port(cloud: Cloud) -> None:
    sdk = SDK(
        endpoint=f"localhost:{cloud.server.ports['api']}",
        root_certificates=cloud.server.ca.read_bytes(),
        service_account_key=dict(cloud.account.key),
    )
    registries = sdk.client(registry_service_pb2_grpc.RegistryServiceStub)
    made = registries.Create(registry_service_pb2.CreateRegistryRequest(folder_id=cloud.folder))
    assert made.created_by == cloud.account.key["service_account_id"]


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ((), None),
        (("http/1.1",), "http/1.1"),
        (("h2", "http/1.1"), "http/1.1"),
        (("http/1.1", "h2"), "http/1.1"),
        (("h2",), "h2"),
        (("grpc-exp", "h2"), "h2"),
        (("http/1.0",), None),
    ],
)
def test_the_offer_chooses_the_server(server: RunningServer, offered: tuple[str, ...], chosen: str | None) -> None:
    connection, found = protocol(server, *offered)
    with connection:
        assert found == chosen
        if chosen != "h2":
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_clients_of_aws_notice_nothing(server: RunningServer) -> None:
    assert boto3.client("iot", **server.boto3_arguments()).describe_endpoint()["endpointAddress"] == "localhost"


@pytest.mark.parametrize("piece", [1, 3, 100])
def test_a_hello_may_come_in_pieces(server: RunningServer, piece: int) -> None:
    for offered, chosen in ((["h2"], "h2"), (["http/1.1"], "http/1.1")):
        context, incoming, outgoing = ssl.create_default_context(cafile=server.ca), ssl.MemoryBIO(), ssl.MemoryBIO()
        context.set_alpn_protocols(offered)
        client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with socket.create_connection(("127.0.0.1", server.ports["api"]), timeout=20) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    data = outgoing.read()
                    for at in range(0, len(data), piece):
                        connection.sendall(data[at : at + piece])
                    incoming.write(connection.recv(65536))
            assert client.selected_alpn_protocol() == chosen


def test_slow_and_odd_clients_do_not_keep_others_waiting(server: RunningServer) -> None:
    open_before = metric(server, 'connections{listener="api"}')
    beginnings = [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n"] * 20
    slow = [socket.create_connection(("127.0.0.1", server.ports["api"]), timeout=20) for _ in beginnings]
    for connection, data in zip(slow, beginnings, strict=True):
        connection.sendall(data)
    context = ssl.create_default_context(cafile=server.ca)
    assert httpx.get(f"{server.api_url}/healthz", verify=context).status_code == 200
    for connection in slow:
        connection.close()
    until(lambda: metric(server, 'connections{listener="api"}') <= open_before, "closed connections are still counted")


def test_connections_to_grpc_count_for_both_ports() -> None:
    limits = {"THINGMINT_CONNECTIONS": json.dumps({"grpc": {"total": 2, "reserve": 0}})}
    with running_server(environment=limits) as server:
        opened = [protocol(server, "h2") for _ in range(2)]
        assert [chosen for _, chosen in opened] == ["h2", "h2"]
        with pytest.raises((ssl.SSLError, ConnectionError)):
            protocol(server, "h2")
        connection, chosen = protocol(server, "http/1.1")
        assert chosen == "http/1.1"
        connection.close()
        for connection, _ in opened:
            connection.close()
        until(lambda: metric(server, 'connections{listener="grpc"}') == 0, "a closed connection is still counted")
        until(lambda: metric(server, 'connections{listener="api"}') == 0, "a closed connection is still counted")
        connection, chosen = protocol(server, "h2")
        assert chosen == "h2"
        connection.close()


# The look at the first message, at sockets of the kernel.


class Pair:
    """A client, and the server's end of its connection."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.client = socket.create_connection(listener.getsockname())
            self.server, _ = listener.accept()
        self.server.setblocking(False)

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.close()


def hello() -> bytes:
    context, sent = ssl.create_default_context(), ssl.MemoryBIO()
    context.set_alpn_protocols(["h2"])
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost").do_handshake()
    return sent.read()


def run(test: Coroutine[Any, Any, None]) -> None:
    async def within() -> None:
        async with asyncio.timeout(20):
            await test

    asyncio.run(within())


def test_the_message_stays_in_the_socket() -> None:
    async def test() -> None:
        with Pair() as pair:
            pair.client.sendall(sent)
            assert await peek_hello(pair.server) == ClientHello([b"h2"], "localhost")
            assert pair.server.recv(65536) == sent

    sent = hello()
    run(test())


def test_pieces_are_waited_for_without_a_busy_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, sent = 0, hello()
    pieces = [sent[at : at + 50] for at in range(0, len(sent), 50)]

    def counted(data: bytes) -> ClientHello | None:
        nonlocal looks
        looks += 1
        return read_hello(data)

    async def test() -> None:
        with Pair() as pair:
            found = asyncio.create_task(peek_hello(pair.server))
            for piece in pieces:
                pair.client.sendall(piece)
                await asyncio.sleep(0.02)
            assert await found == ClientHello([b"h2"], "localhost")
            assert looks <= len(pieces)
            assert pair.server.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
            assert pair.server.recv(65536) == sent

    monkeypatch.setattr("thingmint.http.client_hello.read_hello", counted)
    run(test())


@pytest.mark.parametrize("size", [0, 1, 100])
def test_a_client_that_closes_ends_the_wait(size: int) -> None:
    async def test() -> None:
        with Pair() as pair:
            found = asyncio.create_task(peek_hello(pair.server))
            pair.client.sendall(hello()[:size])
            await asyncio.sleep(0.02)
            pair.client.close()
            assert await found == ClientHello()

    run(test())


def test_a_message_larger_than_the_kernels_buffer_ends_the_wait() -> None:
    async def test() -> None:
        with Pair() as pair:
            pair.server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            pair.client.setblocking(False)
            extension = b"\x00\x15\x3f\x00" + b"\x00" * 0x3F00
            body = b"\x03\x03" + b"\x00" * 36 + len(extension).to_bytes(2) + extension
            message = b"\x01" + len(body).to_bytes(3) + body
            data = b"\x16\x03\x01" + len(message).to_bytes(2) + message
            sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(pair.client, data * 100))
            assert await peek_hello(pair.server) == ClientHello()
            sending.cancel()

    run(test())
