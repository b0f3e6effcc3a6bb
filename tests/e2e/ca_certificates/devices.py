"""Devices that connect with the standard library's TLS and a hand-written CONNECT, or with paho to receive messages."""

from __future__ import annotations

import contextlib
import json
import queue
import secrets
import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as mqtt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from paho.mqtt.enums import CallbackAPIVersion

from tests.issuers import fingerprint, pem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryptography import x509

    from tests.issuers import Issuer
    from thingmint.testing import RunningServer

TIMEOUT = 15.0  # seconds

# Reason codes of CONNACK (MQTT 5, 3.2.2.2), and None if there is no CONNACK.
ACCEPTED, REFUSED, SILENCE = 0x00, 0x87, None


@dataclass(frozen=True)
class Identity:
    """A certificate, and the file with the certificate and its key."""

    certificate: x509.Certificate
    file: Path

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.certificate)


@dataclass(frozen=True)
class Devices:
    server: RunningServer
    endpoint: str
    folder: Path

    def identity(self, issuer: Issuer, subject: Any = "thermometer", **facts: Any) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        return self.with_key(issuer.sign(subject, key, **facts), key)

    def with_key(self, certificate: x509.Certificate, key: Any) -> Identity:
        file = self.folder / f"{secrets.token_hex(8)}.pem"
        secret: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_text(secret.decode() + pem(certificate))
        return Identity(certificate, file)

    def dial(self, identity: Identity, endpoint: str | None = None) -> ssl.SSLSocket:
        """Open a connection, and send its CONNECT (MQTT 5)."""
        context = ssl.create_default_context(cafile=str(self.server.ca))
        context.load_cert_chain(identity.file)
        raw = socket.create_connection(("127.0.0.1", self.server.ports["mqtt"]), timeout=TIMEOUT)
        sock = context.wrap_socket(raw, server_hostname=endpoint or self.endpoint)
        client_id = f"device-{secrets.token_hex(4)}".encode()
        body = b"\x00\x04MQTT\x05\x02\x00\x3c\x00" + len(client_id).to_bytes(2, "big") + client_id
        sock.sendall(bytes((0x10, len(body))) + body)
        return sock

    def connect(self, identity: Identity, endpoint: str | None = None) -> int | None:
        with contextlib.closing(self.dial(identity, endpoint)) as sock:
            return _answer(sock)

    @contextlib.contextmanager
    def connected(self, identity: Identity) -> Iterator[ssl.SSLSocket]:
        with contextlib.closing(self.dial(identity)) as sock:
            assert _answer(sock) == ACCEPTED
            yield sock

    @contextlib.contextmanager
    def listening(self, identity: Identity, *topics: str) -> Iterator[queue.Queue[tuple[str, Any]]]:
        """Subscribe with paho's client. Yields a queue of the received topics and payloads."""
        found: queue.Queue[tuple[str, Any]] = queue.Queue()
        subscribed: queue.Queue[object] = queue.Queue()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"listener-{secrets.token_hex(4)}")
        client.tls_set(str(self.server.ca), str(identity.file), str(identity.file))
        client.on_message = lambda _client, _data, message: found.put((message.topic, json.loads(message.payload)))
        client.on_subscribe = lambda *arguments: subscribed.put(arguments)
        client.connect("localhost", self.server.ports["mqtt"])
        client.loop_start()
        try:
            client.subscribe([(topic, 1) for topic in topics])
            subscribed.get(timeout=TIMEOUT)
            yield found
        finally:
            client.disconnect()
            client.loop_stop()


def _answer(sock: ssl.SSLSocket) -> int | None:
    try:
        heard = sock.recv(4096)
    except (ConnectionResetError, ssl.SSLError):
        heard = b""
    assert not heard or heard[0] == 0x20, heard
    return heard[3] if heard else SILENCE


def closed_within(sock: ssl.SSLSocket, seconds: float) -> bool:
    sock.settimeout(seconds)
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            if not sock.recv(4096):
                return True
    except TimeoutError:
        return False
    except (ConnectionResetError, ssl.SSLError):
        return True
    return False
