"""The lenient reader: the parts of a certificate or signing request in BER.

The strict reader, which is cryptography's, comes first. It accepts only DER that follows RFC 5280, and refuses some
certificates that OpenSSL, mbedTLS and Go read. The lenient reader is enough for parts that are only compared byte by
byte.
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

# RFC 5280 4.1.2.5 requires seconds and Z, as DER does (X.690 11.7 and 11.8). BER allows all of these forms.
_ZONE: Final = rb"(Z|[+-][0-9]{4}|)"
_UTC_TIME: Final = re.compile(rb"([0-9]{2})([0-9]{8}(?:[0-9]{2})?)" + _ZONE)
_GENERALIZED_TIME: Final = re.compile(rb"([0-9]{4})([0-9]{6}(?:[0-9]{2}){0,2})(?:[.,][0-9]{1,9})?" + _ZONE)
_WITHOUT_SECONDS: Final = {der.UTC_TIME: 10, der.GENERALIZED_TIME: 12}
"""By tag: how many digits a time without seconds has, at most."""
# Finds the first attribute of each set in a name, if its type has 3 to 12 bytes. Groups: tag and length of the value.
_TYPES: Final = b"|".join(b"\\x%02x.{%d}" % (size, size) for size in range(3, 13))
_LENGTH: Final = rb"(?:[\x00-\x7f]|\x81.|\x82..)"
_ATTRIBUTE: Final = re.compile(rb"\x31%s\x30%s\x06(?:%s)(.)(.)" % (_LENGTH, _LENGTH, _TYPES), re.DOTALL)
_SHORT_TIME: Final = re.compile(rb"\x17[\x00-\x0c][0-9]{4}|\x18[\x00-\x0e][0-9]{4}")
_UTF8_STRING: Final = 0x0C
_SHORT: Final = 0x7F  # the most bytes whose length is encoded in one byte
# Tags of the string types that the TLS library reads in a name.
TLS_STRINGS: Final = frozenset({0x03, 0x0C, 0x12, 0x13, 0x14, 0x16, 0x1C, 0x1E})


@dataclass(frozen=True, slots=True, eq=False)
class CertificateParts:
    """``der`` is the whole certificate. The other parts of type bytes keep their original encoding.

    ``algorithm`` is the signature algorithm inside the signed part.
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
        """Read a certificate, and ignore the bytes after it. Raises ber.Malformed."""
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
        """The first and the last time of the validity; None for a time that cannot be read."""
        begin, end = ber.elements(self.validity)
        return _time(begin), _time(end)

    @property
    def has_odd_time(self) -> bool:
        """True if a time of the validity has a form that the TLS library cannot read, although other libraries can."""
        return any(map(_is_odd, ber.elements(self.validity)))


@dataclass(frozen=True, slots=True, eq=False)
class RequestParts:
    """``subject`` and ``key`` keep their original encoding."""

    subject: bytes
    key: bytes
    signature: Signature

    @classmethod
    def of(cls, encoded: bytes) -> RequestParts:
        """Read a signing request. Raises ber.Malformed."""
        signature = Signature.of(ber.first(encoded))
        parts = ber.elements(signature.signed)
        # RFC 2986 4.1: attributes are [0] and required, but some encoders leave them out.
        if _tags(parts[:3]) != _OF_REQUEST or any(part[0] != _ATTRIBUTES for part in parts[3:]):
            raise ber.Malformed("not a signing request")
        return cls(subject=parts[1], key=parts[2], signature=signature)


def _tags(parts: list[bytes]) -> list[int]:
    """Return the tags without the bit for constructed elements, which OpenSSL ignores too."""
    return [part[0] & ~der.CONSTRUCTED for part in parts]


def may_be_unreadable(encoded: bytes) -> bool:
    """True if the TLS library might refuse a certificate or request that the strict reader accepts.

    A quick first check: calling the TLS library takes ten times as long.
    """
    for attribute in _ATTRIBUTE.finditer(encoded):
        tag, size = attribute[1][0], attribute[2][0]
        text = encoded[attribute.end() : attribute.end() + size]
        if tag not in TLS_STRINGS or (tag == _UTF8_STRING and (size > _SHORT or not text.isascii())):
            return True
    return _SHORT_TIME.search(encoded) is not None


def as_tls_sends_it(encoded: bytes) -> bytes | None:
    """Return a certificate's bytes as the TLS library passes them on after a handshake; None if it cannot read them.

    The signed part keeps its original encoding, and the TLS library encodes the rest in DER.
    """
    try:
        return dump_certificate(FILETYPE_ASN1, load_certificate(FILETYPE_ASN1, encoded))
    except Error:
        return None


def ca_flaw(extensions: bytes | None) -> str | None:
    """Return a phrase that fits after "it" if the extensions make the certificate a CA's or are unreadable, else None.

    If there are several basicConstraints, each of them counts.
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
    """Yield the encoded type and value of each extension. Raises ber.Malformed and IndexError."""
    if extensions is None:
        return
    for extension in ber.elements(ber.elements(extensions)[0]):
        parts = ber.elements(extension)
        yield parts[0], parts[-1]


def _is_odd(time: bytes) -> bool:
    """True for a time without seconds or without a time zone."""
    text = ber.content(time)
    digits = len(text) - len(text.lstrip(b"0123456789"))
    return digits <= _WITHOUT_SECONDS.get(time[0], 0) or digits == len(text)


def _time(encoded: bytes) -> datetime | None:
    """Return the time, or None if it cannot be read."""
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
