"""TLS contexts, and the choice of a context by server name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.unit import vectors
from tests.unit.vectors import certificate, ec_key, ed25519_key, rsa_key
from thingmint.mqtt.tls.contexts import Contexts, ServerIdentity, build_context

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from thingmint.domain.keys import SigningKey

EC = ServerIdentity(certificate(ec_key().public_key()), ec_key())
RSA = ServerIdentity(certificate(rsa_key().public_key()), rsa_key())


def test_contexts_are_chosen_by_name() -> None:
    default, named = build_context(EC), build_context(EC)
    contexts = Contexts(default, {"iot.example.org": named})
    assert contexts.default is default
    assert contexts.of("iot.example.org") is named
    assert contexts.of("other.example.org") is default
    assert contexts.of(None) is default
    contexts.replace(named)
    assert contexts.of("iot.example.org") is contexts.default is named


def test_a_context_accepts_one_certificate_of_each_kind_of_key() -> None:
    build_context(EC, RSA).check_privatekey()


def test_inconsistent_certificates_are_refused() -> None:
    with pytest.raises(ValueError, match="does not belong to the certificate"):
        build_context(ServerIdentity(EC.certificate, ec_key("secp384r1")))
    with pytest.raises(ValueError, match="one certificate of each kind"):
        build_context(EC, EC)
    with pytest.raises(ValueError, match="share their chain"):
        build_context(EC, ServerIdentity(RSA.certificate, RSA.key, (vectors.authority().certificate,)))


def test_identities_are_read_from_pem() -> None:
    issuer = vectors.authority().certificate
    pem = EC.certificate.public_bytes(Encoding.PEM) + issuer.public_bytes(Encoding.PEM)
    identity = ServerIdentity.from_pem(private_pem(ec_key()), pem)
    assert (identity.certificate, identity.chain) == (EC.certificate, (issuer,))
    build_context(identity)
    with pytest.raises(ValueError, match="elliptic curve or an RSA"):
        ServerIdentity.from_pem(private_pem(ed25519_key()), pem)
    assert "PrivateKey" not in repr(identity)


def private_pem(key: SigningKey | Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
