"""PROXY headers as TLS proxies write them, and invalid ones."""

from __future__ import annotations

import contextlib
import hashlib
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thingmint.mqtt.peer import Peer
from thingmint.mqtt.tls.proxy_protocol import MAX_HEADER_BYTES, ProxyError, ProxyHeader, TlvTypes, parse_header

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
IPV4 = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + struct.pack("!HH", 40001, 8883)
IPV6 = bytes.fromhex("20010db8000000000000000000000001" * 2) + struct.pack("!HH", 40001, 8883)
MAPPED = bytes.fromhex("00000000000000000000ffffc0000201" * 2) + struct.pack("!HH", 40001, 8883)
DER = b"\x30\x03\x02\x01\x05"
DIGEST = hashlib.sha256(DER)
TYPES = TlvTypes()


def tlv(type: int, value: bytes) -> bytes:
    return struct.pack("!BH", type, len(value)) + value


def tls(client: int = 0x07, verify: int = 0, *nested: bytes) -> bytes:
    return tlv(0x20, struct.pack("!BI", client, verify) + b"".join(nested))


def header(*tlvs: bytes, family: int = 0x11, addresses: bytes = IPV4, command: int = 0x21) -> bytes:
    body = addresses + b"".join(tlvs)
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


def parse(data: bytes, types: TlvTypes = TYPES) -> ProxyHeader:
    parsed = parse_header(data, types)
    assert parsed is not None
    assert parsed[1] == len(data)
    return parsed[0]


def header_with(**facts: Any) -> ProxyHeader:
    given: dict[str, Any] = {"address": "192.0.2.1", "port": 40001} | facts
    return ProxyHeader(**given)


UNKNOWN: dict[str, Any] = {"address": None, "port": 0}

# What HAProxy 2.6 sends with `unique-id-format %[ssl_c_der,sha2(256),hex]` and
# `send-proxy-v2-ssl-cn proxy-v2-options unique-id,ssl,cert-cn` for a self-signed certificate (verify code 18).
HAPROXY = header(
    tlv(0x05, DIGEST.hexdigest().upper().encode()),
    tls(0x07, 18, tlv(0x21, b"TLSv1.3"), tlv(0x22, b"thermometer-1")),
)

GOOD = {
    "haproxy": (
        HAPROXY,
        header_with(fingerprint=DIGEST.hexdigest(), common_name="thermometer-1", verified=False, tls_version="TLSv1.3"),
    ),
    "haproxy, no certificate": (
        header(tlv(0x05, b"-"), tls(0x01, 0, tlv(0x21, b"TLSv1.2"))),
        header_with(verified=True, tls_version="TLSv1.2"),
    ),
    "haproxy, resumed": (
        header(tlv(0x05, DIGEST.hexdigest().encode()), tls(0x05)),
        header_with(fingerprint=DIGEST.hexdigest(), verified=True),
    ),
    "nginx with njs": (
        header(tlv(0xE0, DIGEST.digest()), tlv(0xE1, DER)),
        header_with(fingerprint=DIGEST.hexdigest(), certificate=DER),
    ),
    "digest in hex": (header(tlv(0xE0, DIGEST.hexdigest().encode())), header_with(fingerprint=DIGEST.hexdigest())),
    "only a certificate": (header(tlv(0xE1, DER)), header_with(fingerprint=DIGEST.hexdigest(), certificate=DER)),
    "nested certificate": (
        header(tls(0x03, 20, tlv(0x21, b"TLS 1.3"), tlv(0x28, DER))),
        header_with(fingerprint=DIGEST.hexdigest(), certificate=DER, verified=False, tls_version="TLSv1.3"),
    ),
    "nothing": (header(), header_with()),
    "name and protocol": (
        header(tlv(0x02, b"IoT.example.org."), tlv(0x01, b"x-amzn-mqtt-ca")),
        header_with(sni="iot.example.org", alpn="x-amzn-mqtt-ca"),
    ),
    "padding twice, unknown type": (header(tlv(0x04, bytes(9)), tlv(0x04, b""), tlv(0xEE, b"x")), header_with()),
    "ipv6": (header(family=0x21, addresses=IPV6), header_with(address="2001:db8::1")),
    "ipv4 in ipv6": (header(family=0x21, addresses=MAPPED), header_with()),
    "unix": (header(tlv(0xE1, DER), family=0x31, addresses=bytes(216)),
             ProxyHeader(**UNKNOWN, fingerprint=DIGEST.hexdigest(), certificate=DER)),
    "unspecified": (header(family=0x00, addresses=b""), ProxyHeader(**UNKNOWN)),
    "local": (header(command=0x20), ProxyHeader(**UNKNOWN, is_local=True)),
    "local, of no family": (header(command=0x20, family=0, addresses=b""), ProxyHeader(**UNKNOWN, is_local=True)),
    # A health check has no identity, even if it sends a certificate.
    "local, with a certificate": (header(tlv(0xE1, DER), command=0x20), ProxyHeader(**UNKNOWN, is_local=True)),
}  # fmt: skip

BAD = {
    "http": (b"GET / HTTP/1.1\r\n", "no PROXY"),
    "one wrong byte": (SIGNATURE[:11] + b"!", "no PROXY"),
    "version 1": (b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r\n", "version 1"),
    "another version": (header(command=0x11), "version or command"),
    "another command": (header(command=0x22), "version or command"),
    "datagrams": (header(family=0x12), "not a stream"),
    "another family": (header(family=0x41), "address family"),
    "short addresses": (header(addresses=IPV4[:-1]), "cut short"),
    "too long": (SIGNATURE + struct.pack("!BBH", 0x21, 0x11, MAX_HEADER_BYTES), "too long"),
    "half a tlv": (header(b"\x05"), "cut short"),
    "a tlv beyond the end": (header(b"\x05\x00\x09abc"), "cut short"),
    "a short ssl tlv": (header(tlv(0x20, b"\x01\0\0\0")), "cut short"),
    "a nested tlv beyond the end": (header(tls(0x07, 0, b"\x21\x00\x09abc")), "cut short"),
    "twice": (header(tlv(0x05, DIGEST.digest()), tlv(0x05, DIGEST.digest())), "twice"),
    "twice, nested": (header(tls(0x07, 0, tlv(0x22, b"a"), tlv(0x22, b"b"))), "twice"),
    "digest too short": (header(tlv(0x05, b"0A1B2C")), "not a SHA-256"),
    "digest with a line feed": (header(tlv(0x05, DIGEST.hexdigest().encode() + b"\n")), "not a SHA-256"),
    "two digests": (header(tlv(0x05, DIGEST.digest()), tlv(0xE0, bytes(32))), "two different"),
    "two certificates": (header(tlv(0xE1, DER), tls(0x07, 0, tlv(0x28, DER + b"x"))), "two different"),
    "digest of another certificate": (header(tlv(0xE0, bytes(32)), tlv(0xE1, DER)), "does not match the certificate"),
    "certificate without client certificate flag": (
        header(tlv(0x05, DIGEST.digest()), tls(0x01)),
        "the client sent none",
    ),
    "certificate without TLS": (header(tls(0x00, 0, tlv(0x28, DER))), "did not use TLS"),
    "name not UTF-8": (header(tls(0x07, 0, tlv(0x22, b"\xff"))), "UTF-8"),
    "a wrong checksum": (header(tlv(0x03, bytes(4))), "checksum"),
    "a short checksum": (header(tlv(0x03, bytes(3))), "checksum"),
}


@pytest.mark.parametrize("name", GOOD)
def test_headers_of_proxies_are_parsed(name: str) -> None:
    data, expected = GOOD[name]
    assert parse(data) == expected


@pytest.mark.parametrize("name", BAD)
def test_invalid_headers_are_refused(name: str) -> None:
    data, message = BAD[name]
    with pytest.raises(ProxyError, match=message):
        parse_header(data, TYPES)


@pytest.mark.parametrize("name", GOOD)
def test_truncated_headers_wait_for_more_bytes(name: str) -> None:
    data, expected = GOOD[name]
    for length in range(len(data)):
        assert parse_header(data[:length], TYPES) is None
    assert parse_header(data + b"\x10\x0c what the client says", TYPES) == (expected, len(data))


def test_a_wrong_signature_is_refused_immediately() -> None:
    for length in range(12):
        with pytest.raises(ProxyError):
            parse_header(SIGNATURE[:length] + b"!", TYPES)


def test_the_checksum_is_verified() -> None:
    # The CRC-32C of a header, computed independently, bit by bit.
    unsigned = header(tlv(0x03, bytes(4)), tlv(0xE1, DER))
    checksum = 0xFFFFFFFF
    for byte in unsigned:
        checksum ^= byte
        for _ in range(8):
            checksum = checksum >> 1 ^ (0x82F63B78 if checksum & 1 else 0)
    signed = header(tlv(0x03, (checksum ^ 0xFFFFFFFF).to_bytes(4, "big")), tlv(0xE1, DER))
    assert parse(signed).certificate == DER
    with pytest.raises(ProxyError, match="checksum"):
        parse_header(signed[:-1] + b"\x06", TYPES)


def test_tlv_types_can_be_configured() -> None:
    types = TlvTypes(fingerprint=(0xE7,), certificate=(), nested_certificate=None)
    data = header(tlv(0x05, b"a request's id"), tlv(0xE7, DIGEST.digest()), tlv(0xE1, b"x"), tls(7, 0, tlv(0x28, b"y")))
    assert parse(data, types) == header_with(fingerprint=DIGEST.hexdigest(), verified=True)


def test_a_header_becomes_a_peer() -> None:
    assert parse(HAPROXY).peer(("10.0.0.1", 7)) == Peer(
        "192.0.2.1", 40001, fingerprint=DIGEST.hexdigest(), tls_version="TLSv1.3"
    )
    assert parse(GOOD["local"][0]).peer(("10.0.0.1", 7)) == Peer("10.0.0.1", 7)


@given(st.binary(max_size=400))
def test_random_bytes(data: bytes) -> None:
    harmless(data)


@given(st.sampled_from([0x00, 0x11, 0x21, 0x31]), st.binary(max_size=600))
def test_random_bytes_after_a_valid_prefix(family: int, body: bytes) -> None:
    harmless(SIGNATURE + struct.pack("!BBH", 0x21, family, len(body)) + body)


@given(st.lists(st.tuples(st.sampled_from([1, 2, 3, 4, 5, 0x20, 0xE0, 0xE1]), st.binary(max_size=80)), max_size=6))
def test_random_tlvs(tlvs: list[tuple[int, bytes]]) -> None:
    harmless(header(*(tlv(type, value) for type, value in tlvs)))


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_changing_one_byte_is_harmless(name: str, choose: st.DataObject) -> None:
    data = bytearray(GOOD[name][0])
    data[choose.draw(st.integers(0, len(data) - 1))] = choose.draw(st.integers(0, 255))
    harmless(bytes(data))


def harmless(data: bytes) -> None:
    with contextlib.suppress(ProxyError):
        parse_header(data, TYPES)
