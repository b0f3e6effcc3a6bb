"""HTTP without a client library: sends requests as exact bytes, and reads answers strictly."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from thingmint.testing import RunningServer

__all__ = ["Answer", "NoAnswer", "answers", "connected", "exchange", "one_request", "read_answer", "until"]

_TIMEOUT = 20.0  # seconds, for any single read


class NoAnswer(Exception):
    """The connection ended before a complete answer; ``received`` has the bytes so far."""

    def __init__(self, received: bytes) -> None:
        super().__init__(f"no complete answer, only {received[:200]!r}")
        self.received = received


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def aws_code(self) -> str | None:
        return self.headers.get("x-amzn-errortype")


@contextlib.contextmanager
def connected(server: RunningServer, *, tls: bool = False) -> Iterator[socket.socket]:
    """A connection to the plain listener, or to the TLS one."""
    with contextlib.ExitStack() as stack:
        address = ("127.0.0.1", server.ports["api" if tls else "http"])
        sock = stack.enter_context(socket.create_connection(address, timeout=_TIMEOUT))
        if tls:
            context = ssl.create_default_context(cafile=str(server.ca))
            sock = stack.enter_context(context.wrap_socket(sock, server_hostname="localhost"))
        yield sock


def read_answer(sock: socket.socket, buffered: bytearray) -> Answer:
    """The next answer. Bytes after it stay in ``buffered``. Raises NoAnswer."""
    while b"\r\n\r\n" not in buffered:
        _more(sock, buffered)
    head, _, rest = bytes(buffered).partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    version, status, *_ = status_line.split(" ")
    assert version == "HTTP/1.1", status_line
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if status == "100":
        buffered[:] = rest
        return read_answer(sock, buffered)
    length = int(headers["content-length"])
    while len(buffered) < len(head) + 4 + length:
        _more(sock, buffered)
    body = bytes(buffered[len(head) + 4 : len(head) + 4 + length])
    del buffered[: len(head) + 4 + length]
    return Answer(int(status), headers, body)


def _more(sock: socket.socket, buffered: bytearray) -> None:
    try:
        piece = sock.recv(65536)
    except (ConnectionError, ssl.SSLError):
        piece = b""
    if not piece:
        raise NoAnswer(bytes(buffered))
    buffered += piece


def answers(server: RunningServer, raw: bytes, *, tls: bool = False, count: int = 1) -> list[Answer]:
    """``count`` answers to the bytes ``raw`` on a new connection. Raises NoAnswer."""
    with connected(server, tls=tls) as sock:
        # The server can answer and close before it has read everything.
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            sock.sendall(raw)
        buffered = bytearray()
        return [read_answer(sock, buffered) for _ in range(count)]


def one_request(method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if body and not any(name.lower() in ("content-length", "transfer-encoding") for name in headers):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def exchange(
    server: RunningServer,
    method: str,
    target: str,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    *,
    tls: bool = False,
) -> Answer:
    """The answer to a request that is sent unchanged; only a Host header is added if ``headers`` has none."""
    given = dict(headers or {})
    if not any(name.lower() == "host" for name in given):
        given["host"] = f"127.0.0.1:{server.ports['api' if tls else 'http']}"
    return answers(server, one_request(method, target, given, body), tls=tls)[0]


def until(condition: Callable[[], Any], *, seconds: float, what: str) -> Any:
    """Polls ``condition`` until its result is true, and returns the result."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still not, after {seconds} s: {what}"
        time.sleep(0.02)
    return value


def check_common_refusal(answer: Answer, status: int) -> None:
    """Checks a refusal before the API is known, which clients of every API can read."""
    assert answer.status == status
    document = answer.json()
    assert set(document) == {"success", "error", "message"}
    assert document["error"] == {"code": "VALIDATION_ERROR", "message": document["message"]}
    assert answer.aws_code == "InvalidRequestException"
    assert answer.headers["connection"] == "close"
