"""The connections of this process by the names of their sessions."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple, Protocol

from thingmint.services.authentication_decisions import parts_of_session_name, session_name
from thingmint.services.messages import Connection
from thingmint.store.table import from_micros, to_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from thingmint.domain.arns import Scope
    from thingmint.mqtt.peer import Peer
    from thingmint.mqtt.protocol.packets import Version
    from thingmint.mqtt.protocol.reasons import Reason
    from thingmint.services.client_ids import Claim
    from thingmint.services.messages import ConnectionFacts, DisconnectReason


_ENDED_KEPT = timedelta(minutes=30)  # AWS's, for what GetConnection tells of a client that is not connected
_MAX_ENDED = 1000  # per account and region


class ConnectionUsage(NamedTuple):
    """What a device has done since it connected. ``idle`` is in seconds, ``received`` and ``sent`` are messages."""

    idle: float
    received: int
    sent: int
    filters: Sequence[str]


class Connected(Protocol):
    """The connection of an accepted device."""

    @property
    def peer(self) -> Peer: ...

    @property
    def certificate_id(self) -> str: ...

    @property
    def version(self) -> Version: ...

    @property
    def claim(self) -> Claim | None:
        """The row that claims the client id for this connection, if several processes share the store."""
        ...

    @property
    def facts(self) -> ConnectionFacts: ...

    @property
    def usage(self) -> ConnectionUsage: ...

    def disconnect(self, reason: Reason, why: str, *, with_will: bool = False) -> None: ...


@dataclass(frozen=True, slots=True)
class Ended:
    """A connection that ended a short time ago."""

    at: datetime
    facts: ConnectionFacts
    reason: DisconnectReason


Place = tuple[int, str, Connected]
"""The time of CONNECT in microseconds since 1970, which is unique, the session's name, and the connection."""
_micros = itemgetter(0)


class ConnectedClients:
    """The connections of this process by session name, the oldest first, and those that ended a short time ago.

    With several processes on one store, read the table of client ids to find the connections of all processes.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._scopes: dict[Scope, dict[str, Place]] = {}
        self._ended: dict[Scope, dict[str, Ended]] = {}
        self._last = 0
        self._followers: list[Callable[[Scope, str], None]] = []

    def follow(self, follower: Callable[[Scope, str], None]) -> None:
        """Calls ``follower``, which must be fast, with the session's name after each connection and each end of one."""
        self._followers.append(follower)

    def add(self, scope: Scope, name: str, connection: Connected) -> None:
        self._last = max(to_micros(self._clock()), self._last + 1)
        clients = self._scopes.setdefault(scope, {})
        clients.pop(name, None)  # so that the new entry goes to the end
        clients[name] = self._last, name, connection
        self._ended.get(scope, {}).pop(name, None)
        self._tell(scope, name)

    def remove(self, scope: Scope, name: str, connection: Connected, reason: DisconnectReason) -> None:
        """Removes the connection, unless the name belongs to a newer one."""
        if self.get(scope, name) is connection:
            del self._scopes[scope][name]
            if not self._scopes[scope]:
                del self._scopes[scope]
            self._keep(scope, name, Ended(self._clock(), connection.facts, reason))
            self._tell(scope, name)

    def _tell(self, scope: Scope, name: str) -> None:
        for follower in self._followers:
            follower(scope, name)

    def _keep(self, scope: Scope, name: str, ended: Ended) -> None:
        kept = self._ended.setdefault(scope, {})
        kept.pop(name, None)
        kept[name] = ended
        for oldest in list(islice(kept, 2)):  # one was added, so the number does not grow beyond the limit
            if len(kept) > _MAX_ENDED or kept[oldest].at < ended.at - _ENDED_KEPT:
                del kept[oldest]

    def since(self, scope: Scope, name: str) -> datetime:
        """When a connected client connected."""
        return from_micros(self._scopes[scope][name][0])

    def ended(self, scope: Scope, name: str) -> Ended | None:
        """Returns the last connection of a client that is not connected, if it ended in the last 30 minutes."""
        found = self._ended.get(scope, {}).get(name)
        return found if found is not None and found.at >= self._clock() - _ENDED_KEPT else None

    def ended_clients(self, scope: Scope) -> list[str]:
        return [name for name in self._ended.get(scope, ()) if self.ended(scope, name) is not None]

    def get(self, scope: Scope, name: str) -> Connected | None:
        place = self._scopes.get(scope, {}).get(name)
        return None if place is None else place[2]

    def of_client_id(self, scope: Scope, client_id: str, limit: int) -> list[tuple[str, Connected]]:
        """Returns the names and connections of sessions with a client id, which is unique only within a Yandex owner.

        Looks at all names of the account: 3 ms for 50,000 connections.
        """
        prefix = session_name(client_id, "")
        places = self._scopes.get(scope, {}).values()
        found = ((name, place) for _, name, place in places if name == client_id or name.startswith(prefix))
        return list(islice(found, limit))

    def count(self, scope: Scope) -> int:
        """Returns how many connections of the account this process has."""
        return len(self._scopes.get(scope, ()))

    def scopes(self) -> list[Scope]:
        """Returns the accounts and regions that have connections."""
        return list(self._scopes)

    def places(self, scope: Scope, name: str | None = None) -> list[Place]:
        """Returns the account's connections, the oldest first; with ``name``, only that session's."""
        clients = self._scopes.get(scope, {})
        if name is None:
            return list(clients.values())
        return [clients[name]] if name in clients else []

    def certificates(self) -> Iterator[tuple[str, str, str]]:
        """The account, region and certificate of each connection with a certificate, once for each connection."""
        for scope, clients in self._scopes.items():
            for _, _, connection in clients.values():
                if connection.certificate_id:
                    yield *scope, connection.certificate_id

    def claims(self) -> list[Claim]:
        """The claims of all connections that have one."""
        places = [place for clients in self._scopes.values() for place in clients.values()]
        return [claim for _, _, connection in places if (claim := connection.claim) is not None]

    def after(self, scope: Scope, micros: int, limit: int) -> list[Connection]:
        """Returns connections made after ``micros``. Copies the account's list: under 1 ms for 50,000 connections."""
        places = list(self._scopes.get(scope, {}).values())
        start = bisect_right(places, micros, key=_micros)
        return [described(place) for place in places[start : start + limit]]


def described(place: Place) -> Connection:
    micros, name, connected = place
    client_id, owner = parts_of_session_name(name)
    peer = connected.peer
    return Connection(
        client_id=client_id,
        owner=owner,
        certificate_id=connected.certificate_id,
        connected_at=from_micros(micros),
        address=peer.address,
        port=peer.port,
        protocol="MQTT 5" if connected.version == 5 else "MQTT 3.1.1",
        position=(micros, name),
    )
