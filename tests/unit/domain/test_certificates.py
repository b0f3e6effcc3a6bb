"""Parsing certificates and requests that callers send: which are accepted, and the texts of refusals."""

from __future__ import annotations

import hashlib
import time
import warnings
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from tests.tables import each_row
from tests.unit import vectors
from thingmint.domain.certificates import (
    Certificate,
    fingerprint_of,
    parse_certificate,
    parse_csr,
    parse_fingerprint,
)
from thingmint.domain.errors import Invalid, InvalidCertificate, InvalidSigningRequest
from thingmint.domain.keys import CSR_KEYS, OWN_KEYS
from thingmint.domain.pem import MAX_PEM_BYTES

CERTIFICATE = vectors.certificate_pem()
CSR = vectors.csr_pem()
DIGEST = hashlib.sha256(vectors.to_der(CERTIFICATE)).hexdigest()


def private_key(format: PrivateFormat) -> str:
    return vectors.ec_key().private_bytes(Encoding.PEM, format, NoEncryption()).decode()


PKCS8, SEC1 = private_key(PrivateFormat.PKCS8), private_key(PrivateFormat.TraditionalOpenSSL)


def parsed_certificate(pem: str) -> Certificate:
    return parse_certificate(pem, "certificatePem", OWN_KEYS)[0]


def refusal_of_certificate(pem: str) -> str:
    with pytest.raises(InvalidCertificate) as refused:
        parse_certificate(pem, "certificatePem", OWN_KEYS)
    assert refused.value.field == "certificatePem"
    return refused.value.reason


def refusal_of_csr(pem: str) -> str:
    with pytest.raises(InvalidSigningRequest) as refused:
        parse_csr(pem, "certificateSigningRequest", CSR_KEYS)
    assert refused.value.field == "certificateSigningRequest"
    return refused.value.reason


class TestFingerprints:
    def test_the_fingerprint_is_the_sha_256_of_the_der(self) -> None:
        certificate = parsed_certificate(CERTIFICATE)
        assert certificate.fingerprint == fingerprint_of(certificate.der) == DIGEST
        assert certificate.sha1 == hashlib.sha1(certificate.der, usedforsecurity=False).hexdigest()

    @pytest.mark.parametrize(
        "written", [DIGEST, DIGEST.upper(), f"0x{DIGEST}", f"0x{DIGEST.upper()}", DIGEST[:32] + DIGEST[32:].upper()]
    )
    def test_prefix_and_case_are_normalized(self, written: str) -> None:
        assert parse_fingerprint(written, "certificateId") == DIGEST

    @pytest.mark.parametrize(
        "written",
        [
            "",
            DIGEST[:-1],
            DIGEST + "0",
            f"0x{DIGEST[:-2]}",
            f"0X{DIGEST}",
            DIGEST[:-1] + "g",
            DIGEST[:-1] + "\u0661",  # an Arabic-Indic digit one
            DIGEST[:-1] + "\uff11",  # a fullwidth digit one
            f" {DIGEST}",
            f"{DIGEST}\n",
            DIGEST[:-1] + "\0",
            f"arn:aws:iot:us-east-1:123456789012:cert/{DIGEST}",
        ],
    )
    def test_other_texts_are_refused_and_not_quoted(self, written: str) -> None:
        with pytest.raises(Invalid) as refused:
            parse_fingerprint(written, "certificateId")
        assert refused.value.field == "certificateId"
        assert str(refused.value) == (
            "certificateId must be 64 hexadecimal digits, the SHA-256 of the certificate's DER"
        )


class TestCertificates:
    def test_fields_of_a_certificate(self) -> None:
        original = vectors.certificate()
        certificate = parsed_certificate(original.public_bytes(Encoding.PEM).decode())
        assert certificate.der == original.public_bytes(Encoding.DER)
        assert certificate.not_before == original.not_valid_before_utc
        assert certificate.not_after == original.not_valid_after_utc
        assert certificate.pem == original.public_bytes(Encoding.PEM).decode()

    @pytest.mark.parametrize(
        "around",
        [
            "{}",
            "{}\n\n\n",
            "\n\n{}",
            "Certificate:\n    Data:\n        Version: 3 (0x2)\n{}",
            "Bag Attributes\n    localKeyID: 01\nsubject=CN = x\n\nissuer=CN = y\n{}",
            "{}\nwritten by hand\n",
            "X509v3 Private Key Usage Period:\n{}",  # an extension's name, not a key
        ],
    )
    def test_text_around_a_certificate_is_allowed(self, around: str) -> None:
        assert parsed_certificate(around.format(CERTIFICATE)).fingerprint == DIGEST

    @pytest.mark.parametrize("line_end", ["\n", "\r\n", " ", "  \n\t"])
    def test_line_ends_do_not_matter(self, line_end: str) -> None:
        assert parsed_certificate(CERTIFICATE.replace("\n", line_end)).fingerprint == DIGEST

    @pytest.mark.parametrize("label", ["X509 CERTIFICATE", "TRUSTED CERTIFICATE"])
    def test_labels_that_openssl_writes_are_accepted(self, label: str) -> None:
        trust = vectors.tlv(0x30, b"\x0c\x01a")  # `openssl x509 -trustout -setalias a` appends this
        der = vectors.to_der(CERTIFICATE) + (trust if label.startswith("TRUSTED") else b"")
        assert parsed_certificate(vectors.to_pem(der, label)).fingerprint == DIGEST

    def test_pem_headers_are_accepted(self) -> None:
        pem = CERTIFICATE.replace("CERTIFICATE-----\n", "CERTIFICATE-----\nLocation: plant 7\nX-Note: a\n\n", 1)
        assert parsed_certificate(pem).fingerprint == DIGEST

    def test_expired_certificates_are_accepted(self) -> None:
        pem = vectors.certificate_pem(not_after=vectors.NOW - timedelta(hours=1))
        assert parsed_certificate(pem).not_after < vectors.NOW

    def test_negative_serial_numbers_are_accepted(self) -> None:
        version, _, *rest = vectors.inner_elements(vectors.to_der(CERTIFICATE))
        der = vectors.with_elements(vectors.to_der(CERTIFICATE), [version, vectors.tlv(0x02, b"\x80\x01"), *rest])
        assert parsed_certificate(vectors.to_pem(der, "CERTIFICATE")).der == der

    def test_version_1_is_accepted(self) -> None:
        inner = vectors.inner_elements(vectors.to_der(CERTIFICATE))
        der = vectors.with_elements(vectors.to_der(CERTIFICATE), inner[1:7])  # neither version nor extensions
        pem = vectors.to_pem(der, "CERTIFICATE")
        assert x509.load_pem_x509_certificate(pem.encode()).version is x509.Version.v1
        assert parsed_certificate(pem).der == der

    @pytest.mark.parametrize(
        ("public_key", "reason"),
        [
            (vectors.rsa_key(2048).public_key(), None),
            (vectors.huge_rsa_public_key(8192), None),
            (vectors.ec_key("secp384r1").public_key(), None),
            (vectors.ec_key("secp521r1").public_key(), None),
            (vectors.rsa_key(1024).public_key(), "has an RSA key of 1024 bits; 2048 to 8192 are accepted"),
            (vectors.huge_rsa_public_key(8200), "has an RSA key of 8200 bits; 2048 to 8192 are accepted"),
            (
                vectors.ec_key("secp256k1").public_key(),
                "has an EC key on another curve than secp256r1, secp384r1, secp521r1",
            ),
            (
                vectors.ed25519_key().public_key(),
                "has a key of a type that is not accepted; use RSA or ECDSA",
            ),
        ],
        ids=["RSA-2048", "RSA-8192", "P-384", "P-521", "RSA-1024", "RSA-8200", "secp256k1", "Ed25519"],
    )
    def test_own_certificates_have_accepted_keys(self, public_key: Any, reason: str | None) -> None:
        pem = vectors.certificate_pem(public_key)
        if reason is None:
            assert parsed_certificate(pem).pem == pem
        else:
            assert refusal_of_certificate(pem) == reason


NOT_WELL_FORMED = "is not a well-formed PEM certificate: it is truncated or damaged"


class TestInvalidCertificates:
    @pytest.mark.parametrize("empty", ["", " ", "\n\t \r\n"])
    def test_empty_text_is_refused(self, empty: str) -> None:
        assert refusal_of_certificate(empty) == "must not be empty"

    @pytest.mark.parametrize("text", ["certificate", DIGEST, '{"a": 1}', "-----BEGIN-----"])
    def test_text_without_pem_is_refused(self, text: str) -> None:
        expected = "is not a PEM certificate: it has no line -----BEGIN CERTIFICATE-----"
        assert refusal_of_certificate(text) == expected

    def test_nul_is_refused(self) -> None:
        assert refusal_of_certificate(CERTIFICATE + "\0") == "must not contain NUL"

    @pytest.mark.parametrize(
        "pem",
        [
            CERTIFICATE[: len(CERTIFICATE) // 2],
            CERTIFICATE[: -len("-----END CERTIFICATE-----\n")],
            "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
            CERTIFICATE.replace("END CERTIFICATE", "END CERTIFICATES"),
            CERTIFICATE.replace("M", "!", 1),
            vectors.to_pem(vectors.to_der(CERTIFICATE)[:-1], "CERTIFICATE"),
            vectors.to_pem(b"", "CERTIFICATE"),
            vectors.to_pem(b"\x30\x80\x00\x00", "CERTIFICATE"),
        ],
        ids=[
            "truncated",
            "no end line",
            "empty block",
            "another end label",
            "bad base64",
            "truncated DER",
            "empty DER",
            "indefinite length",
        ],
    )
    def test_damaged_pem_is_refused(self, pem: str) -> None:
        assert refusal_of_certificate(pem) == NOT_WELL_FORMED

    def test_csrs_and_certificates_are_distinguished(self) -> None:
        csr = vectors.to_pem(vectors.to_der(CSR), "CERTIFICATE")
        assert refusal_of_certificate(csr) == "contains a certificate signing request, not a certificate"
        certificate = vectors.to_pem(vectors.to_der(CERTIFICATE), "CERTIFICATE REQUEST")
        assert refusal_of_csr(certificate) == "contains a certificate, not a certificate signing request"

    def test_escaped_line_ends_are_refused(self) -> None:
        expected = r"has line ends that are written as a backslash and an n (\n)"
        assert refusal_of_certificate(CERTIFICATE.replace("\n", r"\n")) == expected

    @pytest.mark.parametrize("count", [2, 3])
    def test_several_blocks_are_refused(self, count: int) -> None:
        assert refusal_of_certificate(CERTIFICATE * count) == f"must contain exactly one PEM block, not {count}"

    def test_blocks_of_other_kinds_count_too(self) -> None:
        both = CERTIFICATE + "-----BEGIN DH PARAMETERS-----\nMAA=\n-----END DH PARAMETERS-----\n"
        assert refusal_of_certificate(both) == "must contain exactly one PEM block, not 2"

    @pytest.mark.parametrize(
        "pem", [CSR, CERTIFICATE.replace("CERTIFICATE", "CERTIFICATE REQUEST"), CERTIFICATE.replace("CERT", "cert")]
    )
    def test_other_labels_are_refused(self, pem: str) -> None:
        assert refusal_of_certificate(pem) == "is not a PEM certificate: its block has another label than CERTIFICATE"

    def test_too_much_text_is_refused(self) -> None:
        padding = "x" * (MAX_PEM_BYTES - len(CERTIFICATE) - 1)
        assert parsed_certificate(f"{padding}\n{CERTIFICATE}").fingerprint == DIGEST
        assert refusal_of_certificate(f"{padding}x\n{CERTIFICATE}") == "must be at most 65536 bytes"

    @pytest.mark.parametrize("remark", ["\u00e9", "\u0627", "\U0001f600", "датчик 7"])
    def test_remarks_in_any_language_are_ignored(self, remark: str) -> None:
        assert parsed_certificate(f"{remark}\n{CERTIFICATE}") == parsed_certificate(CERTIFICATE)

    def test_invalid_unicode_is_refused(self) -> None:
        assert refusal_of_certificate(f"\ud800\n{CERTIFICATE}") == "must be Unicode text"


class TestPrivateKeys:
    @each_row(
        "key",
        [
            PKCS8,
            SEC1,
            PKCS8.replace("PRIVATE", "ENCRYPTED PRIVATE"),
            PKCS8.replace("PRIVATE", "RSA PRIVATE"),
            PKCS8.replace("PRIVATE", "OPENSSH PRIVATE"),
            PKCS8.replace("-----", "----"),
            PKCS8.replace("-----", "- - - - -"),
            PKCS8.replace("BEGIN PRIVATE KEY", "begin private key"),
            PKCS8.replace("-----END PRIVATE KEY-----", ""),
            PKCS8.replace("-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY BLOCK-----"),
            PKCS8.replace("\n", " "),
        ],
    )
    @each_row("order", ["{certificate}{key}", "{key}{certificate}", "{key}"])
    def test_private_keys_are_refused_in_any_place(self, key: str, order: str) -> None:
        text = order.format(certificate=CERTIFICATE, key=key)
        reason = refusal_of_certificate(text)
        assert reason.startswith("contains a private key: send only the certificate.")
        assert key.splitlines()[1 % len(key.splitlines())] not in reason
        csr_reason = refusal_of_csr(order.format(certificate=CSR, key=key))
        assert csr_reason.startswith("contains a private key: send only the certificate signing request.")

    @pytest.mark.parametrize(
        "key",
        [
            PKCS8.replace("-----BEGIN PRIVATE KEY-----", ""),
            PKCS8.replace("-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE  KEY-----"),
            PKCS8.replace("-----BEGIN PRIVATE KEY-----", "-----BEGIN\tPRIVATE\nKEY-----"),
            PKCS8.replace("PRIVATE KEY", "PRIVATE-KEY"),
        ],
        ids=["no begin line", "two spaces", "other white space", "a hyphen"],
    )
    def test_damaged_private_keys_are_refused(self, key: str) -> None:
        assert refusal_of_certificate(f"{CERTIFICATE}{key}").startswith("contains a private key")

    @pytest.mark.parametrize("piece", ["-", "PRIVATE" + "-" * 53, "-" * 60 + "PRIVATE" + "_" * 600, "PRIVATEKEY"])
    def test_the_search_for_private_keys_is_linear(self, piece: str) -> None:
        text = piece * (MAX_PEM_BYTES // len(piece))
        times = []
        for _ in range(3):
            start = time.thread_time()
            refusal_of_certificate(text)
            times.append(time.thread_time() - start)
        assert min(times) < 0.025  # seconds; examining 60 characters from each dash took 0.06 to 0.13

    def test_private_keys_are_reported_first(self) -> None:
        assert refusal_of_certificate(f"\u00e9 {CERTIFICATE * 2} {PKCS8}").startswith("contains a private key")


class TestSigningRequests:
    @pytest.mark.parametrize(
        "key",
        [
            vectors.rsa_key(2048),
            vectors.ec_key("secp256r1"),
            vectors.ec_key("secp384r1"),
            vectors.ec_key("secp521r1"),
        ],
        ids=["RSA-2048", "P-256", "P-384", "P-521"],
    )
    @pytest.mark.parametrize("label", ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"])
    def test_fields_of_a_request(self, key: Any, label: str) -> None:
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Ünïcode & Sons"),
                x509.NameAttribute(NameOID.COMMON_NAME, "thermostat-7"),
            ]
        )
        pem = vectors.csr_pem(key, subject).replace("CERTIFICATE REQUEST", label)
        request = parse_csr(pem, "csr", CSR_KEYS)
        assert request.subject == subject
        assert request.public_key == key.public_key()

    def test_an_empty_subject_is_refused(self) -> None:
        assert refusal_of_csr(vectors.csr_pem(subject=x509.Name([]))) == "has an empty subject; give it a common name"

    @pytest.mark.parametrize(
        ("pem", "reason"),
        [
            (
                vectors.csr_pem(vectors.rsa_key(1024)),
                "has an RSA key of 1024 bits; 2048 to 4096 are accepted",
            ),
            (
                vectors.csr_pem(vectors.ec_key("secp256k1")),
                "has an EC key on another curve than secp256r1, secp384r1, secp521r1",
            ),
            (
                vectors.csr_pem(vectors.ed25519_key()),
                "has a key of a type that is not accepted; use RSA or ECDSA",
            ),
            (
                CERTIFICATE,
                "is not a PEM certificate signing request: its block has another label than CERTIFICATE REQUEST",
            ),
            (
                CSR[: len(CSR) // 2],
                "is not a well-formed PEM certificate signing request: it is truncated or damaged",
            ),
            (CSR * 2, "must contain exactly one PEM block, not 2"),
        ],
        ids=["RSA-1024", "secp256k1", "Ed25519", "certificate", "truncated", "two blocks"],
    )
    def test_invalid_requests_are_refused(self, pem: str, reason: str) -> None:
        assert refusal_of_csr(pem) == reason

    @pytest.mark.parametrize("bits", [4104, 16384])
    def test_a_huge_key_is_refused_before_it_is_used(self, bits: int) -> None:
        der = vectors.to_der(CSR)
        version, subject, _, attributes = vectors.inner_elements(der)
        spki = vectors.huge_rsa_public_key(bits).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        forged = vectors.with_elements(der, [version, subject, spki, attributes])
        reason = refusal_of_csr(vectors.to_pem(forged, "CERTIFICATE REQUEST"))
        assert reason == f"has an RSA key of {bits} bits; 2048 to 4096 are accepted"

    def test_a_signature_by_another_key_is_refused(self) -> None:
        der = vectors.to_der(CSR)
        version, _, spki, attributes = vectors.inner_elements(der)
        forged = vectors.with_elements(der, [version, vectors.name("another").public_bytes(), spki, attributes])
        reason = refusal_of_csr(vectors.to_pem(forged, "CERTIFICATE REQUEST"))
        assert reason == "has a signature that its own public key does not verify"

    def test_a_damaged_signature_is_refused(self) -> None:
        der = vectors.to_der(CSR)
        reason = refusal_of_csr(vectors.to_pem(der[:-1] + bytes([der[-1] ^ 1]), "CERTIFICATE REQUEST"))
        assert reason == "has a signature that its own public key does not verify"

    @pytest.mark.parametrize("attribute", [(NameOID.COMMON_NAME, "x" * 65), (NameOID.COUNTRY_NAME, "Germany")])
    def test_a_subject_of_unusual_length_does_not_warn(self, attribute: tuple[x509.ObjectIdentifier, str]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # making such a name warns too
            pem = vectors.csr_pem(subject=x509.Name([x509.NameAttribute(*attribute, _validate=False)]))
        assert parse_csr(pem, "csr", CSR_KEYS).subject.rfc4514_string()


def test_both_parsers_return_the_same_certificate() -> None:
    parsed = x509.load_pem_x509_certificate(CERTIFICATE.encode())
    assert Certificate.of(parsed) == parsed_certificate(CERTIFICATE)
    assert parsed.fingerprint(hashes.SHA256()).hex() == DIGEST
