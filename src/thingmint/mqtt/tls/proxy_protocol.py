"""Version 2 of the PROXY protocol, with which a TLS proxy forwards the identity of a client. Sans I/O.

The format is HAProxy's proxy-protocol.txt, section 2.2. Only a listener that no client but the proxy can reach may use
it: the sender of the header decides which certificate counts as proven.
"""

from __future__ import annotations

import functools
import re
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from thingmint.domain.certificates import fingerprint_of
from thingmint.domain.names import plain_address, server_name
from thingmint.mqtt.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


MAX_HEADER_BYTES = 16 * 1024  # the size of HAProxy's buffer; a certificate's DER is 0.5 to 4 KiB

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_PREFIX = struct.Struct("!12sBBH")
_TLV = struct.Struct("!BH")
_SSL = struct.Struct("!BI")

_ALPN, _AUTHORITY, _CRC32C, _UNIQUE_ID, _TLS = 0x01, 0x02, 0x03, 0x05, 0x20
_TLS_VERSION, _TLS_COMMON_NAME, _TLS_CLIENT_CERTIFICATE = 0x21, 0x22, 0x28
_CLIENT_TLS, _CLIENT_CERTIFICATE_NOW, _CLIENT_CERTIFICATE_SESSION = 0x01, 0x02, 0x04

# By address family and transport: the length of all addresses, and the length of the first one.
_IPV4_BYTES, _IPV6_BYTES = 4, 16
_STREAMS = {0x00: (0, 0), 0x11: (12, _IPV4_BYTES), 0x21: (36, _IPV6_BYTES), 0x31: (216, 108)}

_HEX_DIGEST = re.compile(rb"[0-9a-fA-F]{64}")
_DIGEST_BYTES = 32
_NO_CERTIFICATE = (b"", b"-")  # what HAProxy's log formats write for a missing certificate


class ProxyError(ValueError):
    """There is no header, or it is invalid or contradictory. The text quotes nothing of the input."""


@dataclass(frozen=True, slots=True)
class TlvTypes:
    """The TLVs with the client certificate: its SHA-256 (hex, or 32 bytes), its DER, or both.

    HAProxy 2.6 can set only the unique id (0x05) to a custom text. 0xE0 and 0xE1 are Thingmint's, from the range for
    custom types. ``nested_certificate``: the type of a DER inside the SSL TLV, where some proxies write it.
    """

    fingerprint: tuple[int, ...] = (_UNIQUE_ID, 0xE0)
    certificate: tuple[int, ...] = (0xE1,)
    nested_certificate: int | None = _TLS_CLIENT_CERTIFICATE


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """The content of a header.

    ``address`` is None if the header has none: for LOCAL, the proxy's own connections (health checks), and for an
    unspecified address family. ``verified``: the proxy's verdict on the certificate chain, if any.
    """

    address: str | None
    port: int
    is_local: bool = False
    fingerprint: str | None = None
    certificate: bytes | None = None
    common_name: str | None = None
    verified: bool | None = None
    sni: str | None = None
    alpn: str | None = None
    tls_version: str | None = None

    def peer(self, real: tuple[str, int]) -> Peer:
        """``real`` is the address and port of the connection itself, used if the header has none."""
        address, port = real if self.address is None else (self.address, self.port)
        return Peer(
            address=address,
            port=port,
            fingerprint=self.fingerprint,
            certificate=self.certificate,
            sni=self.sni,
            alpn=self.alpn,
            tls_version=self.tls_version,
        )


def parse_header(data: bytes | bytearray, types: TlvTypes) -> tuple[ProxyHeader, int] | None:
    """Returns the header at the start of ``data`` and its length in bytes; None while it is incomplete.

    Raises ProxyError, as soon as ``data`` cannot become a header of at most MAX_HEADER_BYTES.
    """
    if data[:12] != _SIGNATURE[: len(data)]:
        if data.startswith(b"PROXY"):
            raise ProxyError("version 1 of the PROXY protocol, which cannot carry a certificate")
        raise ProxyError("no PROXY protocol header")
    if len(data) < _PREFIX.size:
        return None
    _, version_and_command, family, length = _PREFIX.unpack_from(data)
    version, command = divmod(version_and_command, 16)
    if version != 2 or command > 1:
        raise ProxyError("an unknown version or command")
    end = _PREFIX.size + length
    if end > MAX_HEADER_BYTES:
        raise ProxyError("the header is too long")
    if len(data) < end:
        return None
    header = bytes(data[:end])
    if command == 0:
        return ProxyHeader(None, 0, is_local=True), end
    if family not in _STREAMS:
        raise ProxyError("an unknown address family, or not a stream")
    size, _ = _STREAMS[family]
    if length < size:
        raise ProxyError("the addresses are cut short")
    start = _PREFIX.size
    address, port = _source(family, header[start : start + size])
    return _with_tlvs(header, start + size, address, port, types), end


def _source(family: int, addresses: bytes) -> tuple[str | None, int]:
    _, width = _STREAMS[family]
    if width == _IPV4_BYTES:
        text = str(IPv4Address(addresses[:width]))
    elif width == _IPV6_BYTES:
        text = plain_address(str(IPv6Address(addresses[:width])))
    else:
        return None, 0
    port: int = struct.unpack_from("!H", addresses, 2 * width)[0]
    return text, port


def _with_tlvs(header: bytes, start: int, address: str | None, port: int, types: TlvTypes) -> ProxyHeader:
    tlvs: dict[int, bytes] = {}
    for type, at, value in _tlvs(header, start):
        if type == _CRC32C:
            _check_crc32c(header, at, value)
        _add(tlvs, type, value)
    client, verify, nested = _tls(tlvs.get(_TLS))
    certificate = _certificate(tlvs, nested, types)
    fingerprint = _fingerprint(tlvs, types)
    if certificate is not None:
        proven = fingerprint_of(certificate)
        if fingerprint not in (None, proven):
            raise ProxyError("the fingerprint does not match the certificate")
        fingerprint = proven
    shown = client is None or client & (_CLIENT_CERTIFICATE_NOW | _CLIENT_CERTIFICATE_SESSION)
    if fingerprint is not None and not shown:
        raise ProxyError("a certificate, but the header says that the client sent none")
    return ProxyHeader(
        address,
        port,
        fingerprint=fingerprint,
        certificate=certificate,
        common_name=_text(nested.get(_TLS_COMMON_NAME)),
        verified=None if verify is None else verify == 0,
        sni=server_name(tlvs.get(_AUTHORITY)),
        alpn=_text(tlvs.get(_ALPN)),
        tls_version=_tls_version(nested.get(_TLS_VERSION)),
    )


def _tlvs(data: bytes, start: int) -> Iterator[tuple[int, int, bytes]]:
    """Yields type, start of the value, and value of each TLV."""
    while start < len(data):
        if len(data) - start < _TLV.size:
            raise ProxyError("a TLV is cut short")
        type, length = _TLV.unpack_from(data, start)
        start += _TLV.size
        if length > len(data) - start:
            raise ProxyError("a TLV is cut short")
        yield type, start, data[start : start + length]
        start += length


def _add(tlvs: dict[int, bytes], type: int, value: bytes) -> None:
    """Refuses a repeated type: it would be ambiguous which value identifies the client."""
    if type in tlvs and type != 0x04:  # padding
        raise ProxyError("a TLV occurs twice")
    tlvs[type] = value


def _tls(value: bytes | None) -> tuple[int | None, int | None, Mapping[int, bytes]]:
    """Parses the SSL TLV: the client's flags, the result of the verification, and the nested TLVs."""
    if value is None:
        return None, None, {}
    if len(value) < _SSL.size:
        raise ProxyError("the SSL TLV is cut short")
    client, verify = _SSL.unpack_from(value)
    nested: dict[int, bytes] = {}
    for type, _, inner in _tlvs(value, _SSL.size):
        _add(nested, type, inner)
    if nested and not client & _CLIENT_TLS:
        raise ProxyError("TLS details, but the header says that the client did not use TLS")
    return client, verify, nested


def _certificate(tlvs: Mapping[int, bytes], nested: Mapping[int, bytes], types: TlvTypes) -> bytes | None:
    found = {tlvs[type] for type in types.certificate if tlvs.get(type)}
    if types.nested_certificate is not None and nested.get(types.nested_certificate):
        found.add(nested[types.nested_certificate])
    if len(found) > 1:
        raise ProxyError("two different certificates")
    return found.pop() if found else None


def _fingerprint(tlvs: Mapping[int, bytes], types: TlvTypes) -> str | None:
    found = {_digest(tlvs[type]) for type in types.fingerprint if tlvs.get(type, b"") not in _NO_CERTIFICATE}
    if len(found) > 1:
        raise ProxyError("two different fingerprints")
    return found.pop() if found else None


def _digest(value: bytes) -> str:
    if len(value) == _DIGEST_BYTES:
        return value.hex()
    if _HEX_DIGEST.fullmatch(value):
        return value.decode("ascii").lower()
    raise ProxyError("a fingerprint that is not a SHA-256")


def _text(value: bytes | None) -> str | None:
    if not value:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ProxyError("a text that is not UTF-8") from None


def _tls_version(value: bytes | None) -> str | None:
    """Returns the version as OpenSSL writes it: ``TLSv1.3``. Some proxies write ``TLS 1.3``."""
    text = _text(value)
    return text and text.replace(" ", "v")


def _check_crc32c(header: bytes, at: int, value: bytes) -> None:
    """Section 2.2.3: the checksum covers the whole header, with zeros in place of the checksum."""
    if len(value) != 4 or _crc32c(header[:at] + bytes(4) + header[at + 4 :]) != int.from_bytes(value, "big"):
        raise ProxyError("the checksum is wrong")


@functools.cache
def _crc32c_table() -> tuple[int, ...]:
    """The table for Castagnoli's polynomial (RFC 3720, section 12.1), which zlib does not offer."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ 0x82F63B78 * (byte & 1)  # noqa: PLW2901 - shifted bit by bit
        table.append(byte)
    return tuple(table)


def _crc32c(data: bytes) -> int:
    table, checksum = _crc32c_table(), 0xFFFFFFFF
    for byte in data:
        checksum = checksum >> 8 ^ table[(checksum ^ byte) & 0xFF]
    return checksum ^ 0xFFFFFFFF
