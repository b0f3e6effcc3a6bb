"""The traffic of an accepted connection, whichever rules hold: what is sent, delivered, withheld and logged alike."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal, Protocol

from thingmint.mqtt.protocol.events import SubscribeRequested, UnsubscribeRequested
from thingmint.mqtt.protocol.packets import PubAck, Publish

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from thingmint.access.context import Caller
    from thingmint.domain.arns import Scope
    from thingmint.domain.messages import Message
    from thingmint.mqtt.broker.interface import Link
    from thingmint.mqtt.connection_log import ConnectionLog
    from thingmint.mqtt.peer import Peer
    from thingmint.mqtt.protocol.connection import ServerConnection
    from thingmint.mqtt.protocol.events import Event
    from thingmint.mqtt.protocol.reasons import Reason
    from thingmint.mqtt.slices import Slices

MAX_REFUSALS = 100
"""Of one connection; then it is closed, so that no device fills the audit log with refusals."""
_MAX_NOTED = 64  # topics per connection with a warning in the log: not served, not delivered

NONE: frozenset[Any] = frozenset()
"""Shared by idle devices: an empty set takes 216 bytes."""


class Host(Protocol):
    """The session that the traffic belongs to."""

    def flush(self) -> None:
        """Sends the MQTT connection's outgoing bytes soon."""
        ...

    def disconnect(self, reason: Reason, why: str, *, with_will: bool) -> None:
        """Ends the connection. MQTT 5 clients get ``reason``."""
        ...

    def subscriptions(self, kind: Literal["subscribed", "unsubscribed"], filters: Sequence[str]) -> None:
        """Tells others of subscriptions that the broker made or ended; none if there are no filters."""
        ...

    @property
    def can_send(self) -> bool:
        """False while the client does not read, or the session is suspended."""
        ...

    def suspend_unless_current(self) -> bool:
        """True if the connection is suspended now, because changes were not followed since the last authentication."""
        ...


class ClientTraffic(ABC):
    """Implements Subscriber for the broker, and handles the packets of the client."""

    __slots__ = (
        "_client_id",
        "_connection_log",
        "_host",
        "_loop",
        "_mqtt",
        "_noted",
        "_peer",
        "_refusals",
        "_withheld",
        "link",
        "received",
        "scope",
        "sent",
        "thing",
    )

    link: Link
    """Set once the broker has opened it."""
    scope: Scope

    def __init__(
        self, host: Host, peer: Peer, client_id: str, mqtt: ServerConnection, connection_log: ConnectionLog
    ) -> None:
        self.thing: str | None = None
        """The thing of the device's certificate, under the rules of AWS IoT."""
        self._client_id = client_id
        self._host = host
        self._peer = peer
        self._mqtt = mqtt
        self._connection_log = connection_log
        self._loop = asyncio.get_running_loop()
        self._refusals = 0
        self.received = self.sent = 0
        """The messages of the client, and those to it."""
        self._withheld: tuple[tuple[Message, int | None, bool], ...] = ()  # at most one: the link is paused then
        self._noted: frozenset[tuple[str, str]] = NONE

    @property
    @abstractmethod
    def caller(self) -> Caller: ...

    @abstractmethod
    def publish(self, packet: Publish) -> Coroutine[Any, Any, None] | None:
        """Returns None, or a coroutine to await before the next event."""

    @abstractmethod
    def subscribe(self, event: SubscribeRequested) -> Coroutine[Any, Any, None] | None: ...

    @abstractmethod
    def unsubscribe(self, event: UnsubscribeRequested) -> Coroutine[Any, Any, None] | None: ...

    @abstractmethod
    def _name_for_client(self, message: Message) -> str | None:
        """The topic under which the client gets a message of the broker; None if it does not get it."""

    @property
    @abstractmethod
    def filters(self) -> Sequence[str]:
        """The filters that the client subscribed to on this connection, as it sent them."""

    @abstractmethod
    async def recheck_subscriptions(self, slices: Slices) -> str | None:
        """Returns why the connection must be closed, or None."""

    def handle(self, event: Event) -> Coroutine[Any, Any, None] | None:
        """Returns None, or a coroutine to await before the next event."""
        match event:
            case Publish():
                self.received += 1
                return self.publish(event)
            case PubAck():
                self.link.acknowledge(event.packet_id)
            case SubscribeRequested():
                return self.subscribe(event)
            case UnsubscribeRequested():
                return self.unsubscribe(event)
        return None

    def deliver(self, message: Message, packet_id: int | None, *, again: bool) -> None:
        if self._host.suspend_unless_current():
            self._withheld += ((message, packet_id, again),)
            return
        name = self._name_for_client(message)
        if name is not None:
            sent = self._mqtt.publish(
                name,
                message.payload,
                packet_id=packet_id,
                retain=message.retain,
                dup=again,
                properties=message.properties,
            )
            if sent:
                self.sent += 1
                self._host.flush()
                return
            if self._note("too large", name):
                self._warn("message_larger_than_device_takes", name)
        if packet_id is not None:
            self._loop.call_soon(self.link.acknowledge, packet_id)  # not now: the broker has not finished delivering

    def deliver_withheld(self) -> None:
        """Delivers the message that arrived when the session was suspended."""
        withheld, self._withheld = self._withheld, ()
        for message, packet_id, again in withheld:
            self.deliver(message, packet_id, again=again)

    def lost(self, reason: Reason) -> None:
        self._host.disconnect(reason, "the broker ended the session", with_will=True)

    def _published(self, packet_id: int | None, reason: Reason) -> None:
        if packet_id is None:
            return
        if reason.failed and self._mqtt.version == 4:
            # MQTT 3.1.1 has no reason codes in PUBACK.
            self._host.disconnect(reason, "the broker refused a message", with_will=True)
            return
        self._mqtt.puback(packet_id, reason)
        self._host.flush()

    def _warn(self, event: str, topic: str) -> None:
        self._connection_log.warn(self._peer, self.caller, event, topic=topic, client_id=self._client_id)

    def _note(self, kind: str, topic: str) -> bool:
        """True if this was not logged before for this connection."""
        if (kind, topic) in self._noted or len(self._noted) >= _MAX_NOTED:
            return False
        self._noted |= {(kind, topic)}
        return True
