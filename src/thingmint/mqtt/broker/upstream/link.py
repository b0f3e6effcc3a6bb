"""One device's connection to an upstream broker. Each device has a separate socket and client id there."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import structlog

from thingmint.domain.messages import NO_PROPERTIES, Message
from thingmint.domain.mqtt_topics import matches
from thingmint.mqtt.broker.upstream.connection import UpstreamConnection
from thingmint.mqtt.protocol.packets import SubscriptionRequest
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thingmint.mqtt.broker.interface import Subscriber, Subscription
    from thingmint.mqtt.broker.upstream.names import Names
    from thingmint.mqtt.protocol.packets import Connect, Publish


_MAX_HELD = 128  # messages

_log = structlog.get_logger("thingmint.gateway")


class Deliveries:
    """The messages under way from the broker to one device.

    ``maximum`` is the device's receive maximum. MQTT 3.1.1 cannot tell it to the broker, so messages above it are held
    here.
    """

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
        """True if nothing more must be read from the broker."""
        return len(self._held) >= _MAX_HELD

    def take(self, packet: Publish) -> bool:
        """Delivers or holds a message. False, and nothing is delivered, if the topic is not in the device's scope."""
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
        """Delivers one held message. False if none can be delivered now."""
        if not self._held or len(self._under_way) >= self._maximum:
            return False
        self._deliver(*self._held.popleft())
        return True

    def acknowledge(self, packet_id: int) -> bool:
        """Returns True if the message was under way."""
        if packet_id not in self._under_way:
            return False
        self._under_way.remove(packet_id)
        return True

    def clear(self) -> None:
        self._held.clear()

    def _deliver(self, message: Message, packet_id: int, again: bool) -> None:
        self._under_way.add(packet_id)
        self._subscriber.deliver(message, packet_id, again=again)


class UpstreamLink(UpstreamConnection):
    """Implements Link. After the link is closed or lost, requests fail with UNSPECIFIED_ERROR.

    ``must_discard``: the session ends with this link. In MQTT 3.1.1 that takes a clean session after it.
    """

    def __init__(
        self,
        connect: Connect,
        names: Names,
        subscriber: Subscriber,
        on_gone: Callable[[UpstreamConnection], None],
        *,
        must_discard: bool = False,
    ) -> None:
        super().__init__(connect, on_gone)
        self._names = names
        self._subscriber = subscriber
        self._deliveries = Deliveries(subscriber, names, connect.receive_maximum)
        self.must_discard = must_discard
        self._retain_handling: dict[str, int] = {}  # by filter, for MQTT 3.1.1, which has no such option

    def publish(self, message: Message, done: Callable[[Reason], None]) -> None:
        topic = self._names.topic(message.topic)
        if topic is None:
            done(Reason.TOPIC_NAME_INVALID)
        else:
            self.send(topic, message, self._names, lambda reasons: done(reasons[0]))

    def send(self, topic: str, message: Message, names: Names, done: Callable[[Sequence[Reason]], None]) -> None:
        """``topic`` is the name of the message's topic at the broker."""
        properties = names.outward(message.properties) if self._connect.version == 5 else NO_PROPERTIES
        if self.ended:
            done((Reason.UNSPECIFIED_ERROR,))
        elif properties is None:
            done((Reason.IMPLEMENTATION_SPECIFIC_ERROR,))
        elif not self._writable and not message.qos:
            done((Reason.QUOTA_EXCEEDED,))
        else:
            self._client.publish(
                topic, message.payload, qos=message.qos, retain=message.retain, properties=properties, done=done
            )
            self._flush_soon()

    def subscribe(self, subscriptions: Sequence[Subscription], done: Callable[[Sequence[Reason]], None]) -> None:
        requests: list[SubscriptionRequest] = []
        refusals: list[Reason | None] = []
        for s in subscriptions:
            name = self._names.filter(s.filter)
            if name is None:
                refusals.append(self._names.why_not(s.filter))
            else:
                refusals.append(None)
                requests.append(SubscriptionRequest(name, s.qos, s.no_local, s.retain_as_published, s.retain_handling))
                if self._connect.version == 4:
                    self._retain_handling[s.filter] = s.retain_handling
        self._ask(requests, refusals, self._client.subscribe, done)

    def unsubscribe(self, filters: Sequence[str], done: Callable[[Sequence[Reason]], None]) -> None:
        names = [self._names.filter(filter) for filter in filters]
        for filter in filters:
            self._retain_handling.pop(filter, None)
        refusals = [Reason.NO_SUBSCRIPTION_EXISTED if name is None else None for name in names]
        self._ask([name for name in names if name is not None], refusals, self._client.unsubscribe, done)

    def acknowledge(self, packet_id: int) -> None:
        if not self.ended and self._deliveries.acknowledge(packet_id):
            self._client.acknowledge(packet_id)
            self._flush_soon()
            if self._deliveries.waiting:
                self._process(b"")

    def set_expiry(self, seconds: int) -> None:
        self._expiry = seconds
        if self._connect.version == 4:
            self.must_discard = seconds == 0 and not self._connect.clean_start

    def close(self, *, discard: bool = False) -> None:
        if discard and not self.ended:
            self.set_expiry(0)
        self.end()

    def _on_publish(self, packet: Publish) -> None:
        if not (packet.retain and self._is_unwanted(packet.topic)):
            if self._deliveries.take(packet):
                return
            _log.warning("message_of_another_scope", topic=packet.topic)
        if packet.packet_id is not None:
            self._client.acknowledge(packet.packet_id)

    def _is_unwanted(self, name: str) -> bool:
        """True if the device asked for no retained messages of the topic. A broker of MQTT 3.1.1 sends them anyway."""
        topic = self._names.local(name)
        if topic is None:
            return False
        matching = {handling for filter, handling in self._retain_handling.items() if matches(filter, topic)}
        return matching == {2}

    def _on_end(self, reason: Reason | None) -> None:
        self._deliveries.clear()
        if reason is not None:
            self._subscriber.lost(reason)

    def _catch_up(self) -> bool:
        """Delivers held messages."""
        while self._flowing and not self.ended and self._deliveries.hand_over():
            pass
        return self._takes_more()

    @property
    def _full(self) -> bool:
        return self._deliveries.full

    def _ask(
        self,
        wanted: list[Any],
        refusals: list[Reason | None],
        ask: Callable[[list[Any], Callable[[Sequence[Reason]], None]], None],
        done: Callable[[Sequence[Reason]], None],
    ) -> None:
        def answered(reasons: Sequence[Reason]) -> None:
            from_broker = iter(reasons)
            done([next(from_broker) if refusal is None else refusal for refusal in refusals])

        if self.ended:
            answered([Reason.UNSPECIFIED_ERROR] * len(wanted))
        elif wanted:
            ask(wanted, answered)
            self._flush_soon()
        else:
            answered(())
