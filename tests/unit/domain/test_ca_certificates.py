"""Parsing CA certificates and verification certificates, and verifying the certificates that a CA issued."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from tests.issuers import Issuer, fingerprint, key_usage, name, new_issuer, pem, rewritten
from tests.unit import vectors
from tests.unit.vectors import NOW
from thingmint.domain.ca_certificates import RegistrationConfig, parse_ca_certificate, read_verification
from thingmint.domain.certificates import (
    fingerprint_of,
    is_signed_by,
    parse_issued_certificate,
    re_signed_fingerprint,
    read_issued_certificate,
)
from thingmint.domain.errors import Invalid, InvalidCertificate, UnverifiedCertificate

if TYPE_CHECKING:
    from collections.abc import Sequence

CODE = "ab" * 32
CA = x509.BasicConstraints(ca=True, path_length=None)
DAY = timedelta(days=1)
ISSUER = new_issuer("Root", now=NOW, begins=NOW - DAY, ends=NOW + DAY)


def issuer(*extensions: x509.ExtensionType, key: object = None) -> Issuer:
    return new_issuer("Root", key, now=NOW, begins=NOW - DAY, ends=NOW + DAY, extensions=extensions)


def test_a_ca_certificate_is_parsed() -> None:
    for made in (ISSUER, issuer(CA, key_usage(signs=True)), issuer(CA, key=vectors.rsa_key())):
        ca = parse_ca_certificate(made.pem, "f", NOW)
        assert ca.certificate.fingerprint == made.fingerprint
        assert ca.subject == made.certificate.subject.public_bytes()


@pytest.mark.parametrize(
    ("extensions", "key", "reason"),
    [
        ((), None, "is not that of a certificate authority"),
        ((x509.BasicConstraints(ca=False, path_length=None),), None, "is not that of a certificate authority"),
        ((CA, key_usage(signs=False)), None, "is not that of a certificate authority"),
        ((key_usage(signs=True),), None, "is not that of a certificate authority"),
        ((CA,), vectors.rsa_key(1024), "an RSA key of 1024 bits"),
        ((CA,), vectors.ec_key("secp256k1"), "an EC key on another curve"),
    ],
)
def test_certificates_without_ca_extensions_are_refused(
    extensions: Sequence[x509.ExtensionType], key: object, reason: str
) -> None:
    with pytest.raises(InvalidCertificate, match=reason):
        parse_ca_certificate(issuer(*extensions, key=key).pem, "f", NOW)


@pytest.mark.parametrize(("exponent", "taken"), [(3, True), (65537, True), (2**32 - 1, True), (2**32 + 1, False)])
def test_large_rsa_exponents_are_refused(exponent: int, taken: bool) -> None:
    """With a chosen exponent, another key than the CA's can verify the CA's signatures."""
    key = rsa.RSAPublicNumbers(exponent, vectors.rsa_key().public_key().public_numbers().n).public_key()
    inner = vectors.inner_elements(ISSUER.certificate.public_bytes(Encoding.DER))
    inner[6] = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    made = vectors.to_pem(vectors.with_elements(ISSUER.certificate.public_bytes(Encoding.DER), inner), "CERTIFICATE")
    if taken:
        parse_ca_certificate(made, "f", NOW)
    else:
        with pytest.raises(InvalidCertificate, match="an exponent of more than 32 bits"):
            parse_ca_certificate(made, "f", NOW)


def test_a_ca_certificate_of_version_1_is_refused() -> None:
    """No builder makes such a certificate: the test removes extensions and version; the signature is not verified."""
    der = ISSUER.certificate.public_bytes(Encoding.DER)
    old = vectors.with_elements(der, [part for part in vectors.inner_elements(der) if part[0] not in (0xA0, 0xA3)])
    with pytest.raises(InvalidCertificate, match="must be of version 3"):
        parse_ca_certificate(vectors.to_pem(old, "CERTIFICATE"), "f", NOW)


@pytest.mark.parametrize(("after", "reason"), [(-2 * DAY, "is not valid before"), (2 * DAY, "ended on")])
def test_a_ca_certificate_must_be_valid_now(after: timedelta, reason: str) -> None:
    with pytest.raises(InvalidCertificate, match=reason):
        parse_ca_certificate(ISSUER.pem, "f", NOW + after)
    parse_ca_certificate(ISSUER.pem, "f")


def test_a_ca_certificate_without_a_subject_is_refused() -> None:
    key = vectors.ec_key()
    nameless = x509.CertificateBuilder(
        x509.Name([]), x509.Name([]), key.public_key(), 7, NOW - DAY, NOW + DAY, [x509.Extension(CA.oid, True, CA)]
    ).sign(key, hashes.SHA256())
    with pytest.raises(InvalidCertificate, match="empty subject"):
        parse_ca_certificate(pem(nameless), "f", NOW)


@pytest.mark.parametrize("text", ["", "garbage", ISSUER.pem * 2, "x" * 70_000, ISSUER.pem[:200], "\0" + ISSUER.pem])
def test_texts_that_are_not_certificates_are_refused(text: str) -> None:
    with pytest.raises(InvalidCertificate) as refused:
        parse_ca_certificate(text, "caCertificate", NOW)
    assert refused.value.field == "caCertificate"


def test_a_verification_certificate_has_the_registration_code() -> None:
    ca = parse_ca_certificate(ISSUER.pem, "f")
    for key in (None, vectors.rsa_key(1024), vectors.ec_key("secp256k1")):
        assert read_verification(pem(ISSUER.sign(CODE, key)), ca) == CODE.encode()


@pytest.mark.parametrize(
    "subject",
    [
        name("cd" * 32),
        name(CODE.upper()),
        name(CODE, (NameOID.COMMON_NAME, CODE)),
        x509.Name([]),
        x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, CODE)]),
        name(CODE[:-1]),
        name("é"),
    ],
)
def test_only_a_single_common_name_is_a_code(subject: x509.Name) -> None:
    assert read_verification(pem(ISSUER.sign(subject)), parse_ca_certificate(ISSUER.pem, "f")) != CODE.encode()


def test_a_verification_certificate_of_another_issuer_is_refused() -> None:
    """One has another key under the same name, one the same key under another name."""
    ca, namesake = parse_ca_certificate(ISSUER.pem, "f"), new_issuer("Root", now=NOW)
    for forged in (namesake.sign(CODE), ISSUER.sign(CODE, issuer=name("another")), vectors.certificate()):
        with pytest.raises(UnverifiedCertificate) as refused:
            read_verification(pem(forged), ca)
        assert str(refused.value) == "Contents of the Verification Certificate are not correct"


def test_an_issued_certificate_has_issuer_and_serial_number() -> None:
    made = ISSUER.sign(serial=255)
    for issued in (parse_issued_certificate(pem(made), "f"), read_issued_certificate(made.public_bytes(Encoding.DER))):
        assert (issued.fingerprint, issued.serial) == (fingerprint(made), "ff")
        assert issued.issuer == ISSUER.certificate.subject.public_bytes()
        assert is_signed_by(issued, ISSUER.certificate)
        assert not is_signed_by(issued, new_issuer("Root", now=NOW).certificate)


@pytest.mark.parametrize("der", [b"", b"0", b"garbage", b"\x30\x82\xff\xff" + bytes(100), bytes(70_000)])
def test_der_that_cannot_be_read_is_refused(der: bytes) -> None:
    with pytest.raises(InvalidCertificate):
        read_issued_certificate(der)


def test_every_truncation_is_refused() -> None:
    der = ISSUER.sign().public_bytes(Encoding.DER)
    for end in range(len(der)):
        with pytest.raises(InvalidCertificate):
            read_issued_certificate(der[:end])
    assert read_issued_certificate(der + b"\0").fingerprint == fingerprint_of(der)


def test_issued_certificates_with_weak_keys_are_refused() -> None:
    for key in (vectors.rsa_key(1024), vectors.ec_key("secp256k1"), vectors.ed25519_key()):
        with pytest.raises(InvalidCertificate, match="has "):
            read_issued_certificate(ISSUER.sign(key=key).public_bytes(Encoding.DER))


def test_signatures_over_sha_1_are_not_verified() -> None:
    made = new_issuer(now=NOW, key=vectors.rsa_key())
    certificates = (made.sign(key=ISSUER.key), _signed_with_sha1(made))
    signed, over_sha_1 = (read_issued_certificate(each.public_bytes(Encoding.DER)) for each in certificates)
    assert is_signed_by(signed, made.certificate)
    assert not is_signed_by(over_sha_1, made.certificate)
    assert over_sha_1.parts.signature.broken_digest == "SHA-1"


def _signed_with_sha1(made: Issuer) -> x509.Certificate:
    """Sign with SHA-1, which builders refuse."""
    from cryptography.hazmat.primitives.asymmetric import padding

    der = made.sign().public_bytes(Encoding.DER)
    algorithm = vectors.tlv(0x30, vectors.tlv(0x06, bytes.fromhex("2a864886f70d010105")) + vectors.tlv(0x05, b""))
    inner = vectors.inner_elements(der)
    inner[2] = algorithm
    signed = vectors.tlv(0x30, b"".join(inner))
    signature = made.key.sign(signed, padding.PKCS1v15(), hashes.SHA1())
    return x509.load_der_x509_certificate(vectors.tlv(0x30, signed + algorithm + vectors.tlv(0x03, b"\0" + signature)))


def test_flaws_that_prevent_just_in_time_registration() -> None:
    fine = ISSUER.sign(begins=NOW - DAY, ends=NOW + DAY)
    issued = read_issued_certificate(fine.public_bytes(Encoding.DER))
    assert issued.flaw(NOW) is None
    assert "is not valid before" in (issued.flaw(NOW - 2 * DAY) or "")
    assert "ended on" in (issued.flaw(NOW + 2 * DAY) or "")
    for made in (ISSUER.certificate, ISSUER.sign(begins=NOW - DAY, ends=NOW + DAY, extensions=[CA])):
        assert "authority" in (read_issued_certificate(made.public_bytes(Encoding.DER)).flaw(NOW) or "")


def test_ecdsa_signatures_have_two_forms() -> None:
    """Checked for many signatures, because the lengths of r and s differ."""
    for _ in range(40):
        made = ISSUER.sign()
        re_signed = rewritten(made)
        re_signed.verify_directly_issued_by(ISSUER.certificate)
        assert fingerprint(re_signed) != fingerprint(made)
        for one, other in ((made, re_signed), (re_signed, made)):
            issued = read_issued_certificate(one.public_bytes(Encoding.DER))
            assert re_signed_fingerprint(issued, ISSUER.certificate) == fingerprint(other)


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()])
def test_longer_ecdsa_signatures_have_two_forms(curve: ec.EllipticCurve) -> None:
    made = new_issuer(now=NOW, key=ec.generate_private_key(curve))
    issued = read_issued_certificate(made.sign("x" * 64, digest=hashes.SHA512()).public_bytes(Encoding.DER))
    once = re_signed_fingerprint(issued, made.certificate)
    assert once not in (None, issued.fingerprint)


def test_other_encodings_of_a_signature_do_not_verify() -> None:
    """Each would give a revoked certificate another fingerprint."""
    made = ISSUER.sign()
    der = made.public_bytes(Encoding.DER)
    (_, signed), (_, algorithm), (_, bits) = vectors.elements(vectors.elements(der)[0][1])
    r, s = (vectors.tlv(*part) for part in vectors.elements(vectors.elements(bits[1:])[0][1]))
    padded = vectors.tlv(0x02, b"\0" + vectors.elements(r)[0][1])
    with_null = vectors.tlv(0x30, algorithm + vectors.tlv(0x05, b""))
    plain = vectors.tlv(0x30, algorithm)
    signature = vectors.tlv(0x30, r + s)
    forms = [
        (plain, b"\0" + vectors.tlv(0x30, padded + s)),
        (plain, b"\0" + signature + b"\0"),
        (plain, b"\0" + vectors.tlv(0x30, r + s + vectors.tlv(0x05, b""))),
        (plain, b"\0" + b"\x30\x81" + signature[1:]),
        (with_null, b"\0" + signature),
    ]
    for algorithm_der, bit_string in forms:
        other = vectors.tlv(0x30, vectors.tlv(0x30, signed) + algorithm_der + vectors.tlv(0x03, bit_string))
        assert other != der
        try:
            issued = read_issued_certificate(other)
        except InvalidCertificate:
            continue
        assert not is_signed_by(issued, ISSUER.certificate), other.hex()


def test_rsa_signatures_have_one_form() -> None:
    made = new_issuer(now=NOW, key=vectors.rsa_key())
    issued = read_issued_certificate(made.sign(key=ISSUER.key).public_bytes(Encoding.DER))
    assert re_signed_fingerprint(issued, made.certificate) is None


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"template_body": "{}"},
        {"template_body": "{}", "template_name": "t", "role_arn": "arn:aws:iam::123456789012:role/r"},
        {"role_arn": "arn:aws:iam::123456789012:role/r"},
        {"template_name": "t", "role_arn": "arn:aws:iam::123456789012:user/u"},
        {"template_name": "t", "role_arn": "x" * 20},
    ],
)
def test_contradictory_registration_configs_are_refused(config: dict[str, str]) -> None:
    with pytest.raises(Invalid, match=r"^registrationConfig"):
        RegistrationConfig(**config)
