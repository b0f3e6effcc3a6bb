"""What the APIs may ask of the devices' messages and sessions, without knowing MQTT.

The MQTT gateway implements it, and the server hands it in with the Environment. Who may ask is settled before. Every
call is of one account and region, and sees or touches nothing of another's. What it publishes and retains counts
against the same bounds of the account as what its devices do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from thingmint.domain.arns import Scope
    from thingmint.domain.messages import Message
    from thingmint.services.page_tokens import Position
    from thingmint.store.engine import PublishedChange


@dataclass(frozen=True, slots=True)
class RetainedMessage:
    message: Message
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Connection:
    """A device that is connected. ``address`` is empty, and ``port`` 0, where it is not known.

    ``owner`` is the Yandex device or registry that the certificate is bound to, within which client ids count.
    """

    client_id: str
    owner: str | None
    certificate_id: str
    connected_at: datetime
    address: str
    port: int
    protocol: Literal["MQTT 3.1.1", "MQTT 5"]
    position: Position


class OpenSessions(Protocol):
    async def close(self, changes: Sequence[PublishedChange]) -> None:
        """Closes the sessions of this process that have no access any more, now that ``changes`` hold.

        Returns once that is done. What concerns many sessions at once goes on behind it. Never raises.
        """
        ...

    def reauthorize(self, changes: Sequence[PublishedChange]) -> None:
        """The same for what other processes published; it goes on behind the call."""
        ...


class Messages(OpenSessions, Protocol):
    """Connections are those of this process."""

    async def publish(self, scope: Scope, message: Message) -> None:
        """Returns once the broker has taken the message. An empty payload that is retained only removes the one before.

        Raises Invalid for what a device could not publish either, Throttled while too many messages of the account
        wait, and Unavailable without the broker's answer: the message may be delivered all the same.
        """
        ...

    async def retained_message(self, scope: Scope, topic: str) -> RetainedMessage:
        """Raises NotFound, and Unsupported where a broker of the operator's keeps them."""
        ...

    async def retained_after(self, scope: Scope, topic: str, limit: int) -> list[RetainedMessage]:
        """Those of the topics beyond ``topic``, in their order, as page_by_text asks. Raises Unsupported as above."""
        ...

    async def connections_after(self, scope: Scope, position: Position | None, limit: int) -> list[Connection]:
        """Those beyond ``position``, the oldest first, as page_of asks."""
        ...

    async def close_client(
        self, scope: Scope, client_id: str, owner: str | None = None, *, with_will: bool = True, discard: bool = False
    ) -> bool:
        """Closes the connection of a client id, of that owner if any, and returns whether there was one.

        ``discard`` ends the session too, also of a client that is not connected. MQTT 5 is told that this is an
        administrative action.
        """
        ...

    async def close_certificate(self, scope: Scope, certificate_id: str, *, with_will: bool = True) -> int:
        """Closes the connections that were made with a certificate, and returns how many these were."""
        ...
