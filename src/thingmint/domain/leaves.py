"""Devices' certificates as their issuers know them: by who signed them, and under which serial number."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from thingmint.domain.certificates import Certificate, fingerprint_of, parse_x509
from thingmint.domain.errors import InvalidCertificate
from thingmint.domain.keys import OWN_KEYS

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Leaf", "is_signed_by", "parse_leaf", "read_leaf", "twin_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """``issuer`` is the DER of the name of who is said to have signed it, ``serial`` that one's number of it in hex."""

    certificate: Certificate
    content: x509.Certificate
    issuer: bytes
    serial: str

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint

    def flaw(self, now: datetime) -> str | None:
        """Why it is not taken without anybody's having a look at it, as a phrase that fits after "it", or None."""
        if _is_authority(self.content):
            return "is the certificate of an authority, not of a device"
        if now < self.certificate.not_before:
            return f"is not valid before {self.certificate.not_before.isoformat()}"
        if now > self.certificate.not_after:
            return f"ended on {self.certificate.not_after.isoformat()}"
        return None


def parse_leaf(text: str, field: str) -> Leaf:
    """The one certificate in ``text``. Raises InvalidCertificate."""
    return _leaf(*parse_x509(text, field, OWN_KEYS), field)


def read_leaf(der: bytes) -> Leaf:
    """Raises InvalidCertificate."""
    field = "certificate"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = x509.load_der_x509_certificate(der)
            certificate = Certificate.of(content)
            violation = OWN_KEYS.violation(content.public_key())
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise InvalidCertificate(field, "cannot be read") from None
    if violation is not None:
        raise InvalidCertificate(field, f"has {violation}")
    return _leaf(certificate, content, field)


def is_signed_by(content: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether ``authority`` is named as the issuer and its key made the signature, over no weaker hash than SHA-224.

    Nothing else is looked at.
    """
    try:
        content.verify_directly_issued_by(authority)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def twin_of(leaf: Leaf, authority: x509.Certificate) -> str | None:
    """The fingerprint of the other certificate that anybody can make of this one, if there is one.

    Of an ECDSA signature (r, s), (r, n - s) is one too (SEC 1 4.1.4 verifies both), so the same content has two
    fingerprints. Other signatures that we verify have one form.
    """
    key = authority.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return None
    content = leaf.content
    r, s = decode_dss_signature(content.signature)
    signature = encode_dss_signature(r, key.curve.group_order - s)
    signed = content.tbs_certificate_bytes
    inner = _content(leaf.certificate.der)
    algorithm = inner[len(signed) : len(signed) + 2 + inner[len(signed) + 1]]  # far shorter than 128 bytes
    return fingerprint_of(_tlv(0x30, signed + algorithm + _tlv(0x03, b"\0" + signature)))


def _leaf(certificate: Certificate, content: x509.Certificate, field: str) -> Leaf:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Leaf(certificate, content, content.issuer.public_bytes(), f"{content.serial_number:x}")
    except ValueError:
        raise InvalidCertificate(field, "has an issuer that cannot be read") from None


def _is_authority(content: x509.Certificate) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return content.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return True  # what cannot be read is not a device's either


def _content(der: bytes) -> bytes:
    """Of one element of DER."""
    return der[2 + (der[1] & 0x7F) :] if der[1] & 0x80 else der[2:]


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content
