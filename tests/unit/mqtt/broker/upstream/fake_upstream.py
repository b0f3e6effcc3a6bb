"""A fake broker behind a fake transport. It sends what the test tells it to send."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from thingmint.mqtt.protocol.decoder import Decoder
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.packets import ConnAck, Connect, Disconnect

if TYPE_CHECKING:
    from collections.abc import Callable

    from thingmint.domain.messages import Message
    from thingmint.mqtt.protocol.packets import Packet, Version
    from thingmint.mqtt.protocol.reasons import Reason

__all__ = ["Collector", "FakeTarget", "FakeTransport", "settle"]


async def settle() -> None:
    """Waits until all ready callbacks have run."""
    for _ in range(20):
        await asyncio.sleep(0)


class FakeTransport(asyncio.Transport):
    """Holds received data while reading is paused, as a socket does. If ``polite``, closes after DISCONNECT."""

    def __init__(self, protocol: asyncio.Protocol, version: Version, *, connack: ConnAck | None, polite: bool) -> None:
        super().__init__()
        self.protocol = protocol
        self.version = version
        self.received: list[Packet] = []
        self.reading = True
        self.closed = False
        self._decoder = Decoder()
        self._connack = connack
        self._polite = polite
        self._unread: deque[bytes] = deque()

    def write(self, data: Any) -> None:
        assert not self.closed
        for packet in self._decoder.feed(bytes(data)):
            self.received.append(packet)
            if isinstance(packet, Connect) and self._connack is not None:
                self.send(self._connack)
            if isinstance(packet, Disconnect) and self._polite:
                self.close()

    def send(self, *packets: Packet) -> None:
        self.send_bytes(b"".join(encode(packet, self.version) for packet in packets))

    def send_bytes(self, data: bytes) -> None:
        self._unread.append(data)
        asyncio.get_running_loop().call_soon(self._read)

    def _read(self) -> None:
        while self.reading and self._unread and not self.closed:
            self.protocol.data_received(self._unread.popleft())

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True
        asyncio.get_running_loop().call_soon(self._read)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close


class FakeTarget:
    """Replaces Target. ``down``: refuses connections. ``connack`` None: does not answer CONNECT."""

    def __init__(self, version: Version = 5) -> None:
        self.version = version
        self.transports: list[FakeTransport] = []
        self.connack: ConnAck | None = ConnAck()
        self.down = False
        self.polite = True

    async def connect(self, make: Callable[[], asyncio.Protocol]) -> None:
        if self.down:
            raise ConnectionRefusedError("refused")
        protocol = make()
        transport = FakeTransport(protocol, self.version, connack=self.connack, polite=self.polite)
        self.transports.append(transport)
        protocol.connection_made(transport)

    def connects(self) -> list[Connect]:
        return [packet for transport in self.transports for packet in transport.received if isinstance(packet, Connect)]

    def of(self, client_id: str) -> list[FakeTransport]:
        """Returns the connections of a client id, the oldest first."""
        return [
            transport
            for transport in self.transports
            if isinstance(packet := transport.received[0], Connect) and packet.client_id.endswith(f":{client_id}")
        ]


class Collector:
    """A Subscriber that records its calls."""

    def __init__(self) -> None:
        self.received: list[tuple[Message, int | None, bool]] = []
        self.reasons: list[Reason] = []
        self.on_deliver: Callable[[int | None], None] = lambda packet_id: None

    def deliver(self, message: Message, packet_id: int | None, *, again: bool) -> None:
        self.received.append((message, packet_id, again))
        self.on_deliver(packet_id)

    def lost(self, reason: Reason) -> None:
        self.reasons.append(reason)

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for message, _, _ in self.received]
