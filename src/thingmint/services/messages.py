"""The interface through which the APIs use devices' messages and sessions, without a dependency on MQTT.

The MQTT gateway implements it, and the server passes it in the Environment. Callers are authorized before. Every call
is for one account and region, and cannot read or change another's data. Messages that it publishes or retains count
for the same limits of the account as its devices' messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence
    from datetime import datetime

    from thingmint.domain.arns import Scope
    from thingmint.domain.messages import Message, QoS
    from thingmint.services.live_sessions import AllSessions
    from thingmint.services.page_tokens import Position
    from thingmint.store.engine import PublishedChange


@dataclass(frozen=True, slots=True)
class RetainedMessage:
    message: Message
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Connection:
    """A connected device. ``address`` is empty, and ``port`` 0, if not known.

    ``owner`` is the Yandex device or registry that the certificate is bound to; client ids are unique within it.
    """

    client_id: str
    owner: str | None
    certificate_id: str
    connected_at: datetime
    address: str
    port: int
    protocol: Literal["MQTT 3.1.1", "MQTT 5"]
    position: Position


DisconnectReason = Literal[
    "AUTH_ERROR",
    "CLIENT_INITIATED_DISCONNECT",
    "CLIENT_ERROR",
    "CONNECTION_LOST",
    "DUPLICATE_CLIENTID",
    "MQTT_KEEP_ALIVE_TIMEOUT",
    "SERVER_ERROR",
    "SERVER_INITIATED_DISCONNECT",
    "THROTTLED",
    "API_INITIATED_DISCONNECT",
]
"""Why a connection ended, in AWS's words: the values that occur here."""


class ConnectionFacts(NamedTuple):
    """What a device asked for in CONNECT, and where from. ``expiry`` is 0 for a session that ends with the connection.

    ``thing`` is the thing of the certificate, if there is one. Times are in seconds. An address is empty and a port 0,
    if it is not known; ``own_address`` and ``own_port`` are the server's end of the connection.
    """

    thing: str | None
    keep_alive: int
    expiry: int
    address: str
    port: int
    own_address: str
    own_port: int


@dataclass(frozen=True, slots=True)
class ClientState:
    """A client id that is connected, or was connected a short time ago, or has a session.

    ``since`` is the time when it connected or, if it is not ``connected``, when its connection ended; None if that is
    not known. ``facts`` are None if another process has the connection, or if it was long ago. ``certificate`` is that
    of a connection of this process, empty without one; else None. ``has_session`` is True for a client that is not
    connected, but whose session waits for it.
    """

    connected: bool
    since: datetime | None
    facts: ConnectionFacts | None
    reason: DisconnectReason | None
    has_session: bool
    certificate: str | None = None


class Connectivity(NamedTuple):
    """Whether a client is connected, and since when. ``reason`` is why its connection ended."""

    connected: bool
    since: datetime
    reason: DisconnectReason | None


class OpenSessions(Protocol):
    async def close(self, changes: Sequence[PublishedChange]) -> None:
        """Close the sessions of this process that lose access by ``changes``.

        Returns when that is done. A change that affects many sessions is handled in the background. Never raises.
        """
        ...

    def reauthorize(self, changes: Sequence[PublishedChange]) -> None:
        """Do the same for changes of other processes, in the background."""
        ...


class MessageExports(Protocol):
    """The data stream exports of Yandex IoT Core."""

    def keep(self, registry: str, device: str, topic: str, payload: bytes) -> Awaitable[None] | None:
        """Queue a message if it is exported. Await the result, unless it is None, before acknowledging the message.

        ``topic`` is canonical. ``device`` is the sender's id; empty if the registry sent the message. The result raises
        Unavailable.
        """
        ...


class Messages(OpenSessions, Protocol):
    """The messages of an account's devices, and the connections of this process."""

    async def publish(self, scope: Scope, message: Message) -> None:
        """Publish a message. Returns when the broker has accepted it.

        A retained message with an empty payload only removes the topic's retained message. Raises Invalid if a device
        could not publish the message either, Throttled while too many messages of the account wait, and Unavailable if
        the broker does not answer; the message may still be delivered then.
        """
        ...

    async def publish_of_owner(self, scope: Scope, space: str, topic: str, payload: bytes) -> None:
        """Publish a message of a device, registry or broker of Yandex IoT Core, at QoS 1.

        ``topic`` is canonical, ``space`` the id of the registry or broker that it is of. Raises as ``publish`` does.
        """
        ...

    async def publish_event(self, scope: Scope, topic: str, payload: bytes) -> bool:
        """Publish an event of the service below ``$aws/events/``, at QoS 1. Returns False if there is no subscriber.

        Raises as ``publish`` does.
        """
        ...

    async def retained_message(self, scope: Scope, topic: str) -> RetainedMessage:
        """Return a retained message. Raises NotFound, and Unsupported if the operator's own broker stores them."""
        ...

    async def retained_after(self, scope: Scope, topic: str, limit: int) -> list[RetainedMessage]:
        """Return the retained messages of topics after ``topic``, by topic, for page_by_text. Raises Unsupported."""
        ...

    async def connections_after(self, scope: Scope, position: Position | None, limit: int) -> list[Connection]:
        """Return the connections after ``position``, the oldest first, for page_of."""
        ...

    async def client(self, scope: Scope, client_id: str) -> ClientState:
        """Return what is known about a client id, of any process. Raises NotFound, and Unavailable."""
        ...

    async def connectivity(self, scope: Scope, client_ids: Sequence[str]) -> dict[str, Connectivity]:
        """Return what is known about the connections of clients, by client id. Raises Unavailable."""
        ...

    async def connected_after(self, scope: Scope, position: str, limit: int) -> list[tuple[str, str | None]]:
        """Return clients that are connected to any process: positions and client ids.

        The list begins after ``position``; an empty one is the start. Clients of Yandex owners have None for their id.
        A client that connects again may be returned again. Raises Unavailable.
        """
        ...

    def ended_clients(self, scope: Scope) -> list[str]:
        """Return the ids of the clients whose connections to this process ended in the last 30 minutes."""
        ...

    async def subscriptions(self, scope: Scope, client_id: str) -> list[tuple[str, QoS]]:
        """Return the topic filters of a session with their QoS, by filter.

        Raises NotFound, Unavailable, and Unsupported if the operator's own broker or another process stores them.
        """
        ...

    @property
    def sessions(self) -> AllSessions:
        """Lists the sessions of all processes."""
        ...

    async def close_client(
        self, scope: Scope, client_id: str, owner: str | None = None, *, with_will: bool = True, discard: bool = False
    ) -> bool:
        """Close the connection of a client id, of that owner if given. Returns True if there was one.

        A connection of another process is closed within a second after this returns. ``discard`` also ends the session,
        even of a client that is not connected. MQTT 5 clients get the reason code for an administrative action.
        Raises Unavailable.
        """
        ...

    async def close_certificate(self, scope: Scope, certificate_id: str, *, with_will: bool = True) -> int:
        """Close the connections with a certificate, and return their number."""
        ...
