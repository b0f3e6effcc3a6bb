"""CreateKeysAndCertificate with unmodified boto3: what comes back is a real identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

if TYPE_CHECKING:
    from thingmint.testing import RunningServer


def test_the_key_fits_the_certificate_and_the_certificate_chains(iot: Any, server: RunningServer) -> None:
    created = iot.create_keys_and_certificate(setAsActive=True)
    certificate = x509.load_pem_x509_certificate(created["certificatePem"].encode())
    key = load_pem_private_key(created["keyPair"]["PrivateKey"].encode(), None)
    assert key.public_key() == certificate.public_key()
    public_pem = certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert public_pem.decode() == created["keyPair"]["PublicKey"]
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(server.device_ca.read_bytes()))
