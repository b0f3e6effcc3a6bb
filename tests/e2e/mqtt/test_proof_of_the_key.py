"""Certificates are public: a client that sends a certificate without having its key must not connect."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from structlog.testing import capture_logs

from tests.e2e import material
from tests.e2e.mqtt.served import Served, connect, served
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.packets import Connect

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it imports asyncore where there is one
    from tlslite.api import HandshakeSettings, TLSConnection, X509CertChain, parsePEMKey  # type: ignore[import-untyped]
    from tlslite.errors import TLSError  # type: ignore[import-untyped]
    from tlslite.x509 import X509  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from tests.e2e.mqtt.conftest import Devices

VERSIONS = {"TLSv1.2": (3, 3), "TLSv1.3": (3, 4)}
OTHER_KEYS = {
    "secp256r1": ec.generate_private_key(ec.SECP256R1()),
    "rsa2048": rsa.generate_private_key(public_exponent=65537, key_size=2048),
}


@dataclass(frozen=True)
class Port:
    port: int


def connect_with(
    server: Served | Port, version: str, certificate_pem: str, key_pem: str, data: bytes = b"let me in"
) -> bytes:
    """Connects with a certificate and a key, which need not belong together. Returns the answer to ``data``."""
    settings = HandshakeSettings()
    settings.minVersion = settings.maxVersion = VERSIONS[version]
    settings.certificate_compression_send = []
    shown = X509()
    shown.parse(certificate_pem)
    with connect(server) as sock:
        client = TLSConnection(sock)
        client.handshakeClientCert(X509CertChain([shown]), parsePEMKey(key_pem, private=True), settings=settings)
        client.sendall(data)
        return bytes(client.read(max=100, min=1))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", OTHER_KEYS)
def test_a_certificate_without_its_key_fails_tls(version: str, kind: str) -> None:
    certificate = material.self_signed(kind)
    pem = certificate.public_bytes(Encoding.PEM).decode()
    with served() as server:
        # The same client with the right key connects: so the wrong key is the reason of the refusal below.
        assert connect_with(server, version, pem, material.key_pem(material.key(kind))) == b"let me in"
        assert server.next().peer.fingerprint == certificate.fingerprint(hashes.SHA256()).hex()
        with capture_logs() as logs:
            with pytest.raises((TLSError, ConnectionError)):
                connect_with(server, version, pem, material.key_pem(OTHER_KEYS[kind]))
            assert server.no_connection_was_made()
        assert [line["reason"] for line in logs] == ["bad signature"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", OTHER_KEYS)
def test_a_certificate_without_its_key_does_not_connect(mine: Devices, version: str, kind: str) -> None:
    made = mine.credential(kind=kind)
    gateway, hello = Port(mine.server.ports["mqtt"]), encode(Connect(5, f"proof-{kind}-{version}"), 5)
    assert connect_with(gateway, version, made.pem, material.key_pem(material.key(kind)), hello)[0] == 0x20  # CONNACK
    with pytest.raises((TLSError, ConnectionError)):
        connect_with(gateway, version, made.pem, material.key_pem(OTHER_KEYS[kind]), hello)
    assert len(mine.log(made, "connected")) == 1
