"""Certificates and certificate signing requests, as they come from outside and as we keep them."""

from __future__ import annotations

import hashlib
import re
import ssl
import warnings
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - a Table reads Certificate's annotations
from typing import TYPE_CHECKING, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from thingmint.domain.errors import Invalid, InvalidCertificate, InvalidSigningRequest
from thingmint.domain.keys import OWN_KEYS
from thingmint.domain.pem import PemKind, one_block

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from thingmint.domain.keys import KeyPolicy

T = TypeVar("T")

_CERTIFICATE = PemKind("certificate", ("CERTIFICATE",), InvalidCertificate)
_SIGNING_REQUEST = PemKind(
    "certificate signing request", ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"), InvalidSigningRequest
)

_WEAK_RSA = 2048  # bits
_BROKEN_RSA = 1024

_FINGERPRINT = re.compile(r"(?:0x)?([0-9a-fA-F]{64})")


def fingerprint_of(der: bytes) -> str:
    """SHA-256 of the DER in lower-case hex: AWS's certificateId, Yandex's fingerprint."""
    return hashlib.sha256(der).hexdigest()


def parse_fingerprint(text: str, field: str) -> str:
    """The canonical form of a fingerprint that a caller wrote (upper case and AWS's 0x prefix are folded)."""
    match = _FINGERPRINT.fullmatch(text)
    if match is None:
        raise Invalid(field, "must be 64 hexadecimal digits, the SHA-256 of the certificate's DER")
    return match[1].lower()


@dataclass(frozen=True, slots=True)
class Certificate:
    """An X.509 certificate: the DER and what we need to know of it."""

    der: bytes
    fingerprint: str
    not_before: datetime
    not_after: datetime

    @property
    def pem(self) -> str:
        return ssl.DER_cert_to_PEM_cert(self.der)

    @property
    def sha1(self) -> str:
        """The SHA-1 fingerprint, which some fleets know their certificates by. Never used as proof of anything."""
        return hashlib.sha1(self.der, usedforsecurity=False).hexdigest()

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Certificate:
        der = certificate.public_bytes(Encoding.DER)
        return cls(
            der=der,
            fingerprint=fingerprint_of(der),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
        )


@dataclass(frozen=True, slots=True, eq=False)
class IssuedCertificate:
    """One as its issuer knows it: ``issuer`` is the DER of the name of who is said to have signed it, ``serial`` that
    one's number of it in hex."""

    certificate: Certificate
    content: x509.Certificate
    issuer: bytes
    serial: str

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint

    def flaw(self, now: datetime) -> str | None:
        """Why it is not registered just in time, as a phrase that fits after "it", or None."""
        if _is_ca(self.content):
            return "is the certificate of an authority, not of a device"
        if now < self.certificate.not_before:
            return f"is not valid before {self.certificate.not_before.isoformat()}"
        if now > self.certificate.not_after:
            return f"ended on {self.certificate.not_after.isoformat()}"
        return None


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """A PKCS#10 request whose signature was verified: the sender holds the private key."""

    subject: x509.Name
    public_key: PublicKeyTypes


def parse_certificate(text: str, field: str, keys: KeyPolicy) -> tuple[Certificate, x509.Certificate]:
    """The one certificate in ``text``, if its key is one that ``keys`` takes, and its content as cryptography reads it.

    Neither validity nor chain nor signature is checked here: the device that presents the certificate later has to
    prove that it holds its key. Raises InvalidCertificate.
    """

    def parse(pem: bytes) -> tuple[Certificate, x509.Certificate, PublicKeyTypes]:
        certificate = x509.load_pem_x509_certificate(pem)
        return Certificate.of(certificate), certificate, certificate.public_key()

    certificate, content, public_key = _parsed(text, field, _CERTIFICATE, parse)
    if violation := keys.violation(public_key):
        raise InvalidCertificate(field, f"has {violation}")
    return certificate, content


def parse_csr(text: str, field: str, keys: KeyPolicy) -> SigningRequest:
    """The one signing request in ``text``, once its key is one that ``keys`` takes and its signature is right.

    Raises InvalidSigningRequest.
    """

    def parse(pem: bytes) -> tuple[SigningRequest, x509.CertificateSigningRequest]:
        csr = x509.load_pem_x509_csr(pem)
        return SigningRequest(subject=csr.subject, public_key=csr.public_key()), csr

    request, csr = _parsed(text, field, _SIGNING_REQUEST, parse)
    # The size comes first: verifying with a huge key would be work done for nothing.
    if violation := keys.violation(request.public_key):
        raise InvalidSigningRequest(field, f"has {violation}")
    if not _is_signature_valid(csr):
        raise InvalidSigningRequest(field, "has a signature that its own public key does not verify")
    return request


def _parsed(text: str, field: str, kind: PemKind, parse: Callable[[bytes], T]) -> T:
    """What ``parse`` makes of the one PEM block, with the parser's own errors and warnings kept from the caller."""
    pem = one_block(text, field, kind)
    try:
        with warnings.catch_warnings():
            # Negative serial numbers and over-long names break RFC 5280, and fleets have them all the same.
            warnings.simplefilter("ignore")
            return parse(pem)
    except UnsupportedAlgorithm:
        raise kind.error(field, "uses an algorithm that is not supported") from None
    except (ValueError, TypeError, x509.InvalidVersion):
        raise kind.error(field, f"is not a well-formed PEM {kind.noun}: it is truncated or damaged") from None


def _is_signature_valid(csr: x509.CertificateSigningRequest) -> bool:
    try:
        return csr.is_signature_valid
    except (UnsupportedAlgorithm, ValueError, TypeError):
        return False


def parse_issued_certificate(text: str, field: str) -> IssuedCertificate:
    """The one certificate in ``text``. Raises InvalidCertificate."""
    return _issued(*parse_certificate(text, field, OWN_KEYS), field)


def read_issued_certificate(der: bytes) -> IssuedCertificate:
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
    return _issued(certificate, content, field)


def is_signed_by(content: x509.Certificate, ca: x509.Certificate) -> bool:
    """Whether ``ca`` is named as the issuer and its key made the signature, over no weaker hash than SHA-224.

    Nothing else is looked at.
    """
    try:
        content.verify_directly_issued_by(ca)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def re_signed_fingerprint(issued: IssuedCertificate, ca: x509.Certificate) -> str | None:
    """The fingerprint of the other certificate that can be made of this one without any key, if there is one.

    Of an ECDSA signature (r, s), (r, n - s) is one too (SEC 1 4.1.4 verifies both), so the same content has two
    fingerprints. Other signatures that we verify have one form.
    """
    key = ca.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return None
    content = issued.content
    r, s = decode_dss_signature(content.signature)
    signature = encode_dss_signature(r, key.curve.group_order - s)
    signed = content.tbs_certificate_bytes
    inner = _content(issued.certificate.der)
    algorithm = inner[len(signed) : len(signed) + 2 + inner[len(signed) + 1]]  # far shorter than 128 bytes
    return fingerprint_of(_tlv(0x30, signed + algorithm + _tlv(0x03, b"\0" + signature)))


def _issued(certificate: Certificate, content: x509.Certificate, field: str) -> IssuedCertificate:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            issuer, serial = content.issuer.public_bytes(), f"{content.serial_number:x}"
            return IssuedCertificate(certificate, content, issuer, serial)
    except ValueError:
        raise InvalidCertificate(field, "has an issuer that cannot be read") from None


def _is_ca(content: x509.Certificate) -> bool:
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


def key_flaw(der: bytes, *, weak_keys: bool) -> str | None:
    """What is wrong with a certificate's key, as a phrase that fits after "has", or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            key = x509.load_der_x509_certificate(der).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        return "a key that cannot be read"
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size >= _WEAK_RSA:
        return None
    if key.key_size < _BROKEN_RSA:
        return f"an RSA key of {key.key_size} bits, which anybody can break"
    return None if weak_keys else f"an RSA key of {key.key_size} bits; the account's setting weak_keys would let it in"
