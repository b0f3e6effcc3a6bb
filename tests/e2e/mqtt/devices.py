"""Devices: certificates with their keys, and clients that send MQTT over TLS packet by packet."""

from __future__ import annotations

import contextlib
import secrets
import select
import socket
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.e2e import material
from thingmint.mqtt.protocol.decoder import Decoder
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.packets import (
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
    PingResp,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    SubscriptionRequest,
    UnsubAck,
    Unsubscribe,
)
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.mqtt.protocol.packets import Packet, Version
    from thingmint.testing import RunningServer

__all__ = ["PATIENCE", "Closed", "Credential", "Device", "certificate", "credential"]

PATIENCE = 15.0  # seconds, for what should take no time
P = TypeVar("P")

_COUNTRY = (NameOID.ORGANIZATION_NAME, "Example Corp")


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate, and a file with the certificate and its key. ``arn`` is set after registration."""

    fingerprint: str
    pem: str
    file: Path
    arn: str = ""


def certificate(
    kind: str = "secp256r1",
    name: str = "thermometer",
    *,
    begins: timedelta = timedelta(days=-1),
    ends: timedelta = timedelta(days=365),
) -> x509.Certificate:
    """Returns a new self-signed certificate for ``material.key(kind)``."""
    key = material.key(kind)
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(*_COUNTRY)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .sign(key, hashes.SHA256())
    )


def credential(folder: Path, kind: str = "secp256r1", **facts: Any) -> Credential:
    made = certificate(kind, **facts)
    pem = made.public_bytes(Encoding.PEM).decode()
    file = folder / f"{secrets.token_hex(8)}.pem"
    file.write_text(material.key_pem(material.key(kind)) + pem)
    return Credential(made.fingerprint(hashes.SHA256()).hex(), pem, file)


class Closed(Exception):
    """The server ended the connection. ``packets``: its packets since the last read."""

    def __init__(self, packets: list[Packet]) -> None:
        super().__init__(f"closed after {packets}")
        self.packets = packets

    @property
    def reason(self) -> Reason | None:
        """The reason code of the last packet, if it has one."""
        last = self.packets[-1] if self.packets else None
        return last.reason if isinstance(last, Disconnect | ConnAck) else None


class Device:
    """One connection. It acknowledges messages only on request."""

    def __init__(
        self,
        server: RunningServer,
        credential: Credential | None,
        version: Version = 5,
        *,
        endpoint: str = "localhost",
        listener: str = "mqtt",
        alpn: list[str] | None = None,
        tls: ssl.SSLContext | None = None,
        source: str = "127.0.0.1",
    ) -> None:
        self.version = version
        self._ids = count(1)
        self._decoder = Decoder(version=version)
        self._packets: list[Packet] = []
        context = tls or tls_context(server, credential)
        if alpn is not None:
            context.set_alpn_protocols(alpn)
        raw = socket.create_connection(
            ("127.0.0.1", server.ports[listener]), timeout=PATIENCE, source_address=(source, 0)
        )
        try:
            self.sock = context.wrap_socket(raw, server_hostname=endpoint)
        except BaseException:
            raw.close()
            raise

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *args: object) -> None:
        self.drop()

    def drop(self) -> None:
        """Closes TCP without DISCONNECT."""
        with contextlib.suppress(OSError):
            self.sock.close()

    def reset(self) -> None:
        """Resets TCP, as after a power failure."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.drop()

    def disconnect(self, reason: Reason = Reason.SUCCESS, **fields: Any) -> None:
        """Sends DISCONNECT. Returns when the server has closed."""
        self.send(Disconnect(reason, **fields))
        self.until_closed()
        self.drop()

    # Packets.

    def send(self, *packets: Packet) -> None:
        self.send_bytes(b"".join(encode(packet, self.version) for packet in packets))

    def send_bytes(self, data: bytes) -> None:
        """Ignores errors: the server may close before it has read everything, and tests then read its answer."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            self.sock.sendall(data)

    def read(self, patience: float = PATIENCE) -> Packet:
        """Returns the next packet. Raises Closed, also after a DISCONNECT of the server, or TimeoutError."""
        deadline = time.monotonic() + patience
        while not self._packets:
            self._receive(deadline - time.monotonic())
        packet = self._packets.pop(0)
        if isinstance(packet, Disconnect):
            raise Closed([packet, *self.until_closed().packets])
        return packet

    def expect(self, kind: type[P], patience: float = PATIENCE) -> P:
        packet = self.read(patience)
        assert isinstance(packet, kind), packet
        return packet

    def nothing_comes(self) -> bool:
        """True if no more packets are on their way to this device."""
        self.send(PingReq())
        return isinstance(self.read(), PingResp)

    def drain(self) -> list[Publish]:
        """Returns all messages that are on their way to this device, without acknowledging them."""
        found: list[Publish] = []
        self.send(PingReq())
        while isinstance(packet := self.read(), Publish):
            found.append(packet)
        assert isinstance(packet, PingResp), packet
        return found

    def until_closed(self, patience: float = PATIENCE) -> Closed:
        """Reads until the server ends the connection. Raises TimeoutError."""
        deadline = time.monotonic() + patience
        try:
            while True:
                self._receive(deadline - time.monotonic())
        except Closed as closed:
            return closed

    @property
    def is_open(self) -> bool:
        try:
            return self.nothing_comes()
        except Closed:
            return False

    def _receive(self, patience: float) -> None:
        if not self.sock.pending() and not select.select([self.sock], [], [], max(0, patience))[0]:
            raise TimeoutError(f"nothing came within {patience} s")
        try:
            data = self.sock.recv(65536)
        except (ConnectionError, ssl.SSLError):
            data = b""
        if not data:
            packets, self._packets = self._packets, []
            raise Closed(packets)
        self._packets.extend(self._decoder.feed(data))

    # Requests.

    def connect(self, client_id: str = "", **fields: Any) -> ConnAck:
        """Connects. Raises Closed if it is refused, with the CONNACK if there is one."""
        self.send(Connect(self.version, client_id, **fields))
        answer = self.expect(ConnAck)
        if answer.reason.failed:
            closed = self.until_closed()
            raise Closed([answer, *closed.packets])
        return answer

    def subscribe(self, *filters: str | SubscriptionRequest, qos: Any = 1) -> list[Reason]:
        """Returns the answers. Messages that come before them are kept."""
        requests = tuple(f if isinstance(f, SubscriptionRequest) else SubscriptionRequest(f, qos) for f in filters)
        self.send(Subscribe(next(self._ids), requests))
        return list(self._answer(SubAck).reasons)

    def unsubscribe(self, *filters: str) -> list[Reason]:
        self.send(Unsubscribe(next(self._ids), filters))
        return list(self._answer(UnsubAck).reasons)

    def publish(self, topic: str, payload: bytes = b"x", *, qos: Any = 1, **fields: Any) -> Reason:
        """Returns the reason code of PUBACK. At QoS 0 there is none: returns SUCCESS."""
        packet_id = next(self._ids) if qos else None
        self.send(Publish(topic, payload, qos, packet_id=packet_id, **fields))
        return self._answer(PubAck).reason if qos else Reason.SUCCESS

    def receive(self, *, acknowledge: bool = True) -> Publish:
        packet = self.expect(Publish)
        if acknowledge and packet.packet_id is not None:
            self.send(PubAck(packet.packet_id))
        return packet

    def _answer(self, kind: type[P]) -> P:
        """Returns the next packet of a kind. Messages that come before it are kept."""
        kept: list[Packet] = []
        while not isinstance(packet := self.read(), kind):
            assert isinstance(packet, Publish), packet
            kept.append(packet)
        self._packets[:0] = kept
        return packet


def tls_context(server: RunningServer, credential: Credential | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(server.ca))
    if credential is not None:
        context.load_cert_chain(credential.file)
    return context
