"""A device that does only what the test requests: it does not acknowledge messages automatically."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from tests.e2e.material import csr_pem, key, key_pem
from thingmint.domain.messages import NO_PROPERTIES, MessageProperties
from thingmint.mqtt.protocol.decoder import Decoder
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.packets import (
    ConnAck,
    Connect,
    Disconnect,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    SubscriptionRequest,
)

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.mqtt.protocol.packets import Packet, QoS, Version
    from thingmint.testing import RunningServer

__all__ = ["Closed", "Device", "Identity", "connect", "plain"]

PATIENCE = 10.0  # seconds
P = TypeVar("P")


class Closed(Exception):
    """The server closed the connection."""


@dataclass(frozen=True)
class Identity:
    """``folder`` is for the files that Python's ssl needs."""

    certificate_id: str
    files: tuple[str, str]

    @classmethod
    def new(cls, iot: Any, folder: Path, policy: str) -> Identity:
        made = iot.create_certificate_from_csr(certificateSigningRequest=csr_pem(), setAsActive=True)
        iot.attach_policy(policyName=policy, target=made["certificateArn"])
        certificate, private = folder / f"{made['certificateId']}.pem", folder / "key.pem"
        certificate.write_text(made["certificatePem"])
        private.write_text(key_pem(key("secp256r1")))
        return cls(made["certificateId"], (str(certificate), str(private)))


class Device:
    def __init__(self, sock: socket.socket, packet: Connect) -> None:
        self._sock = sock
        self._version: Version = packet.version
        self._decoder = Decoder(version=packet.version)
        self._inbox: deque[Packet] = deque()
        self._last_id = 0
        self.send(packet)

    def send(self, packet: Packet) -> None:
        self._sock.sendall(encode(packet, self._version))

    def next(self, kind: type[P], patience: float = PATIENCE) -> P:
        """Returns the next packet of a kind; keeps the others. Raises TimeoutError or Closed."""
        deadline = time.monotonic() + patience
        while True:
            for packet in self._inbox:
                if isinstance(packet, kind):
                    self._inbox.remove(packet)
                    return packet
            self._sock.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                data = self._sock.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                raise Closed
            self._inbox.extend(self._decoder.feed(data))

    def nothing(self, kind: type[Any], patience: float = 0.3) -> bool:
        try:
            self.next(kind, patience)
        except TimeoutError:
            return True
        return False

    def start_publish(
        self,
        topic: str,
        payload: bytes = b"x",
        qos: QoS = 1,
        *,
        retain: bool = False,
        properties: MessageProperties = NO_PROPERTIES,
    ) -> None:
        packet_id = self._next_id() if qos else None
        self.send(Publish(topic, payload, qos, retain, packet_id=packet_id, properties=properties))

    def flood(self, topic: str, payload: bytes, most: int) -> int:
        """Publishes at QoS 0 until the server reads nothing for a second, or ``most`` are sent. Returns the number."""
        self._sock.settimeout(1.0)
        data = encode(Publish(topic, payload), self._version)
        rest = memoryview(b"")
        for number in range(most):
            rest = memoryview(data)
            while rest:
                try:
                    rest = rest[self._sock.send(rest) :]
                except TimeoutError:
                    return number
        return most

    def publish(self, topic: str, payload: bytes = b"x", qos: QoS = 1, **options: Any) -> PubAck | None:
        self.start_publish(topic, payload, qos, **options)
        return self.next(PubAck) if qos else None

    def subscribe(self, *filters: str, qos: QoS = 1) -> SubAck:
        self.send(Subscribe(self._next_id(), tuple(SubscriptionRequest(filter, qos) for filter in filters)))
        return self.next(SubAck)

    def message(self, patience: float = PATIENCE) -> Publish:
        """Returns the next message, and acknowledges it."""
        publish = self.next(Publish, patience)
        if publish.packet_id is not None:
            self.send(PubAck(publish.packet_id))
        return publish

    def topics(self, count: int) -> list[str]:
        return sorted(self.message().topic for _ in range(count))

    def is_closed(self, patience: float = PATIENCE) -> Disconnect | None:
        """Waits until the server closes. Returns its DISCONNECT, if any."""
        said: Disconnect | None = None
        deadline = time.monotonic() + patience
        with contextlib.suppress(Closed):
            while True:
                said = self.next(Disconnect, deadline - time.monotonic())
        return said

    def disconnect(self) -> None:
        self.send(Disconnect())
        with contextlib.suppress(Closed):
            self.next(Disconnect)
        self.close()

    def close(self) -> None:
        self._sock.close()

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id


def connect(server: RunningServer, identity: Identity, client_id: str, **fields: Any) -> tuple[Device, ConnAck]:
    """Connects to the gateway. Raises Closed if it closes without a CONNACK."""
    context = ssl.create_default_context(cafile=server.ca)
    context.load_cert_chain(*identity.files)
    raw = socket.create_connection(("127.0.0.1", server.ports["mqtt"]), PATIENCE)
    sock = context.wrap_socket(raw, server_hostname="localhost")
    device = Device(sock, Connect(**{"version": 5, "client_id": client_id, "keep_alive": 60, **fields}))
    try:
        return device, device.next(ConnAck)
    except Closed:
        device.close()
        raise


def plain(port: int, **fields: Any) -> Device:
    """Connects directly to a broker."""
    packet = Connect(**{"version": 5, "client_id": "plain", "keep_alive": 60, **fields})
    device = Device(socket.create_connection(("127.0.0.1", port), PATIENCE), packet)
    assert not device.next(ConnAck).reason.failed
    return device
