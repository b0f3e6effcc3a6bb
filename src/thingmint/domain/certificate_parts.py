"""The parts of a certificate or signing request, however it is encoded: the lenient reader.

The strict reader, cryptography's, comes first. It keeps to DER and to RFC 5280, and so refuses what OpenSSL, mbedTLS
and Go read. What is only compared byte for byte needs no more than this.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from OpenSSL.crypto import FILETYPE_ASN1, Error, dump_certificate, load_certificate

from thingmint.domain import ber, der
from thingmint.domain.signatures import Signature

if TYPE_CHECKING:
    from collections.abc import Iterator

_INTEGER: Final = 0x02
_VERSION: Final = 0xA0
_EXTENSIONS: Final = 0xA3
_ATTRIBUTES: Final = 0xA0
_BOOLEAN: Final = 0x01
_BASIC_CONSTRAINTS: Final = bytes.fromhex("0603551d13")
_SEQUENCE: Final = der.SEQUENCE & ~der.CONSTRUCTED
_OF_CERTIFICATE: Final = [_INTEGER, *[_SEQUENCE] * 5]  # serial, algorithm, issuer, validity, subject, key
_OF_REQUEST: Final = [_INTEGER, *[_SEQUENCE] * 2]  # version, subject, key

# RFC 5280 4.1.2.5 wants seconds and Z; X.690 11.7 and 11.8 are DER's, and BER allows all of these.
_ZONE: Final = rb"(Z|[+-][0-9]{4}|)"
_UTC_TIME: Final = re.compile(rb"([0-9]{2})([0-9]{8}(?:[0-9]{2})?)" + _ZONE)
_GENERALIZED_TIME: Final = re.compile(rb"([0-9]{4})([0-9]{6}(?:[0-9]{2}){0,2})(?:[.,][0-9]{1,9})?" + _ZONE)
_WITHOUT_SECONDS: Final = {der.UTC_TIME: 10, der.GENERALIZED_TIME: 12}
"""How many digits a time has then, at the most."""
# The first attribute of a set in a name, with a type of 3 to 12 bytes: tag and length of its value.
_TYPES: Final = b"|".join(b"\\x%02x.{%d}" % (size, size) for size in range(3, 13))
_LENGTH: Final = rb"(?:[\x00-\x7f]|\x81.|\x82..)"
_ATTRIBUTE: Final = re.compile(rb"\x31%s\x30%s\x06(?:%s)(.)(.)" % (_LENGTH, _LENGTH, _TYPES), re.DOTALL)
_SHORT_TIME: Final = re.compile(rb"\x17[\x00-\x0c][0-9]{4}|\x18[\x00-\x0e][0-9]{4}")
_UTF8_STRING: Final = 0x0C
_SHORT: Final = 0x7F  # bytes, whose number is told in one
# Tags of what the TLS library reads in a name.
TLS_STRINGS: Final = frozenset({0x03, 0x0C, 0x12, 0x13, 0x14, 0x16, 0x1C, 0x1E})


@dataclass(frozen=True, slots=True, eq=False)
class CertificateParts:
    """``der`` is all of it. The parts that are bytes are encoded as they came; ``algorithm`` is the signature's, as
    it was signed.
    """

    der: bytes
    serial: int
    issuer: bytes
    subject: bytes
    validity: bytes
    key: bytes
    algorithm: bytes
    extensions: bytes | None
    signature: Signature

    @classmethod
    def of(cls, encoded: bytes) -> CertificateParts:
        """Bytes behind the certificate are no part of it. Raises ber.Malformed."""
        whole = ber.first(encoded)
        signature = Signature.of(whole)
        parts = ber.elements(signature.signed)
        if parts and parts[0][0] == _VERSION:
            del parts[0]
        if _tags(parts[:6]) != _OF_CERTIFICATE:
            raise ber.Malformed("not a certificate")
        serial, algorithm, issuer, validity, subject, key, *rest = parts
        if len(ber.elements(validity)) != 2:
            raise ber.Malformed("not a validity")
        return cls(
            der=whole,
            serial=int.from_bytes(ber.content(serial), "big", signed=True),
            issuer=issuer,
            subject=subject,
            validity=validity,
            key=key,
            algorithm=algorithm,
            extensions=next((part for part in rest if part[0] == _EXTENSIONS), None),
            signature=signature,
        )

    @property
    def period(self) -> tuple[datetime | None, datetime | None]:
        """From when until when it is valid; None for a time that cannot be read."""
        begin, end = ber.elements(self.validity)
        return _time(begin), _time(end)

    @property
    def has_odd_time(self) -> bool:
        """Whether one is written as the TLS library does not read it, though others do."""
        return any(map(_is_odd, ber.elements(self.validity)))


@dataclass(frozen=True, slots=True, eq=False)
class RequestParts:
    """``subject`` and ``key`` are encoded as they came."""

    subject: bytes
    key: bytes
    signature: Signature

    @classmethod
    def of(cls, encoded: bytes) -> RequestParts:
        """Raises ber.Malformed."""
        signature = Signature.of(ber.first(encoded))
        parts = ber.elements(signature.signed)
        # RFC 2986 4.1: attributes are [0], and not optional; some leave them out.
        if _tags(parts[:3]) != _OF_REQUEST or any(part[0] != _ATTRIBUTES for part in parts[3:]):
            raise ber.Malformed("not a signing request")
        return cls(subject=parts[1], key=parts[2], signature=signature)


def _tags(parts: list[bytes]) -> list[int]:
    """Whether they say to be constructed is not looked at, as OpenSSL does not."""
    return [part[0] & ~der.CONSTRUCTED for part in parts]


def may_be_unreadable(encoded: bytes) -> bool:
    """Whether a certificate or request that the strict reader takes holds what the TLS library might refuse.

    Asking it takes ten times as long.
    """
    for attribute in _ATTRIBUTE.finditer(encoded):
        tag, size = attribute[1][0], attribute[2][0]
        text = encoded[attribute.end() : attribute.end() + size]
        if tag not in TLS_STRINGS or (tag == _UTF8_STRING and (size > _SHORT or not text.isascii())):
            return True
    return _SHORT_TIME.search(encoded) is not None


def as_tls_sends_it(encoded: bytes) -> bytes | None:
    """The bytes of a certificate as the TLS library gives them to us in a handshake; None if it cannot read them.

    What was signed stays as it came, and what is around that is DER.
    """
    try:
        return dump_certificate(FILETYPE_ASN1, load_certificate(FILETYPE_ASN1, encoded))
    except Error:
        return None


def ca_flaw(extensions: bytes | None) -> str | None:
    """Whether they make a certificate that of an authority, as a phrase that fits after "it", or None.

    Each basicConstraints counts, should there be several.
    """
    try:
        values = [value for oid, value in _extensions(extensions) if oid == _BASIC_CONSTRAINTS]
        fields = [ber.elements(ber.content(value)) for value in values]
    except (ber.Malformed, IndexError):
        return "has extensions that cannot be read"
    if any(field and field[0][0] == _BOOLEAN and any(ber.content(field[0])) for field in fields):
        return "is the certificate of an authority, not of a device"
    return None


def _extensions(extensions: bytes | None) -> Iterator[tuple[bytes, bytes]]:
    """The type and the value of each, encoded. Raises ber.Malformed and IndexError."""
    if extensions is None:
        return
    for extension in ber.elements(ber.elements(extensions)[0]):
        parts = ber.elements(extension)
        yield parts[0], parts[-1]


def _is_odd(time: bytes) -> bool:
    """Without seconds or without a time zone."""
    text = ber.content(time)
    digits = len(text) - len(text.lstrip(b"0123456789"))
    return digits <= _WITHOUT_SECONDS.get(time[0], 0) or digits == len(text)


def _time(encoded: bytes) -> datetime | None:
    """None for what is no time."""
    is_utc_time = encoded[0] == der.UTC_TIME
    match = (_UTC_TIME if is_utc_time else _GENERALIZED_TIME).fullmatch(ber.content(encoded))
    if match is None:
        return None
    year, fields, zone = int(match[1]), match[2], match[3]
    if is_utc_time:
        year += 1900 if year >= 50 else 2000
    try:
        time = datetime(year, *(int(fields[at : at + 2]) for at in range(0, len(fields), 2)), tzinfo=UTC)  # type: ignore[arg-type,misc]  # in order
        if zone not in (b"", b"Z"):
            offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:]))
            time += -offset if zone[:1] == b"+" else offset
    except (ValueError, OverflowError):
        return None
    return time
