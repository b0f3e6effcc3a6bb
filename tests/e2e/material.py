"""Keys, CSRs and certificates as devices and unauthenticated callers make them."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from tests import issuers

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "csr_pem",
    "fingerprint",
    "forged_csr_pem",
    "key",
    "key_pem",
    "new_issuer",
    "pem_of",
    "rsa_public_key",
    "secret_forms",
    "self_signed",
    "self_signed_pem",
]


@cache
def key(kind: str) -> Any:
    """A private key of a kind (rsa2048, secp256r1, ed25519). It is always the same: making RSA keys takes long."""
    if kind.startswith("rsa"):
        return rsa.generate_private_key(public_exponent=65537, key_size=int(kind.removeprefix("rsa")))
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    curves: dict[str, ec.EllipticCurve] = {
        curve.name: curve for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1(), ec.SECP256K1())
    }
    return ec.generate_private_key(curves[kind])


def _digest(private_key: Any) -> Any:
    return None if isinstance(private_key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def csr_pem(kind: str = "secp256r1", common_name: str = "thermometer-1") -> str:
    private_key = key(kind)
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(common_name))
    return builder.sign(private_key, _digest(private_key)).public_bytes(Encoding.PEM).decode()


def forged_csr_pem(public_key: Any) -> str:
    """A CSR for a public key without its private key: the signature is invalid."""
    spki = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    info = _der(0x30, _der(0x02, b"\0"), _name("forged").public_bytes(), spki, _der(0xA0))
    sha256_with_rsa = _der(0x30, _der(0x06, bytes.fromhex("2a864886f70d01010b")), _der(0x05))
    whole = _der(0x30, info, sha256_with_rsa, _der(0x03, b"\0", b"\x55" * 64))
    return pem_of("CERTIFICATE REQUEST", whole)


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    length = len(content)
    if length < 128:
        return bytes([tag, length]) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def pem_of(label: str, der: bytes) -> str:
    text = base64.b64encode(der).decode()
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])


def rsa_public_key(bits: int) -> rsa.RSAPublicKey:
    """A public key with a random number of this size as its modulus; much faster than making a real key."""
    return rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) | secrets.randbits(bits - 2) | 1).public_key()


def self_signed(
    kind: str = "secp256r1", common_name: str = "brought-along", public_key: Any = None
) -> x509.Certificate:
    """A new certificate, with a random serial number; for another key if ``public_key`` is given."""
    private_key = key(kind)
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(_name(common_name))
        .public_key(public_key or private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .sign(private_key, _digest(private_key))
    )


def new_issuer(*args: Any, **facts: Any) -> issuers.Issuer:
    """Return a new issuer with the real time, which the servers use too."""
    return issuers.new_issuer(*args, now=datetime.now(UTC), **facts)


def self_signed_pem(kind: str = "secp256r1", common_name: str = "brought-along") -> str:
    return self_signed(kind, common_name).public_bytes(Encoding.PEM).decode()


def fingerprint(pem: str) -> str:
    return x509.load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA256()).hex()


def key_pem(private_key: Any, form: PrivateFormat = PrivateFormat.PKCS8) -> str:
    pem: bytes = private_key.private_bytes(Encoding.PEM, form, NoEncryption())
    return pem.decode()


def secret_forms(private_pem: str) -> Iterable[bytes]:
    """Parts of a private key that show that it was stored: lines of its PEM, its DER, its secret numbers."""
    private_key: Any = load_pem_private_key(private_pem.encode(), None)
    for form in (PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8):
        lines = key_pem(private_key, form).splitlines()[1:-1]
        # The first lines of each form are mostly the public part, and a short last line could match by chance.
        yield from (line.encode() for line in lines[len(lines) // 2 :] if len(line) == 64)
        yield private_key.private_bytes(Encoding.DER, form, NoEncryption())
    numbers = private_key.private_numbers()
    if isinstance(private_key, rsa.RSAPrivateKey):
        numbers_kept = [numbers.p, numbers.q, numbers.d]
    else:
        numbers_kept = [numbers.private_value]
    for number in numbers_kept:
        big = number.to_bytes((number.bit_length() + 7) // 8, "big")
        yield from (big, big[::-1], big.hex().encode(), str(number).encode())
