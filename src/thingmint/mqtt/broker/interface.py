"""The interface between the gateway and a broker.

The gateway authenticates devices and authorizes each message before it calls a broker. It keeps the wills, and
publishes them as ordinary messages. Everything belongs to a scope (account and region): client ids, topics, retained
messages and shared subscriptions of one scope are invisible in all others.
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
    """``filter`` as the device sent it, with the ``$share/GROUP/`` of a shared one. Options: MQTT 5, 3.8.3.1."""

    filter: str
    qos: QoS
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: Literal[0, 1, 2] = 0


@dataclass(frozen=True, slots=True)
class Opening:
    """A connection that the gateway accepts. The session ends ``expiry`` seconds after it.

    ``receive_maximum`` limits the unacknowledged QoS 1 messages to the device.
    """

    scope: Scope
    client_id: str
    version: Literal[4, 5]
    clean_start: bool
    expiry: int
    receive_maximum: int


Aged = tuple["Message", float]
"""A retained message, and its age in seconds."""


@dataclass(frozen=True, slots=True)
class Features:
    """The optional MQTT features of a broker, which CONNACK tells the device."""

    shared_subscriptions: bool = True


class Subscriber(Protocol):
    """The device, for the broker. Methods return quickly and never raise; they may call the Link, also ``close``."""

    def deliver(self, message: Message, packet_id: int | None, *, again: bool) -> None:
        """``packet_id`` is None at QoS 0, else for ``Link.acknowledge``. ``again``: a repeated delivery (MQTT: DUP)."""
        ...

    def lost(self, reason: Reason) -> None:
        """The broker ended this link: another connection took the session over, or the broker is unreachable."""
        ...


class Link(Protocol):
    """A device's connection to the broker. ``done`` is called once, maybe before the method returns."""

    @property
    def session_present(self) -> bool: ...

    def publish(self, message: Message, done: Callable[[Reason], None]) -> None:
        """Calls ``done`` when the broker acknowledges the message; at QoS 0 when it is sent."""
        ...

    def subscribe(self, subscriptions: Sequence[Subscription], done: Callable[[Sequence[Reason]], None]) -> None:
        """Calls ``done`` before any retained message is delivered."""
        ...

    def unsubscribe(self, filters: Sequence[str], done: Callable[[Sequence[Reason]], None]) -> None: ...

    def congestion(self) -> Coroutine[Any, Any, None] | None:
        """Returns None, or a coroutine to await before the next request. Without that, requests may be refused."""
        ...

    def acknowledge(self, packet_id: int) -> None: ...

    def pause(self) -> None:
        """Stops delivery until ``resume``: QoS 0 messages are dropped, QoS 1 messages wait, up to a limit."""
        ...

    def resume(self) -> None: ...

    def set_expiry(self, seconds: int) -> None:
        """Replaces the expiry of ``Opening``, as the device asked in DISCONNECT (MQTT 5, 3.14.2.2.2)."""
        ...

    def close(self, *, discard: bool = False) -> None:
        """Ends delivery: the connection has ended. ``discard``: the session ends too."""
        ...


def log_refusal(reason: Reason) -> None:
    """Logs the refusal of a message whose sender does not handle it."""
    if reason.failed:
        _log.error("publication_refused", reason=reason.name)


class Broker(Protocol):
    @property
    def features(self) -> Features: ...

    @property
    def trouble(self) -> str | None:
        """Why the broker cannot be reached; None if it can. Without a broker no device is accepted."""
        ...

    async def open(self, opening: Opening, subscriber: Subscriber) -> Link:
        """Opens a session, or takes it over from another connection of the same client id.

        Waiting messages are delivered after the first ``Link.resume``, which the gateway calls after it sent CONNACK.
        Raises Unavailable, or Throttled if the broker has too many sessions.
        """
        ...

    def publish(self, scope: Scope, message: Message, done: Callable[[Reason], None] = log_refusal) -> None:
        """Publishes a message of the gateway: a will, an event, or a message from an API.

        ``done`` is called once: when the broker has accepted or refused the message, or the attempt was given up.
        """
        ...

    def retained_message(self, scope: Scope, topic: str) -> Aged | None:
        """Raises Unsupported if the broker cannot return retained messages."""
        ...

    def retained_after(self, scope: Scope, topic: str, limit: int) -> list[Aged]:
        """Returns messages in order of topic, those after ``topic``. Raises Unsupported as above."""
        ...

    def has_session(self, scope: Scope, client_id: str) -> bool | None:
        """True if a session waits for a client that is not connected. None if the broker cannot tell."""
        ...

    def subscriptions(self, scope: Scope, client_id: str) -> Sequence[Subscription] | None:
        """Returns the subscriptions of a session; None if there is none. Raises Unsupported as above."""
        ...

    def queued(self, scope: Scope, client_id: str) -> int | None:
        """Returns how many messages wait for a client. None if the broker cannot tell."""
        ...

    def discard(self, scope: Scope, client_id: str) -> None:
        """Ends the session of a client that is not connected to this process. May return before that is done."""
        ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...
