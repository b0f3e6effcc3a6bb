"""An MQTT client of the temporary server."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.testing import RunningServer

_PATIENCE = 20.0  # seconds, for what should take no time


class Device:
    """``identity`` are files with a certificate and its key; ``login`` are a user name and a password."""

    def __init__(
        self,
        server: RunningServer,
        client_id: str,
        *,
        identity: tuple[Path, Path] | None = None,
        login: tuple[str, str] | None = None,
    ) -> None:
        version = MQTTProtocolVersion.MQTTv5
        self._answers: queue.Queue[Any] = queue.Queue()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=version, reconnect_on_failure=False
        )
        certificate, key = map(str, identity) if identity is not None else (None, None)
        self._client.tls_set(str(server.ca), certificate, key)
        if login is not None:
            self._client.username_pw_set(*login)
        self._client.on_connect = lambda _client, _data, _flags, reason, _properties: self._answers.put(reason)
        self._client.on_subscribe = lambda _client, _data, _id, reasons, _properties: self._answers.put(reasons)
        self._client.on_publish = lambda _client, _data, _id, reason, _properties: self._answers.put(reason)
        self._port = server.ports["mqtt"]

    def __enter__(self) -> Self:
        self._client.connect("localhost", self._port, keepalive=600)
        self._client.loop_start()
        reason = self._answers.get(timeout=_PATIENCE)
        if reason.is_failure:
            raise ConnectionRefusedError(str(reason))
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def subscribe(self, filter: str) -> None:
        """Subscribes; whether it was allowed does not matter."""
        self._client.subscribe(filter, qos=1)
        self._answers.get(timeout=_PATIENCE)

    def publish(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, qos=1)
        self._answers.get(timeout=_PATIENCE)
