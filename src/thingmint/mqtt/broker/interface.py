"""What the gateway asks of a broker, whichever it is.

The gateway has authenticated the device, and authorizes every message before it calls here. Wills stay with the
gateway: it publishes them as ordinary messages. Everything is keyed by scope: one account's client ids, topics,
retained messages and shared subscriptions do not exist for another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from thingmint.domain.arns import Scope
    from thingmint.domain.messages import Message, QoS
    from thingmint.mqtt.protocol.reasons import Reason


_log = structlog.get_logger("thingmint.gateway")


@dataclass(frozen=True, slots=True)
class Subscription:
    """``filter`` as it was sent, with ``$share/GROUP/`` in front where it is shared (MQTT 5, 3.8.3.1 for options)."""

    filter: str
    qos: QoS
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: Literal[0, 1, 2] = 0


@dataclass(frozen=True, slots=True)
class Opening:
    """A connection that was accepted. ``expiry`` is how many seconds the session outlives it; 0 is not at all.

    ``receive_maximum`` bounds the QoS 1 messages under way to the device.
    """

    scope: Scope
    client_id: str
    version: Literal[4, 5]
    clean_start: bool
    expiry: int
    receive_maximum: int


Aged = tuple["Message", float]
"""A retained message, and how many seconds ago it was published."""


@dataclass(frozen=True, slots=True)
class Features:
    """What devices are told that there is, or is not."""

    shared_subscriptions: bool = True


class Subscriber(Protocol):
    """The device's end. Its methods return at once and never raise; they may call back, even ``Link.close``."""

    def deliver(self, message: Message, packet_id: int | None, *, again: bool) -> None:
        """``packet_id`` is None for QoS 0, else given back in ``Link.acknowledge``; ``again`` is MQTT's DUP."""
        ...

    def lost(self, reason: Reason) -> None:
        """The broker ended this link (another connection took the session over, or the broker is gone)."""
        ...


class Link(Protocol):
    """One device's connection to the broker. ``done`` may be called before the method returns, and is called once."""

    @property
    def session_present(self) -> bool: ...

    def publish(self, message: Message, done: Callable[[Reason], None]) -> None:
        """``done`` once the broker answers for the message; at QoS 0 when it was handed over."""
        ...

    def subscribe(self, subscriptions: Sequence[Subscription], done: Callable[[Sequence[Reason]], None]) -> None:
        """``done`` before any retained message is delivered."""
        ...

    def unsubscribe(self, filters: Sequence[str], done: Callable[[Sequence[Reason]], None]) -> None: ...

    def congestion(self) -> Coroutine[Any, Any, None] | None:
        """None, or what to wait for before more is published or subscribed: what is sent regardless may be refused."""
        ...

    def acknowledge(self, packet_id: int) -> None: ...

    def pause(self) -> None:
        """The device does not read: QoS 0 is dropped and QoS 1 waits, within bounds, until ``resume``."""
        ...

    def resume(self) -> None: ...

    def set_expiry(self, seconds: int) -> None:
        """The device changed its mind in DISCONNECT (MQTT 5, 3.14.2.2.2)."""
        ...

    def close(self, *, discard: bool = False) -> None:
        """The connection ended; nothing is delivered from now on. ``discard``: the session ends with it."""
        ...


def log_refusal(reason: Reason) -> None:
    """For a message whose sender does nothing about it."""
    if reason.failed:
        _log.error("publication_refused", reason=reason.name)


class Broker(Protocol):
    @property
    def features(self) -> Features: ...

    @property
    def trouble(self) -> str | None:
        """Why no device can be let in; None while the broker can be reached."""
        ...

    async def open(self, opening: Opening, subscriber: Subscriber) -> Link:
        """Takes the session over from any other connection of that client id. Messages that wait for it are delivered
        only once ``Link.resume`` is called for the first time, which is after the device got its CONNACK.

        Raises Unavailable, and Throttled when it holds as much as it may.
        """
        ...

    def publish(self, scope: Scope, message: Message, done: Callable[[Reason], None] = log_refusal) -> None:
        """A message that comes from no device: a will, an event, one that was published over an API.

        ``done`` is called once, when the broker has taken it or refused it, or when it was given up.
        """
        ...

    def retained_message(self, scope: Scope, topic: str) -> Aged | None:
        """Raises Unsupported where the broker cannot be asked."""
        ...

    def retained_after(self, scope: Scope, topic: str, limit: int) -> list[Aged]:
        """Those of the topics beyond ``topic``, in their order. Raises Unsupported where the broker cannot be asked."""
        ...

    def discard(self, scope: Scope, client_id: str) -> None:
        """Ends the session of a client that is not connected here; this may go on behind the call."""
        ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...
