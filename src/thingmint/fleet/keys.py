"""Makes the private keys of devices, and certificate signing requests for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from thingmint.domain.keys import SigningKey

KeyType = Literal["p256", "rsa2048"]


def make_key(type: KeyType) -> SigningKey:
    """Make a private key. An RSA key takes 55 ms of CPU, and the GIL is released meanwhile."""
    if type == "p256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def key_pem(key: SigningKey) -> bytes:
    """Return the key in PKCS#8, without a passphrase: devices read this form."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_key(pem: bytes) -> SigningKey | None:
    """Return a key that ``key_pem`` wrote, or None if it is damaged."""
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) else None


def make_csr(key: SigningKey, name: str) -> bytes:
    """Return a certificate signing request for the key. The certificate's common name will be ``name``."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM)


def csr_fits(pem: bytes, key: SigningKey) -> bool:
    """True if the PEM is a whole certificate signing request for the key."""
    try:
        request = x509.load_pem_x509_csr(pem)
    except ValueError:
        return False
    return _spki(request) == _spki_of_key(key)


def certificate_fits(pem: str, csr: str) -> bool:
    """True if the certificate has the public key of the certificate signing request."""
    return _spki(x509.load_pem_x509_certificate(pem.encode())) == _spki(x509.load_pem_x509_csr(csr.encode()))


def _spki(holder: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _spki_of_key(key: SigningKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
