"""Certificates and CSRs that are the same in each run: keys are made from names, signatures are deterministic."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
END: Final = datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)
_RSA_BYTES: Final = 256
_SHA256: Final = hashes.SHA256()


@dataclass(frozen=True)
class Key:
    """A key that is made from a name. Such a key is no secret: only examples may use it."""

    name: str

    @cached_property
    def private(self) -> ec.EllipticCurvePrivateKey:
        curve = ec.SECP256R1()
        return ec.derive_private_key(1 + _number(self.name) % (curve.group_order - 1), curve)

    @property
    def subject(self) -> x509.Name:
        return named(self.name)

    @property
    def pem(self) -> str:
        made = self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return made.decode()

    def csr(self) -> str:
        builder = x509.CertificateSigningRequestBuilder().subject_name(self.subject)
        return builder.sign(self.private, _SHA256, ecdsa_deterministic=True).public_bytes(Encoding.PEM).decode()

    def certificate(self, by: Key | None = None, *, ca: bool = False, subject: str | None = None) -> x509.Certificate:
        """A certificate for this key, signed by the key itself or by another one."""
        issuer = by or self
        builder = made(
            named(subject or self.name), issuer.subject, self.private.public_key(), f"{self.name} by {issuer.name}"
        )
        if ca:
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        return builder.sign(issuer.private, _SHA256, ecdsa_deterministic=True)


def made(
    subject: x509.Name,
    issuer: x509.Name,
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    serial: str,
    begin: datetime = BEGIN,
    end: datetime = END,
) -> x509.CertificateBuilder:
    """A certificate that is not signed yet. ``serial`` is a text from which its serial number is made."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(1 + _number(serial) % (1 << 158))
        .not_valid_before(begin)
        .not_valid_after(end)
    )


def signed(builder: x509.CertificateBuilder, by: Key) -> x509.Certificate:
    return builder.sign(by.private, _SHA256, ecdsa_deterministic=True)


def rsa_public_key(name: str) -> rsa.RSAPublicKey:
    """An RSA public key whose private key does not exist: its modulus is made from the name."""
    stream = b"".join(hashlib.sha256(f"{name} {part}".encode()).digest() for part in range(_RSA_BYTES // 32))
    modulus = int.from_bytes(stream) | 1 << (8 * _RSA_BYTES - 1) | 1
    return rsa.RSAPublicNumbers(65537, modulus).public_key()


def public_pem(key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(_SHA256).hex()


def named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest())
