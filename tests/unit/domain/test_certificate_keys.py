"""Flaws of a certificate's key, and the policy variables of a certificate."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.e2e.yandex.certificates import certificate, rsa_spki
from tests.e2e.yandex.certificates import der_of as made_der
from thingmint.domain.certificates import key_flaw
from thingmint.domain.policies.device_keys import certificate_context

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def der_of(key: ec.EllipticCurvePrivateKey, *attributes: x509.NameAttribute[str], san: bool = False) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(attributes))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Maker")]))
        .public_key(key.public_key())
        .serial_number(0xABC)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
    )
    if san:
        names = [x509.DNSName("a.example"), x509.DNSName("b.example"), x509.UniformResourceIdentifier("urn:x")]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("bits", "weak_keys", "flaw"),
    [
        (2048, False, None),
        (1536, False, "an RSA key of 1536 bits; the account's setting weak_keys would allow it"),
        (1536, True, None),
        (1024, True, None),
        (512, True, "an RSA key of 512 bits, which can be broken easily"),
    ],
)
def test_weak_rsa_keys_are_flaws(bits: int, weak_keys: bool, flaw: str | None) -> None:
    assert key_flaw(made_der(certificate(rsa_spki(bits))), weak_keys=weak_keys) == flaw


def test_unreadable_keys_are_a_flaw_and_ec_keys_are_not() -> None:
    assert key_flaw(der_of(ec.generate_private_key(ec.SECP256R1())), weak_keys=False) is None
    assert key_flaw(b"\x30\x03abc", weak_keys=True) == "a key that cannot be read"


def test_variables_of_a_certificate() -> None:
    der = der_of(
        ec.generate_private_key(ec.SECP256R1()),
        x509.NameAttribute(NameOID.COMMON_NAME, "dev"),
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "first"),
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "second"),
        san=True,
    )
    context = certificate_context(der)
    assert context["iot:Certificate.Subject.CommonName"] == "dev"
    assert context["iot:Certificate.Issuer.CommonName"] == "Maker"
    # AWS's guide: the name alone is the first of several values, ".1" the second.
    assert context["iot:Certificate.Subject.OrganizationalUnit"] == "first"
    assert context["iot:Certificate.Subject.OrganizationalUnit.1"] == "second"
    assert "iot:Certificate.Subject.OrganizationalUnit.2" not in context
    assert context["iot:Certificate.Subject.OrganizationalUnit.List"] == ["first", "second"]
    assert context["iot:Certificate.Subject.AlternativeName.DNSName.1"] == "b.example"
    assert context["iot:Certificate.Subject.AlternativeName.UniformResourceIdentifier"] == "urn:x"
    assert context["iot:Certificate.SerialNumber"] == "abc"
    available = context["iot:Certificate.AvailableKeys"]
    assert isinstance(available, list)
    assert "Certificate.Subject.CommonName" in available
    assert "iot:Certificate.Subject.Country" not in context


def test_a_field_has_at_most_five_values() -> None:
    units = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, f"u{number}") for number in range(7)]
    context = certificate_context(der_of(ec.generate_private_key(ec.SECP256R1()), *units))
    key = "iot:Certificate.Subject.OrganizationalUnit"
    assert context[f"{key}.List"] == ["u0", "u1", "u2", "u3", "u4"]
    assert context[f"{key}.4"] == "u4"
    assert f"{key}.5" not in context


def test_the_certificate_id_is_the_same_as_in_the_api() -> None:
    der = der_of(ec.generate_private_key(ec.SECP256R1()))
    assert certificate_context(der)["iot:CertificateId"] == hashlib.sha256(der).hexdigest()


def test_unreadable_certificates_give_no_variables() -> None:
    assert certificate_context(b"\x30\x82\xff\xff") == {}
