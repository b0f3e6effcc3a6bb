"""Limits of unauthenticated callers on the HTTP listeners: memory, connections and rate."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from tests.e2e.wire import answers, connected, exchange, one_request, read_answer
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thingmint.testing import RunningServer

MIB = 1024 * 1024
GET = one_request("GET", "/healthz", {"host": "localhost"})


def aws(key: str, date: str = "20261128T000000Z") -> dict[str, str]:
    """A request's head with a well-formed, wrong signature."""
    scope = f"{key}/{date[:8]}/us-east-1/iot/aws4_request"
    signature = f"Credential={scope}, SignedHeaders=host;x-amz-date, Signature={'0' * 64}"
    return {"authorization": f"AWS4-HMAC-SHA256 {signature}", "x-amz-date": date}


def known_key(server: RunningServer) -> dict[str, str]:
    return aws(server.environment()["AWS_ACCESS_KEY_ID"], time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))


def resident(server: RunningServer) -> int:
    """The server's resident memory in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def metric(server: RunningServer, name: str) -> float:
    text = exchange(server, "GET", "/metrics").body.decode()
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


# -- the head decides ---------------------------------------------------------------------------------------------

REFUSED = {
    "AWS, unknown key": ("POST", "/certificates", aws("AKIAUNKNOWN"), 403, b"UnrecognizedClientException"),
    "AWS, malformed": ("POST", "/certificates", {"authorization": "AWS4-HMAC-SHA256 x"}, 403, b"IncompleteSignature"),
    "AWS, none": ("POST", "/certificates", {}, 403, b"MissingAuthenticationToken"),
    "AWS, no route": ("POST", "/nowhere", aws("AKIAUNKNOWN"), 403, b"UnrecognizedClientException"),
    "native, unknown token": ("POST", "/v1/certificates", {"authorization": "Bearer tma_a_b"}, 401, b"UNAUTHENTICATED"),
    "native, none": ("POST", "/v1/certificates", {}, 401, b"UNAUTHENTICATED"),
    "native, no route": ("POST", "/v1/nowhere", {}, 401, b"UNAUTHENTICATED"),
    "Yandex, unknown token": ("POST", "/iot-devices/v1/devices", {"authorization": "Bearer t1.a.b"}, 401, b""),
    "Yandex, none": ("POST", "/iot-devices/v1/devices", {}, 401, b""),
    "Yandex, no route": ("POST", "/iot-devices/v1/nowhere", {}, 404, b""),
    "probe": ("POST", "/healthz", {}, 200, b""),
    "metrics": ("POST", "/metrics", {}, 200, b""),
}


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("framing", [{"content-length": "1048575"}, {"transfer-encoding": "chunked"}])
@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_head_is_refused_without_waiting_for_the_body(
    server: RunningServer, case: str, framing: dict[str, str], tls: bool
) -> None:
    method, target, headers, status, code = REFUSED[case]
    head = one_request(method, target, {"host": "localhost", **headers, **framing, "expect": "100-continue"})
    with connected(server, tls=tls) as sock:
        sock.settimeout(5)
        sock.sendall(head)
        received = sock.recv(65536)
    assert received.startswith(b"HTTP/1.1 %d " % status), received
    assert code in received
    assert b"100 Continue" not in received


def test_an_expired_signature_is_refused_before_the_body(server: RunningServer) -> None:
    headers = aws(server.environment()["AWS_ACCESS_KEY_ID"], "20200101T000000Z")
    raw = one_request("POST", "/certificates", {"host": "localhost", "content-length": "100", **headers})
    assert answers(server, raw)[0].aws_code == "InvalidSignatureException"


def test_the_body_is_read_to_verify_a_known_keys_signature(server: RunningServer) -> None:
    framing = {"host": "localhost", "content-length": "2", "expect": "100-continue"}
    with connected(server) as sock:
        sock.sendall(one_request("POST", "/certificates", {**framing, **known_key(server)}))
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"{}")
        assert read_answer(sock, bytearray()).aws_code == "InvalidSignatureException"


@pytest.mark.parametrize(("size", "kept"), [(10_000, True), (100_000, False)])
def test_a_wrong_signature_over_a_large_body_ends_the_connection(server: RunningServer, size: int, kept: bool) -> None:
    """The buffers of the connection would not shrink again."""
    headers = {"host": "localhost", **known_key(server)}
    (answer,) = answers(server, one_request("POST", "/certificates", headers, b" " * size), tls=True)
    assert answer.aws_code == "InvalidSignatureException"
    assert (answer.headers.get("connection") != "close") is kept


# -- memory -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> Iterator[RunningServer]:
    """A server with small limits."""
    environment = {
        "THINGMINT_UNAUTHENTICATED_REQUEST_BYTES": str(4 * MIB),
        "THINGMINT_CONNECTIONS__API__TOTAL": "60",
        "THINGMINT_CONNECTIONS__API__PER_ADDRESS": "50",
        "THINGMINT_CONNECTIONS__API__RESERVE": "20",
        "THINGMINT_UNAUTHENTICATED_RATE": "2",
    }
    with running_server(environment=environment) as server:
        yield server


@pytest.mark.parametrize("tls", [False, True])
def test_answers_that_are_not_read_stop_the_reading(server: RunningServer, tls: bool) -> None:
    before = resident(server)
    with connected(server, tls=tls) as sock:
        sock.settimeout(1)
        assert sends_until_not_read(sock) < 20 * MIB
        assert resident(server) - before < 20 * MIB
        assert exchange(server, "GET", "/healthz").status == 200


@pytest.mark.parametrize("tls", [False, True])
def test_pipelined_requests_are_all_answered(server: RunningServer, tls: bool) -> None:
    # Only few of them fail, because the failures of an address are limited.
    expected = [200 if n % 10 else 401 for n in range(300)]
    requests = [one_request("GET", "/healthz" if n % 10 else f"/v1/{n}", {"host": "localhost"}) for n in range(300)]
    assert [answer.status for answer in answers(server, b"".join(requests), tls=tls, count=300)] == expected


def test_bodies_before_authentication_are_limited(small: RunningServer) -> None:
    head = one_request("POST", "/certificates", {"host": "localhost", "content-length": "1048576", **known_key(small)})
    refused = 0
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(connected(small)) for _ in range(20)]
        for sock in held:
            with contextlib.suppress(OSError):
                sock.sendall(head + b"x" * (MIB - 10))
        time.sleep(0.5)
        for sock in held:
            sock.settimeout(0.05)
            with contextlib.suppress(TimeoutError, ssl.SSLError):
                refused += b"ThrottlingException" in sock.recv(4096)
        assert refused >= 17  # an address can use half of 4 MiB
        assert 0 < metric(small, "thingmint_unauthenticated_request_bytes") <= 2 * MIB
        # Small requests are served, and authenticated requests of any size.
        signed = small.boto3_arguments()
        assert boto3_lists(signed) == []
        token = {"authorization": f"Bearer {small.token}"}
        large = exchange(small, "POST", "/v1/certificates", token, b" " * (MIB - 2) + b"{}")
        assert large.status == 400
    assert exchange(small, "GET", "/healthz").status == 200


def sends_until_not_read(sock: socket.socket) -> int:
    """The number of bytes of requests that the server and the buffers in between accepted."""
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < 40 * MIB:
            sent += sock.send(GET * 1000)
    return sent


def boto3_lists(arguments: dict[str, Any]) -> list[Any]:
    listed: list[Any] = boto3.client("iot", **arguments).list_things()["things"]
    return listed


# -- connections --------------------------------------------------------------------------------------------------


def test_an_address_leaves_places_to_others(small: RunningServer) -> None:
    address, crowd, refused = ("127.0.0.1", small.ports["api"]), [], 0
    with contextlib.ExitStack() as stack:
        for _ in range(70):
            sock = socket.create_connection(address, timeout=5, source_address=("127.0.0.2", 0))
            crowd.append(stack.enter_context(sock))
        for sock in crowd:  # refused connections are closed without a byte
            sock.settimeout(0.02)
            try:
                refused += sock.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                refused += 1
        assert refused == 30
        assert exchange(small, "GET", "/healthz", tls=True).status == 200
        assert metric(small, 'thingmint_connections{listener="api"}') == 40
        assert metric(small, 'thingmint_handshakes{listener="api"}') == 40
        assert metric(small, 'thingmint_connections_refused_total{listener="api"') == 30


# -- rate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "status", "word"),
    [
        ("/v1/certificates", 429, b"RATE_LIMITED"),
        ("/certificates", 400, b"Rate exceeded"),
        ("/iot-devices/v1/devices", 429, b"Rate exceeded"),
    ],
)
def test_an_address_that_fails_too_often_is_throttled(
    small: RunningServer, target: str, status: int, word: bytes
) -> None:
    raw = one_request("GET", target, {"host": "localhost"})
    *_, last = answers(small, raw * 60, count=60)
    assert last.status == status
    assert word in last.body
    assert int(last.headers["retry-after"]) >= 1
    token = {"authorization": f"Bearer {small.token}"}
    assert exchange(small, "GET", "/v1/certificates", token).status == 200
    assert boto3_lists(small.boto3_arguments()) == []
