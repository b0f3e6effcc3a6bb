"""Checks a certificate against its profile, its CA and RFC 5280 before the CA's key signs it.

The lint reads only the DER. `issuing_ca` checks the request before, so a flaw that the lint finds is a defect of this
program, not a mistake of the caller.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from thingmint.domain import der

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from thingmint.domain.certificate_profiles import Profile
    from thingmint.domain.keys import SigningKey


# The AlgorithmIdentifiers that our CAs sign with. ecdsa-with-SHA256 has no parameters (RFC 5758 3.2); the parameters of
# sha256WithRSAEncryption are NULL (RFC 4055 5).
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_SHA256_WITH_RSA = bytes.fromhex("300d06092a864886f70d01010b0500")

# Tags of version, serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo and extensions: the parts of
# a version 3 certificate (RFC 5280 4.1) without unique identifiers, which conforming CAs do not generate (4.1.2.8).
# The version's value needs no check here: the strict reader refuses an explicit version other than 3.
_PARTS = [0xA0, 0x02, 0x30, 0x30, 0x30, 0x30, 0x30, 0xA3]

_NO_NAME = der.element(der.SEQUENCE, b"")
_NO_NAMES = x509.SubjectAlternativeName([])
_LONGEST_SERIAL = 20  # bytes
_FIRST_GENERALIZED_YEAR = 2050


class LintFailed(Exception):
    """A prepared certificate must not be signed. Not a DomainError, because the caller cannot correct it."""

    def __init__(self, flaws: Sequence[str]) -> None:
        super().__init__(f"the certificate was not signed: {'; '.join(flaws)}")
        self.flaws = flaws


@dataclass(frozen=True, slots=True)
class CaFacts:
    """The CA's values that its certificates must match. ``subject`` and ``algorithm`` are DER.

    ``key_identifier`` is None for the CA's own certificate, which has no authorityKeyIdentifier (RFC 5280 4.2.1.1
    allows that where it is self-signed).
    """

    subject: bytes
    algorithm: bytes
    key_identifier: bytes | None
    not_before: datetime
    not_after: datetime

    @classmethod
    def of(cls, certificate: x509.Certificate, private_key: SigningKey) -> CaFacts:
        """Return the facts of the CA with this certificate and key.

        Raises ExtensionNotFound if the certificate has no subjectKeyIdentifier.
        """
        to_be_signed = der.elements(certificate.public_bytes(Encoding.DER))[0]
        return cls(
            # The original bytes: decoding and encoding again can change them.
            subject=der.elements(to_be_signed)[5],
            algorithm=cls.algorithm_of(private_key),
            key_identifier=certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
        )

    @staticmethod
    def algorithm_of(private_key: SigningKey) -> bytes:
        return _SHA256_WITH_RSA if isinstance(private_key, rsa.RSAPrivateKey) else _ECDSA_WITH_SHA256


def lint(certificate: bytes, profile: Profile, ca: CaFacts) -> None:
    """Raise LintFailed unless ``ca`` may issue ``certificate`` (DER, signed by any key) under ``profile``."""
    if flaws := find_flaws(certificate, profile, ca):
        raise LintFailed(flaws)


def find_flaws(certificate: bytes, profile: Profile, ca: CaFacts) -> list[str]:
    """Return every reason why ``ca`` must not issue ``certificate`` under ``profile``."""
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        public_key = parsed.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        return ["the certificate cannot be read"]
    to_be_signed, outer_algorithm, _ = der.elements(certificate)
    parts = der.elements(to_be_signed)
    if [part[0] for part in parts] != _PARTS:
        return ["the parts are not those of a version 3 certificate without unique identifiers (RFC 5280 4.1)"]
    _, serial, inner_algorithm, issuer, validity, subject, key, _ = parts
    flaws = []
    if not _is_serial(der.content(serial)):
        flaws.append("serialNumber is not positive, or has over 20 bytes (RFC 5280 4.1.2.2)")
    if inner_algorithm != outer_algorithm:
        flaws.append("signature and signatureAlgorithm are not the same (RFC 5280 4.1.1.2)")
    if inner_algorithm != ca.algorithm:
        flaws.append("signature is not the algorithm that the CA's key signs with")
    if issuer != ca.subject:
        flaws.append("issuer is not byte for byte the CA's subject (RFC 5280 4.1.2.4)")
    not_before, not_after = parsed.not_valid_before_utc, parsed.not_valid_after_utc
    if not ca.not_before <= not_before < not_after <= ca.not_after:
        flaws.append("validity is empty, or not within the CA's")
    begin, end = der.elements(validity)
    if not (_has_right_type(begin, not_before) and _has_right_type(end, not_after)):
        flaws.append("validity is not UTCTime through 2049 and GeneralizedTime from 2050 (RFC 5280 4.1.2.5)")
    if violation := profile.keys.violation(public_key):
        flaws.append(f"subjectPublicKeyInfo has {violation}")
    try:
        extensions = {extension.oid: extension for extension in parsed.extensions}
    except x509.DuplicateExtension:
        flaws.append("an extension occurs twice (RFC 5280 4.2)")
    except (ValueError, x509.UnsupportedGeneralNameType):
        flaws.append("the extensions cannot be read")
    else:
        flaws += _flaws_of_extensions(extensions, profile, ca, key, has_subject=subject != _NO_NAME)
    return flaws


def _is_serial(number: bytes) -> bool:
    """True for a positive integer whose encoding has at most 20 octets (RFC 5280 4.1.2.2)."""
    return len(number) <= _LONGEST_SERIAL and number[0] < 0x80 and any(number)


def _has_right_type(encoded: bytes, time: datetime) -> bool:
    return encoded[0] == (der.UTC_TIME if time.year < _FIRST_GENERALIZED_YEAR else der.GENERALIZED_TIME)


def _flaws_of_extensions(
    extensions: dict[x509.ObjectIdentifier, x509.Extension[x509.ExtensionType]],
    profile: Profile,
    ca: CaFacts,
    key: bytes,
    *,
    has_subject: bool,
) -> Iterator[str]:
    rest = dict(extensions)

    identifier = rest.pop(ExtensionOID.SUBJECT_KEY_IDENTIFIER, None)
    # RFC 5280 4.2.1.2: "Conforming CAs MUST mark this extension as non-critical."
    if identifier is None or identifier.critical or not _identifies(identifier.value, key):
        yield "subjectKeyIdentifier is not a non-critical one of the key (RFC 5280 4.2.1.2, RFC 7093 2)"

    if profile.server_auth:
        names = rest.pop(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, None)
        # RFC 5280 4.2.1.6: "the sequence MUST contain at least one entry"; critical if the subject is empty (MUST),
        # non-critical if it is not (SHOULD).
        if names is None or names.critical is has_subject or names.value == _NO_NAMES:
            yield "subjectAltName has no name, or is not critical exactly if the subject is empty (RFC 5280 4.2.1.6)"

    for field, oid, critical, value in _fixed_extensions(profile, ca):
        extension = rest.pop(oid, None)
        if extension is None or extension.critical is not critical or extension.value != value:
            yield f"{field} is not {'critical' if critical else 'non-critical'} with the value of profile and CA"

    for oid in rest:
        yield f"the extension {oid.dotted_string} is not part of the profile"


def _fixed_extensions(
    profile: Profile, ca: CaFacts
) -> Iterator[tuple[str, x509.ObjectIdentifier, bool, x509.ExtensionType]]:
    """Yield the extensions that all certificates of a profile and CA share: name, OID, whether critical, value."""
    if ca.key_identifier is not None:
        value = x509.AuthorityKeyIdentifier(ca.key_identifier, None, None)
        # RFC 5280 4.2.1.1: "Conforming CAs MUST mark this extension as non-critical."
        yield "authorityKeyIdentifier", ExtensionOID.AUTHORITY_KEY_IDENTIFIER, False, value
    yield "basicConstraints", ExtensionOID.BASIC_CONSTRAINTS, True, profile.basic_constraints
    yield "keyUsage", ExtensionOID.KEY_USAGE, True, profile.key_usage
    if profile.extended_key_usage is not None:
        yield "extKeyUsage", ExtensionOID.EXTENDED_KEY_USAGE, False, profile.extended_key_usage


def _identifies(identifier: x509.ExtensionType, key: bytes) -> bool:
    """True if ``identifier`` is derived from ``key`` (SubjectPublicKeyInfo) by a method of RFC 5280 or RFC 7093."""
    assert isinstance(identifier, x509.SubjectKeyIdentifier)
    bits = der.content(der.elements(key)[1])[1:]  # without the count of unused bits
    # RFC 5280 4.2.1.2 (1), which this program uses.
    if identifier.digest == hashlib.sha1(bits, usedforsecurity=False).digest():
        return True
    hashes = (hashlib.sha256, hashlib.sha384, hashlib.sha512)
    # RFC 7093 2: the leftmost 160 bits of a hash of the bits (1 to 3), or a hash of the whole key (4).
    return any(identifier.digest in (hash(bits).digest()[:20], hash(key).digest()) for hash in hashes)
