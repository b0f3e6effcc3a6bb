"""CAs of customers, and the certificates that they sign. Tests pass the time to each CA."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

__all__ = ["Issuer", "fingerprint", "key_usage", "name", "new_issuer", "pem", "rewritten"]


def name(common_name: str, *further: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    attributes = [x509.NameAttribute(oid, value) for oid, value in further]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def key_usage(*, signs: bool) -> x509.KeyUsage:
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign")
    flags = dict.fromkeys((*others, "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(digital_signature=True, key_cert_sign=signs, **flags)


@dataclass(frozen=True)
class Issuer:
    key: Any
    certificate: x509.Certificate
    now: datetime

    @property
    def pem(self) -> str:
        return pem(self.certificate)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.certificate)

    def sign(
        self,
        subject: x509.Name | str = "thermometer",
        key: Any = None,
        *,
        serial: int | None = None,
        issuer: x509.Name | None = None,
        digest: Any = None,
        begins: datetime | None = None,
        ends: datetime | None = None,
        extensions: Sequence[x509.ExtensionType] = (),
    ) -> x509.Certificate:
        """Return a new certificate, valid from a day before the issuer's time for a year unless dates are given."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(subject) if isinstance(subject, str) else subject)
            .issuer_name(issuer or self.certificate.subject)
            .public_key((key or self.key).public_key())
            .serial_number(serial or x509.random_serial_number())
            .not_valid_before(begins or self.now - timedelta(days=1))
            .not_valid_after(ends or self.now + timedelta(days=365))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=True)
        return builder.sign(self.key, digest or hashes.SHA256())


def new_issuer(
    common_name: str | None = None,
    key: Any = None,
    *,
    now: datetime,
    begins: datetime | None = None,
    ends: datetime | None = None,
    extensions: Sequence[x509.ExtensionType] = (x509.BasicConstraints(ca=True, path_length=None),),
) -> Issuer:
    """A new CA, with a unique name unless one is given."""
    subject = name(common_name or f"Root {secrets.token_hex(8)}")
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins or now - timedelta(days=2))
        .not_valid_after(ends or now + timedelta(days=3650))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return Issuer(key, builder.sign(key, hashes.SHA256()), now)


def rewritten(certificate: x509.Certificate) -> x509.Certificate:
    """The certificate with the other valid ECDSA signature, (r, n - s), which can be computed without the key."""
    r, s = decode_dss_signature(certificate.signature)
    order = ec.SECP256R1().group_order
    old = certificate.public_bytes(Encoding.DER)
    signature = encode_dss_signature(r, order - s)
    head = old[: len(old) - len(certificate.signature) - 3]  # BIT STRING's tag, length and count of unused bits
    body = head[4:] + bytes((0x03, len(signature) + 1, 0)) + signature
    return x509.load_der_x509_certificate(bytes((0x30, 0x82)) + len(body).to_bytes(2, "big") + body)
