"""Certificates and requests of unauthenticated callers: what is taken, what is refused, and in whose words."""

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


def taken(pem: str) -> Certificate:
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
    def test_is_that_of_the_der(self) -> None:
        certificate = taken(CERTIFICATE)
        assert certificate.fingerprint == fingerprint_of(certificate.der) == DIGEST
        assert certificate.sha1 == hashlib.sha1(certificate.der, usedforsecurity=False).hexdigest()

    @pytest.mark.parametrize(
        "written", [DIGEST, DIGEST.upper(), f"0x{DIGEST}", f"0x{DIGEST.upper()}", DIGEST[:32] + DIGEST[32:].upper()]
    )
    def test_is_folded(self, written: str) -> None:
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
    def test_anything_else_is_refused_and_not_quoted(self, written: str) -> None:
        with pytest.raises(Invalid) as refused:
            parse_fingerprint(written, "certificateId")
        assert refused.value.field == "certificateId"
        assert str(refused.value) == (
            "certificateId must be 64 hexadecimal digits, the SHA-256 of the certificate's DER"
        )


class TestCertificates:
    def test_what_is_known_of_one(self) -> None:
        original = vectors.certificate()
        certificate = taken(original.public_bytes(Encoding.PEM).decode())
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
    def test_text_around_is_allowed(self, around: str) -> None:
        assert taken(around.format(CERTIFICATE)).fingerprint == DIGEST

    @pytest.mark.parametrize("line_end", ["\n", "\r\n", " ", "  \n\t"])
    def test_line_ends_do_not_matter(self, line_end: str) -> None:
        assert taken(CERTIFICATE.replace("\n", line_end)).fingerprint == DIGEST

    @pytest.mark.parametrize("label", ["X509 CERTIFICATE", "TRUSTED CERTIFICATE"])
    def test_labels_that_openssl_writes_are_taken(self, label: str) -> None:
        trust = vectors.tlv(0x30, b"\x0c\x01a")  # what `openssl x509 -trustout -setalias a` writes behind it
        der = vectors.to_der(CERTIFICATE) + (trust if label.startswith("TRUSTED") else b"")
        assert taken(vectors.to_pem(der, label)).fingerprint == DIGEST

    def test_headers_of_pem_are_taken(self) -> None:
        pem = CERTIFICATE.replace("CERTIFICATE-----\n", "CERTIFICATE-----\nLocation: plant 7\nX-Note: a\n\n", 1)
        assert taken(pem).fingerprint == DIGEST

    def test_one_that_has_ended_is_taken(self) -> None:
        pem = vectors.certificate_pem(not_after=vectors.NOW - timedelta(hours=1))
        assert taken(pem).not_after < vectors.NOW

    def test_a_negative_serial_is_taken(self) -> None:
        version, _, *rest = vectors.inner_elements(vectors.to_der(CERTIFICATE))
        der = vectors.with_elements(vectors.to_der(CERTIFICATE), [version, vectors.tlv(0x02, b"\x80\x01"), *rest])
        assert taken(vectors.to_pem(der, "CERTIFICATE")).der == der

    def test_version_1_is_taken(self) -> None:
        inner = vectors.inner_elements(vectors.to_der(CERTIFICATE))
        der = vectors.with_elements(vectors.to_der(CERTIFICATE), inner[1:7])  # neither version nor extensions
        pem = vectors.to_pem(der, "CERTIFICATE")
        assert x509.load_pem_x509_certificate(pem.encode()).version is x509.Version.v1
        assert taken(pem).der == der

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
    def test_which_keys_are_taken(self, public_key: Any, reason: str | None) -> None:
        pem = vectors.certificate_pem(public_key)
        if reason is None:
            assert taken(pem).pem == pem
        else:
            assert refusal_of_certificate(pem) == reason


NOT_WELL_FORMED = "is not a well-formed PEM certificate: it is truncated or damaged"


class TestWhatIsNoCertificate:
    @pytest.mark.parametrize("empty", ["", " ", "\n\t \r\n"])
    def test_nothing(self, empty: str) -> None:
        assert refusal_of_certificate(empty) == "must not be empty"

    @pytest.mark.parametrize("text", ["certificate", DIGEST, '{"a": 1}', "-----BEGIN-----"])
    def test_no_pem(self, text: str) -> None:
        expected = "is not a PEM certificate: it has no line -----BEGIN CERTIFICATE-----"
        assert refusal_of_certificate(text) == expected

    def test_nul(self) -> None:
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
        ids=["half", "no end", "empty", "other end", "bad base64", "short", "no DER", "indefinite"],
    )
    def test_damaged(self, pem: str) -> None:
        assert refusal_of_certificate(pem) == NOT_WELL_FORMED

    def test_each_in_place_of_the_other(self) -> None:
        csr = vectors.to_pem(vectors.to_der(CSR), "CERTIFICATE")
        assert refusal_of_certificate(csr) == "holds a certificate signing request, not a certificate"
        certificate = vectors.to_pem(vectors.to_der(CERTIFICATE), "CERTIFICATE REQUEST")
        assert refusal_of_csr(certificate) == "holds a certificate, not a certificate signing request"

    def test_line_ends_that_were_not_unescaped(self) -> None:
        expected = r"has line ends that are written as a backslash and an n (\n)"
        assert refusal_of_certificate(CERTIFICATE.replace("\n", r"\n")) == expected

    @pytest.mark.parametrize("count", [2, 3])
    def test_several(self, count: int) -> None:
        assert refusal_of_certificate(CERTIFICATE * count) == f"must hold exactly one PEM block, not {count}"

    def test_one_that_would_not_be_read_counts_too(self) -> None:
        both = CERTIFICATE + "-----BEGIN DH PARAMETERS-----\nMAA=\n-----END DH PARAMETERS-----\n"
        assert refusal_of_certificate(both) == "must hold exactly one PEM block, not 2"

    @pytest.mark.parametrize(
        "pem", [CSR, CERTIFICATE.replace("CERTIFICATE", "CERTIFICATE REQUEST"), CERTIFICATE.replace("CERT", "cert")]
    )
    def test_another_label(self, pem: str) -> None:
        assert refusal_of_certificate(pem) == "is not a PEM certificate: its block has another label than CERTIFICATE"

    def test_too_large(self) -> None:
        padding = "x" * (MAX_PEM_BYTES - len(CERTIFICATE) - 1)
        assert taken(f"{padding}\n{CERTIFICATE}").fingerprint == DIGEST
        assert refusal_of_certificate(f"{padding}x\n{CERTIFICATE}") == "must be at most 65536 bytes"

    @pytest.mark.parametrize("remark", ["\u00e9", "\u0627", "\U0001f600", "датчик 7"])
    def test_a_remark_in_any_language(self, remark: str) -> None:
        assert taken(f"{remark}\n{CERTIFICATE}") == taken(CERTIFICATE)

    def test_no_unicode(self) -> None:
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
    def test_one_is_refused_wherever_it_stands(self, key: str, order: str) -> None:
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
        ids=["only the end", "two blanks", "other blanks", "a hyphen"],
    )
    def test_one_is_refused_however_mangled(self, key: str) -> None:
        assert refusal_of_certificate(f"{CERTIFICATE}{key}").startswith("contains a private key")

    @pytest.mark.parametrize("piece", ["-", "PRIVATE" + "-" * 53, "-" * 60 + "PRIVATE" + "_" * 600, "PRIVATEKEY"])
    def test_looking_for_one_takes_time_by_the_length_of_the_text(self, piece: str) -> None:
        text = piece * (MAX_PEM_BYTES // len(piece))
        times = []
        for _ in range(3):
            start = time.thread_time()
            refusal_of_certificate(text)
            times.append(time.thread_time() - start)
        assert min(times) < 0.025  # seconds; looking at 60 characters from each dash took 0.06 to 0.13

    def test_it_is_found_before_anything_else_is_said(self) -> None:
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
    def test_what_is_known_of_one(self, key: Any, label: str) -> None:
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
            (CSR * 2, "must hold exactly one PEM block, not 2"),
        ],
        ids=["RSA-1024", "secp256k1", "Ed25519", "certificate", "half", "two"],
    )
    def test_which_are_refused(self, pem: str, reason: str) -> None:
        assert refusal_of_csr(pem) == reason

    @pytest.mark.parametrize("bits", [4104, 16384])
    def test_a_huge_key_is_refused_before_any_work_is_done_with_it(self, bits: int) -> None:
        der = vectors.to_der(CSR)
        version, subject, _, attributes = vectors.inner_elements(der)
        spki = vectors.huge_rsa_public_key(bits).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        forged = vectors.with_elements(der, [version, subject, spki, attributes])
        reason = refusal_of_csr(vectors.to_pem(forged, "CERTIFICATE REQUEST"))
        assert reason == f"has an RSA key of {bits} bits; 2048 to 4096 are accepted"

    def test_a_foreign_signature(self) -> None:
        der = vectors.to_der(CSR)
        version, _, spki, attributes = vectors.inner_elements(der)
        forged = vectors.with_elements(der, [version, vectors.name("another").public_bytes(), spki, attributes])
        reason = refusal_of_csr(vectors.to_pem(forged, "CERTIFICATE REQUEST"))
        assert reason == "has a signature that its own public key does not verify"

    def test_a_damaged_signature(self) -> None:
        der = vectors.to_der(CSR)
        reason = refusal_of_csr(vectors.to_pem(der[:-1] + bytes([der[-1] ^ 1]), "CERTIFICATE REQUEST"))
        assert reason == "has a signature that its own public key does not verify"

    @pytest.mark.parametrize("attribute", [(NameOID.COMMON_NAME, "x" * 65), (NameOID.COUNTRY_NAME, "Germany")])
    def test_a_subject_of_unusual_length_does_not_warn(self, attribute: tuple[x509.ObjectIdentifier, str]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # making such a name warns too
            pem = vectors.csr_pem(subject=x509.Name([x509.NameAttribute(*attribute, _validate=False)]))
        assert parse_csr(pem, "csr", CSR_KEYS).subject.rfc4514_string()


def test_a_certificate_is_the_same_whoever_parsed_it() -> None:
    parsed = x509.load_pem_x509_certificate(CERTIFICATE.encode())
    assert Certificate.of(parsed) == taken(CERTIFICATE)
    assert parsed.fingerprint(hashes.SHA256()).hex() == DIGEST
