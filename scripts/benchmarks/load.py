"""The load: one process that keeps N connections busy with prepared requests.

It must leave the cores to the server, so it does very little for a request: one receive, one send, and a check of the
answer's status and length. Run as a program, it reads one order from each line of standard input and writes one result
in a line. If an answer is not 200, it prints the answer on standard error and ends. ``grpc_client.py`` does the same
over gRPC.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import select
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

__all__ = ["GrpcMethod", "Load", "LoadFailed", "Outcome", "Target"]

_GRPC_CLIENT = Path(__file__).with_name("grpc_client.py")

_RECEIVE_BYTES = 256 * 1024
_SILENCE = 30.0  # seconds without any answer
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n")


class LoadFailed(Exception):
    """A request was not answered, or not with 200."""


@dataclass(frozen=True, slots=True)
class Target:
    """With ``ca``, the target is HTTPS."""

    port: int
    ca: Path | None = None
    host: str = "localhost"
    address: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class GrpcMethod:
    """The method to call if the requests are gRPC messages instead of HTTP. Needs a target with TLS."""

    path: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """``latencies`` are in seconds, sorted; ``cpu`` is the CPU time of the client itself, in seconds."""

    answered: int
    seconds: float
    cpu: float
    latencies: Sequence[float]

    @property
    def rate(self) -> float:
        return self.answered / self.seconds


class Load:
    """A context manager for the process and its open connections.

    Requests are sent in turn and repeated, unless ``once``: then each is sent one time only.
    """

    def __init__(
        self,
        target: Target,
        connections: int,
        requests: Sequence[bytes],
        *,
        grpc: GrpcMethod | None = None,
        once: bool = False,
    ) -> None:
        self._program = str(_GRPC_CLIENT) if grpc else __file__
        self._left = len(requests) if once else sys.maxsize
        self._order = {
            "address": target.address,
            "port": target.port,
            "host": target.host,
            "ca": str(target.ca) if target.ca else None,
            "connections": connections,
            "requests": [base64.b64encode(request).decode() for request in requests],
            "method": grpc.path if grpc else None,
            "metadata": list(grpc.metadata.items()) if grpc else [],
        }

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-I", self._program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._ask(self._order)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, *, seconds: float = 3600.0, count: int = sys.maxsize) -> Outcome:
        """Sends requests until ``seconds`` have passed or ``count`` are sent. Raises LoadFailed."""
        if not self._left:
            raise LoadFailed("all requests have been sent already")
        outcome = Outcome(**self._ask({"seconds": seconds, "count": min(count, self._left)}))
        self._left -= outcome.answered
        return outcome

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = b""
        if not answer:
            raise LoadFailed(self._process.stderr.read().decode(errors="replace").strip())
        result: dict[str, Any] = json.loads(answer)
        return result


class _Connection:
    """A keep-alive connection. TLS uses memory BIOs: one system call for each direction of a request."""

    def __init__(self, target: Target) -> None:
        self.socket = socket.create_connection((target.address, target.port), timeout=_SILENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        if target.ca is not None:
            context = ssl.create_default_context(cafile=str(target.ca))
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=target.host)
            self._handshake(self._tls)
        self._answer = b""
        self._length = 0  # of the whole answer, once its head is there
        self.sent_at = 0.0

    def send(self, request: bytes, now: float) -> None:
        self._answer, self._length, self.sent_at = b"", 0, now
        if self._tls is not None:
            self._tls.write(request)
            request = self._outgoing.read()
        self.socket.sendall(request)

    def receive(self) -> bool:
        """True if the answer is complete. Raises LoadFailed unless its status is 200."""
        data = self.socket.recv(_RECEIVE_BYTES)
        if not data:
            raise LoadFailed("the server closed a connection")
        if self._tls is None:
            return self._take(data)
        self._incoming.write(data)
        try:
            while not self._take(self._tls.read(_RECEIVE_BYTES)):
                pass
        except ssl.SSLWantReadError:
            return False
        return True

    def _take(self, data: bytes) -> bool:
        self._answer += data
        if not self._length:
            end = self._answer.find(b"\r\n\r\n")
            if end < 0:
                return False
            length = _CONTENT_LENGTH.search(self._answer, 0, end + 2)
            if length is None or not self._answer.startswith(b"HTTP/1.1 200 "):
                raise LoadFailed(f"not a 200: {self._answer[:1000].decode(errors='replace')}")
            self._length = end + 4 + int(length[1])
        return len(self._answer) >= self._length

    def _handshake(self, tls: ssl.SSLObject) -> None:
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self.socket.sendall(self._outgoing.read())
                self._incoming.write(self.socket.recv(_RECEIVE_BYTES))
            else:
                self.socket.sendall(self._outgoing.read())
                return


def _drive(connections: Sequence[_Connection], requests: Iterator[bytes], seconds: float, count: int) -> Outcome:
    by_descriptor = {connection.socket.fileno(): connection for connection in connections}
    latencies: list[float] = []
    with select.epoll() as poll:
        for descriptor in by_descriptor:
            poll.register(descriptor, select.EPOLLIN)
        cpu, start = time.process_time(), time.perf_counter()
        end, sent, open_ = start + seconds, 0, 0
        for connection in itertools.islice(connections, count):
            connection.send(next(requests), time.perf_counter())
            sent, open_ = sent + 1, open_ + 1
        while open_:
            events = poll.poll(_SILENCE)
            if not events:
                raise LoadFailed(f"no answer within {_SILENCE:.0f} seconds")
            for descriptor, _ in events:
                connection = by_descriptor[descriptor]
                if not connection.receive():
                    continue
                now = time.perf_counter()
                latencies.append(now - connection.sent_at)
                if now < end and sent < count:
                    connection.send(next(requests), now)
                    sent += 1
                else:
                    open_ -= 1
        took = time.perf_counter() - start
    latencies.sort()
    return Outcome(len(latencies), took, time.process_time() - cpu, latencies)


def _serve_orders() -> None:
    first = json.loads(sys.stdin.readline())
    target = Target(first["port"], Path(first["ca"]) if first["ca"] else None, first["host"], first["address"])
    requests = itertools.cycle([base64.b64decode(request) for request in first["requests"]])
    connections = [_Connection(target) for _ in range(first["connections"])]
    print("{}", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        outcome = _drive(connections, requests, order["seconds"], order["count"])
        fields = (outcome.answered, outcome.seconds, outcome.cpu, outcome.latencies)
        print(json.dumps(dict(zip(("answered", "seconds", "cpu", "latencies"), fields, strict=True))), flush=True)


if __name__ == "__main__":
    try:
        _serve_orders()
    except (LoadFailed, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
