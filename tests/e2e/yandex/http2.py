"""A small part of HTTP/2 (RFC 9113), to send what gRPC libraries do not send."""

from __future__ import annotations

import socket
import ssl
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thingmint.testing import RunningServer

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def hpack(headers: Iterable[tuple[str, str]]) -> bytes:
    """Headers as literals without indexing (RFC 7541 section 6.2.2): not compact, but simple."""
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in headers)


def _text(value: str) -> bytes:
    raw = value.encode()
    return _prefixed(len(raw)) + raw


def _prefixed(number: int) -> bytes:
    if number < 127:
        return bytes([number])
    number -= 127
    encoded = bytearray([127])
    while number >= 128:
        encoded.append(number % 128 + 128)
        number //= 128
    return bytes([*encoded, number])


class Connection:
    """A connection to the gRPC port. It reads frames from the server only while it waits for something."""

    def __init__(self, server: RunningServer) -> None:
        tls = ssl.create_default_context(cafile=server.ca)
        tls.set_alpn_protocols(["h2"])
        plain = socket.create_connection(("127.0.0.1", server.ports["grpc"]), timeout=20)
        self.socket = tls.wrap_socket(plain, server_hostname="localhost")
        self._received = b""
        self.ended: set[int] = set()
        self.socket.sendall(_PREFACE)
        self.send(SETTINGS, 0, 0)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        self.socket.sendall(frame(kind, flags, stream, payload))

    def wait_for(self, kind: int, stream: int = 0, flag: int = 0) -> bytes:
        """The payload of the next frame of this kind with this flag. Raises ConnectionError if the connection ends."""
        while True:
            received_kind, flags, received_stream, payload = self._frame()
            if received_kind == SETTINGS and not flags & ACK:
                self.send(SETTINGS, ACK, 0)
            if (received_kind, received_stream) == (kind, stream) and flags & flag == flag:
                return payload

    def wait_for_the_end_of(self, stream: int) -> None:
        """Waits until the stream is answered or reset. Streams can end in any order. Raises ConnectionError."""
        while stream not in self.ended:
            self._frame()

    def _frame(self) -> tuple[int, int, int, bytes]:
        head = self._read(9)
        payload = self._read(int.from_bytes(head[:3], "big"))
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
            self.ended.add(stream)
        return kind, flags, stream, payload

    def _read(self, size: int) -> bytes:
        while len(self._received) < size:
            piece = self.socket.recv(65536)
            if not piece:
                raise ConnectionError("the server closed the connection")
            self._received += piece
        read, self._received = self._received[:size], self._received[size:]
        return read


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def message(content: bytes) -> bytes:
    """A gRPC message in the form of DATA frames."""
    return b"\0" + struct.pack(">I", len(content)) + content
