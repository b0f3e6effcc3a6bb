"""Answers over HTTP that authenticated clients request and do not read."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING

import boto3
import pytest

from tests.e2e.signing import Signer
from tests.e2e.test_unauthenticated_callers import metric
from tests.e2e.wire import one_request, read_answer, until
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thingmint.testing import RunningServer

MIB = 1024 * 1024
HELD = "thingmint_authenticated_request_bytes"
CLIENTS = 8


@pytest.fixture(scope="module")
def small() -> Iterator[RunningServer]:
    """A server with 4 MiB for answers, half of it for one account, which has a list of 900 KB."""
    with running_server(environment={"THINGMINT_AUTHENTICATED_REQUEST_BYTES": str(4 * MIB)}) as server:
        iot = boto3.session.Session().client("iot", **server.boto3_arguments())
        iot.create_thing_type(thingTypeName="large")
        payload = {"attributes": {f"a{number}": "v" * 800 for number in range(50)}}
        for number in range(22):
            iot.create_thing(thingName=f"t{number}", thingTypeName="large", attributePayload=payload)
        iot.close()
        yield server


@pytest.mark.parametrize("tls", [False, True])
def test_unread_answers_use_at_most_the_accounts_share(small: RunningServer, tls: bool) -> None:
    request = one_request("GET", "/things?maxResults=250", Signer.of(small).headers("GET", "/things?maxResults=250"))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connected(small, tls=tls)) for _ in range(CLIENTS)]
        clients[0].sendall(request)
        until(lambda: metric(small, HELD) > MIB, seconds=20, what="one request is answered")
        for client in clients[1:]:
            client.sendall(request)
        statuses = [read_answer(client, bytearray()).status for client in clients[1:]]
        assert statuses == [400] * (CLIENTS - 1)  # AWS's ThrottlingException
        assert metric(small, HELD) <= 2 * MIB
        assert read_answer(clients[0], bytearray()).status == 200
        until(lambda: metric(small, HELD) == 0, seconds=20, what="the memory of the answer is freed")
        clients[1].sendall(request)
        assert read_answer(clients[1], bytearray()).status == 200


@pytest.mark.parametrize("tls", [False, True])
def test_memory_of_unread_answers_is_freed_when_the_client_disconnects(small: RunningServer, tls: bool) -> None:
    request = one_request("GET", "/things?maxResults=250", Signer.of(small).headers("GET", "/things?maxResults=250"))
    with connected(small, tls=tls) as client:
        client.sendall(request)
        until(lambda: metric(small, HELD) > MIB, seconds=20, what="the request is answered")
    until(lambda: metric(small, HELD) == 0, seconds=20, what="the memory of the answer is freed")
    assert "Traceback" not in small.output.read_text()


@contextlib.contextmanager
def connected(server: RunningServer, *, tls: bool) -> Iterator[socket.socket]:
    """A connection with a small receive buffer."""
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.socket())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(20)
        sock.connect(("127.0.0.1", server.ports["api" if tls else "http"]))
        if tls:
            context = ssl.create_default_context(cafile=str(server.ca))
            sock = stack.enter_context(context.wrap_socket(sock, server_hostname="localhost"))
        yield sock
