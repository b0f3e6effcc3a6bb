"""Certificate authorities: a profile holds the policy, an authority holds the key.

Issuing takes two steps: `prepare` decides and checks everything, `sign` only signs. Nothing that was not checked
is ever given to the real key.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from thingmint.domain.certificates import Certificate
from thingmint.domain.errors import Invalid
from thingmint.domain.keys import CSR_KEYS, KeyPolicy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from cryptography.x509.general_name import GeneralName

__all__ = [
    "CLAIM",
    "DEVICE",
    "DEVICE_SUBJECT",
    "CertificateAuthority",
    "CertificateRequest",
    "PreparedCertificate",
    "Profile",
    "RootKeyType",
    "SigningKey",
    "generate_root_key",
    "listener_profile",
    "make_root",
]

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
RootKeyType = Literal["p256", "rsa2048"]

_MAX_SUBJECT_BYTES = 4096

DEVICE_SUBJECT = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "AWS IoT Certificate")])

_DIGITAL_SIGNATURE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True, slots=True)
class Profile:
    """What one kind of certificate may contain and how long it lasts: a fixed end, or a lifetime from now."""

    keys: KeyPolicy
    backdate: timedelta
    not_after: datetime | None = None
    lifetime: timedelta = timedelta(0)
    server_auth: bool = False

    def end(self, now: datetime) -> datetime:
        return self.not_after or now + self.lifetime


# The shape of the device certificates that AWS IoT has issued since 2019: no extended key usage, no SAN, and an end
# that is the last second which UTCTime can express (RFC 5280 4.1.2.5).
DEVICE = Profile(keys=CSR_KEYS, backdate=timedelta(minutes=2), not_after=datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC))


# What a trusted user gets for a device: AWS's CreateProvisioningClaim makes certificates that last five minutes.
CLAIM = Profile(keys=CSR_KEYS, backdate=timedelta(minutes=2), lifetime=timedelta(minutes=5))


def listener_profile(lifetime: timedelta) -> Profile:
    """A TLS server's certificate for our own listeners."""
    return Profile(keys=CSR_KEYS, backdate=timedelta(minutes=2), lifetime=lifetime, server_auth=True)


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """What is asked for. ``names`` are DNS names and IP addresses, only for server certificates."""

    subject: x509.Name
    public_key: PublicKeyTypes
    names: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class PreparedCertificate:
    """A certificate that was checked against its profile and lacks only the signature."""

    authority: CertificateAuthority
    builder: x509.CertificateBuilder


class CertificateAuthority:
    """A root and its private key, both parsed once."""

    def __init__(self, certificate: x509.Certificate, private_key: SigningKey, profile: Profile) -> None:
        self.certificate = certificate
        self.profile = profile
        self._private_key = private_key
        key_identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        self._authority_key_identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
            key_identifier.value
        )

    def prepare(self, request: CertificateRequest, now: datetime) -> PreparedCertificate:
        """Decides and checks everything but the signature. Raises Invalid for what the caller can mend."""
        profile = self.profile
        if violation := profile.keys.violation(request.public_key):
            raise Invalid("public key", f"is refused: it is {violation}")
        try:
            subject_size = len(request.subject.public_bytes())
        except ValueError:
            raise Invalid("subject", "cannot be encoded") from None
        if subject_size > _MAX_SUBJECT_BYTES:
            raise Invalid("subject", f"must be at most {_MAX_SUBJECT_BYTES} bytes")
        # X.509 knows no fractions of a second.
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
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_DIGITAL_SIGNATURE, critical=True)
        )
        if profile.server_auth:
            builder = builder.add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
            ).add_extension(x509.SubjectAlternativeName(_general_names(request.names)), critical=False)
        return PreparedCertificate(self, builder)

    def sign(self, prepared: PreparedCertificate) -> Certificate:
        """Signs what this very authority prepared."""
        if prepared.authority is not self:
            raise ValueError("prepared by another authority")
        return Certificate.of(prepared.builder.sign(self._private_key, hashes.SHA256()))


def generate_root_key(key_type: RootKeyType) -> SigningKey:
    if key_type == "rsa2048":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def make_root(common_name: str, key: SigningKey, now: datetime) -> x509.Certificate:
    """A self-signed root that outlives every device certificate, and whose children cannot be authorities."""
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Thingmint"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    public_key = key.public_key()
    return (
        x509.CertificateBuilder()
        .serial_number(_random_serial())
        .issuer_name(name)
        .subject_name(name)
        .public_key(public_key)
        .not_valid_before((now - timedelta(hours=1)).replace(microsecond=0))
        .not_valid_after(datetime(2059, 12, 31, 23, 59, 59, tzinfo=UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_SIGNS_CERTIFICATES, critical=True)
        .sign(key, hashes.SHA256())
    )


def _random_serial() -> int:
    """20 bytes, as AWS's are: 158 random bits, and the highest that leaves the number positive (RFC 5280 4.1.2.2)."""
    return x509.random_serial_number() | 1 << 158


def _general_names(names: Sequence[str]) -> list[GeneralName]:
    return [_general_name(name) for name in names]


def _general_name(name: str) -> GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
