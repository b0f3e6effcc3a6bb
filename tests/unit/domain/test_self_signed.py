"""Self-signed certificates for devices of Yandex IoT Core."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.unit.vectors import NOW
from thingmint.domain.certificates import find_obstacle, parse_certificate
from thingmint.domain.keys import FLEET_KEYS, generate_key_pair
from thingmint.domain.self_signed import self_signed


def test_a_self_signed_certificate_can_be_bound_and_is_of_the_key() -> None:
    keys = generate_key_pair()
    pem = self_signed(keys, "pump-1", NOW)
    certificate, key = parse_certificate(pem, "pem", FLEET_KEYS, bound=True)
    assert find_obstacle(certificate, key) is None
    read = x509.load_pem_x509_certificate(pem.encode())
    read.verify_directly_issued_by(read)
    assert read.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode() == keys.public_pem
    assert read.subject.rfc4514_string() == "CN=pump-1"
    assert read.not_valid_before_utc < NOW < read.not_valid_after_utc
    assert self_signed(keys, "pump-1", NOW) != pem, "each has a serial number of its own"
