"""Certificates like those of real fleets, built as DER by hand, so that they can be malformed."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import ssl
import subprocess
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

if TYPE_CHECKING:
    from pathlib import Path

_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_RSA = bytes.fromhex("300d06092a864886f70d0101010500")
_COMMON_NAME = bytes.fromhex("0603550403")


def der_value(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def integer(value: int) -> bytes:
    return der_value(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def rsa_spki(bits: int) -> bytes:
    """A public key of this size without a private key, which the tests do not need."""
    modulus = secrets.randbits(bits) | 1 << (bits - 1) | 1
    return der_value(0x30, _RSA, der_value(0x03, b"\0", der_value(0x30, integer(modulus), integer(65537))))


def ec_spki(curve: ec.EllipticCurve) -> bytes:
    return _spki(ec.generate_private_key(curve).public_key())


def ed25519_spki() -> bytes:
    return _spki(ed25519.Ed25519PrivateKey.generate().public_key())


def ed448_spki() -> bytes:
    return _spki(ed448.Ed448PrivateKey.generate().public_key())


def _spki(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey | dsa.DSAPublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def certificate(
    spki: bytes | None = None,
    *,
    version: int = 3,
    serial: int | None = None,
    not_before: str = "260101000000Z",
    not_after: str = "360101000000Z",
) -> str:
    """A new certificate in PEM, with a P-256 key unless ``spki`` is given. Its signature is 64 random bytes."""
    name = der_value(0x30, der_value(0x31, der_value(0x30, _COMMON_NAME, der_value(0x0C, b"localhost"))))
    body = der_value(
        0x30,
        der_value(0xA0, integer(version - 1)) if version > 1 else b"",
        integer(secrets.randbits(100) if serial is None else serial),
        _ECDSA_SHA256,
        name,
        der_value(0x30, der_value(0x17, not_before.encode()), der_value(0x17, not_after.encode())),
        name,
        ec_spki(ec.SECP256R1()) if spki is None else spki,
    )
    return pem_of(der_value(0x30, body, _ECDSA_SHA256, der_value(0x03, b"\0" + secrets.token_bytes(64))))


def guide_certificate(folder: Path) -> str:
    """A certificate made as in Yandex's guide: https://yandex.cloud/docs/iot-core/operations/certificates/create."""
    command = "openssl req -x509 -newkey rsa:4096 -keyout key.pem -out cert.pem -nodes -days 365 -subj /CN=localhost"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return (folder / "cert.pem").read_text()


def private_key_pem() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def pem_of(der: bytes) -> str:
    return ssl.DER_cert_to_PEM_cert(der)


def der_of(pem: str) -> bytes:
    block = re.search(r"-----BEGIN CERTIFICATE-----(.*?)-----END", pem, re.DOTALL)
    assert block is not None
    return base64.b64decode(block[1])


def sha256_of(pem: str) -> str:
    return hashlib.sha256(der_of(pem)).hexdigest()


def sha1_of(pem: str) -> str:
    return hashlib.sha1(der_of(pem), usedforsecurity=False).hexdigest()
