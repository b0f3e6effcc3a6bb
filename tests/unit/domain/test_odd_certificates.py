"""Certificates and requests that OpenSSL, mbedTLS and Go read but the strict reader refuses are accepted."""

from __future__ import annotations

import contextlib
import math
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from tests import odd_certificates as odd
from tests.issuers import new_issuer
from tests.tables import each_row
from tests.unit import vectors
from tests.unit.vectors import to_pem
from thingmint.domain.ber import Malformed, content, elements, first
from thingmint.domain.ca_certificates import parse_ca_certificate
from thingmint.domain.certificate_parts import as_tls_sends_it
from thingmint.domain.certificates import (
    fingerprint_of,
    is_signed_by,
    parse_certificate,
    parse_csr,
    parse_issued_certificate,
    read_issued_certificate,
    read_public_key,
)
from thingmint.domain.errors import InvalidCertificate, InvalidSigningRequest
from thingmint.domain.issuing_ca import CertificateRequest
from thingmint.domain.keys import CSR_KEYS, FLEET_KEYS, OWN_KEYS
from thingmint.domain.pem import MAX_PEM_BYTES
from thingmint.domain.policies.device_keys import certificate_context

if TYPE_CHECKING:
    from collections.abc import Callable

CERTIFICATES, REQUESTS = odd.certificates(), odd.requests()
SUBJECT = "iot:Certificate.Subject"


def pem(der: bytes) -> str:
    return to_pem(der, "CERTIFICATE")


def csr(der: bytes) -> str:
    return to_pem(der, "CERTIFICATE REQUEST")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")
def test_openssl_reads_each_odd_certificate_and_request() -> None:
    for form, label, examples in (
        ("x509", "CERTIFICATE", {**CERTIFICATES, **odd.without_seconds()}),
        ("req", "CERTIFICATE REQUEST", REQUESTS),
    ):
        for case, der in examples.items():
            command = ["openssl", form, "-noout", *(["-verify"] if form == "req" else [])]
            done = subprocess.run(command, input=to_pem(der, label).encode(), capture_output=True, check=False)
            assert done.returncode == 0, case


@each_row("case", list(CERTIFICATES))
def test_the_fingerprint_is_of_the_bytes_that_tls_passes_on(case: str) -> None:
    der = CERTIFICATES[case]
    for keys in (OWN_KEYS, FLEET_KEYS):
        certificate, key = parse_certificate(pem(der), "pem", keys, bound=keys is FLEET_KEYS)
        assert certificate.der == as_tls_sends_it(der)
        assert certificate.fingerprint == fingerprint_of(certificate.der)
        assert key == read_public_key(certificate.der)
        assert key in (vectors.ec_key().public_key(), vectors.rsa_key().public_key())
        assert certificate.not_before.year in (2019, 2020)
        assert certificate.not_after.year == 2049


@pytest.mark.parametrize("case", odd.without_seconds())
def test_times_that_our_tls_library_cannot_read_are_accepted(case: str) -> None:
    """A TLS proxy in front of the server may be able to read them."""
    der = odd.without_seconds()[case]
    certificate = parse_certificate(pem(der), "pem", OWN_KEYS)[0]
    assert certificate.der == der
    assert (certificate.not_before.year, certificate.not_after.year) == (2020, 2049)


@pytest.mark.parametrize("text", [b"201301000000Z", b"200230000000Z", b"200101240000Z", b"200101000060Z"])
def test_an_invalid_time_is_refused_unless_the_certificate_is_bound(text: bytes) -> None:
    der = odd.certificate(end=odd.time(odd.UTC, text))
    with pytest.raises(InvalidCertificate) as refused:
        parse_certificate(pem(der), "pem", OWN_KEYS)
    assert refused.value.reason == "has a validity that cannot be read"
    bound = parse_certificate(pem(der), "pem", FLEET_KEYS, bound=True)[0]
    assert bound.not_after.year == 1970, "it ends before it begins"


@each_row("kind", list(odd.NAMES))
def test_signatures_are_verified_over_the_original_bytes(kind: str) -> None:
    issuer = new_issuer("Root", vectors.ec_key(), now=vectors.NOW)
    named = issuer.certificate.subject.public_bytes()
    issued = parse_issued_certificate(pem(odd.certificate(subject=odd.NAMES[kind], issuer=named)), "pem")
    assert is_signed_by(issued, issuer.certificate)
    other = odd.certificate(subject=odd.NAMES[kind], issuer=odd.common_name(odd.PRINTABLE, b"Root"))
    assert not is_signed_by(read_issued_certificate(other), issuer.certificate), "names are compared as bytes"


def test_changes_outside_the_signed_part_invalidate_the_signature() -> None:
    """Otherwise a certificate would have a second fingerprint.

    The changes: parameters outside of the signed part, and unused bits of the signature.
    """
    issuer = new_issuer("Root", vectors.ec_key(), now=vectors.NOW)
    named = issuer.certificate.subject.public_bytes()
    content = vectors.tlv(odd.SEQUENCE, odd.tbs(issuer=named))
    assert is_signed_by(
        read_issued_certificate(odd.signed(content, vectors.ec_key(), odd.ECDSA_SHA256)), issuer.certificate
    )
    with_null = odd.signed(content, vectors.ec_key(), odd.ECDSA_SHA256, outer=odd.ECDSA_SHA256_NULL)
    assert not is_signed_by(read_issued_certificate(with_null), issuer.certificate)
    while True:
        whole = odd.signed(content, vectors.ec_key(), odd.ECDSA_SHA256)
        if not whole[-1] & 1:
            break
    bits = elements(whole)[2]
    one_unused = vectors.tlv(odd.SEQUENCE, content + odd.ECDSA_SHA256 + bits[:2] + b"\1" + bits[3:])
    assert not is_signed_by(read_issued_certificate(one_unused), issuer.certificate)


def test_ca_certificates_must_be_strict_der() -> None:
    for case in ("subject: underscore in PrintableString", "NULL parameters of ECDSA", "bytes behind the end"):
        with pytest.raises(InvalidCertificate) as refused:
            parse_ca_certificate(pem(CERTIFICATES[case]), "ca")
        assert refused.value.reason == "is not encoded in DER as RFC 5280 says, which is required here"


TWO_ATTRIBUTES = [odd.attribute(kind, odd.PRINTABLE, b"a_b") for kind in (odd.ORGANIZATION, odd.COMMON_NAME)]
TWO_STRING_TYPES = [
    odd.attribute(odd.ORGANIZATION, odd.UTF8, b"b"),
    odd.attribute(odd.COMMON_NAME, odd.PRINTABLE, b"_"),
]


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (odd.common_name(odd.PRINTABLE, b"device_1"), "device_1"),
        (odd.name(*TWO_ATTRIBUTES), "a_b"),
        (odd.common_name(odd.BMP, b"\0a\0b"), "ab"),
        (odd.NAMES["of indefinite length"], "device"),
        (odd.NAMES["attributes out of order"], "a"),
        # Characters that libraries read differently, and values that are not text.
        (odd.name(*TWO_STRING_TYPES), None),
        (odd.common_name(odd.PRINTABLE, b"Z\xfcrich"), None),
        (odd.common_name(odd.PRINTABLE, "датчик".encode()), None),
        (odd.common_name(odd.TELETEX, b"Z\xfcrich"), None),
        (odd.common_name(odd.PRINTABLE, b"device_1\0.example"), None),
        (odd.common_name(odd.PRINTABLE, b"device_1\n"), None),
        (odd.common_name(odd.SEQUENCE, b""), None),
        (odd.name(*[odd.attribute(odd.COMMON_NAME, odd.PRINTABLE, b"a_b")] * 400), None),
    ],
)
def test_only_unambiguous_subjects_give_variables(subject: bytes, expected: str | None) -> None:
    context = certificate_context(odd.certificate(subject=subject))
    assert context.get(f"{SUBJECT}.CommonName") == expected
    assert context["iot:Certificate.SerialNumber"] == "5"
    assert context["iot:Certificate.Issuer.CommonName"] == "device"


def test_a_valid_subject_gives_variables_in_an_odd_certificate() -> None:
    san = odd.extensions(odd.dns_names(b"a.example"))
    context = certificate_context(odd.certificate(algorithm=odd.ECDSA_SHA256_NULL, rest=san))
    assert context[f"{SUBJECT}.CommonName"] == "device"
    assert context[f"{SUBJECT}.AlternativeName.DNSName"] == "a.example"


@pytest.mark.parametrize("case", ["two lists of names", "an extension twice", "names of garbage", "a name in Latin-1"])
def test_ambiguous_extensions_give_no_variables(case: str) -> None:
    context = certificate_context(CERTIFICATES[case])
    assert context[f"{SUBJECT}.CommonName"] == "device"
    assert not [key for key in context if "AlternativeName" in key]


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        (b"", None),
        (odd.extensions(odd.NO_CA, odd.NO_CA), None),
        (odd.extensions(odd.extension(odd.BASIC_CONSTRAINTS, b"\x30\3\1\1\0")), None),
        (odd.extensions(odd.extension("2a0304", b"garbage")), None),
        (odd.extensions(odd.NO_CA, odd.extension(odd.BASIC_CONSTRAINTS, b"\x30\3\1\1\xff")), "authority"),
        (odd.extensions(odd.extension(odd.BASIC_CONSTRAINTS, b"\x30\3\1\1\1")), "authority"),
        (odd.extensions(odd.extension(odd.BASIC_CONSTRAINTS, b"xyz")), "cannot be read"),
    ],
)
def test_basic_constraints_of_odd_certificates_are_checked(rest: bytes, expected: str | None) -> None:
    flaw = read_issued_certificate(odd.certificate(rest=rest)).flaw(vectors.NOW)
    assert flaw is None if expected is None else flaw is not None and expected in flaw


@each_row("case", list(REQUESTS))
def test_odd_requests_get_certificates_with_utf_8_subjects(case: str) -> None:
    request = parse_csr(csr(REQUESTS[case]), "csr", CSR_KEYS)
    authority = vectors.authority()
    issued = authority.sign(authority.prepare(CertificateRequest(request.subject, request.public_key), vectors.NOW))
    read = x509.load_der_x509_certificate(issued.der)
    assert read.subject == request.subject
    assert list(read.subject)
    assert read.public_key() == request.public_key
    assert as_tls_sends_it(issued.der) == issued.der
    if case.startswith("subject"):
        assert {attribute.value for attribute in read.subject} <= {
            "device_1", "unit@plant", "Plant & Co", "*.plant", "SN_0001", "датчик", "Zürich", "z", "a", "device"
        }  # fmt: skip


def test_a_subject_that_tls_cannot_read_is_encoded_again() -> None:
    request = parse_csr(csr(odd.request(odd.common_name(odd.VISIBLE, b"device"))), "csr", CSR_KEYS)
    assert request.subject.public_bytes() == odd.PLAIN


P384, RSA_1024 = odd.key_info(vectors.ec_key("secp384r1")), odd.key_info(vectors.rsa_key(1024))
NO_POINT = vectors.tlv(odd.SEQUENCE, odd.key_info(vectors.ec_key())[2:23] + b"\3\2\0\4")
SIGNED_WITH_SHA1 = "is signed with SHA-1, which is broken; sign it with SHA-256"
UNDERSCORE = odd.common_name(odd.PRINTABLE, b"a_b")


@each_row(
    ("der", "reason"),
    [
        (odd.request(algorithm=odd.ECDSA_SHA1), "is signed with SHA-1, which is broken; sign it with SHA-256"),
        (
            odd.request(UNDERSCORE, algorithm=odd.ECDSA_SHA1),
            "is signed with SHA-1, which is broken; sign it with SHA-256",
        ),
        (
            odd.request(key=vectors.rsa_key(), algorithm=odd.RSA_SHA1),
            "is signed with SHA-1, which is broken; sign it with SHA-256",
        ),
        (
            odd.request(key=vectors.rsa_key(), algorithm=odd.RSA_MD5),
            "is signed with MD5, which is broken; sign it with SHA-256",
        ),
        (odd.request(odd.name()), "has an empty subject; give it a common name"),
        (
            odd.request(vectors.tlv(odd.SEQUENCE, vectors.tlv(odd.SET, b""))),
            "has an empty subject; give it a common name",
        ),
        (odd.request(odd.common_name(odd.PRINTABLE, b"_" * 4_096)), "has a subject of more than 4096 bytes"),
        (odd.request(odd.common_name(odd.SEQUENCE, b"")), "has a subject with an attribute that is not text"),
        (
            odd.request(odd.common_name(odd.PRINTABLE, b"a_\0b")),
            "has a subject with an attribute that is empty or contains control characters",
        ),
        (odd.request(odd.common_name(odd.UTF8, b"\xff\xfe")), "has a subject with text that cannot be read"),
        (odd.request(UNDERSCORE, public_key=P384), "has a signature that its own public key does not verify"),
        (odd.request(UNDERSCORE, public_key=RSA_1024), "has an RSA key of 1024 bits; 2048 to 4096 are accepted"),
        (
            odd.request(public_key=NO_POINT),
            "has a key that cannot be read, or of another type than RSA or ECDSA",
        ),
    ],
)
def test_refused_requests_get_the_exact_reason(der: bytes, reason: str) -> None:
    with pytest.raises(InvalidSigningRequest) as refused:
        parse_csr(csr(der), "csr", CSR_KEYS)
    assert refused.value.reason == reason


def _rsa(p: int, q: int) -> rsa.RSAPrivateKey:
    d = rsa.rsa_recover_private_exponent(65537, p, q)
    numbers = rsa.RSAPublicNumbers(65537, p * q)
    parts = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    return rsa.RSAPrivateNumbers(p, q, d, *parts, numbers).private_key(unsafe_skip_rsa_key_validation=True)


# The constants are the distances of the next primes, which take long to find.


def _close() -> rsa.RSAPrivateKey:
    p = (3 << 1022) + (1 << 900) + 1 + 2 * 277
    return _rsa(p, p + 2 + 2 * 473)


def _with_small_factor() -> rsa.RSAPrivateKey:
    return _rsa(7_919, (1 << 2036) + 1 + 2 * 1_257)


def _roca() -> rsa.RSAPrivateKey:
    """Nemec et al. 2.1: p = k * M + (65537 ** a mod M), where M is the product of the first 126 primes."""
    product = math.prod(n for n in range(2, 702) if all(n % divisor for divisor in range(2, math.isqrt(n) + 1)))

    def prime(exponent: int, step: int) -> int:
        return pow(65_537, exponent, product) + product * ((3 << 1022) // product + 2 * step)

    return _rsa(prime(1_000, 17), prime(2_000, 23))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_close, "has an RSA key whose prime factors are close to each other (CVE-2022-26320), which is easy to find"),
        (_with_small_factor, "has an RSA key with a small factor, which is easy to find"),
        (_roca, "has an RSA key that a faulty chip made (ROCA, CVE-2017-15361), which can be factored"),
    ],
)
def test_requests_with_factorable_keys_are_refused(make: Callable[[], rsa.RSAPrivateKey], reason: str) -> None:
    key = make()
    for subject in (odd.PLAIN, odd.common_name(odd.PRINTABLE, b"a_b")):
        with pytest.raises(InvalidSigningRequest) as refused:
            parse_csr(csr(odd.request(subject, key)), "csr", CSR_KEYS)
        assert refused.value.reason == reason
    assert parse_certificate(pem(odd.certificate(key)), "pem", OWN_KEYS)[1] == key.public_key()


def test_ordinary_rsa_keys_are_not_weak() -> None:
    for bits in (2048, 3072):
        parse_csr(csr(odd.request(key=vectors.rsa_key(bits))), "csr", CSR_KEYS)


HUGE = MAX_PEM_BYTES // 4 * 3 - 1_500  # bytes of DER


def _oddities() -> dict[str, bytes]:
    many = odd.attribute(odd.COMMON_NAME, odd.PRINTABLE, b"a_b")
    many_nulls = odd.ECDSA_SHA256[2:] + b"\5\0" * (HUGE // 4)
    names = odd.name(*[many] * (HUGE // 16))
    return {
        "names": odd.certificate(subject=names),
        "one set": odd.certificate(subject=vectors.tlv(odd.SEQUENCE, vectors.tlv(odd.SET, many * (HUGE // 16)))),
        "a long name": odd.certificate(subject=odd.common_name(odd.PRINTABLE, b"_" * HUGE)),
        "empty sets": odd.certificate(subject=vectors.tlv(odd.SEQUENCE, vectors.tlv(odd.SET, b"") * (HUGE // 3))),
        "extensions": odd.certificate(rest=odd.extensions(*[odd.NO_CA] * (HUGE // 12))),
        "alternative names": odd.certificate(rest=odd.extensions(odd.dns_names(*[b"\xe9"] * (HUGE // 4)))),
        "a long serial number": odd.certificate(serial=vectors.tlv(2, b"\1" * HUGE)),
        "a long type": odd.certificate(subject=odd.name(odd.attribute("81" * HUGE + "01", odd.PRINTABLE, b"_"))),
        "a long time": odd.certificate(end=odd.time(odd.UTC, b"4" * HUGE + b"Z")),
        "indefinite lengths": odd.certificate(subject=b"\x30\x80" * (HUGE // 4) + b"\0\0" * (HUGE // 4)),
        "ends of content": odd.certificate(subject=odd.indefinite(b"\5\0" * (HUGE // 2))),
        "NULLs": odd.indefinite(b"\5\0" * (HUGE // 2)),
        "deep": b"\x30\x80" * (HUGE // 2),
        "parameters": odd.certificate(algorithm=vectors.tlv(odd.SEQUENCE, many_nulls)),
    }


def _executed_lines(work: Callable[[], object]) -> int:
    """Return how many lines of Python ``work`` executes."""
    count = 0

    def trace(_frame: object, event: str, _argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with contextlib.suppress(InvalidCertificate, InvalidSigningRequest):
            work()
    finally:
        sys.settrace(before)
    return count


@each_row("kind", list(_oddities()))
def test_work_is_linear_in_the_length_of_each_oddity(kind: str) -> None:
    der = _oddities()[kind]
    text = to_pem(der, "CERTIFICATE")
    assert 40_000 < len(text) <= MAX_PEM_BYTES
    request = to_pem(der, "CERTIFICATE REQUEST")
    for work in (
        lambda: parse_certificate(text, "pem", FLEET_KEYS, bound=True),
        lambda: parse_issued_certificate(text, "pem").flaw(vectors.NOW),
        lambda: certificate_context(der),
        lambda: parse_csr(request, "csr", CSR_KEYS),
    ):
        assert _executed_lines(work) < 30 * len(der)


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\x30",
        b"\x30\x81",
        b"\x30\x05\x01",
        b"\x02\x80\0\0",
        b"\x30\x80\0",
        b"\x1f\x81\x01\0",
        b"\x30\x80" * 40,
        b"\x30\x85\1\0\0\0\0",
        b"\x30\x84\xff\xff\xff\xff",
    ],
)
def test_malformed_ber_is_refused(encoded: bytes) -> None:
    with pytest.raises(Malformed):
        first(encoded)


def test_ber_elements_are_split() -> None:
    nested = odd.indefinite(odd.indefinite(b"\5\0") + b"\2\1\7")
    assert first(nested + b"more") == nested
    assert elements(nested) == [odd.indefinite(b"\5\0"), b"\2\1\7"]
    assert content(b"\x30\x83\0\0\2\5\0") == b"\5\0"
