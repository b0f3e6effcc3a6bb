"""One device's connection, from its first byte to its end."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, cast

import structlog

from thingmint.domain.errors import Unavailable
from thingmint.domain.messages import Message
from thingmint.mqtt.admission import Admitted, Refused
from thingmint.mqtt.broker.interface import Opening
from thingmint.mqtt.intake import Intake
from thingmint.mqtt.protocol.connection import ServerConnection
from thingmint.mqtt.protocol.events import (
    ConnectRequested,
    Disconnected,
    Failed,
    SubscribeRequested,
    UnsubscribeRequested,
)
from thingmint.mqtt.protocol.packets import PubAck, Publish
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.session import Session
from thingmint.mqtt.wills import Will

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import datetime
    from typing import Any

    from thingmint.domain.arns import Scope
    from thingmint.mqtt.admission import Admission
    from thingmint.mqtt.broker.interface import Broker
    from thingmint.mqtt.connection_index import ConnectionIndex
    from thingmint.mqtt.connection_log import ConnectionLog
    from thingmint.mqtt.messages import ConnectedClients
    from thingmint.mqtt.peer import Peer
    from thingmint.mqtt.protocol.events import Event
    from thingmint.mqtt.protocol.limits import Limits
    from thingmint.mqtt.protocol.packets import Connect, Version
    from thingmint.mqtt.provisioning import ProvisioningTopics
    from thingmint.mqtt.rates import RateLimit
    from thingmint.mqtt.slices import Slices
    from thingmint.mqtt.wills import Wills
    from thingmint.services.change_feed import ChangeFeed


_log = structlog.get_logger("thingmint.gateway")


@dataclass(frozen=True, slots=True)
class Services:
    """What all connections share."""

    admission: Admission
    broker: Broker
    connections: ConnectionIndex
    clients: ConnectedClients
    feed: ChangeFeed
    wills: Wills
    connection_log: ConnectionLog
    provisioning: ProvisioningTopics | None
    limits: Limits
    rate_limit: RateLimit
    slices: Slices
    clock: Callable[[], datetime]


class DeviceConnection(Intake):
    def __init__(self, services: Services, peer: Peer) -> None:
        mqtt = ServerConnection(asyncio.get_running_loop().time(), new_client_id=_new_client_id, limits=services.limits)
        super().__init__(mqtt, services.rate_limit)
        self._services = services
        self._peer = peer
        self._rejudging: asyncio.Task[None] | None = None
        self._stale = False  # something changed since the last judgement began
        self._refused = False
        self._session: Session | None = None
        self._logged = True
        self._purposes: tuple[str, ...] = ()
        self._will: Will | None = None
        self._account = ""

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._services.connections.follow(self, self._services.admission.dependencies(self._peer))

    def pause_writing(self) -> None:
        if self._session is not None and self._session.link is not None:
            self._session.link.pause()

    def resume_writing(self) -> None:
        if self._session is not None and self._session.link is not None:
            self._session.link.resume()
        self._read_or_wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("the connection was lost", with_will=True)
        self._session = self._transport = None  # and with them every cycle

    # What the APIs ask for.

    @property
    def peer(self) -> Peer:
        return self._peer

    @property
    def certificate_id(self) -> str:
        assert self._session is not None
        return self._session.admitted.caller.principal

    @property
    def version(self) -> Version:
        version = self._mqtt.version
        assert version is not None
        return version

    # What the session and the connections ask for.

    def fail(self, reason: Reason, why: str) -> None:
        self._close(reason, why, with_will=True)

    def disconnect(self, reason: Reason, why: str, *, with_will: bool = False) -> None:
        self._close(reason, why, with_will=with_will)

    def reauthorize(self) -> asyncio.Future[None] | None:
        self._stale = True
        if self._session is not None and self._rejudging is None and not self._ended:
            self._rejudging = self._loop.create_task(self._judge_again(self._session))
        return self._rejudging

    def check_deadlines(self, now: float) -> None:
        if self._mqtt.expired(now):
            if self._is_listening:
                self._close(Reason.KEEP_ALIVE_TIMEOUT, "nothing was heard in time", with_will=True)
            else:
                self._mqtt.heard(now)
        elif self._session is not None:
            expires_at = self._session.admitted.expires_at
            if expires_at is not None and expires_at < self._services.clock():
                self.disconnect(Reason.NOT_AUTHORIZED, "the certificate's validity ended")

    # Events, in order.

    @property
    def _is_connected(self) -> bool:
        return self._session is not None

    def _handle(self, event: Event) -> Coroutine[Any, Any, None] | None:
        session = self._session
        match event:
            case ConnectRequested():
                return self._connect(event.packet)
            case Failed():
                self._close(event.reason, event.text, with_will=True)
            case Disconnected():
                self._disconnected(event)
            case Publish() if session is not None:
                return session.publish(event)
            case PubAck() if session is not None:
                session.acknowledged(event.packet_id)
            case SubscribeRequested() if session is not None:
                return session.subscribe(event)
            case UnsubscribeRequested() if session is not None:
                return session.unsubscribe(event)
        return None

    async def _connect(self, packet: Connect) -> None:
        services, client_id = self._services, packet.client_id
        self._purposes = _purposes_of(packet)
        judged = await self._judge(client_id, connecting=True)
        if isinstance(judged, Refused):
            self._refuse(judged, client_id)
            return
        if self._has_ended():  # the peer has gone meanwhile, and takes no session over
            return
        session = Session(
            self, self._peer, client_id, judged, self._mqtt, services.connection_log, services.provisioning
        )
        expiry = services.limits.session_expiry_for(packet)
        will = _will_of(packet, expiry)
        if will is not None and not services.wills.take(judged.scope.account, will):
            why = "the wills of the account's connections take too much memory"
            self._refuse(Refused(Reason.QUOTA_EXCEEDED, why, caller=judged.caller), client_id)
            return
        self._will = will
        self._account = judged.scope.account
        opening = Opening(judged.scope, client_id, packet.version, packet.clean_start, expiry, packet.receive_maximum)
        link = await services.broker.open(opening, session)
        if self._stale:  # something changed while the broker opened the session
            try:
                judged = await self._judge(client_id, judged.scope)
            except BaseException:
                link.close()
                raise
        if isinstance(judged, Refused):
            link.close()
            self._refuse(judged, client_id)
            return
        if self._has_ended():
            link.close()
            return
        session.admitted = judged
        services.wills.came_back(judged.scope, client_id, resumed=link.session_present)
        session.link = link
        self._session = session
        services.clients.add(judged.scope, client_id, self)
        self._release_unaccepted()
        # What the device sent behind its CONNECT is handled before anything that came later.
        self._waiting[:0] = self._mqtt.accept(self._loop.time(), session_present=link.session_present)
        self._flush_now()
        self._logged = services.connection_log.connected(
            self._peer, judged.caller, client_id, version=packet.version, resumed=link.session_present
        )
        link.resume()

    async def _judge(
        self, client_id: str, scope: Scope | None = None, *, connecting: bool = False
    ) -> Admitted | Refused:
        """Follows what the judgement hangs on, and judges again if that changed, or may have before it was followed.

        A refusal stands: a device that was registered just in time must neither be accepted nor told of again.
        """
        services = self._services
        while True:
            if services.feed.stale:  # if only because the event loop was held up
                await services.feed.poll()
            generation, self._stale = services.connections.generation, False
            judged = await services.admission.judge(self._peer, client_id, scope, connecting=connecting)
            if self._ended or isinstance(judged, Refused):
                return judged  # nobody would take the dependencies of one off again who has gone
            # From here on its own account is followed, and what others do with its certificate is not heard any more.
            wanted = set(judged.dependencies)
            unheard = (
                not wanted.issubset(services.connections.followed_by(self))
                and services.connections.generation != generation
            )
            services.connections.follow(self, wanted)
            # What else is new is no reason: under a steady stream of changes thousands would be judged for ever.
            if not self._stale and not unheard:
                return _let_connect(judged, client_id, self._purposes)

    async def _judge_again(self, session: Session) -> None:
        """Until nothing has changed meanwhile."""
        try:
            while True:
                await self._judge_once_more(session)
                if self._has_ended() or not self._stale:
                    return
        except Unavailable as error:
            self.disconnect(Reason.SERVER_BUSY, str(error))
        except Exception:  # noqa: BLE001 - else the device would go on with what it may no longer do
            _log.exception("a connection could not be judged again")
            self.disconnect(Reason.UNSPECIFIED_ERROR, "of an error of our own")
        finally:
            self._rejudging = None

    async def _judge_once_more(self, session: Session) -> None:
        judged = await self._judge(session.client_id, session.admitted.scope)
        if isinstance(judged, Refused):
            if judged.caller is not None and not self._ended:
                self._tell(judged, session.client_id)
            self.disconnect(judged.reason, judged.why)
        elif (why := await session.readmitted(judged, self._services.slices)) is not None:
            self.disconnect(Reason.NOT_AUTHORIZED, why)

    def _disconnected(self, event: Disconnected) -> None:
        session = self._session
        if event.session_expiry is not None and session is not None and session.link is not None:
            session.link.set_expiry(event.session_expiry)
            if self._will is not None:
                self._will = replace(self._will, delay=min(self._will.delay, event.session_expiry))
        self._end("the device disconnected", with_will=event.will)
        self._shut()

    # The end.

    def _refuse(self, refused: Refused, client_id: str) -> None:
        self._tell(refused, client_id)
        self._refused = True
        if not refused.silent:
            self._mqtt.refuse(refused.reason)
        self._end(refused.why, with_will=False)
        self._shut()

    def _tell(self, refused: Refused, client_id: str) -> None:
        caller, resource = refused.caller, f"client/{client_id}"
        if caller is not None:
            resource = f"arn:aws:iot:{caller.regions[0]}:{caller.account}:{resource}"
        self._services.connection_log.refused(
            self._peer, caller, "Connect", resource, refused.why, refused.explain, refused.facts
        )

    def _fail(self, reason: Reason, why: str) -> None:
        if self._session is None and not self._ended:
            self._mqtt.refuse(reason)
        self._close(reason, why, with_will=True)

    def _close(self, reason: Reason, why: str, *, with_will: bool) -> None:
        if self._ended:
            return
        self._mqtt.disconnect(reason)
        self._end(why, with_will=with_will)
        self._shut()

    def _shut(self) -> None:
        """Sends what is left to be said, and closes."""
        self._flush_now()
        if self._transport is not None:
            self._transport.close()

    def _has_ended(self) -> bool:
        return self._ended  # which mypy does not expect to change at an await

    def _end(self, why: str, *, with_will: bool) -> None:
        if self._ended:
            return
        self._ended = True
        services, session = self._services, self._session
        services.connections.remove(self)
        self._stop_intake()
        will, self._will = self._will, None
        if will is not None and (session is None or not with_will):
            services.wills.forget(self._account, will)
        if session is None or session.link is None:
            if not self._refused:
                services.connection_log.ended_early(self._peer, why)
            return
        session.link.close()
        services.clients.remove(session.admitted.scope, session.client_id, self)
        caller, client_id = session.admitted.caller, session.client_id
        services.connection_log.disconnected(self._peer, caller, client_id, why, logged=self._logged)
        if with_will and will is not None:
            services.wills.leave(session.admitted.scope, client_id, self._peer, will)


def _purposes_of(packet: Connect) -> tuple[str, ...]:
    """AWS's ConnectAttributes."""
    persistent = ("PersistentConnect",) if not packet.clean_start or packet.session_expiry else ()
    return (*persistent, "LastWill") if packet.will is not None else persistent


def _let_connect(admitted: Admitted, client_id: str, purposes: tuple[str, ...]) -> Admitted | Refused:
    """Whether the policies allow it: iot:Connect on the client id. Asked again whenever they change."""
    context = {"iot:ConnectAttributes": purposes}
    permissions = admitted.permissions
    if permissions.allows("Connect", client_id, context):
        return admitted
    why = permissions.why("Connect", client_id, context)
    explain = partial(permissions.explanation, "Connect", client_id, context)
    return Refused(Reason.NOT_AUTHORIZED, why, explain, admitted.caller, facts=admitted.facts)


def _will_of(packet: Connect, expiry: int) -> Will | None:
    will = packet.will
    if will is None:
        return None
    # MQTT 5, 3.1.3.2.2: published when the delay has passed or the session has ended, whichever comes first.
    message = Message(will.topic, will.payload, 1 if will.qos else 0, will.retain, will.properties)
    return Will(message, min(will.delay, expiry))


def _new_client_id() -> str:
    """For a device that has none."""
    return str(uuid.uuid4())
