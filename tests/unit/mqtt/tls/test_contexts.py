"""TLS contexts, and the choice of a context by server name."""

from __future__ import annotations

import pytest

from tests.unit.vectors import certificate, ec_key, rsa_key
from thingmint.domain.server_certificates import ServerCertificate
from thingmint.mqtt.tls.contexts import Contexts, build_context

EC = ServerCertificate(certificate(ec_key().public_key()), ec_key())
RSA = ServerCertificate(certificate(rsa_key().public_key()), rsa_key())


def test_contexts_are_chosen_by_name() -> None:
    default, named, wild = build_context(EC), build_context(EC), build_context(EC)
    contexts = Contexts(default, {"iot.example.org": named, "*.example.org": wild})
    assert contexts.default is default
    assert contexts.of("iot.example.org") is named
    assert contexts.of("other.example.org") is wild
    assert contexts.of("a.other.example.org") is contexts.of("example.org") is default
    assert contexts.of(None) is default
    contexts.replace(named)
    assert contexts.of("iot.example.org") is contexts.default is named


def test_a_context_accepts_one_certificate_of_each_kind_of_key() -> None:
    build_context(EC, RSA).check_privatekey()


def test_inconsistent_certificates_are_refused() -> None:
    with pytest.raises(ValueError, match="does not belong to the certificate"):
        build_context(ServerCertificate(EC.certificate, ec_key("secp384r1")))
    with pytest.raises(ValueError, match="one certificate of each kind"):
        build_context(EC, EC)
