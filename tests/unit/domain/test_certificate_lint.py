"""The lint: good certificates pass; each flaw is found and prevents the use of the CA's key."""

from __future__ import annotations

import hashlib
import warnings
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from tests.tables import each_row
from tests.unit import vectors
from tests.unit.vectors import elements, inner_elements, tlv, with_elements
from thingmint.domain.certificate_lint import CaFacts, LintFailed, find_flaws
from thingmint.domain.certificate_parts import as_tls_sends_it
from thingmint.domain.certificate_profiles import CLAIM, DEVICE, ROOT, Profile, listener_profile
from thingmint.domain.certificates import parse_csr
from thingmint.domain.errors import InvalidSigningRequest
from thingmint.domain.issuing_ca import (
    DEVICE_SUBJECT,
    CertificateAuthority,
    CertificateRequest,
    PreparedCertificate,
    make_root,
)
from thingmint.domain.keys import CSR_KEYS

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from thingmint.domain.keys import SigningKey

LISTENER = listener_profile(timedelta(days=90))
CA = vectors.authority()
FACTS = CaFacts.of(CA.certificate, vectors.ec_key())
REQUEST = CertificateRequest(DEVICE_SUBJECT, vectors.ec_key("secp384r1").public_key(), ["localhost"])

SECOND = timedelta(seconds=1)
ECDSA_WITH_SHA256 = tlv(0x30, bytes.fromhex("06082a8648ce3d040302"))
ECDSA_WITH_SHA384 = tlv(0x30, bytes.fromhex("06082a8648ce3d040303"))
SKI, KEY_USAGE, SAN, BASIC_CONSTRAINTS, AKI, EKU = 14, 15, 17, 19, 35, 37  # the last number of the OID, 2.5.29.x

Parts = list[bytes]


def draft(profile: Profile) -> bytes:
    return CertificateAuthority(CA.certificate, vectors.ec_key(), profile).prepare(REQUEST, vectors.NOW).take()


DRAFTS = {profile: draft(profile) for profile in (DEVICE, LISTENER)}


def changed(change: Callable[[Parts], object], profile: Profile = DEVICE) -> bytes:
    """Return a good draft with changes in its to-be-signed parts."""
    parts = inner_elements(DRAFTS[profile])
    change(parts)
    return with_elements(DRAFTS[profile], parts)


def part(index: int, element: bytes, profile: Profile = DEVICE) -> bytes:
    return changed(lambda parts: parts.__setitem__(index, element), profile)


def serial(content: bytes) -> bytes:
    return part(1, tlv(0x02, content))


def valid(begin: bytes, end: bytes) -> bytes:
    return part(4, tlv(0x30, begin + end))


def utc(time: datetime) -> bytes:
    return tlv(0x17, time.strftime("%y%m%d%H%M%SZ").encode())


def generalized(time: datetime) -> bytes:
    return tlv(0x18, time.strftime("%Y%m%d%H%M%SZ").encode())


def algorithms(inner: bytes, outer: bytes) -> bytes:
    parts = inner_elements(DRAFTS[DEVICE])
    parts[2] = inner
    return tlv(0x30, tlv(0x30, b"".join(parts)) + outer + tlv(0x03, b"\0\1"))


def for_key(key: PublicKeyTypes) -> bytes:
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    identifier = hashlib.sha1(elements(elements(spki)[0][1])[1][1][1:], usedforsecurity=False).digest()

    def change(parts: Parts) -> None:
        parts[6] = spki
        extend(parts, SKI, tlv(0x04, identifier))

    return changed(change)


def extend(parts: Parts, number: int, value: bytes | None, *, critical: bool = False) -> None:
    """Replace the extension by ``value`` (DER), or append it; None removes the extension."""
    oid = tlv(0x06, bytes((0x55, 0x1D, number)))
    found = {elements(content)[0][1][-1]: tlv(tag, content) for tag, content in extensions_of(parts)}
    found.pop(number) if value is None else found.update({number: extension(oid, value, critical=critical)})
    parts[7] = tlv(0xA3, tlv(0x30, b"".join(found.values())))


def extension(oid: bytes, value: bytes, *, critical: bool = False) -> bytes:
    return tlv(0x30, oid + (tlv(0x01, b"\xff") if critical else b"") + tlv(0x04, value))


def extensions_of(parts: Parts) -> list[tuple[int, bytes]]:
    return elements(elements(elements(parts[7])[0][1])[0][1])


def append(parts: Parts, *added: bytes) -> None:
    whole = b"".join((*(tlv(*one) for one in extensions_of(parts)), *added))
    parts[7] = tlv(0xA3, tlv(0x30, whole))


def extended(
    number: int, value: x509.ExtensionType | bytes | None, *, critical: bool = False, profile: Profile = DEVICE
) -> bytes:
    encoded = value.public_bytes() if isinstance(value, x509.ExtensionType) else value
    return changed(lambda parts: extend(parts, number, encoded, critical=critical), profile)


def with_san(subject: bytes, *, critical: bool) -> bytes:
    def change(parts: Parts) -> None:
        parts[5] = subject
        extend(parts, SAN, LOCALHOST.public_bytes(), critical=critical)

    return changed(change, LISTENER)


def key_usage(**flags: bool) -> x509.KeyUsage:
    others = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    last = ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{**dict.fromkeys(others + last, False), **flags})


def bits_of_key(der: bytes) -> tuple[bytes, bytes]:
    """Return the SubjectPublicKeyInfo and its bits."""
    key = inner_elements(der)[6]
    return key, elements(elements(key)[0][1])[1][1][1:]


LOCALHOST = x509.SubjectAlternativeName([x509.DNSName("localhost")])
DIGITAL_SIGNATURE = key_usage(digital_signature=True)
NO_CA = x509.BasicConstraints(ca=False, path_length=None)
AUTHORITY_KEY = x509.AuthorityKeyIdentifier(FACTS.key_identifier, None, None)
SUBJECT_KEY = x509.SubjectKeyIdentifier.from_public_key(REQUEST.public_key)  # type: ignore[arg-type]
SERVER_AUTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
CLIENT_AUTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
BOTH_AUTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
UNKNOWN = extension(tlv(0x06, b"\x2a\x03"), b"\x05\x00")
CA_TIMES = FACTS.not_before, FACTS.not_after
NEW_YEAR_2050 = datetime(2050, 1, 1, tzinfo=FACTS.not_after.tzinfo)

GOOD = {
    "serial of one byte": (serial(b"\x01"), DEVICE),
    "serial of 20 bytes": (serial(b"\x7f" + b"\xff" * 19), DEVICE),
    "as long as the CA": (valid(utc(CA_TIMES[0]), generalized(CA_TIMES[1])), DEVICE),
    "until the last UTCTime": (valid(utc(vectors.NOW), utc(NEW_YEAR_2050 - SECOND)), DEVICE),
    "until the first GeneralizedTime": (valid(utc(vectors.NOW), generalized(NEW_YEAR_2050)), DEVICE),
    "no subject, critical names": (with_san(tlv(0x30, b""), critical=True), LISTENER),
    "no subject, no names": (part(5, tlv(0x30, b"")), DEVICE),
    **{
        f"RFC 7093 {label}": (extended(SKI, x509.SubjectKeyIdentifier(identifier)), DEVICE)
        for key, bits in [bits_of_key(DRAFTS[DEVICE])]
        for label, identifier in (
            ("method 1", hashlib.sha256(bits).digest()[:20]),
            ("method 2", hashlib.sha384(bits).digest()[:20]),
            ("method 3", hashlib.sha512(bits).digest()[:20]),
            ("method 4", hashlib.sha256(key).digest()),
        )
    },
}

# The certificate, its profile, and the beginning of its only flaw.
FLAWED: dict[str, tuple[bytes, Profile, str]] = {
    "truncated": (DRAFTS[DEVICE][:-1], DEVICE, "the certificate cannot be read"),
    "a byte after the end": (DRAFTS[DEVICE] + b"\0", DEVICE, "the certificate cannot be read"),
    "version 4": (part(0, tlv(0xA0, b"\x02\x01\x03")), DEVICE, "the certificate cannot be read"),
    "version 2": (part(0, tlv(0xA0, b"\x02\x01\x01")), DEVICE, "the certificate cannot be read"),
    "version 1, which is the default": (part(0, tlv(0xA0, b"\x02\x01\x00")), DEVICE, "the certificate cannot be read"),
    "version 1": (changed(lambda parts: parts.pop(0)), DEVICE, "the parts are not"),
    "version 1, without extensions": (changed(lambda p: (p.pop(0), p.pop())), DEVICE, "the parts are not"),
    "version 3, without extensions": (changed(lambda parts: parts.pop()), DEVICE, "the parts are not"),
    "unique identifier": (changed(lambda parts: parts.insert(7, tlv(0x82, b"\0\1"))), DEVICE, "the parts are not"),
    "serial zero": (serial(b"\x00"), DEVICE, "serialNumber"),
    "serial negative": (serial(b"\x80"), DEVICE, "serialNumber"),
    "serial of 21 bytes": (serial(b"\x01" * 21), DEVICE, "serialNumber"),
    "serial of 20 bytes and a sign": (serial(b"\x00" + b"\xff" * 20), DEVICE, "serialNumber"),
    "another algorithm outside of the signed part": (
        algorithms(ECDSA_WITH_SHA256, ECDSA_WITH_SHA384), DEVICE, "signature and signatureAlgorithm are not the same"
    ),
    "another algorithm than the key's": (
        algorithms(ECDSA_WITH_SHA384, ECDSA_WITH_SHA384), DEVICE, "signature is not the algorithm"
    ),
    "issuer of another name": (part(3, vectors.name("another").public_bytes()), DEVICE, "issuer"),
    "issuer of the same name in other bytes": (
        changed(lambda parts: parts.__setitem__(3, parts[3].replace(b"\x0c\x09Thingmint", b"\x13\x09Thingmint"))),
        DEVICE,
        "issuer",
    ),
    "begins before the CA": (valid(utc(CA_TIMES[0] - SECOND), utc(vectors.NOW)), DEVICE, "validity is empty, or not"),
    "ends after the CA": (
        valid(utc(vectors.NOW), generalized(CA_TIMES[1] + SECOND)), DEVICE, "validity is empty, or not"
    ),
    "begins when it ends": (valid(utc(vectors.NOW), utc(vectors.NOW)), DEVICE, "validity is empty, or not"),
    "ends before it begins": (valid(utc(vectors.NOW), utc(vectors.NOW - SECOND)), DEVICE, "validity is empty, or not"),
    "GeneralizedTime for the begin": (
        valid(generalized(vectors.NOW), utc(NEW_YEAR_2050 - SECOND)), DEVICE, "validity is not UTCTime"
    ),
    "GeneralizedTime for the end": (
        valid(utc(vectors.NOW), generalized(NEW_YEAR_2050 - SECOND)), DEVICE, "validity is not UTCTime"
    ),
    "RSA key too small": (for_key(vectors.huge_rsa_public_key(1024)), DEVICE, "subjectPublicKeyInfo has an RSA key"),
    "curve": (for_key(vectors.ec_key("secp256k1").public_key()), DEVICE, "subjectPublicKeyInfo has an EC key"),
    "type of key": (for_key(vectors.ed25519_key().public_key()), DEVICE, "subjectPublicKeyInfo has a key of a type"),
    "authority's identifier of another CA": (
        extended(AKI, x509.AuthorityKeyIdentifier(b"\x01" * 20, None, None)), DEVICE, "authorityKeyIdentifier"
    ),
    "authority's identifier with its serial": (
        extended(
            AKI, x509.AuthorityKeyIdentifier(FACTS.key_identifier, [x509.DirectoryName(CA.certificate.subject)], 1)
        ),
        DEVICE,
        "authorityKeyIdentifier",
    ),
    "authority's identifier critical": (extended(AKI, AUTHORITY_KEY, critical=True), DEVICE, "authorityKeyIdentifier"),
    "no identifier of the authority": (extended(AKI, None), DEVICE, "authorityKeyIdentifier"),
    "identifier of another key": (
        extended(SKI, x509.SubjectKeyIdentifier.from_public_key(vectors.ec_key().public_key())),
        DEVICE,
        "subjectKeyIdentifier",
    ),
    "identifier critical": (extended(SKI, SUBJECT_KEY, critical=True), DEVICE, "subjectKeyIdentifier"),
    "no identifier": (extended(SKI, None), DEVICE, "subjectKeyIdentifier"),
    "a CA": (
        extended(BASIC_CONSTRAINTS, x509.BasicConstraints(ca=True, path_length=None), critical=True),
        DEVICE,
        "basicConstraints",
    ),
    "basicConstraints not critical": (extended(BASIC_CONSTRAINTS, NO_CA), DEVICE, "basicConstraints"),
    "no basicConstraints": (extended(BASIC_CONSTRAINTS, None), DEVICE, "basicConstraints"),
    "one more usage": (
        extended(KEY_USAGE, key_usage(digital_signature=True, key_cert_sign=True), critical=True), DEVICE, "keyUsage"
    ),
    "another usage": (extended(KEY_USAGE, key_usage(key_agreement=True), critical=True), DEVICE, "keyUsage"),
    "keyUsage not critical": (extended(KEY_USAGE, DIGITAL_SIGNATURE), DEVICE, "keyUsage"),
    "no keyUsage": (extended(KEY_USAGE, None), DEVICE, "keyUsage"),
    "extended usage for a client": (extended(EKU, CLIENT_AUTH, profile=LISTENER), LISTENER, "extKeyUsage"),
    "extended usage for both": (extended(EKU, BOTH_AUTH, profile=LISTENER), LISTENER, "extKeyUsage"),
    "extended usage critical": (extended(EKU, SERVER_AUTH, critical=True, profile=LISTENER), LISTENER, "extKeyUsage"),
    "no extended usage": (extended(EKU, None, profile=LISTENER), LISTENER, "extKeyUsage"),
    "extended usage for a device": (extended(EKU, SERVER_AUTH), DEVICE, "the extension 2.5.29.37 is not part"),
    "names for a device": (extended(SAN, LOCALHOST), DEVICE, "the extension 2.5.29.17 is not part"),
    "unknown extension": (changed(lambda parts: append(parts, UNKNOWN)), DEVICE, "the extension 1.2.3 is not part"),
    "an extension twice": (
        changed(lambda parts: append(parts, tlv(*extensions_of(parts)[2]))), DEVICE, "an extension occurs twice"
    ),
    # DER omits default values (X.690 11.5).
    "extension that is not DER": (
        extended(BASIC_CONSTRAINTS, bytes.fromhex("3003010100"), critical=True), DEVICE, "the extensions cannot be read"
    ),
    "no names": (extended(SAN, None, profile=LISTENER), LISTENER, "subjectAltName"),
    "empty list of names": (extended(SAN, tlv(0x30, b""), profile=LISTENER), LISTENER, "subjectAltName"),
    "critical names beside a subject": (
        with_san(DEVICE_SUBJECT.public_bytes(), critical=True), LISTENER, "subjectAltName"
    ),
    "names that are not critical, without a subject": (
        with_san(tlv(0x30, b""), critical=False), LISTENER, "subjectAltName"
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "ca_key",
    [vectors.ec_key(), vectors.ec_key("secp384r1"), vectors.rsa_key()],
    ids=["P-256", "P-384", "RSA"],
)
@pytest.mark.parametrize("profile", [DEVICE, CLAIM, LISTENER], ids=["device", "claim", "listener"])
def test_certificates_of_every_profile_pass(ca_key: SigningKey, profile: Profile) -> None:
    ca = vectors.authority(ca_key, profile)
    certificate = ca.sign(ca.prepare(REQUEST, vectors.NOW))
    assert find_flaws(certificate.der, profile, CaFacts.of(ca.certificate, ca_key)) == []


@pytest.mark.parametrize("key", [vectors.ec_key(), vectors.rsa_key()], ids=["P-256", "RSA"])
def test_roots_pass(key: SigningKey) -> None:
    root = make_root("Thingmint Device CA 0a1b", key, vectors.NOW)
    facts = CaFacts(
        root.subject.public_bytes(),
        CaFacts.algorithm_of(key),
        None,
        root.not_valid_before_utc,
        root.not_valid_after_utc,
    )
    assert find_flaws(root.public_bytes(Encoding.DER), ROOT, facts) == []


def test_a_root_fails_the_device_profile() -> None:
    flaws = find_flaws(CA.certificate.public_bytes(Encoding.DER), DEVICE, FACTS)
    assert [flaw.split()[0] for flaw in flaws] == ["authorityKeyIdentifier", "basicConstraints", "keyUsage"]


@pytest.mark.parametrize("case", GOOD)
def test_certificates_that_the_rfcs_allow_pass(case: str) -> None:
    certificate, profile = GOOD[case]
    assert find_flaws(certificate, profile, FACTS) == []


@each_row(("certificate", "profile", "expected"), FLAWED)
@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
def test_each_flaw_is_found_and_prevents_signing(certificate: bytes, profile: Profile, expected: str) -> None:
    key = vectors.CountingKey(vectors.ec_key())
    ca = CertificateAuthority(CA.certificate, key, profile)
    with pytest.raises(LintFailed) as failed:
        ca.sign(PreparedCertificate(ca, certificate))
    [flaw] = failed.value.flaws
    assert flaw.startswith(expected)
    assert flaw in str(failed.value)
    assert key.signed == []


def test_all_flaws_are_reported() -> None:
    def change(parts: Parts) -> None:
        parts[1], parts[3] = tlv(0x02, b"\x01" * 21), DEVICE_SUBJECT.public_bytes()
        extend(parts, KEY_USAGE, None)

    flaws = find_flaws(changed(change), DEVICE, FACTS)
    assert [flaw.split()[0] for flaw in flaws] == ["serialNumber", "issuer", "keyUsage"]


def test_a_root_that_is_not_allowed_is_not_signed() -> None:
    key = vectors.CountingKey(vectors.ec_key("secp256k1"))
    with pytest.raises(LintFailed, match="subjectPublicKeyInfo"):
        make_root("x", key, vectors.NOW)
    assert key.signed == []


def test_accepted_requests_pass_the_lint() -> None:
    """The subject is copied byte for byte or encoded again in UTF8String, and the key is encoded again."""
    oids = (b"\x55\x04\x03", b"\x55\x04\x06", b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01")  # CN, C, emailAddress
    values = (b"", b"a", b"DE", b"\0a", b"\0\0\0a", b"\xd8\x00", b"\xe9", "é".encode(), b"x@*", b"\x07\x80", b"a" * 300)
    subjects = [
        tlv(0x30, tlv(0x31, tlv(0x30, tlv(0x06, oid) + tlv(tag, value))))
        for oid in oids
        for tag in (0x03, 0x04, 0x0C, 0x12, 0x13, 0x14, 0x16, 0x1A, 0x1B, 0x1C, 0x1E)
        for value in values
    ]
    version, subject, key, attributes = inner_elements(vectors.to_der(vectors.csr_pem()))
    point = vectors.ec_key().public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    compressed = tlv(0x30, tlv(*elements(elements(key)[0][1])[0]) + tlv(0x03, b"\0" + point))
    requests = [(one, key) for one in subjects] + [(subject, compressed)]

    passed = 0
    for subject, key in requests:
        pem = vectors.signed_csr_pem(version + subject + key + attributes)
        try:
            request = parse_csr(pem, "csr", CSR_KEYS)
        except InvalidSigningRequest:
            continue
        certificate = CA.sign(CA.prepare(CertificateRequest(request.subject, request.public_key), vectors.NOW))
        issued = inner_elements(certificate.der)[5]
        assert issued == subject or b"\x0c" in issued
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # attributes of unusual length
            assert x509.load_der_x509_certificate(certificate.der).subject == request.subject
        assert as_tls_sends_it(certificate.der) == certificate.der
        passed += 1
    assert passed > 100


def test_a_ca_without_a_key_identifier_cannot_issue() -> None:
    with pytest.raises(x509.ExtensionNotFound) as missing:
        CaFacts.of(vectors.certificate(), vectors.ec_key())
    assert missing.value.oid == ExtensionOID.SUBJECT_KEY_IDENTIFIER
