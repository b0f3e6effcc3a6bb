"""Which protocols a TLS client offers: read from real ClientHellos, whole, in pieces, and damaged."""

from __future__ import annotations

import random
import ssl
from typing import TYPE_CHECKING

import pytest

from thingmint.http.client_hello import MAX_HELLO, ClientHello, read_hello

if TYPE_CHECKING:
    from collections.abc import Sequence


def hello(protocols: Sequence[str] = (), name: str = "localhost") -> bytes:
    """What OpenSSL sends first."""
    context = ssl.create_default_context()
    if protocols:
        context.set_alpn_protocols(list(protocols))
    sent = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


def in_records(sent: bytes, size: int) -> bytes:
    """The same message in records of ``size`` bytes."""
    message = sent[5:]
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2) + piece for piece in pieces)


@pytest.mark.parametrize("protocols", [(), ("h2",), ("http/1.1",), ("h2", "http/1.1"), ("grpc-exp", "h2")])
@pytest.mark.parametrize("size", [10_000, 100, 7])
def test_the_protocols_are_read_in_any_records(protocols: tuple[str, ...], size: int) -> None:
    sent = in_records(hello(protocols), size)
    for data in (sent, sent + b"further data"):
        assert read_hello(data) == ClientHello([protocol.encode() for protocol in protocols] or (), "localhost")


def test_a_message_that_goes_on_needs_more_data() -> None:
    sent = hello(["h2"])
    assert [read_hello(sent[:end]) for end in range(len(sent))] == [None] * len(sent)
    assert read_hello(sent) == ClientHello([b"h2"], "localhost")


@pytest.mark.parametrize("name", ["iot.example.org", "IOT.Example.ORG", "xn--e1afmkfd.example"])
def test_the_server_name_is_read(name: str) -> None:
    assert read_hello(hello(name=name)) == ClientHello((), name.lower())


def test_a_client_may_ask_for_no_name() -> None:
    assert read_hello(hello(name="127.0.0.1")) == ClientHello()


def test_names_that_are_not_ascii_are_escaped() -> None:
    sent = hello(name="localhost").replace(b"localhost", b"l\xf6calhost")
    assert read_hello(sent) == ClientHello((), "l\\xf6calhost")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x80\x2e\x01\x00\x02",  # SSL 2
        b"\x16\x02",  # no such version
        b"\x16\x03\x01\xff\xff",  # a record that is too long
        b"\x16\x03\x01\x00\x01\x02",  # a ServerHello
        b"\x15\x03\x01\x00\x02\x02\x28",  # an alert
        hello()[:60] + b"\x00" * 16,
    ],
)
def test_other_data_offers_nothing(data: bytes) -> None:
    assert read_hello(data + b"\x00" * 1000) == ClientHello()


def test_a_whole_message_with_wrong_lengths_offers_nothing() -> None:
    sent = bytearray(hello(["h2"]))
    at = 5 + 4 + 34
    sent[at] = 255  # the length of the session id
    assert read_hello(bytes(sent)) == ClientHello()


def test_damaged_messages_are_answered_at_once() -> None:
    chance = random.Random(1)
    sent = hello(["h2", "http/1.1"])
    for _ in range(3000):
        damaged = bytearray(sent)
        for _ in range(chance.randrange(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        found = read_hello(bytes(damaged))
        assert found is None or all(isinstance(each, bytes) for each in found.protocols)


def test_a_message_without_end_is_bounded() -> None:
    header = b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff" + b"\x03\x03" + b"\x00" * 36
    endless = header + b"\xff\xff" + b"\x00\x15\xff\xff" + b"\x00" * 200_000  # one extension of padding
    assert read_hello(endless[: MAX_HELLO - 1]) is None
    assert read_hello(endless[:MAX_HELLO]) == ClientHello()
