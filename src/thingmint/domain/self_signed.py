"""Self-signed certificates for devices of Yandex IoT Core, which issues none."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from datetime import datetime

    from thingmint.domain.keys import KeyPair

_LIFETIME = timedelta(days=20 * 365)  # a bound certificate's validity does not count, but other programs may look at it
_EARLIER = timedelta(days=1)  # for devices whose clock is late


def self_signed(keys: KeyPair, common_name: str, now: datetime) -> str:
    """Return a certificate, in PEM, of the key pair for itself. It costs one signature."""
    # Made by this process a moment ago, so its numbers need no check, which would take longer than the signature.
    key = load_pem_private_key(keys.private_pem.encode(), None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(key, rsa.RSAPrivateKey)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(keys.public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
