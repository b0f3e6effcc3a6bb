"""Certificates that OpenSSL reads are accepted and recognized in a TLS handshake; others are refused with a reason.

Damaged variants of every certificate and request are tested too, the same in each run.
"""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1, load_certificate

from tests.e2e import material
from tests.e2e.corpus.makers import MAKERS, Missing, made_by
from tests.unit import vectors
from tests.unit.vectors import to_der, to_pem
from thingmint.domain.certificate_parts import as_tls_sends_it
from thingmint.domain.certificates import (
    find_obstacle,
    fingerprint_of,
    parse_certificate,
    parse_csr,
)
from thingmint.domain.errors import InvalidCertificate, InvalidSigningRequest
from thingmint.domain.issuing_ca import CertificateRequest
from thingmint.domain.keys import CSR_KEYS, FLEET_KEYS
from thingmint.domain.policies.device_keys import certificate_context
from thingmint.domain.server_certificates import ServerCertificate
from thingmint.mqtt.tls.contexts import Contexts, Negotiation, build_context

if TYPE_CHECKING:
    from collections.abc import Callable

_DAMAGED_OF_EACH = 10
_REASONS = (
    "is not a well-formed PEM",
    "has a key",
    "has an RSA key",
    "has an EC key on another curve",
    "has a subject",
    "has an empty subject",
    "has a signature that its own public key does not verify",
    "is signed with SHA-1",
    "is signed with MD5",
    "contains a certificate",
)

_SERVER = build_context(ServerCertificate(vectors.certificate(vectors.ec_key().public_key()), vectors.ec_key()))
_AUTHORITY = vectors.authority()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that returns a maker's certificates and requests, made once."""
    kept: dict[str, list[str]] = {}

    def of(maker: str) -> list[str]:
        if maker not in kept:
            try:
                kept[maker] = made_by(maker, tmp_path_factory.mktemp("maker"))
            except Missing as missing:
                pytest.skip(f"there is no {missing} on this machine")
        return kept[maker]

    return of


def is_request(pem: str) -> bool:
    return "CERTIFICATE REQUEST" in pem.splitlines()[0]


def seen_in_a_handshake(der: bytes) -> str | None:
    """Return the fingerprint of the certificate in a TLS handshake, or None if the test has no key for it."""
    public_key = x509_key(der)
    keys = [vectors.ec_key(), vectors.rsa_key(), *(material.key(kind) for kind in ("secp256r1", "rsa2048", "ed25519"))]
    key = next((key for key in keys if key.public_key() == public_key), None)
    if key is None:
        return None
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")  # to allow client certificates that are signed with MD5
    context.use_certificate(load_certificate(FILETYPE_ASN1, der))
    context.use_privatekey(key)
    client, server = SSL.Connection(context, None), SSL.Connection(_SERVER, None)
    server.set_app_data(Negotiation(Contexts(_SERVER), (), alpn_required=False))
    client.set_connect_state()
    server.set_accept_state()
    for _ in range(4):
        for one, other in ((client, server), (server, client)):
            with contextlib.suppress(SSL.WantReadError):
                one.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                other.bio_write(one.bio_read(65_536))
    peer = server.get_peer_certificate(as_cryptography=False)
    assert peer is not None
    return peer.digest("sha256").decode().replace(":", "").lower()


def x509_key(der: bytes) -> Any:
    return load_certificate(FILETYPE_ASN1, der).get_pubkey().to_cryptography_key()


def damaged(der: bytes, choices: random.Random) -> bytes:
    changed = bytearray(der)
    for _ in range(choices.choice((1, 1, 1, 2, 3))):
        at = choices.randrange(len(changed))
        match choices.choice(("flip", "flip", "replace", "cut", "insert")):
            case "flip":
                changed[at] ^= 1 << choices.randrange(8)
            case "replace":
                changed[at] = choices.randrange(256)
            case "cut":
                del changed[at : at + choices.randrange(1, 6)]
            case _:
                changed[at:at] = choices.randbytes(choices.randrange(1, 4))
    return bytes(changed)


def refusal_of(parse: Callable[[], object]) -> str | None:
    try:
        parse()
    except (InvalidCertificate, InvalidSigningRequest) as refused:
        return refused.reason
    return None


def check_certificate(der: bytes, *, whole: bool) -> None:
    """Check a certificate. ``whole`` is true if it is not damaged."""
    read, pem = as_tls_sends_it(der), to_pem(der, "CERTIFICATE")
    reason = refusal_of(lambda: parse_certificate(pem, "pem", FLEET_KEYS, bound=True))
    if reason is not None:
        assert not whole
        assert reason.startswith(_REASONS)
        # Only OpenSSL reads a key in a BIT STRING with unused bits.
        assert read is None or "key" in reason
        return
    certificate, key = parse_certificate(pem, "pem", FLEET_KEYS, bound=True)
    obstacle = find_obstacle(certificate, key)
    if read is None:
        assert obstacle is not None or not whole
    else:
        assert certificate.der == read
        assert certificate.fingerprint == fingerprint_of(read)
    context = certificate_context(certificate.der)
    assert context["iot:CertificateId"] == certificate.fingerprint
    if whole and read is not None:
        assert obstacle is None
        assert seen_in_a_handshake(der) in (certificate.fingerprint, None)


def check_request(der: bytes, *, whole: bool) -> None:
    pem = to_pem(der, "CERTIFICATE REQUEST")
    reason = refusal_of(lambda: parse_csr(pem, "csr", CSR_KEYS))
    if reason is not None:
        assert reason.startswith(_REASONS)
        assert not whole or reason == "has a key of a type that is not accepted; use RSA or ECDSA"
        return
    request = parse_csr(pem, "csr", CSR_KEYS)
    prepared = _AUTHORITY.prepare(CertificateRequest(request.subject, request.public_key), vectors.NOW)
    issued = _AUTHORITY.sign(prepared)
    assert as_tls_sends_it(issued.der) == issued.der
    assert x509.load_der_x509_certificate(issued.der).public_key() == request.public_key


@pytest.mark.filterwarnings("ignore")  # about serial numbers and names that RFC 5280 forbids
@pytest.mark.parametrize("maker", MAKERS)
def test_certificates_and_requests_of_other_programs_are_accepted(made: Any, maker: str) -> None:
    for number, pem in enumerate(made(maker)):
        check = check_request if is_request(pem) else check_certificate
        try:
            check(to_der(pem), whole=True)
        except Exception as error:
            raise AssertionError(f"number {number}:\n{pem}") from error


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("maker", MAKERS)
def test_damaged_certificates_and_requests_are_handled(made: Any, maker: str) -> None:
    choices = random.Random(maker)
    for number, pem in enumerate(made(maker)):
        check = check_request if is_request(pem) else check_certificate
        for _ in range(_DAMAGED_OF_EACH):
            der = damaged(to_der(pem), choices)
            try:
                check(der, whole=False)
            except Exception as error:
                raise AssertionError(f"of number {number}: {der.hex()}") from error


def test_the_corpus_is_large(made: Any) -> None:
    """200 if all makers are installed."""
    assert sum(len(made(maker)) for maker in ("OpenSSL", "own odd encodings")) > 150
