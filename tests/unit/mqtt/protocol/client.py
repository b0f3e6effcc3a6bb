"""A client and a fake clock for tests of ServerConnection."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from thingmint.mqtt.protocol.connection import ServerConnection
from thingmint.mqtt.protocol.decoder import Decoder
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.events import ConnectRequested
from thingmint.mqtt.protocol.limits import AWS_LIMITS, Limits
from thingmint.mqtt.protocol.packets import ConnAck, Connect

if TYPE_CHECKING:
    from thingmint.mqtt.protocol.events import Event
    from thingmint.mqtt.protocol.packets import Packet, Version


class Client:
    def __init__(self, version: Version = 5, limits: Limits = AWS_LIMITS, *, connack_refusals: bool = False) -> None:
        names = count(1)
        self.version = version
        self.now = 1000.0
        self.server = ServerConnection(
            self.now,
            new_client_id=lambda: f"$GEN/{next(names)}",
            limits=limits,
            connack_refusals=connack_refusals,
        )
        self.decoder = Decoder(version=version)

    def send(self, *packets: Packet) -> list[Event]:
        return self.send_bytes(b"".join(encode(packet, self.version) for packet in packets))

    def send_bytes(self, data: bytes) -> list[Event]:
        return self.server.receive(data, self.now)

    def read(self) -> list[Packet]:
        return list(self.decoder.feed(self.server.outgoing()))

    def connect(self, **fields: Any) -> ConnAck:
        """Connects; the server accepts without further checks."""
        (event,) = self.send(Connect(self.version, **({"client_id": "c"} | fields)))
        assert isinstance(event, ConnectRequested)
        assert self.server.accept(self.now, session_present=False) == []
        (answer,) = self.read()
        assert isinstance(answer, ConnAck)
        return answer


def connected(version: Version = 5, limits: Limits = AWS_LIMITS, **fields: Any) -> Client:
    client = Client(version, limits)
    client.connect(**fields)
    return client
