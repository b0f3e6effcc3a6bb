"""Calls of functions by HTTP: the request, its signature, and answers that cannot be used."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import hmac
import json
import re
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.e2e.material import key_pem, new_issuer
from tests.issuers import pem
from tests.unit.services.test_functions import ACCOUNT, EVENT, arn, call, counted, failure
from thingmint.domain.errors import ProvisioningRefused
from thingmint.services.function_calls import Function
from thingmint.services.functions import Functions, FunctionTable
from thingmint.services.hooks import Hook, ask_hook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

SECRET = b"k3y"


class Receiver:
    """An HTTP server on a socket: ``answer`` gets the request's bytes, and sends what it wants."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.answer: Callable[[asyncio.StreamWriter], Any] = self.send(b"HTTP/1.1 200 OK\r\n\r\n{}")
        self.port = 0
        self.closed = asyncio.Event()  # the last connection is
        self.closed.set()

    def send(self, *pieces: bytes, pause: float = 0) -> Callable[[asyncio.StreamWriter], Any]:
        async def answer(writer: asyncio.StreamWriter) -> None:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)

        return answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.closed = asyncio.Event()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            [length] = re.findall(rb"content-length: (\d+)", head, re.IGNORECASE)
            self.requests.append(head + await reader.readexactly(int(length)))
            await self.answer(writer)
        with contextlib.suppress(OSError):
            writer.close()
            await writer.wait_closed()
        self.closed.set()

    def table(self, timeout: float = 30.0) -> FunctionTable:
        function = Function("remote", frozenset({ACCOUNT}), f"http://127.0.0.1:{self.port}/x?y=z", secret=SECRET)
        return FunctionTable(Functions({"remote": function}), timeout=timeout)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    yield receiver
    server.close()
    async with asyncio.timeout(30):
        await receiver.closed.wait()


def answer(body: bytes, status: bytes = b"200 OK", *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 " + status, b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def test_the_event_is_posted_and_signed(receiver: Receiver) -> None:
    receiver.answer = receiver.send(answer(b'{"a": 1}'))
    before = int(time.time())
    assert await call(receiver.table(), "remote") == {"a": 1}
    head, _, body = receiver.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /x?y=z HTTP/1.1\r\n")
    assert json.loads(body) == EVENT
    headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert headers[b"host"] == b"127.0.0.1:%d" % receiver.port
    assert headers[b"content-type"] == b"application/json"
    [(at, mac)] = re.findall(rb"^t=(\d+),v1=([0-9a-f]{64})$", headers[b"thingmint-signature"])
    assert before <= int(at) <= time.time()
    assert hmac.new(SECRET, at + b"." + body, hashlib.sha256).hexdigest().encode() == mac


async def test_a_replaced_secret_file_signs_the_next_request(receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("first\n")
    function = Function("f", frozenset({ACCOUNT}), f"http://127.0.0.1:{receiver.port}/", secret_file=file)
    table = FunctionTable(Functions({"f": function}))
    macs = []
    for secret in (b"first", b"second"):
        file.write_bytes(secret)
        await call(table, "f")
        head, _, body = receiver.requests[-1].partition(b"\r\n\r\n")
        [(at, mac)] = re.findall(rb"t=(\d+),v1=([0-9a-f]{64})", head)
        macs.append(hmac.new(secret, at + b"." + body, hashlib.sha256).hexdigest().encode() == mac)
    assert macs == [True, True]
    for lost in ("", None):  # never unsigned
        file.write_text("") if lost == "" else file.unlink()
        assert await failure(table, "f") == "misconfigured"
    assert len(receiver.requests) == 2


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (answer(b"<html>"), "invalid"),
        (answer(b'{"a": 1, "a": 2}'), "invalid"),
        (answer(b"[" * 60_000), "invalid"),
        (answer(b"9" * 60_000), "invalid"),
        (answer(b"\xff"), "invalid"),
        (answer(b'{"a": "\\ud800"}'), "invalid"),
        (answer(b'{"a": NaN}'), "invalid"),
        (answer(gzip.compress(b" " * 50_000_000), b"200 OK", b"content-encoding: gzip"), "invalid"),
        (answer(b"{}", b"200 OK", b"content-encoding: br"), "invalid"),
        (answer(b"x" * 65_537), "too_large"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 10_000_000, "too_large"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1000\r\n" + b"x" * 4096 + b"\r\n", "unreachable"),
        (answer(b"{}", b"201 Created"), "status"),
        (answer(b"{}", b"204 No Content"), "status"),
        (answer(b"{}", b"307 Temporary Redirect", b"location: http://127.0.0.1:1/"), "status"),
        (answer(b"{}", b"500 Internal Server Error"), "status"),
        (answer(b"{}", b"401 Unauthorized"), "forbidden"),
        (answer(b"{}", b"403 Forbidden"), "forbidden"),
        (b"nonsense\r\n\r\n", "unreachable"),
        (b"", "unreachable"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1_000_000, "unreachable"),
    ],
)
async def test_unusable_answers_are_failures(receiver: Receiver, reply: bytes, outcome: str) -> None:
    table = receiver.table()
    receiver.answer = receiver.send(reply)
    with structlog.testing.capture_logs() as logged:
        assert await failure(table, "remote") == outcome
    assert counted(table) == {("remote", "certificate_provider", outcome): 1}
    assert (logged[0]["function"], logged[0]["outcome"]) == ("remote", outcome)
    assert SECRET.decode() not in str(logged) + repr(table._functions)
    assert dict(table.running()) == {("remote",): 0}


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\na: b", b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_an_answer_that_drips_takes_no_longer_than_the_limit(receiver: Receiver, head: bytes) -> None:
    receiver.answer = receiver.send(head, *[b" "] * 10_000, pause=0.01)
    table = receiver.table(timeout=0.3)
    assert await failure(table, "remote") == "timeout"
    async with asyncio.timeout(30):
        await receiver.closed.wait()  # the connection is closed, too


async def test_a_closed_port_and_a_hanging_one() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as silent:
        port = silent.getsockname()[1]
        hanging = Function("hanging", frozenset({ACCOUNT}), f"http://127.0.0.1:{port}/", secret=SECRET)
        table = FunctionTable(Functions({"hanging": hanging}), timeout=0.3)
        assert await failure(table, "hanging") == "timeout"
    assert await failure(table, "hanging") == "unreachable"


async def test_the_next_address_of_a_host_is_tried(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    def two(host: str, *_: object, **__: object) -> object:
        assert host == "hooks.example.org"
        return [(0, 0, 0, "", ("127.0.0.2", 0)), (0, 0, 0, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    url = f"http://hooks.example.org:{receiver.port}/"
    table = FunctionTable(Functions({"f": Function("f", frozenset({ACCOUNT}), url, secret=SECRET)}))
    assert await call(table, "f") == {}
    assert b"host: hooks.example.org:%d\r\n" % receiver.port in receiver.requests[0].lower()


@pytest.mark.parametrize(
    ("overrides", "usable"), [({"Site": "x"}, True), ({"Site": "a\0"}, False), ({"a\0": "x"}, False), ("x", False)]
)
async def test_overrides_are_texts_that_a_store_takes(receiver: Receiver, overrides: Any, usable: bool) -> None:
    receiver.answer = receiver.send(
        answer(json.dumps({"allowProvisioning": True, "parameterOverrides": overrides}).encode())
    )
    asked = ask_hook(receiver.table(), ACCOUNT, Hook(arn("remote")), EVENT)
    if usable:
        assert await asked == overrides
    else:
        with pytest.raises(ProvisioningRefused, match="invalid format"):
            await asked


# -- TLS ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "trusted", "outcome"),
    [("localhost", True, "ok"), ("127.0.0.1", True, "unreachable"), ("localhost", False, "unreachable")],
    ids=["verified", "another name", "another CA"],
)
async def test_the_certificate_of_a_url_is_verified(
    receiver: Receiver, tmp_path: Path, host: str, trusted: bool, outcome: str
) -> None:
    ca, key = new_issuer(), ec.generate_private_key(ec.SECP256R1())
    own = ca.sign("hooks", key, extensions=[x509.SubjectAlternativeName([x509.DNSName("localhost")])])
    (tmp_path / "server.pem").write_text(pem(own) + key_pem(key))
    (tmp_path / "ca.pem").write_text(ca.pem if trusted else new_issuer().pem)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "server.pem")
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    url = f"https://{host}:{port}/"
    function = Function("f", frozenset({ACCOUNT}), url, secret=SECRET, ca_file=tmp_path / "ca.pem")
    table = FunctionTable(Functions({"f": function}))
    if outcome == "ok":
        assert await call(table, "f") == {}
    else:
        assert await failure(table, "f") == outcome
        assert receiver.requests == []
    server.close()
