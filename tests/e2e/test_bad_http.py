"""Clients that are slow or rude, and bytes that are not HTTP.

After each of these the server still answers, and nothing was stored.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.material import csr_pem
from tests.e2e.wire import (
    NoAnswer,
    answers,
    check_common_refusal,
    connected,
    exchange,
    one_request,
    read_answer,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from thingmint.testing import RunningServer

_MARK = "Zq7MarkOfTheInput"  # in inputs that an answer might quote

# -- slow and rude clients ----------------------------------------------------------------------------------------


def _open_files(server: RunningServer) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    "said",
    [b"", b"POST /keys-and-certificate HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{", os.urandom(100)],
    ids=["nothing", "half a request", "garbage"],
)
def test_a_thousand_dropped_connections_leave_the_server_responsive(
    server: RunningServer, unchanged: Callable[[], None], said: bytes, tls: bool
) -> None:
    before = _open_files(server)
    address = ("127.0.0.1", server.ports["api" if tls else "http"])
    with contextlib.ExitStack() as stack:
        for n in range(1000):
            sock = stack.enter_context(socket.create_connection(address, timeout=20))
            if said:
                sock.sendall(said)
            if n % 2:  # half of the connections are reset instead of closed
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert exchange(server, "GET", "/healthz", tls=tls).status == 200
    until(lambda: _open_files(server) <= before + 2, seconds=15, what="the server lets dropped connections go")


def test_a_client_that_disconnects_within_a_body_changes_nothing(
    server: RunningServer, unchanged: Callable[[], None]
) -> None:
    head = f"POST /keys-and-certificate HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {server.token}\r\n"
    for body in (b"content-length: 20\r\n\r\n{}", b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"):
        with connected(server) as sock:
            sock.sendall(head.encode() + body)
    assert exchange(server, "GET", "/healthz").status == 200


# -- what is not HTTP ---------------------------------------------------------------------------------------------

_H = "host: localhost\r\n"

_MALFORMED = {
    "garbage": b"\x00\x01\x02\xff\xfe garbage\r\n\r\n",
    "random": b"\x99" + os.urandom(400),
    "TLS to the plain port": bytes.fromhex("16030100c8010000c40303") + os.urandom(200),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "another version": f"GET /healthz HTTP/3.7\r\n{_H}\r\n".encode(),
    "unknown method": f"MINT /healthz HTTP/1.1\r\n{_H}\r\n".encode(),
    "NUL in a header": f"GET /healthz HTTP/1.1\r\n{_H}x: a\0b\r\n\r\n".encode(),
    "NUL in the target": f"GET /health\0z HTTP/1.1\r\n{_H}\r\n".encode(),
    "CR in a header": f"GET /healthz HTTP/1.1\r\n{_H}x: a\rb\r\n\r\n".encode(),
    "CR in the target": f"GET /health\rz HTTP/1.1\r\n{_H}\r\n".encode(),
    "folded header": f"GET /healthz HTTP/1.1\r\n{_H}x: a\r\n b\r\n\r\n".encode(),
    "space before a colon": f"GET /healthz HTTP/1.1\r\n{_H}content-length : 2\r\n\r\n{{}}".encode(),
    "header without a name": f"GET /healthz HTTP/1.1\r\n{_H}: x\r\n\r\n".encode(),
    "header without a colon": f"GET /healthz HTTP/1.1\r\n{_H}nothing\r\n\r\n".encode(),
    "octets in the target": b"GET /v1/\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "CONNECT": f"CONNECT example.org:443 HTTP/1.1\r\n{_H}\r\n".encode(),
    "bare LF": b"GET /healthz HTTP/1.1\nhost: localhost\n\n",
}

_POST = f"POST /keys-and-certificate HTTP/1.1\r\n{_H}authorization: Bearer TOKEN\r\n"

_SMUGGLING = {
    "length and chunks": "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": "transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": "content-length: 0\r\ncontent-length: 2\r\n\r\n{}",
    "a list of lengths": "content-length: 0, 2\r\n\r\n{}",
    "negative length": "content-length: -1\r\n\r\n",
    "signed length": "content-length: +2\r\n\r\n{}",
    "hexadecimal length": "content-length: 0x2\r\n\r\n{}",
    "huge length": "content-length: 99999999999999999999999\r\n\r\n",
    "unknown coding": "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked not last": "transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked twice": "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
    "bad chunk size": "transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "negative chunk": "transfer-encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
    "huge chunk": "transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    "chunk longer than said": "transfer-encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("raw", _MALFORMED.values(), ids=_MALFORMED.keys())
@pytest.mark.parametrize("tls", [False, True])
def test_malformed_requests_are_refused(
    server: RunningServer, unchanged: Callable[[], None], raw: bytes, tls: bool
) -> None:
    (answer,) = answers(server, raw, tls=tls)
    check_common_refusal(answer, 400)
    assert answer.json()["message"] == "The request is not well-formed HTTP/1.1"


@pytest.mark.parametrize("raw", _SMUGGLING.values(), ids=_SMUGGLING.keys())
def test_ambiguous_lengths_are_refused(server: RunningServer, unchanged: Callable[[], None], raw: str) -> None:
    smuggled = _POST.replace("TOKEN", server.token)
    with connected(server) as sock:
        sock.sendall((smuggled + raw + smuggled + "\r\n").encode())
        buffered = bytearray()
        assert read_answer(sock, buffered).status == 400
        with pytest.raises(NoAnswer):
            read_answer(sock, buffered)


def test_garbage_instead_of_tls_ends_the_connection(server: RunningServer, unchanged: Callable[[], None]) -> None:
    for said in (
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        os.urandom(3000),
        b"\x16\x03\x01\xff\xff" + b"a" * 70000,
    ):
        address = ("127.0.0.1", server.ports["api"])
        with socket.create_connection(address, timeout=20) as sock, contextlib.suppress(ConnectionError):
            sock.sendall(said)
            with contextlib.suppress(OSError):  # it may be closed already
                sock.shutdown(socket.SHUT_WR)
            received = bytearray()
            while piece := sock.recv(4096):
                received += piece
            assert b"HTTP" not in received
    assert exchange(server, "GET", "/healthz", tls=True).status == 200


@pytest.mark.parametrize("tls", [False, True])
def test_pipelined_requests_are_answered_in_their_order(server: RunningServer, tls: bool) -> None:
    authorization = {"authorization": f"Bearer {server.token}", "host": "localhost"}
    raw = b"".join(
        [
            one_request("GET", "/healthz", {"host": "localhost"}),
            one_request("POST", "/keys-and-certificate", authorization, b"{}"),
            one_request("GET", "/nothing", authorization),
            one_request("POST", "/keys-and-certificate", authorization),
            one_request("GET", "/certificates", {"host": "localhost"}),
        ]
    )
    found = answers(server, raw, tls=tls, count=5)
    assert [answer.status for answer in found] == [200, 200, 404, 200, 403]
    assert found[1].json()["data"]["id"] != found[3].json()["data"]["id"]


def test_an_absolute_target_is_read_as_its_path(server: RunningServer, unchanged: Callable[[], None]) -> None:
    raw = f"GET http://localhost/v1/certificates?page_size=1 HTTP/1.1\r\n{_H}authorization: Bearer {server.token}\r\n"
    (answer,) = answers(server, f"{raw}\r\n".encode())
    assert answer.status == 200
    (answer,) = answers(server, f"GET http://localhost/certificates HTTP/1.1\r\n{_H}\r\n".encode())
    assert (answer.status, answer.aws_code) == (403, "MissingAuthenticationTokenException")


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PROPFIND"])
def test_unknown_methods_are_refused(server: RunningServer, unchanged: Callable[[], None], method: str) -> None:
    with connected(server) as sock:
        sock.sendall(one_request(method, "/keys-and-certificate", {"host": "localhost", "x-mark": _MARK}))
        assert sock.recv(12) == b"HTTP/1.1 401"
    answer = exchange(server, "OPTIONS", "*")
    assert (answer.status, answer.json()["error"]["code"]) == (401, "UNAUTHENTICATED")


# -- hosts, trailers, upgrades ------------------------------------------------------------------------------------


@pytest.mark.parametrize("hosts", ["", "host: localhost\r\nhost: iot.us-east-1.amazonaws.com\r\n"])
def test_exactly_one_host_is_needed(server: RunningServer, hosts: str) -> None:
    raw = f"GET /v1/certificates HTTP/1.1\r\nauthorization: Bearer {server.token}\r\n{hosts}\r\n"
    check_common_refusal(answers(server, raw.encode())[0], 400)


def test_trailers_are_not_headers(server: RunningServer) -> None:
    head = f"GET /v1/certificates HTTP/1.1\r\n{_H}transfer-encoding: chunked\r\n\r\n"
    (answer,) = answers(server, f"{head}0\r\nauthorization: Bearer {server.token}\r\n\r\n".encode())
    assert answer.status == 401


def test_trailers_have_a_limit(server: RunningServer) -> None:
    with connected(server) as sock:
        sock.settimeout(2)
        head = f"GET /v1/certificates HTTP/1.1\r\n{_H}authorization: Bearer {server.token}\r\n"
        sock.sendall(f"{head}transfer-encoding: chunked\r\n\r\n0\r\n".encode())
        with contextlib.suppress(ConnectionError):
            sock.sendall((b"x-pad: " + b"a" * 1000 + b"\r\n") * 300)
        check_common_refusal(read_answer(sock, bytearray()), 431)


def test_an_offered_upgrade_is_ignored(server: RunningServer) -> None:
    """java.net.http offers one by default over plain HTTP, and so does `curl --http2`."""
    body = json.dumps({"csr": csr_pem()}).encode()
    offer = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAABkAAQAAP__"}
    headers = {"host": "localhost", "authorization": f"Bearer {server.token}", **offer}
    assert exchange(server, "POST", "/v1/certificates", headers, body).status == 200


def test_garbage_after_a_request_does_not_prevent_its_answer(server: RunningServer) -> None:
    good = one_request("POST", "/keys-and-certificate", {"host": "x", "authorization": f"Bearer {server.token}"})
    # The server may answer the garbage with 400, or only close the connection.
    assert answers(server, good + b"\0garbage\r\n\r\n")[0].status == 200


# -- arbitrary bytes ----------------------------------------------------------------------------------------------

_METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS", b"get", b"\xff"])
_TARGETS = st.one_of(
    st.sampled_from([b"/keys-and-certificate", b"/certificates", b"/v1/certificates", b"/healthz", b"/things/a"]),
    st.binary(max_size=60).map(lambda raw: b"/" + raw),
    st.text("/.%?&=;#+\\ \t0aA:@[]", max_size=40).map(str.encode),
)
_HEADERS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"authorization: Bearer tma_x_y",
                b"authorization: AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/iot/aws4_request, "
                b"SignedHeaders=host;x-amz-date, Signature=" + b"0" * 64,
                b"x-amz-date: 20260101T000000Z",
                b"host: iot.us-east-1.amazonaws.com",
                b"content-length: 5",
                b"transfer-encoding: chunked",
                b"expect: 100-continue",
                b"connection: close",
                b"x-amz-content-sha256: UNSIGNED-PAYLOAD",
            ]
        ),
        st.binary(max_size=40),
        st.tuples(st.text("abc-_:", max_size=8), st.binary(max_size=30)).map(lambda p: p[0].encode() + b":" + p[1]),
    ),
    max_size=6,
)
_REQUESTS = st.tuples(_METHODS, _TARGETS, _HEADERS, st.binary(max_size=80)).map(
    lambda p: b"%b %b HTTP/1.1\r\nhost: localhost\r\n%b\r\n%b" % (p[0], p[1], b"".join(h + b"\r\n" for h in p[2]), p[3])
)


@settings(
    max_examples=300,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(raw=st.one_of(_REQUESTS, st.binary(min_size=1, max_size=200)))
def _fuzz(server: RunningServer, raw: bytes) -> None:
    with connected(server) as sock:
        sock.sendall(raw)
        sock.settimeout(0.03)  # an incomplete request rightly gets no answer
        received = bytearray()
        try:
            while piece := sock.recv(65536):
                received += piece
        except (TimeoutError, ConnectionError):
            pass
    for head in re.findall(rb"HTTP/1\.1 (\d{3}) [^\r]*\r\n(?=date|content|x-)(?:[^\r]+\r\n)+", bytes(received)):
        assert int(head) < 500
    if received and not received.startswith(b"HTTP/1.1 100 "):
        assert received.startswith(b"HTTP/1.1 ")
        assert b"content-type: application/json\r\n" in received or b"text/plain; version" in received
    assert server.process.poll() is None


def test_arbitrary_bytes_are_answered_or_closed(server: RunningServer, unchanged: Callable[[], None]) -> None:
    _fuzz(server)
    assert exchange(server, "GET", "/healthz").status == 200
