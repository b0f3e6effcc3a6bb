"""What is under way from an upstream broker to one device."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from thingmint.domain.messages import Message

if TYPE_CHECKING:
    from thingmint.mqtt.broker.interface import Subscriber
    from thingmint.mqtt.broker.upstream.names import Names
    from thingmint.mqtt.protocol.packets import Publish


_MAX_HELD = 128


class Deliveries:
    """``maximum`` is the device's receive maximum. What comes above it, as 3.1.1 cannot tell the broker, is held."""

    __slots__ = ("_held", "_maximum", "_names", "_subscriber", "_under_way")

    def __init__(self, subscriber: Subscriber, names: Names, maximum: int) -> None:
        self._subscriber = subscriber
        self._names = names
        self._maximum = maximum
        self._under_way: set[int] = set()
        self._held: deque[tuple[Message, int, bool]] = deque()

    @property
    def waiting(self) -> bool:
        return bool(self._held)

    @property
    def full(self) -> bool:
        """Nothing more is to be read from the broker."""
        return len(self._held) >= _MAX_HELD

    def take(self, packet: Publish) -> bool:
        """False if it is of no topic of this device's scope, and goes nowhere."""
        topic, packet_id = self._names.local(packet.topic), packet.packet_id
        if topic is None:
            return False
        properties = self._names.inward(packet.properties)
        message = Message(topic, packet.payload, 0 if packet_id is None else 1, packet.retain, properties)
        if packet_id is None:
            self._subscriber.deliver(message, None, again=False)
        elif self._held or len(self._under_way) >= self._maximum:
            self._held.append((message, packet_id, packet.dup))
        else:
            self._deliver(message, packet_id, packet.dup)
        return True

    def hand_over(self) -> bool:
        """Delivers one of those that were held; False if none is to be delivered now."""
        if not self._held or len(self._under_way) >= self._maximum:
            return False
        self._deliver(*self._held.popleft())
        return True

    def acknowledge(self, packet_id: int) -> bool:
        """Whether it was under way."""
        if packet_id not in self._under_way:
            return False
        self._under_way.remove(packet_id)
        return True

    def clear(self) -> None:
        self._held.clear()

    def _deliver(self, message: Message, packet_id: int, again: bool) -> None:
        self._under_way.add(packet_id)
        self._subscriber.deliver(message, packet_id, again=again)
