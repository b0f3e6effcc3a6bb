"""Devices with certificates that break RFC 5280 or DER connect, if registered over the AWS or Yandex API."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1, load_certificate

from tests import odd_certificates as odd
from tests.e2e.mqtt.conftest import ALLOW_ALL, Devices, new_name
from tests.e2e.mqtt.devices import Credential
from tests.e2e.mqtt.test_connecting import Fingerprints
from tests.unit import vectors
from tests.unit.vectors import to_pem
from thingmint.domain.certificate_parts import as_tls_sends_it
from thingmint.domain.certificates import fingerprint_of
from thingmint.mqtt.protocol.packets import ConnAck, Connect
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.mqtt.conftest import Gateway
    from thingmint.domain.keys import SigningKey

CERTIFICATES = odd.certificates()
# cryptography, which pyOpenSSL would rather be given, does not read them.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL X509 objects:DeprecationWarning")

ACCEPTED = b"\x20\2\0\0"  # CONNACK of MQTT 3.1.1
LARGEST_OF_P256 = 600  # bytes
BOUND = ["subject: underscore in PrintableString", "NULL parameters of ECDSA", "an extension twice", "version 4"]


def key_of(der: bytes) -> SigningKey:
    return vectors.rsa_key() if len(der) > LARGEST_OF_P256 else vectors.ec_key()


def with_key(folder: Path, der: bytes) -> Credential:
    """Returns a certificate with the key of its device."""
    private = key_of(der).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    pem, file = to_pem(der, "CERTIFICATE"), folder / f"{new_name()}.pem"
    file.write_text(private + pem)
    return Credential(fingerprint_of(as_tls_sends_it(der) or der), pem, file)


def connack(fleet: Devices, der: bytes) -> bytes:
    """Connects with a certificate that Python's ssl refuses to send. Returns the CONNACK."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.use_certificate(load_certificate(FILETYPE_ASN1, der))
    context.use_privatekey(key_of(der))
    with socket.create_connection(("127.0.0.1", fleet.server.ports["mqtt"])) as sock:
        sock.settimeout(None)
        connection = SSL.Connection(context, sock)
        connection.set_tlsext_host_name(fleet.endpoint.encode())
        connection.set_connect_state()
        connection.do_handshake()
        name = new_name().encode()
        body = b"\0\4MQTT\4\2\0\x3c" + len(name).to_bytes(2, "big") + name
        connection.sendall(b"\x10" + bytes([len(body)]) + body)
        answer: bytes = connection.recv(4)
        connection.sendall(b"\xe0\0")
        return answer


def test_odd_certificates_connect_after_registration(mine: Devices, tmp_path: Path) -> None:
    policy = mine.policy(ALLOW_ALL)
    for case, der in CERTIFICATES.items():
        made = mine.register(with_key(tmp_path, der))
        mine.iot.attach_policy(policyName=policy, target=made.arn)
        assert connack(mine, der) == ACCEPTED, case


def test_odd_certificates_connect_after_binding(gateway: Gateway, tmp_path: Path) -> None:
    pins = Fingerprints(gateway.lax)
    try:
        for case in BOUND:
            pins.bind(with_key(tmp_path, CERTIFICATES[case]))
            assert connack(gateway.lax, CERTIFICATES[case]) == ACCEPTED, case
    finally:
        pins.cloud.close()


def test_odd_names_work_as_policy_variables(mine: Devices, tmp_path: Path) -> None:
    """If the name can be read without doubt."""
    only = {
        "Effect": "Allow",
        "Action": "iot:Connect",
        "Resource": mine.arn("client/${iot:Certificate.Subject.CommonName}"),
    }
    for text, expected in ((b"device_7", Reason.SUCCESS), (b"device_7\xfc", Reason.NOT_AUTHORIZED)):
        made = mine.register(with_key(tmp_path, odd.certificate(subject=odd.common_name(odd.PRINTABLE, text))), only)
        with mine.dial(made) as device:
            device.send(Connect(5, text.decode("latin-1")))
            assert device.expect(ConnAck).reason is expected
