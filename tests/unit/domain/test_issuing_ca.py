"""Issuing certificates: every field, as in AWS's device certificates, and requests that are refused."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID, SignatureAlgorithmOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from tests.unit import vectors
from thingmint.domain.certificate_profiles import DEVICE, Profile, listener_profile
from thingmint.domain.certificates import parse_csr
from thingmint.domain.errors import Invalid
from thingmint.domain.issuing_ca import (
    DEVICE_SUBJECT,
    CertificateAuthority,
    CertificateRequest,
    PreparedCertificate,
    generate_root_key,
    make_root,
)
from thingmint.domain.keys import CSR_KEYS

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.domain.certificates import Certificate
    from thingmint.domain.keys import SigningKey

CA_KEYS = [pytest.param(vectors.ec_key("secp384r1"), id="EC"), pytest.param(vectors.rsa_key(), id="RSA")]
END_OF_2049 = datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)
DEVICE_REQUEST = CertificateRequest(DEVICE_SUBJECT, vectors.rsa_key().public_key())


def issue(
    authority: CertificateAuthority, request: CertificateRequest = DEVICE_REQUEST, now: datetime = vectors.NOW
) -> x509.Certificate:
    return x509.load_der_x509_certificate(authority.sign(authority.prepare(request, now)).der)


class TestDeviceCertificates:
    @pytest.mark.parametrize("ca_key", CA_KEYS)
    def test_every_field_is_as_in_aws_device_certificates(self, ca_key: SigningKey) -> None:
        authority = vectors.authority(ca_key)
        certificate = issue(authority)

        assert certificate.version is x509.Version.v3
        assert certificate.signature_algorithm_oid == (
            SignatureAlgorithmOID.RSA_WITH_SHA256
            if ca_key is vectors.rsa_key()
            else SignatureAlgorithmOID.ECDSA_WITH_SHA256
        )
        assert certificate.issuer == authority.certificate.subject
        assert certificate.subject.rfc4514_string() == "CN=AWS IoT Certificate"
        assert certificate.not_valid_before_utc == vectors.NOW.replace(microsecond=0) - timedelta(minutes=2)
        assert certificate.not_valid_after_utc == END_OF_2049
        assert certificate.public_key() == DEVICE_REQUEST.public_key
        certificate.verify_directly_issued_by(authority.certificate)

        assert [(extension.oid, extension.critical) for extension in certificate.extensions] == [
            (ExtensionOID.AUTHORITY_KEY_IDENTIFIER, False),
            (ExtensionOID.SUBJECT_KEY_IDENTIFIER, False),
            (ExtensionOID.BASIC_CONSTRAINTS, True),
            (ExtensionOID.KEY_USAGE, True),
        ]
        akid, skid, constraints, usage = (extension.value for extension in certificate.extensions)
        root_skid = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        assert akid == x509.AuthorityKeyIdentifier(root_skid.digest, None, None)
        assert skid == x509.SubjectKeyIdentifier.from_public_key(vectors.rsa_key().public_key())
        assert constraints == x509.BasicConstraints(ca=False, path_length=None)
        assert usage == x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )

    def test_not_after_is_utctime_and_common_name_is_utf8string(self) -> None:
        der = issue(vectors.authority()).public_bytes(Encoding.DER)
        inner = vectors.inner_elements(der)
        (_, validity), (_, subject) = (vectors.elements(inner[index])[0] for index in (4, 5))
        assert vectors.elements(validity) == [(0x17, b"261121115800Z"), (0x17, b"491231235959Z")]
        assert vectors.tlv(0x0C, b"AWS IoT Certificate") in subject

    def test_serial_numbers_are_positive_random_and_at_most_20_bytes(self) -> None:
        authority = vectors.authority()
        serials = [self._serial(authority) for _ in range(300)]
        assert len(set(serials)) == len(serials)
        for serial in serials:
            assert 0 < len(serial) <= 20
            assert serial[0] < 0x80
        # At least 158 random bits: each of the last 19 bytes takes many different values.
        assert all(len({serial[-position] for serial in serials}) > 100 for position in range(1, 20))

    def test_serial_numbers_have_20_bytes(self) -> None:
        authority = vectors.authority()
        assert {len(self._serial(authority)) for _ in range(1500)} == {20}

    @staticmethod
    def _serial(authority: CertificateAuthority) -> bytes:
        """Return the encoded serial number, from the draft, because signing takes long and does not change it."""
        draft = authority.prepare(DEVICE_REQUEST, vectors.NOW).take()
        [(_, number)] = vectors.elements(vectors.inner_elements(draft)[1])
        return number

    @pytest.mark.parametrize(
        "subject",
        [
            vectors.name("thermostat-7"),
            x509.Name(
                [
                    x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
                    x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Ünïcode & Sons, Ltd."),
                    x509.NameAttribute(NameOID.SERIAL_NUMBER, "00-7"),
                    x509.NameAttribute(NameOID.COMMON_NAME, 'thermostat,7+"<>'),
                ]
            ),
            x509.Name(
                [
                    x509.RelativeDistinguishedName(
                        [
                            x509.NameAttribute(NameOID.COMMON_NAME, "two in"),
                            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "one RDN"),
                        ]
                    )
                ]
            ),
        ],
        ids=["plain", "long", "multi-valued"],
    )
    def test_the_subject_is_copied_from_the_request(self, subject: x509.Name) -> None:
        parsed = parse_csr(vectors.csr_pem(subject=subject), "csr", CSR_KEYS)
        certificate = issue(vectors.authority(), CertificateRequest(parsed.subject, parsed.public_key))
        assert certificate.subject == subject
        assert certificate.public_key() == vectors.ec_key().public_key()
        assert len(certificate.extensions) == 4

    def test_the_subject_keeps_its_string_types(self) -> None:
        from cryptography.x509.name import _ASN1Type

        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x", _ASN1Type.PrintableString)])
        parsed = parse_csr(vectors.csr_pem(subject=subject), "csr", CSR_KEYS)
        certificate = issue(vectors.authority(), CertificateRequest(parsed.subject, parsed.public_key))
        assert certificate.subject.public_bytes() == subject.public_bytes()

    def test_extensions_of_a_request_are_ignored(self) -> None:
        builder = x509.CertificateSigningRequestBuilder().subject_name(vectors.name("x"))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        from cryptography.hazmat.primitives.hashes import SHA256

        pem = builder.sign(vectors.ec_key(), SHA256()).public_bytes(Encoding.PEM).decode()
        parsed = parse_csr(pem, "csr", CSR_KEYS)
        certificate = issue(vectors.authority(), CertificateRequest(parsed.subject, parsed.public_key))
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        assert constraints == x509.BasicConstraints(ca=False, path_length=None)
        assert len(certificate.extensions) == 4

    def test_the_same_request_twice_gives_two_certificates(self) -> None:
        authority = vectors.authority()
        assert issue(authority).serial_number != issue(authority).serial_number

    def test_sign_returns_the_signed_certificate(self) -> None:
        authority = vectors.authority()
        certificate: Certificate = authority.sign(authority.prepare(DEVICE_REQUEST, vectors.NOW))
        parsed = x509.load_der_x509_certificate(certificate.der)
        assert certificate.not_before == parsed.not_valid_before_utc
        assert certificate.not_after == END_OF_2049


class TestSigning:
    def test_signing_twice_raises(self) -> None:
        key = vectors.CountingKey(vectors.ec_key())
        authority = CertificateAuthority(vectors.authority().certificate, key, DEVICE)
        prepared = authority.prepare(DEVICE_REQUEST, vectors.NOW)
        authority.sign(prepared)
        with pytest.raises(RuntimeError, match="a second time"):
            authority.sign(prepared)
        assert len(key.signed) == 1

    def test_the_key_signs_only_the_prepared_bytes(self) -> None:
        root = vectors.authority().certificate
        key = vectors.CountingKey(vectors.ec_key())
        authority = CertificateAuthority(root, key, DEVICE)
        draft = authority.prepare(DEVICE_REQUEST, vectors.NOW).take()
        assert key.signed == []
        with pytest.raises(InvalidSignature):
            x509.load_der_x509_certificate(draft).verify_directly_issued_by(root)

        certificate = authority.sign(PreparedCertificate(authority, draft))
        parsed = x509.load_der_x509_certificate(certificate.der)
        parsed.verify_directly_issued_by(root)
        assert key.signed == [parsed.tbs_certificate_bytes]
        assert vectors.inner_elements(certificate.der) == vectors.inner_elements(draft)

    def test_a_certificate_prepared_by_another_authority_is_not_signed(self) -> None:
        one, another = vectors.authority(), vectors.authority()
        prepared = one.prepare(DEVICE_REQUEST, vectors.NOW)
        with pytest.raises(ValueError, match="prepared by another authority"):
            another.sign(prepared)
        one.sign(prepared)


class TestRefusals:
    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            (CertificateRequest(DEVICE_SUBJECT, vectors.huge_rsa_public_key(1024)), "public key"),
            (CertificateRequest(DEVICE_SUBJECT, vectors.huge_rsa_public_key(4097)), "public key"),
            (CertificateRequest(DEVICE_SUBJECT, vectors.ec_key("secp256k1").public_key()), "public key"),
            (CertificateRequest(DEVICE_SUBJECT, vectors.ed25519_key().public_key()), "public key"),
            (
                CertificateRequest(
                    x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "x" * 60)] * 70),
                    vectors.ec_key().public_key(),
                ),
                "subject",
            ),
        ],
    )
    def test_keys_and_subjects_outside_the_profile_are_refused(self, request_: CertificateRequest, field: str) -> None:
        with pytest.raises(Invalid) as refused:
            vectors.authority().prepare(request_, vectors.NOW)
        assert refused.value.field == field

    @pytest.mark.parametrize(
        ("profile", "now"),
        [
            (DEVICE, END_OF_2049 + timedelta(minutes=2)),
            (DEVICE, END_OF_2049 + timedelta(days=1)),
            (listener_profile(timedelta(days=365 * 40)), vectors.NOW),
            (Profile(keys=CSR_KEYS, backdate=timedelta(0)), vectors.NOW),
            (Profile(keys=CSR_KEYS, backdate=timedelta(0), lifetime=timedelta(seconds=-1)), vectors.NOW),
            (DEVICE, vectors.NOW - timedelta(hours=2)),
        ],
        ids=[
            "begins when it ends",
            "begins after its end",
            "ends after the root",
            "no lifetime",
            "negative lifetime",
            "begins before the root",
        ],
    )
    def test_a_validity_outside_that_of_the_root_is_refused(self, profile: Profile, now: datetime) -> None:
        authority = vectors.authority(profile=profile)
        with pytest.raises(Invalid) as refused:
            authority.prepare(DEVICE_REQUEST, now)
        assert refused.value.field == "validity"

    def test_a_certificate_can_be_issued_for_the_last_second(self) -> None:
        certificate = issue(vectors.authority(), now=END_OF_2049 + timedelta(minutes=1, seconds=59))
        assert certificate.not_valid_before_utc == END_OF_2049 - timedelta(seconds=1)


class TestRoots:
    @pytest.mark.parametrize(("key_type", "algorithm"), [("p256", "secp256r1"), ("rsa2048", 2048)])
    def test_root_keys_have_the_configured_type(self, key_type: Any, algorithm: str | int) -> None:
        key: Any = generate_root_key(key_type)
        assert algorithm == (key.curve.name if key_type == "p256" else key.key_size)

    @pytest.mark.parametrize("key", CA_KEYS)
    def test_fields_of_a_root(self, key: SigningKey) -> None:
        root = make_root("Thingmint Device CA 0a1b", key, vectors.NOW)
        root.verify_directly_issued_by(root)
        assert root.subject == root.issuer
        assert root.subject.rfc4514_string() == "CN=Thingmint Device CA 0a1b,O=Thingmint"
        assert root.not_valid_before_utc < vectors.NOW - DEVICE.backdate
        assert root.not_valid_after_utc > END_OF_2049
        constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
        assert constraints.critical
        assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
        usage = root.extensions.get_extension_for_class(x509.KeyUsage)
        assert usage.critical
        assert usage.value.key_cert_sign
        assert not usage.value.digital_signature

    def test_roots_have_different_serial_numbers(self) -> None:
        roots = {make_root("x", vectors.ec_key(), vectors.NOW).serial_number for _ in range(20)}
        assert len(roots) == 20


NAMES = ["iot.example.org", "*.example.org", "127.0.0.1", "::1"]


class TestListenerCertificates:
    def test_every_field_of_a_listener_certificate(self) -> None:
        authority = vectors.authority(profile=listener_profile(timedelta(days=90)))
        certificate = issue(authority, CertificateRequest(vectors.name("x"), vectors.ec_key().public_key(), NAMES))
        assert certificate.not_valid_after_utc == vectors.NOW.replace(microsecond=0) + timedelta(days=90)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == NAMES[:2]
        assert names.get_values_for_type(x509.IPAddress) == [ip_address(NAMES[2]), ip_address(NAMES[3])]
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]

    @pytest.mark.parametrize("subject", [vectors.name("x"), x509.Name([])])
    def test_alternative_names_are_critical_without_a_subject(self, subject: x509.Name) -> None:
        authority = vectors.authority(profile=listener_profile(timedelta(days=90)))
        certificate = issue(authority, CertificateRequest(subject, vectors.ec_key().public_key(), NAMES))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert names.critical is (subject == x509.Name([]))

    @pytest.mark.parametrize("name", ["iot.example.org", "a.example.org", "127.0.0.1", "::1"])
    def test_clients_accept_the_certificate_for_its_names(self, name: str) -> None:
        authority = vectors.authority(profile=listener_profile(timedelta(days=90)))
        certificate = issue(authority, CertificateRequest(vectors.name("x"), vectors.ec_key().public_key(), NAMES))
        assert verified_as_server(certificate, authority, name)[0] == certificate

    @pytest.mark.parametrize("name", ["example.org", "a.b.example.org", "127.0.0.2"])
    def test_clients_refuse_the_certificate_for_other_names(self, name: str) -> None:
        authority = vectors.authority(profile=listener_profile(timedelta(days=90)))
        certificate = issue(authority, CertificateRequest(vectors.name("x"), vectors.ec_key().public_key(), NAMES))
        with pytest.raises(VerificationError):
            verified_as_server(certificate, authority, name)


def verified_as_server(certificate: x509.Certificate, trusted: CertificateAuthority, name: str) -> Any:
    subject: x509.DNSName | x509.IPAddress
    try:
        subject = x509.IPAddress(ip_address(name))
    except ValueError:
        subject = x509.DNSName(name)
    verifier = PolicyBuilder().store(Store([trusted.certificate])).time(vectors.NOW).build_server_verifier(subject)
    return verifier.verify(certificate, [])


class TestADeviceCannotPoseAsTheServer:
    """The reason for two roots: a device chooses its subject, and its certificate has no extended key usage."""

    def device_certificate(self, authority: CertificateAuthority) -> x509.Certificate:
        parsed = parse_csr(vectors.csr_pem(subject=vectors.name("localhost")), "csr", CSR_KEYS)
        return issue(authority, CertificateRequest(parsed.subject, parsed.public_key))

    def test_a_verifier_of_rfc_5280_refuses_a_device_certificate(self) -> None:
        listener, device = vectors.authority(), vectors.authority(vectors.ec_key("secp384r1"))
        with pytest.raises(VerificationError):
            verified_as_server(self.device_certificate(device), listener, "localhost")

    @pytest.mark.parametrize("checks_names", [True, False])
    def test_a_tls_client_refuses_a_device_certificate(self, tmp_path: Path, checks_names: bool) -> None:
        listener = vectors.authority(profile=listener_profile(timedelta(days=90)))
        device = vectors.authority(vectors.ec_key("secp384r1"))
        request = CertificateRequest(vectors.name("localhost"), vectors.ec_key().public_key(), ["localhost"])
        server_certificate = issue(listener, request)
        device_certificate = issue(device, CertificateRequest(request.subject, request.public_key))

        client = ssl.create_default_context(cadata=listener.certificate.public_bytes(Encoding.PEM).decode())
        client.check_hostname = checks_names
        client.verify_flags |= 0x200000  # X509_V_FLAG_NO_CHECK_TIME: the TLS client does not use the test's clock
        handshake(client, server_context(tmp_path, server_certificate))
        with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer certificate"):
            handshake(client, server_context(tmp_path, device_certificate))


def server_context(tmp_path: Path, certificate: x509.Certificate) -> ssl.SSLContext:
    key = vectors.ec_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain = tmp_path / "chain.pem"
    chain.write_bytes(key + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context


def handshake(client_context: ssl.SSLContext, server_context: ssl.SSLContext) -> ssl.SSLObject:
    """Return the client's side of a TLS handshake in memory."""
    upwards, downwards = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(downwards, upwards, server_hostname="localhost")
    server = server_context.wrap_bio(upwards, downwards, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client
