"""Our certificate authorities. A profile has the rules for a certificate; an authority has the key.

Issuing takes two steps. `prepare` checks everything about a request, and drafts the certificate with the signature of a
throw-away key. `sign` takes the draft once, lints it, and signs exactly those bytes. The real key signs only checked
bytes.
"""

from __future__ import annotations

import ipaddress
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from thingmint.domain import der
from thingmint.domain.certificate_lint import CaFacts, lint
from thingmint.domain.certificate_profiles import ROOT
from thingmint.domain.certificates import Certificate, fingerprint_of
from thingmint.domain.errors import Invalid, InvalidCertificate, InvalidSigningRequest
from thingmint.domain.keys import throw_away_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from cryptography.x509.general_name import GeneralName

    from thingmint.domain.certificate_profiles import Profile
    from thingmint.domain.keys import SigningKey
    from thingmint.domain.signatures import Signature


RootKeyType = Literal["p256", "rsa2048"]

_MAX_SUBJECT_BYTES = 4096

_HASH = hashes.SHA256()
_ECDSA = ec.ECDSA(_HASH)
_PKCS1 = padding.PKCS1v15()

DEVICE_SUBJECT = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "AWS IoT Certificate")])


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """The contents of a certificate to issue. ``names`` (DNS names, IP addresses) are for server certificates only."""

    subject: x509.Name
    public_key: PublicKeyTypes
    names: Sequence[str] = ()


class PreparedCertificate:
    """A certificate that was checked against its profile and can be signed once.

    ``draft`` is the whole certificate in DER, with the signature of a throw-away key.
    """

    __slots__ = ("_unsigned", "authority")

    def __init__(self, authority: CertificateAuthority, draft: bytes) -> None:
        self.authority = authority
        self._unsigned = [draft]

    def take(self) -> bytes:
        """Return the draft at the first call. Raises RuntimeError at later calls.

        RFC 5280 4.1.2.2: a serial number "MUST be unique for each certificate issued by a given CA", and a second
        signature would make a second certificate with the same number.
        """
        try:
            return self._unsigned.pop()  # atomic: only one of two threads gets the draft
        except IndexError:
            raise RuntimeError("a prepared certificate was to be signed a second time") from None


class CertificateAuthority:
    """A root certificate and its private key, both parsed once."""

    def __init__(self, certificate: x509.Certificate, private_key: SigningKey, profile: Profile) -> None:
        self.certificate = certificate
        self.profile = profile
        self._private_key = private_key
        self._throw_away_key = throw_away_key(private_key)
        self._facts = CaFacts.of(certificate, private_key)
        key_identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        self._authority_key_identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
            key_identifier.value
        )

    def with_profile(self, profile: Profile) -> CertificateAuthority:
        return CertificateAuthority(self.certificate, self._private_key, profile)

    def prepare(self, request: CertificateRequest, now: datetime) -> PreparedCertificate:
        """Check the request and draft the certificate. Raises Invalid for what the caller can correct."""
        profile = self.profile
        if violation := profile.keys.violation(request.public_key):
            raise Invalid("public key", f"is refused: it is {violation}")
        try:
            subject_size = len(request.subject.public_bytes())
        except ValueError:
            raise Invalid("subject", "cannot be encoded") from None
        if subject_size > _MAX_SUBJECT_BYTES:
            raise Invalid("subject", f"must be at most {_MAX_SUBJECT_BYTES} bytes")
        # X.509 has no fractions of a second.
        not_before = (now - profile.backdate).replace(microsecond=0)
        not_after = profile.end(now).replace(microsecond=0)
        root = self.certificate
        if not root.not_valid_before_utc <= not_before < not_after <= root.not_valid_after_utc:
            raise Invalid("validity", "would not lie within that of the authority")
        builder = (
            x509.CertificateBuilder()
            .serial_number(_random_serial())
            .issuer_name(self.certificate.subject)
            .subject_name(request.subject)
            .public_key(request.public_key)  # type: ignore[arg-type]  # the key policy has narrowed it
            .not_valid_before(not_before)
            .not_valid_after(not_after)
            .add_extension(self._authority_key_identifier, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(request.public_key), critical=False)  # type: ignore[arg-type]
            .add_extension(profile.basic_constraints, critical=True)
            .add_extension(profile.key_usage, critical=True)
        )
        if profile.extended_key_usage is not None:
            builder = builder.add_extension(profile.extended_key_usage, critical=False)
        if profile.server_auth:
            names = x509.SubjectAlternativeName(_general_names(request.names))
            # RFC 5280 4.1.2.6: critical if the subject is empty.
            builder = builder.add_extension(names, critical=not request.subject.rdns)
        return PreparedCertificate(self, _draft(builder, self._throw_away_key))

    def sign(self, prepared: PreparedCertificate) -> Certificate:
        """Sign a certificate that this same authority prepared, once.

        Raises LintFailed, without signing, if the certificate must not be signed.
        """
        if prepared.authority is not self:
            raise ValueError("prepared by another authority")
        signed = _sign(prepared.take(), self._private_key, self.profile, self._facts)
        parsed = x509.load_der_x509_certificate(signed)
        return Certificate(signed, fingerprint_of(signed), parsed.not_valid_before_utc, parsed.not_valid_after_utc)


def generate_root_key(key_type: RootKeyType) -> SigningKey:
    if key_type == "rsa2048":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def make_root(common_name: str, key: SigningKey, now: datetime) -> x509.Certificate:
    """A self-signed root."""
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Thingmint"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    public_key = key.public_key()
    not_before = (now - ROOT.backdate).replace(microsecond=0)
    not_after = ROOT.end(now)
    builder = (
        x509.CertificateBuilder()
        .serial_number(_random_serial())
        .issuer_name(name)
        .subject_name(name)
        .public_key(public_key)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(ROOT.basic_constraints, critical=True)
        .add_extension(ROOT.key_usage, critical=True)
    )
    facts = CaFacts(name.public_bytes(), CaFacts.algorithm_of(key), None, not_before, not_after)
    return x509.load_der_x509_certificate(_sign(_draft(builder, throw_away_key(key)), key, ROOT, facts))


def _draft(builder: x509.CertificateBuilder, throw_away: SigningKey) -> bytes:
    return builder.sign(throw_away, _HASH).public_bytes(Encoding.DER)


def _sign(draft: bytes, private_key: SigningKey, profile: Profile, facts: CaFacts) -> bytes:
    """Return the draft with its signature replaced. The signed bytes are exactly the bytes that were linted."""
    lint(draft, profile, facts)
    to_be_signed, algorithm, _ = der.elements(draft)
    if isinstance(private_key, rsa.RSAPrivateKey):
        signature = private_key.sign(to_be_signed, _PKCS1, _HASH)
    else:
        signature = private_key.sign(to_be_signed, _ECDSA)
    # RFC 5280 4.1: Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue BIT STRING }. A BIT
    # STRING begins with the number of its unused bits.
    whole = to_be_signed + algorithm + der.element(der.BIT_STRING, b"\0" + signature)
    return der.element(der.SEQUENCE, whole)


def _random_serial() -> int:
    """Return a number of 20 bytes, as AWS's are: 158 random bits behind a 1, and positive (RFC 5280 4.1.2.2)."""
    return x509.random_serial_number() | 1 << 158


def _general_names(names: Sequence[str]) -> list[GeneralName]:
    return [_general_name(name) for name in names]


def _general_name(name: str) -> GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class OwnAuthorities:
    """The names and keys of this server's own CAs, current and former.

    A key counts as the same key in every certificate and encoding.
    """

    def __init__(self, certificates: Iterable[x509.Certificate]) -> None:
        certificates = list(certificates)
        self._keys = [certificate.public_key() for certificate in certificates]
        self._names = {_comparable(certificate.subject) for certificate in certificates}

    def has_key(self, key: PublicKeyTypes) -> bool:
        """True if ``key`` belongs to one of our CAs.

        Keys are compared as numbers, because an EC point can be compressed and RSA can be written as RSA-PSS.
        """
        return any(key == own for own in self._keys)

    def check(self, key: PublicKeyTypes, field: str) -> None:
        """Raise InvalidCertificate if ``key`` belongs to one of our CAs, even if another key signed the certificate."""
        if self.has_key(key):
            raise InvalidCertificate(field, "has the key of one of this server's own certificate authorities")

    def check_request(self, subject: x509.Name, key: PublicKeyTypes, field: str) -> None:
        """Raise InvalidSigningRequest for the name or key of one of our CAs: the certificate would look like a CA's."""
        if _comparable(subject) in self._names:
            reason = "has a subject that is the name of one of this server's own certificate authorities"
            raise InvalidSigningRequest(field, reason)
        if self.has_key(key):
            raise InvalidSigningRequest(field, "has the key of one of this server's own certificate authorities")

    def issued(self, signature: Signature) -> bool:
        """True if the key of one of our CAs made the signature. The issuer's name proves nothing."""
        return any(signature.is_made_by(key) for key in self._keys)


def _comparable(name: x509.Name) -> tuple[frozenset[tuple[str, str | bytes]], ...]:
    """Return a form of ``name`` that is equal for names that RFC 5280 7.1 calls equal.

    Case, white space and the types of strings do not matter.
    """
    return tuple(frozenset((each.oid.dotted_string, _folded(each.value)) for each in group) for group in name.rdns)


def _folded(value: str | bytes) -> str | bytes:
    return " ".join(unicodedata.normalize("NFKC", value).casefold().split()) if isinstance(value, str) else value
