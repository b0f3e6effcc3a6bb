"""A session's authentication: at CONNECT, and again after each change. Until it is renewed, all traffic stops."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import structlog

from thingmint.domain.errors import Unavailable
from thingmint.mqtt.connection_services import take
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.services.authentication_decisions import Rejected, RejectionReason

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from thingmint.domain.arns import Scope
    from thingmint.mqtt.connection import Connection
    from thingmint.mqtt.connection_services import AnyTraffic, Services
    from thingmint.mqtt.peer import Peer
    from thingmint.services.authentication_decisions import Decision


# None: close without an answer, in both MQTT versions, as AWS does.
ANSWERS: Mapping[RejectionReason, Reason | None] = {
    RejectionReason.NOT_AUTHORIZED: Reason.NOT_AUTHORIZED,
    RejectionReason.CLIENT_ID: Reason.CLIENT_IDENTIFIER_NOT_VALID,
    RejectionReason.TOO_MANY: None,
    RejectionReason.PASSWORD: Reason.BAD_USER_NAME_OR_PASSWORD,
    RejectionReason.BUSY: Reason.SERVER_BUSY,
    RejectionReason.RECONNECT: None,
}

_RETRY_AFTER = 0.5  # seconds, to authenticate a connected device while the store cannot be read

_log = structlog.get_logger("thingmint.gateway")


class AuthenticatedSession(ABC):
    """What of a session depends on its authentication. Implements Member for the ConnectionIndex."""

    __slots__ = (
        "_ended",
        "_expires_at",
        "_reauthorizing",
        "_request",
        "_services",
        "_stale",
        "_traffic",
        "_writable",
        "connection",
        "peer",
    )

    connection: Connection

    def __init__(self, services: Services, peer: Peer) -> None:
        self._services = services
        self.peer = peer
        self._request = peer.request("")  # until CONNECT names the client id
        self._traffic: AnyTraffic | None = None  # set when CONNECT is accepted
        self._expires_at: datetime | None = None
        self._reauthorizing: asyncio.Task[None] | None = None
        self._stale = False  # a dependency changed since the last authentication began
        self._writable = True
        self._ended = False

    @abstractmethod
    def disconnect(self, reason: Reason, why: str, *, with_will: bool = False) -> None: ...

    @abstractmethod
    def _log_rejection(self, rejected: Rejected) -> None: ...

    # Whether packets may pass.

    @property
    def is_accepted(self) -> bool:
        return self._traffic is not None

    def writable(self, *, is_writable: bool) -> None:
        self._writable = is_writable
        if self._traffic is not None and not self.connection.is_suspended:
            link = self._traffic.link
            link.resume() if is_writable else link.pause()

    @property
    def can_send(self) -> bool:
        return self._writable and self._is_current and not self.connection.is_suspended

    def suspend_unless_current(self) -> bool:
        if self._is_current:
            return False
        self.suspend()
        return True

    def reauthorize(self) -> asyncio.Future[None] | None:
        self._stale = True
        if self._traffic is not None and self._reauthorizing is None and not self._ended:
            self._reauthorizing = asyncio.get_running_loop().create_task(self._reauthenticate(self._traffic))
        return self._reauthorizing

    def suspend(self) -> None:
        """Stops all traffic, in both directions, until the device is authenticated again."""
        if self._traffic is not None and not self._ended and not self.connection.is_suspended:
            self.connection.suspend()
            self._traffic.link.pause()

    def _resume(self, traffic: AnyTraffic) -> None:
        if self.connection.is_suspended and not self._ended:
            traffic.deliver_withheld()
            if self._writable:
                traffic.link.resume()
            self.connection.resume()

    @property
    def _is_current(self) -> bool:
        return self.connection.is_current(asyncio.get_running_loop().time())

    def check_deadlines(self, now: float) -> None:
        if self._ended:
            return
        self.suspend_unless_current()
        if self.connection.is_silent(now):
            self.disconnect(Reason.KEEP_ALIVE_TIMEOUT, "no packet came in time", with_will=True)
        elif self._expires_at is not None and self._expires_at < self._services.clock():
            self.disconnect(Reason.NOT_AUTHORIZED, "the certificate's validity ended")

    def _has_ended(self) -> bool:
        return self._ended  # as a method: mypy does not expect the attribute to change at an await

    # Authentication.

    async def _authenticate(self, scope: Scope | None = None) -> Decision:
        """Authenticates until no dependency of the decision changed while it was made.

        ``scope`` is the account and region that accepted the device before. A rejection is never evaluated again: a
        device registered just in time has to reconnect, and its registration must be published only once.
        """
        services, connections = self._services, self._services.connections
        request = self._request
        while True:
            if services.feed.stale:
                await services.feed.refresh()
            generation, interruptions, self._stale = connections.generation, services.feed.interruptions, False
            if scope is None:
                decision = await services.authenticator.authenticate(request)
            else:
                decision = await services.authenticator.reauthenticate(request, scope)
            if self._has_ended() or isinstance(decision, Rejected):
                return decision
            # From here on the session follows the device's own account. It no longer follows what other accounts do
            # with the same certificate.
            wanted = set(decision.dependencies)
            missed = not wanted.issubset(connections.followed_by(self)) and connections.generation != generation
            connections.follow(self, wanted)
            # Ignore changes to anything else: under a steady stream of them, thousands of connections would be
            # authenticated again without end.
            if not self._stale and not missed:
                self.connection.authenticated_after = interruptions
                return decision

    async def _reauthenticate(self, traffic: AnyTraffic) -> None:
        """Authenticates again until nothing changed meanwhile, then resumes the connection."""
        try:
            while not self._has_ended():
                try:
                    await self._reauthenticate_once(traffic)
                except Unavailable:
                    self.suspend()  # any permission may have changed; ConnectionMonitor limits how long this lasts
                    await asyncio.sleep(_RETRY_AFTER)
                    continue
                if not self._stale and self._is_current:
                    self._resume(traffic)
                    return
        except Exception:  # noqa: BLE001 - else the device would keep permissions that it may have lost
            _log.exception("connection_not_reauthenticated")
            self.disconnect(Reason.UNSPECIFIED_ERROR, "an internal error")
        finally:
            self._reauthorizing = None

    async def _reauthenticate_once(self, traffic: AnyTraffic) -> None:
        decision = await self._authenticate(traffic.scope)
        if isinstance(decision, Rejected):
            if decision.scope is not None and not self._has_ended():
                self._log_rejection(decision)
            self.disconnect(ANSWERS[decision.reason] or Reason.NOT_AUTHORIZED, decision.why)
            return
        self._expires_at = decision.expires_at
        why = take(traffic, decision) or await traffic.recheck_subscriptions(self._services.slices)
        if why is not None:
            self.disconnect(Reason.NOT_AUTHORIZED, why)
