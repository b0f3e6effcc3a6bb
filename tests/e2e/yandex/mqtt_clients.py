"""Clients of Yandex IoT Core over MQTT: paho-mqtt, as Yandex's samples use it."""

from __future__ import annotations

import queue
import socket
import ssl
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from paho.mqtt.reasoncodes import ReasonCode

    from thingmint.testing import RunningServer

_SECONDS = 20


class Pair:
    """A certificate and its key, in files. As Yandex's guide has it, all are of CN=localhost and self-signed."""

    def __init__(
        self,
        folder: Path,
        name: str,
        begins: timedelta = timedelta(hours=-1),
        ends: timedelta = timedelta(days=365),
        names: Sequence[str] = (),
    ) -> None:
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        builder = (
            x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
        )
        if names:
            listed = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(listed, critical=False)
        certificate = builder.sign(key, hashes.SHA256())
        self.pem = certificate.public_bytes(Encoding.PEM).decode()
        self.certificate, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        self.certificate.write_text(self.pem)
        self.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


class Client:
    """``refused`` is the return code of CONNACK that is not 0; 0 if the connection was closed without one.

    ``host`` is the name that the client sends, wherever it resolves to, and verifies unless ``verify`` is false.
    """

    def __init__(
        self,
        server: RunningServer,
        pair: Pair | None = None,
        user_name: str | None = None,
        password: str | None = None,
        *,
        version: int = 4,
        client_id: str = "Test_Device_Client",
        host: str = "localhost",
        verify: bool = True,
    ) -> None:
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id, protocol=mqtt.MQTTv5 if version == 5 else mqtt.MQTTv311
        )
        context = ssl.create_default_context(cafile=server.ca)
        context.check_hostname = verify
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        self.client.tls_set_context(context)
        if user_name is not None:
            self.client.username_pw_set(user_name, password)
        self._host, self._port = host, server.ports["mqtt"]
        self.client._create_socket_connection = lambda: socket.create_connection(  # type: ignore[method-assign]
            ("127.0.0.1", self._port), timeout=_SECONDS
        )
        self._connected, self._ended = threading.Event(), threading.Event()
        self.refused: int | None = None
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._answers: queue.Queue[Any] = queue.Queue()
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_message = lambda _client, _data, message: self.messages.put(
            (message.topic, bytes(message.payload))
        )
        self.client.on_subscribe = lambda _client, _data, _id, codes, _properties: self._answers.put(codes)
        self.client.on_publish = lambda _client, _data, number, _code, _properties: self._answers.put(number)

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        if code.is_failure:
            self.refused = code.value
        else:
            self._connected.set()

    def _on_disconnect(self, *_: Any) -> None:
        self._ended.set()

    def connect(self) -> bool:
        self.client.connect(self._host, self._port, keepalive=60)
        self.client.loop_start()
        while not self._connected.wait(0.01):
            if self._ended.is_set():
                self.close()
                self.refused = self.refused or 0
                return False
        return True

    def subscribe(self, *filters: str, qos: int = 1) -> list[int]:
        """The codes of SUBACK."""
        self.client.subscribe([(filter, qos) for filter in filters])
        return [code.value for code in self._answers.get(timeout=_SECONDS)]

    def publish(self, topic: str, payload: bytes = b"x", qos: int = 1) -> bool:
        """Whether it was acknowledged; False if the connection ended."""
        self.client.publish(topic, payload, qos)
        while True:
            try:
                self._answers.get(timeout=0.05)
            except queue.Empty:
                if self._ended.is_set():
                    return False
            else:
                return True

    def receive(self) -> tuple[str, bytes]:
        return self.messages.get(timeout=_SECONDS)

    def nothing_comes(self, seconds: float = 0.3) -> bool:
        try:
            self.messages.get(timeout=seconds)
        except queue.Empty:
            return True
        return False

    def ends(self) -> bool:
        """Whether the server closes the connection."""
        return self._ended.wait(_SECONDS)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        self.client._reset_sockets()  # else they stay open until the garbage collector warns of them


@contextmanager
def connected(*arguments: Any, **options: Any) -> Iterator[Client]:
    client = Client(*arguments, **options)
    try:
        assert client.connect(), client.refused
        yield client
    finally:
        client.close()
