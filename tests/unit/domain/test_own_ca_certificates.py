"""The keys of the server's own CAs are recognized in every certificate and encoding, and so are their signatures."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.issuers import new_issuer
from tests.unit import vectors
from tests.unit.vectors import tlv
from thingmint.domain.errors import InvalidCertificate
from thingmint.domain.issuing_ca import CertificateAuthority, CertificateRequest, OwnAuthorities
from thingmint.domain.keys import SigningKey, key_id
from thingmint.domain.signatures import Signature

EC, RSA = vectors.authority(vectors.ca_key()), vectors.authority(vectors.rsa_key())
OWN = OwnAuthorities([EC.certificate, RSA.certificate])

EC_KEY = bytes.fromhex("06072a8648ce3d0201")
P256 = bytes.fromhex("06082a8648ce3d030107")
# SEC 2, 2.4.2 secp256r1: the prime, a = p - 3, b, the base point and its order.
PRIME = 2**256 - 2**224 + 2**192 + 2**96 - 1
B = bytes.fromhex("5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b")
BASE = bytes.fromhex(
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def integer(number: int) -> bytes:
    return tlv(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def explicit_parameters() -> bytes:
    """X9.62: version 1, the prime field, the curve, base point, order and cofactor."""
    prime_field = tlv(0x30, bytes.fromhex("06072a8648ce3d0101") + integer(PRIME))
    curve = tlv(0x30, tlv(0x04, (PRIME - 3).to_bytes(32, "big")) + tlv(0x04, B))
    return tlv(0x30, integer(1) + prime_field + curve + tlv(0x04, BASE) + integer(ORDER) + integer(1))


def point(form: PublicFormat) -> bytes:
    return vectors.ca_key().public_key().public_bytes(Encoding.X962, form)


def hybrid(uncompressed: bytes) -> bytes:
    """X9.62 4.3.6: a byte with the last bit of the second coordinate, then both coordinates."""
    return bytes([6 | uncompressed[-1] & 1]) + uncompressed[1:]


def spki(algorithm: bytes, key: bytes) -> bytes:
    return tlv(0x30, tlv(0x30, algorithm) + tlv(0x03, b"\0" + key))


RSA_KEY = vectors.rsa_key().public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
ENCODINGS = {
    "named curve": spki(EC_KEY + P256, point(PublicFormat.UncompressedPoint)),
    "compressed point": spki(EC_KEY + P256, point(PublicFormat.CompressedPoint)),
    "hybrid point": spki(EC_KEY + P256, hybrid(point(PublicFormat.UncompressedPoint))),
    "explicit parameters": spki(EC_KEY + explicit_parameters(), point(PublicFormat.UncompressedPoint)),
    "RSA": spki(bytes.fromhex("06092a864886f70d0101010500"), RSA_KEY),
    "RSA without NULL": spki(bytes.fromhex("06092a864886f70d010101"), RSA_KEY),
    "RSA-PSS": spki(bytes.fromhex("06092a864886f70d01010a"), RSA_KEY),
}


def with_key(subject_public_key_info: bytes) -> x509.Certificate:
    """Return a CA certificate with that key, signed by another CA."""
    inner = vectors.inner_elements(new_issuer(now=vectors.NOW).certificate.public_bytes(Encoding.DER))
    inner[6] = subject_public_key_info  # version, serial, algorithm, issuer, validity, subject, this one
    der = vectors.with_elements(new_issuer(now=vectors.NOW).certificate.public_bytes(Encoding.DER), inner)
    return x509.load_der_x509_certificate(der)


def signature_of(certificate: x509.Certificate) -> Signature:
    return Signature.of(certificate.public_bytes(Encoding.DER))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_ca_key_is_recognized_in_every_encoding(encoding: str) -> None:
    made = with_key(ENCODINGS[encoding])
    assert OWN.has_key(made.public_key())
    own = vectors.rsa_key().public_key() if encoding.startswith("RSA") else vectors.ca_key().public_key()
    key = made.public_key()
    assert key_id(key) == key_id(own)
    with pytest.raises(InvalidCertificate, match="has the key of one of this server's own certificate authorities"):
        OWN.check(made.public_key(), "caCertificate")


def test_a_ca_key_is_recognized_under_another_subject() -> None:
    assert OWN.has_key(new_issuer("A Maker's Root", vectors.ca_key(), now=vectors.NOW).certificate.public_key())


def test_other_keys_are_not_ca_keys() -> None:
    """Neither a CA of the same name, nor a certificate of a device."""
    [attribute] = EC.certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    for made in (new_issuer(str(attribute.value), now=vectors.NOW).certificate, vectors.certificate()):
        assert not OWN.has_key(made.public_key())
        OWN.check(made.public_key(), "caCertificate")


@pytest.mark.parametrize("authority", [EC, RSA], ids=["EC", "RSA"])
def test_issued_certificates_are_recognized_by_signature(authority: CertificateAuthority) -> None:
    request = CertificateRequest(vectors.name("lamp"), vectors.ec_key().public_key())
    issued = authority.sign(authority.prepare(request, vectors.NOW))
    assert OWN.issued(Signature.of(issued.der))


@pytest.mark.parametrize("key", [None, vectors.rsa_key(3072), vectors.ec_key("secp384r1")])
def test_the_issuers_name_alone_does_not_show_that_we_issued_a_certificate(key: object) -> None:
    pretender = new_issuer("pretender", key, now=vectors.NOW)
    assert not OWN.issued(signature_of(pretender.sign(issuer=EC.certificate.subject)))


def test_our_signature_is_recognized_under_another_issuers_name() -> None:
    cross_signed = new_issuer("Another Name", vectors.ca_key(), now=vectors.NOW)
    assert OWN.issued(signature_of(cross_signed.sign()))


def test_different_keys_have_different_ids() -> None:
    keys: list[SigningKey] = [
        vectors.ec_key(),
        vectors.ca_key(),
        vectors.ec_key("secp384r1"),
        vectors.rsa_key(),
        vectors.rsa_key(3072),
    ]
    numbers = vectors.rsa_key().public_key().public_numbers()
    ids = {key_id(key.public_key()) for key in keys} | {key_id(rsa.RSAPublicNumbers(3, numbers.n).public_key())}
    assert len(ids) == 6
