"""Which certificates are taken as authorities, what shows whose they are, and what they signed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.issuers import Issuer, fingerprint, key_usage, name, new_issuer, pem, rewritten
from tests.unit import vectors
from tests.unit.vectors import NOW
from thingmint.domain.authorities import RegistrationConfig, check_verification, parse_authority
from thingmint.domain.errors import Invalid, InvalidCertificate, UnverifiedCertificate, WrongRegistrationCode
from thingmint.domain.leaves import is_signed_by, parse_leaf, read_leaf, twin_of

if TYPE_CHECKING:
    from collections.abc import Sequence

CODE = "ab" * 32
CA = x509.BasicConstraints(ca=True, path_length=None)
DAY = timedelta(days=1)
ISSUER = new_issuer("Root", now=NOW, begins=NOW - DAY, ends=NOW + DAY)


def issuer(*extensions: x509.ExtensionType, key: object = None) -> Issuer:
    return new_issuer("Root", key, now=NOW, begins=NOW - DAY, ends=NOW + DAY, extensions=extensions)


def test_an_authority() -> None:
    for made in (ISSUER, issuer(CA, key_usage(signs=True)), issuer(CA, key=vectors.rsa_key())):
        authority = parse_authority(made.pem, "f", NOW)
        assert authority.certificate.fingerprint == made.fingerprint
        assert authority.subject == made.certificate.subject.public_bytes()


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
def test_what_is_no_authority(extensions: Sequence[x509.ExtensionType], key: object, reason: str) -> None:
    with pytest.raises(InvalidCertificate, match=reason):
        parse_authority(issuer(*extensions, key=key).pem, "f", NOW)


def test_an_authority_of_version_1() -> None:
    """No builder makes one: the extensions and the version go, and nobody looks at the signature."""
    der = ISSUER.certificate.public_bytes(Encoding.DER)
    old = vectors.with_elements(der, [part for part in vectors.inner_elements(der) if part[0] not in (0xA0, 0xA3)])
    with pytest.raises(InvalidCertificate, match="must be of version 3"):
        parse_authority(vectors.to_pem(old, "CERTIFICATE"), "f", NOW)


@pytest.mark.parametrize(("after", "reason"), [(-2 * DAY, "is not valid before"), (2 * DAY, "ended on")])
def test_an_authority_at_another_time(after: timedelta, reason: str) -> None:
    with pytest.raises(InvalidCertificate, match=reason):
        parse_authority(ISSUER.pem, "f", NOW + after)
    parse_authority(ISSUER.pem, "f")


def test_an_authority_without_a_name() -> None:
    key = vectors.ec_key()
    nameless = x509.CertificateBuilder(
        x509.Name([]), x509.Name([]), key.public_key(), 7, NOW - DAY, NOW + DAY, [x509.Extension(CA.oid, True, CA)]
    ).sign(key, hashes.SHA256())
    with pytest.raises(InvalidCertificate, match="empty subject"):
        parse_authority(pem(nameless), "f", NOW)


@pytest.mark.parametrize("text", ["", "garbage", ISSUER.pem * 2, "x" * 70_000, ISSUER.pem[:200], "\0" + ISSUER.pem])
def test_texts_that_are_no_certificate(text: str) -> None:
    with pytest.raises(InvalidCertificate) as refused:
        parse_authority(text, "caCertificate", NOW)
    assert refused.value.field == "caCertificate"


def test_a_verification_certificate() -> None:
    authority = parse_authority(ISSUER.pem, "f")
    for key in (None, vectors.rsa_key(1024), vectors.ec_key("secp256k1")):
        check_verification(pem(ISSUER.sign(CODE, key)), authority, CODE)


@pytest.mark.parametrize(
    ("subject", "code"),
    [
        (name("cd" * 32), CODE),
        (name(CODE.upper()), CODE),
        (name(CODE), None),
        (name(CODE, (NameOID.COMMON_NAME, CODE)), CODE),
        (x509.Name([]), CODE),
        (x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, CODE)]), CODE),
        (name(CODE[:-1]), CODE),
        (name("é"), CODE),
    ],
)
def test_a_wrong_code(subject: x509.Name, code: str | None) -> None:
    with pytest.raises(WrongRegistrationCode) as refused:
        check_verification(pem(ISSUER.sign(subject)), parse_authority(ISSUER.pem, "f"), code)
    assert str(refused.value).startswith("Registration code provided in the CN field")


def test_somebody_elses_verification_certificate() -> None:
    """Neither one of another key under the same name, nor one of the same key under another."""
    authority = parse_authority(ISSUER.pem, "f")
    namesake = new_issuer("Root", now=NOW)
    for forged in (namesake.sign(CODE), ISSUER.sign(CODE, issuer=name("another")), vectors.certificate()):
        with pytest.raises(UnverifiedCertificate) as refused:
            check_verification(pem(forged), authority, CODE)
        assert str(refused.value) == "Contents of the Verification Certificate are not correct"


def test_a_leaf() -> None:
    made = ISSUER.sign(serial=255)
    for leaf in (parse_leaf(pem(made), "f"), read_leaf(made.public_bytes(Encoding.DER))):
        assert (leaf.fingerprint, leaf.serial) == (fingerprint(made), "ff")
        assert leaf.issuer == ISSUER.certificate.subject.public_bytes()
        assert is_signed_by(leaf.content, ISSUER.certificate)
        assert not is_signed_by(leaf.content, new_issuer("Root", now=NOW).certificate)


@pytest.mark.parametrize("der", [b"", b"0", b"garbage", b"\x30\x82\xff\xff" + bytes(100), bytes(70_000)])
def test_what_cannot_be_read(der: bytes) -> None:
    with pytest.raises(InvalidCertificate):
        read_leaf(der)


def test_every_truncation() -> None:
    der = ISSUER.sign().public_bytes(Encoding.DER)
    for end in range(len(der)):
        with pytest.raises(InvalidCertificate):
            read_leaf(der[:end])
    with pytest.raises(InvalidCertificate):
        read_leaf(der + b"\0")


def test_weak_leaves() -> None:
    for key in (vectors.rsa_key(1024), vectors.ec_key("secp256k1"), vectors.ed25519_key()):
        with pytest.raises(InvalidCertificate, match="has "):
            read_leaf(ISSUER.sign(key=key).public_bytes(Encoding.DER))


def test_weak_hashes() -> None:
    made = new_issuer(now=NOW, key=vectors.rsa_key())
    assert is_signed_by(made.sign(), made.certificate)
    assert not is_signed_by(_signed_with_sha1(made), made.certificate)


def _signed_with_sha1(made: Issuer) -> x509.Certificate:
    """Builders refuse to."""
    from cryptography.hazmat.primitives.asymmetric import padding

    der = made.sign().public_bytes(Encoding.DER)
    algorithm = vectors.tlv(0x30, vectors.tlv(0x06, bytes.fromhex("2a864886f70d010105")) + vectors.tlv(0x05, b""))
    inner = vectors.inner_elements(der)
    inner[2] = algorithm
    signed = vectors.tlv(0x30, b"".join(inner))
    signature = made.key.sign(signed, padding.PKCS1v15(), hashes.SHA1())
    return x509.load_der_x509_certificate(vectors.tlv(0x30, signed + algorithm + vectors.tlv(0x03, b"\0" + signature)))


def test_flaws_of_newcomers() -> None:
    fine = ISSUER.sign(begins=NOW - DAY, ends=NOW + DAY)
    leaf = read_leaf(fine.public_bytes(Encoding.DER))
    assert leaf.flaw(NOW) is None
    assert "is not valid before" in (leaf.flaw(NOW - 2 * DAY) or "")
    assert "ended on" in (leaf.flaw(NOW + 2 * DAY) or "")
    for made in (ISSUER.certificate, ISSUER.sign(begins=NOW - DAY, ends=NOW + DAY, extensions=[CA])):
        assert "authority" in (read_leaf(made.public_bytes(Encoding.DER)).flaw(NOW) or "")


def test_a_signature_has_two_forms() -> None:
    """Of many, as lengths of r and s differ."""
    for _ in range(40):
        made = ISSUER.sign()
        twin = rewritten(made)
        twin.verify_directly_issued_by(ISSUER.certificate)
        assert fingerprint(twin) != fingerprint(made)
        for one, other in ((made, twin), (twin, made)):
            leaf = read_leaf(one.public_bytes(Encoding.DER))
            assert twin_of(leaf, ISSUER.certificate) == fingerprint(other)


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()])
def test_twins_of_longer_signatures(curve: ec.EllipticCurve) -> None:
    made = new_issuer(now=NOW, key=ec.generate_private_key(curve))
    leaf = read_leaf(made.sign("x" * 64, digest=hashes.SHA512()).public_bytes(Encoding.DER))
    once = twin_of(leaf, made.certificate)
    assert once not in (None, leaf.fingerprint)


def test_other_ways_to_write_a_signature_do_not_verify() -> None:
    """Each would be one more fingerprint of a certificate that was revoked."""
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
            leaf = read_leaf(other)
        except InvalidCertificate:
            continue
        assert not is_signed_by(leaf.content, ISSUER.certificate), other.hex()


def test_an_rsa_signature_has_one_form() -> None:
    made = new_issuer(now=NOW, key=vectors.rsa_key())
    assert twin_of(read_leaf(made.sign(key=ISSUER.key).public_bytes(Encoding.DER)), made.certificate) is None


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
def test_configurations_without_sense(config: dict[str, str]) -> None:
    with pytest.raises(Invalid, match=r"^registrationConfig"):
        RegistrationConfig(**config)
