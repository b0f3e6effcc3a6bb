"""Reads certificates and certificate signing requests that callers send, and finds what is wrong with them."""

from __future__ import annotations

import hashlib
import re
import ssl
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from thingmint.domain.ber import Malformed
from thingmint.domain.certificate_parts import (
    CertificateParts,
    RequestParts,
    as_tls_sends_it,
    ca_flaw,
    may_be_unreadable,
)
from thingmint.domain.der import BIT_STRING, SEQUENCE, element
from thingmint.domain.distinguished_names import for_issuing
from thingmint.domain.errors import Invalid, InvalidCertificate, InvalidSigningRequest
from thingmint.domain.keys import FLEET_KEYS, OWN_KEYS
from thingmint.domain.pem import PemKind, one_block
from thingmint.domain.weak_keys import weakness

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from thingmint.domain.keys import KeyPolicy

_CERTIFICATE = PemKind("certificate", ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"), InvalidCertificate)
_SIGNING_REQUEST = PemKind(
    "certificate signing request", ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"), InvalidSigningRequest
)

_WEAK_RSA = 2048  # bits
_BROKEN_RSA = 1024

_CURVES_OF_TLS = frozenset(
    # RFC 8446 4.2.7, and RFC 8734.
    {"secp256r1", "secp384r1", "secp521r1", "brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1"}
)

_UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)
"""The exceptions of the strict reader."""
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Replaces a time that cannot be read, so that the certificate is never within its validity."""

_FINGERPRINT = re.compile(r"(?:0x)?([0-9a-fA-F]{64})")


def fingerprint_of(der: bytes) -> str:
    """SHA-256 of the DER in lower-case hex: AWS's certificateId, Yandex's fingerprint."""
    return hashlib.sha256(der).hexdigest()


def parse_fingerprint(text: str, field: str) -> str:
    """Return the fingerprint in ``text`` in lower case and without AWS's 0x prefix. Raises Invalid."""
    match = _FINGERPRINT.fullmatch(text)
    if match is None:
        raise Invalid(field, "must be 64 hexadecimal digits, the SHA-256 of the certificate's DER")
    return match[1].lower()


@dataclass(frozen=True, slots=True)
class Certificate:
    """An X.509 certificate: its DER, fingerprint and validity."""

    der: bytes
    fingerprint: str
    not_before: datetime
    not_after: datetime

    @property
    def pem(self) -> str:
        return ssl.DER_cert_to_PEM_cert(self.der)

    @property
    def sha1(self) -> str:
        """The SHA-1 fingerprint, by which some fleets list their certificates. Never used as proof of anything."""
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
    """A certificate with its issuer's name and its serial number."""

    certificate: Certificate
    public_key: PublicKeyTypes
    parts: CertificateParts
    obstacle: Obstacle | None

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint

    @property
    def issuer(self) -> bytes:
        """The name of the issuer in its original encoding. The signature is not verified."""
        return self.parts.issuer

    @property
    def serial(self) -> str:
        """The serial number in hex."""
        return f"{self.parts.serial:x}"

    def flaw(self, now: datetime) -> str | None:
        """Return why the certificate is not registered just in time, as a phrase that fits after "it", or None."""
        if flaw := ca_flaw(self.parts.extensions):
            return flaw
        if now < self.certificate.not_before:
            return f"is not valid before {self.certificate.not_before.isoformat()}"
        if now > self.certificate.not_after:
            return f"ended on {self.certificate.not_after.isoformat()}"
        return None


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """A PKCS#10 request whose signature was verified, which proves that the sender has the private key."""

    subject: x509.Name
    public_key: PublicKeyTypes


def parse_certificate(
    text: str, field: str, keys: KeyPolicy, *, bound: bool = False
) -> tuple[Certificate, PublicKeyTypes]:
    """Return the one certificate in ``text`` and its public key, which ``keys`` must accept.

    The validity, the chain and the signature are not checked here: the device that presents the certificate later must
    prove that it has the private key. The validity of a ``bound`` certificate may even be unreadable.
    Raises InvalidCertificate.
    """
    return read_certificate(one_block(text, field, _CERTIFICATE), field, keys, bound=bound)


def read_certificate(
    encoded: bytes, field: str, keys: KeyPolicy, *, bound: bool = False
) -> tuple[Certificate, PublicKeyTypes]:
    """Do the same as `parse_certificate` for DER or BER."""
    try:
        with warnings.catch_warnings():
            # Fleets have certificates with negative serial numbers or overlong names, which RFC 5280 forbids.
            warnings.simplefilter("ignore")
            content = x509.load_der_x509_certificate(encoded)
            certificate = Certificate.of(content)
            public_key: PublicKeyTypes = content.public_key()
    except _UNREADABLE:
        certificate, public_key = _read_leniently(encoded, field, keys, bound=bound)
    if violation := keys.violation(public_key):
        raise InvalidCertificate(field, f"has {violation}")
    return certificate, public_key


def parse_strict_certificate(text: str, field: str, keys: KeyPolicy) -> tuple[Certificate, x509.Certificate]:
    """Return the one certificate in ``text`` if the strict reader accepts it, and its content.

    For callers that rely on the content, such as extensions. Raises InvalidCertificate.
    """
    encoded = one_block(text, field, _CERTIFICATE)
    certificate, _ = read_certificate(encoded, field, keys)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return certificate, x509.load_der_x509_certificate(encoded)
    except _UNREADABLE:
        raise InvalidCertificate(field, "is not encoded in DER as RFC 5280 says, which is required here") from None


def _read_leniently(encoded: bytes, field: str, keys: KeyPolicy, *, bound: bool) -> tuple[Certificate, PublicKeyTypes]:
    """Read a certificate with the lenient reader. Raises InvalidCertificate."""
    sent = as_tls_sends_it(encoded)
    try:
        parts = CertificateParts.of(sent or encoded)
    except Malformed:
        raise _other_than(encoded, RequestParts, "a certificate signing request", _CERTIFICATE, field) from None
    if sent is None and not parts.has_odd_time:
        raise _CERTIFICATE.damaged(field)
    not_before, not_after = parts.period
    if not bound and (not_before is None or not_after is None):
        raise InvalidCertificate(field, "has a validity that cannot be read")
    certificate = Certificate(parts.der, fingerprint_of(parts.der), not_before or _NEVER, not_after or _NEVER)
    return certificate, _public_key(parts.key, field, keys, InvalidCertificate)


def _other_than(encoded: bytes, other: type[Any], noun: str, kind: PemKind, field: str) -> Invalid:
    """Return the error for a block that is not a ``kind``, and say so if it is an ``other``."""
    try:
        other.of(encoded)
    except Malformed:
        return kind.damaged(field)
    return kind.error(field, f"contains {noun}, not a {kind.noun}")


def _public_key(encoded: bytes, field: str, keys: KeyPolicy, error: type[Invalid]) -> PublicKeyTypes:
    try:
        return load_der_public_key(encoded)
    except _UNREADABLE:
        raise error(field, f"has a key that cannot be read, or of another type than {keys.types}") from None


def read_public_key(der: bytes) -> PublicKeyTypes:
    """Return the public key of a registered certificate. Raises InvalidCertificate."""
    field = "certificate"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return x509.load_der_x509_certificate(der).public_key()
    except _UNREADABLE:
        pass
    try:
        return _public_key(CertificateParts.of(der).key, field, FLEET_KEYS, InvalidCertificate)
    except Malformed:
        raise _CERTIFICATE.damaged(field) from None


def parse_csr(text: str, field: str, keys: KeyPolicy) -> SigningRequest:
    """Return the one signing request in ``text``.

    Raises InvalidSigningRequest, also if ``keys`` refuses the key or the signature is wrong.
    """
    encoded = one_block(text, field, _SIGNING_REQUEST)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            csr = x509.load_der_x509_csr(encoded)
            subject, public_key = csr.subject, csr.public_key()
            if may_be_unreadable(encoded):
                subject = for_issuing(subject.public_bytes())
    except _UNREADABLE:
        return _parse_leniently(encoded, field, keys)
    request = SigningRequest(subject, public_key)
    _check_request(request, field, keys)
    try:
        is_valid = csr.is_signature_valid
    except _UNREADABLE:
        is_valid = False
    if not is_valid:
        raise _unverified(RequestParts.of(encoded), field)
    return request


def _parse_leniently(encoded: bytes, field: str, keys: KeyPolicy) -> SigningRequest:
    try:
        parts = RequestParts.of(encoded)
    except Malformed:
        raise _other_than(encoded, CertificateParts, "a certificate", _SIGNING_REQUEST, field) from None
    try:
        subject = for_issuing(parts.subject)
    except ValueError as flaw:
        raise InvalidSigningRequest(field, f"has a subject {flaw}") from None
    request = SigningRequest(subject, _public_key(parts.key, field, keys, InvalidSigningRequest))
    _check_request(request, field, keys)
    if not parts.signature.is_made_by(request.public_key):
        raise _unverified(parts, field)
    return request


def _check_request(request: SigningRequest, field: str, keys: KeyPolicy) -> None:
    if not request.subject.rdns:
        # RFC 5280 4.1.2.6: such a certificate needs a subjectAltName. Ours have none, as AWS IoT's.
        raise InvalidSigningRequest(field, "has an empty subject; give it a common name")
    # Check the key's size before the signature: verifying with a huge key takes long.
    if violation := keys.violation(request.public_key) or weakness(request.public_key):
        raise InvalidSigningRequest(field, f"has {violation}")


def _unverified(parts: RequestParts, field: str) -> InvalidSigningRequest:
    flaw = parts.signature.flaw or "has a signature that its own public key does not verify"
    return InvalidSigningRequest(field, flaw)


def parse_issued_certificate(text: str, field: str, keys: KeyPolicy = OWN_KEYS) -> IssuedCertificate:
    """Return the one certificate in ``text``. Raises InvalidCertificate."""
    return _issued(*parse_certificate(text, field, keys))


def read_issued_certificate(der: bytes) -> IssuedCertificate:
    """Read a certificate in DER or BER. Raises InvalidCertificate."""
    return _issued(*read_certificate(der, "certificate", OWN_KEYS))


def _issued(certificate: Certificate, public_key: PublicKeyTypes) -> IssuedCertificate:
    parts, obstacle = CertificateParts.of(certificate.der), find_obstacle(certificate, public_key)
    return IssuedCertificate(certificate, public_key, parts, obstacle)


def is_signed_by(issued: IssuedCertificate, ca: x509.Certificate) -> bool:
    """True if the issuer is ``ca`` and its key made the signature, over SHA-224 or a stronger digest.

    Nothing else is checked.
    """
    parts = issued.parts
    # RFC 5280 4.1.1.2: both algorithms "MUST" be the same. Only one of them is signed: if the other could differ, one
    # signed certificate would have several fingerprints.
    is_consistent = parts.algorithm == parts.signature.algorithm
    return is_consistent and parts.issuer == subject_of(ca) and parts.signature.is_made_by(ca.public_key())


def subject_of(certificate: x509.Certificate) -> bytes:
    """Return the original bytes of the subject's name: decoding and encoding again can change them."""
    return CertificateParts.of(certificate.public_bytes(Encoding.DER)).subject


def re_signed_fingerprint(issued: IssuedCertificate, ca: x509.Certificate) -> str | None:
    """Return the fingerprint of the variant of this certificate that can be made without any key, or None.

    If (r, s) is an ECDSA signature, (r, n - s) is one too (SEC 1 4.1.4 verifies both), so the same content has two
    fingerprints. The other signatures that we verify have only one form.
    """
    key, signature = ca.public_key(), issued.parts.signature
    if not isinstance(key, ec.EllipticCurvePublicKey) or signature.value is None:
        return None
    r, s = decode_dss_signature(signature.value)
    value = encode_dss_signature(r, key.curve.group_order - s)
    whole = signature.signed + signature.algorithm + element(BIT_STRING, b"\0" + value)
    return fingerprint_of(element(SEQUENCE, whole))


def key_flaw(der: bytes, *, weak_keys: bool) -> str | None:
    """Return what is wrong with a certificate's key, as a phrase that fits after "has", or None."""
    try:
        key = read_public_key(der)
    except InvalidCertificate:
        return "a key that cannot be read"
    return _rsa_flaw(key, weak_keys=weak_keys)


def _rsa_flaw(key: PublicKeyTypes, *, weak_keys: bool) -> str | None:
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size >= _WEAK_RSA:
        return None
    if key.key_size < _BROKEN_RSA:
        return f"an RSA key of {key.key_size} bits, which can be broken easily"
    return None if weak_keys else f"an RSA key of {key.key_size} bits; the account's setting weak_keys would allow it"


class Obstacle(NamedTuple):
    """Why devices with a certificate cannot connect. The account's setting ``weak_keys`` can remove some obstacles."""

    reason: str
    weak_keys_remove_it: bool = False


def find_obstacle(certificate: Certificate, key: PublicKeyTypes) -> Obstacle | None:
    """Return the obstacle that the certificate itself has, whatever the state of its registration, or None."""
    if flaw := _rsa_flaw(key, weak_keys=False):
        return Obstacle(f"it has {flaw}", _rsa_flaw(key, weak_keys=True) is None)
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in _CURVES_OF_TLS:
        return Obstacle(f"it has an EC key on {key.curve.name}, which TLS does not offer")
    if may_be_unreadable(certificate.der) and as_tls_sends_it(certificate.der) is None:
        return Obstacle("this server's TLS library cannot read it; a TLS proxy in front of the server may")
    return None
