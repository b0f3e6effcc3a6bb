"""A device's session on one connection, from CONNECT to its end."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from thingmint.domain.arns import arn
from thingmint.domain.errors import Unavailable
from thingmint.mqtt.broker.interface import Opening
from thingmint.mqtt.connected_clients import ConnectionUsage
from thingmint.mqtt.connection import Connection
from thingmint.mqtt.connection_log import device_caller
from thingmint.mqtt.connection_services import new_traffic, take
from thingmint.mqtt.endings import ending_of
from thingmint.mqtt.owner_traffic import OwnerTraffic
from thingmint.mqtt.presence import record_of
from thingmint.mqtt.protocol.connection import ServerConnection
from thingmint.mqtt.protocol.events import ConnectRequested, Disconnected, Failed
from thingmint.mqtt.protocol.limits import YANDEX_LIMITS
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.session_authentication import ANSWERS, AuthenticatedSession
from thingmint.mqtt.wills import will_of
from thingmint.services.authentication_decisions import Accepted, AcceptedOwner, Rejected, RejectionReason
from thingmint.services.client_ids import VERSION_KEPT
from thingmint.services.device_authentication import first_dependencies
from thingmint.services.messages import ConnectionFacts

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from typing import Any, Literal

    from thingmint.domain.arns import Scope
    from thingmint.mqtt.broker.interface import Link
    from thingmint.mqtt.connection_services import AnyTraffic, Services
    from thingmint.mqtt.peer import Peer
    from thingmint.mqtt.protocol.events import Event
    from thingmint.mqtt.protocol.limits import Limits
    from thingmint.mqtt.protocol.packets import Connect, Version
    from thingmint.mqtt.wills import Will
    from thingmint.services.client_ids import Claim
    from thingmint.services.messages import DisconnectReason
    from thingmint.services.presence import ConnectionRecord


class Session(AuthenticatedSession):
    """Implements Handler for its ``connection``."""

    __slots__ = (
        "_account",
        "_asked",
        "_logged",
        "_published",
        "_record",
        "_refused",
        "_session_name",
        "_will",
        "claim",
    )

    def __init__(self, services: Services, peer: Peer) -> None:
        super().__init__(services, peer)
        mqtt = ServerConnection(asyncio.get_running_loop().time(), new_client_id=_new_client_id, limits=services.limits)
        self.connection = Connection(mqtt, services.rate_limit, services.feed, self)
        self._session_name = ""
        self._will: Will | None = None
        self._asked = (0, 0)  # the keep-alive of CONNECT, and the session expiry, in seconds
        self._account = ""
        self._refused = False
        self._record: ConnectionRecord | None = None
        self.claim: Claim | None = None
        self._logged = True

    # The interface for the connection.

    def opened(self) -> None:
        self._services.connections.follow(self, first_dependencies(self.peer.fingerprint))

    def failed(self, reason: Reason, why: str) -> None:
        if self._traffic is None and not self._ended:
            self.connection.mqtt.refuse(reason)
        self.disconnect(reason, why, with_will=True)

    def lost(self) -> None:
        self._end("the connection was lost", "CONNECTION_LOST", with_will=True)
        self._traffic = None  # breaks the reference cycles

    def handle(self, event: Event) -> Coroutine[Any, Any, None] | None:
        match event:
            case ConnectRequested():
                return self._connect(event.packet)
            case Failed():
                self.disconnect(event.reason, event.text, with_will=True)
            case Disconnected():
                self._disconnected(event)
            case _ if self._traffic is not None:
                return self._traffic.handle(event)
        return None

    @property
    def _client_id(self) -> str:
        return self._request.client_id or ""

    # The interface for the APIs, once CONNECT was accepted.

    @property
    def certificate_id(self) -> str:
        return self.peer.fingerprint or ""

    @property
    def version(self) -> Version:
        version = self.connection.mqtt.version
        assert version is not None
        return version

    @property
    def facts(self) -> ConnectionFacts:
        thing = self._traffic.thing if self._traffic is not None else None
        return ConnectionFacts(thing, *self._asked, self.peer.address, self.peer.port, *self.connection.own_address)

    @property
    def usage(self) -> ConnectionUsage:
        idle, traffic = self.connection.idle(asyncio.get_running_loop().time()), self._traffic
        if traffic is None:
            return ConnectionUsage(idle, 0, 0, ())
        return ConnectionUsage(idle, traffic.received, traffic.sent, traffic.filters)

    # The interface for the traffic and the connection index.

    def flush(self) -> None:
        self.connection.flush()

    def disconnect(self, reason: Reason, why: str, *, with_will: bool = False) -> None:
        if self._ended:
            return
        self.connection.mqtt.disconnect(reason)
        self._end(why, ending_of(reason), with_will=with_will)
        self.connection.close()

    # CONNECT.

    async def _connect(self, packet: Connect) -> None:
        services, started = self._services, time.perf_counter()
        self._request = self.peer.request_to_connect(packet)
        accepted = await self._authenticate()
        if isinstance(accepted, Rejected):
            self._refuse(accepted, ANSWERS[accepted.reason])
            return
        if self._has_ended():  # the peer disconnected meanwhile: it must not take a session over
            return
        is_owner = isinstance(accepted, AcceptedOwner)
        if isinstance(accepted, AcceptedOwner) and accepted.password_id is not None:
            self._request = replace(self._request, password=None, password_id=accepted.password_id)
        limits = YANDEX_LIMITS if is_owner else services.limits
        scope, expiry = accepted.scope, limits.session_expiry_for(packet)
        self._asked = (packet.keep_alive, expiry)
        self._session_name = name = accepted.session_name(self._client_id)
        will = will_of(packet, expiry) if not is_owner else None  # Yandex publishes no wills
        refused = services.wills.refusal(accepted, will) if will and isinstance(accepted, Accepted) else None
        if refused is not None:
            self._refuse(refused, Reason.NOT_AUTHORIZED)
            return
        if will is not None and not services.wills.take(scope.account, will):
            why = "the wills of the account's connections take too much memory"
            self._refuse(Rejected(RejectionReason.TOO_MANY, why, scope), Reason.QUOTA_EXCEEDED)
            return
        self._will, self._account = will, scope.account
        traffic = new_traffic(self, self._services, self._client_id, accepted)
        self._record = record_of(accepted, self._client_id, self.peer)
        clean = packet.clean_start or is_owner
        opening = Opening(scope, name, packet.version, clean, expiry, packet.receive_maximum)
        link = await self._open(opening, traffic)
        if self._stale or not self._is_current:  # a dependency changed while the broker opened the session
            try:
                accepted = await self._authenticate(scope)
            except BaseException:
                link.close()
                raise
        if isinstance(accepted, Rejected):
            link.close()
            self._refuse(accepted, ANSWERS[accepted.reason])
        elif self._has_ended():
            link.close()
        elif services.feed.stale:
            link.close()
            raise Unavailable("Changes cannot be followed")
        elif (changed := take(traffic, accepted)) is not None:
            link.close()
            self._refuse(Rejected(RejectionReason.NOT_AUTHORIZED, changed, scope), Reason.NOT_AUTHORIZED)
        else:
            self._accept(packet, accepted, traffic, link, limits, started)

    def _accept(
        self,
        packet: Connect,
        accepted: Accepted | AcceptedOwner,
        traffic: AnyTraffic,
        link: Link,
        limits: Limits,
        started: float,
    ) -> None:
        services, resumed = self._services, link.session_present
        self._expires_at = accepted.expires_at
        services.wills.reconnected(accepted.scope, self._session_name, resumed=resumed)
        traffic.link = link
        self._traffic = traffic
        facts: dict[str, object] = {"version": packet.version, "resumed": resumed}
        if isinstance(traffic, OwnerTraffic):
            traffic.began()
            facts |= {"owner": traffic.caller.arn, "port": self.peer.port}
        services.clients.add(accepted.scope, self._session_name, self)
        if self.claim is not None and services.takeovers is not None and services.takeovers.published > self._published:
            services.takeovers.check(self.claim)  # another process may have taken this client id over already
        self.connection.accept(session_present=resumed, limits=limits)
        self._logged = services.connection_log.connected(
            self.peer,
            traffic.caller,
            self._client_id,
            self._resource(accepted.scope),
            started,
            **facts,
        )
        if services.presence is not None and self._record is not None:
            self._record.claim = self.claim
            services.presence.connected(self._record)
        link.resume()

    async def _open(self, opening: Opening, traffic: AnyTraffic) -> Link:
        """Opens the session at the broker. Takes it over from any other connection, also of another process."""
        services, takeovers = self._services, self._services.takeovers
        if takeovers is None:
            return await services.broker.open(opening, traffic)
        self._published = takeovers.published
        async with takeovers.turn(opening.scope, opening.client_id):
            if self._has_ended():
                raise Unavailable("The device has gone")
            link = await services.broker.open(opening, traffic)
            try:
                about = self._record.about() if self._record is not None else ""
                self.claim = await takeovers.client_ids.claim(opening.scope, opening.client_id, about)
            except BaseException:
                link.close()
                raise
        if services.presence is not None:
            services.presence.took_over(self.claim)
        if self._has_ended():
            self._release_client_id()
        return link

    def _release_client_id(self) -> None:
        claim, self.claim = self.claim, None
        if claim is not None and self._services.takeovers is not None:
            self._services.takeovers.client_ids.release(claim, VERSION_KEPT)

    def subscriptions(self, kind: Literal["subscribed", "unsubscribed"], filters: Sequence[str]) -> None:
        if self._services.presence is not None and self._record is not None and not self._ended:
            self._services.presence.subscriptions(kind, self._record, filters)

    # The end.

    def _disconnected(self, event: Disconnected) -> None:
        if event.session_expiry is not None and self._traffic is not None:
            self._traffic.link.set_expiry(event.session_expiry)
            self._asked = (self._asked[0], event.session_expiry)
            if self._will is not None:
                self._will = replace(self._will, delay=min(self._will.delay, event.session_expiry))
        self._end("the device disconnected", "CLIENT_INITIATED_DISCONNECT", with_will=event.will)
        self.connection.close()

    def _refuse(self, rejected: Rejected, answer: Reason | None) -> None:
        """Sends ``answer``, unless it is None, and closes."""
        self._log_rejection(rejected)
        if self._services.presence is not None:
            self._services.presence.refused(self.peer, self._client_id, rejected)
        self._refused = True
        if answer is not None:
            self.connection.mqtt.refuse(answer)
        self._end(rejected.why, "AUTH_ERROR", with_will=False)
        self.connection.close()

    def _log_rejection(self, rejected: Rejected) -> None:
        scope, fingerprint = rejected.scope, self.peer.fingerprint
        caller = resource = None
        if scope is not None and fingerprint is not None:
            caller, resource = device_caller(scope, fingerprint, self._client_id), self._resource(scope)
        self._services.connection_log.refused(
            self.peer,
            caller,
            rejected.action,
            rejected.resource or resource,
            rejected.why,
            rejected.explain,
            rejected.facts,
            self._client_id,
            scope,
            rejected.claimed,
        )

    def _resource(self, scope: Scope) -> str:
        return arn(scope, f"client/{self._client_id}")

    def _end(self, why: str, ending: DisconnectReason, *, with_will: bool) -> None:
        if self._ended:
            return
        self._ended = True
        services, traffic, record = self._services, self._traffic, self._record
        if traffic is not None and services.presence is not None and record is not None:
            services.presence.disconnected(record, ending, why, self._asked[1])  # releases the client id later
            self.claim = None
        else:
            self._release_client_id()
        services.connections.remove(self)
        self.connection.stop()
        will, self._will = self._will, None
        if will is not None and (traffic is None or not with_will):
            services.wills.forget(self._account, will)
        if traffic is None:
            if not self._refused:
                services.connection_log.ended_early(self.peer, why)
            return
        traffic.link.close()
        if isinstance(traffic, OwnerTraffic):
            traffic.ended()
        services.clients.remove(traffic.scope, self._session_name, self, ending)
        resource = self._resource(traffic.scope)
        services.connection_log.disconnected(
            self.peer, traffic.caller, self._client_id, resource, why, logged=self._logged
        )
        if with_will and will is not None:
            services.wills.connection_ended(traffic.scope, self._client_id, self.peer, will, self._session_name)


def _new_client_id() -> str:
    """Returns a client id for a device that sent none."""
    return str(uuid.uuid4())
