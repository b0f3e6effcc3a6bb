"""Wills: published after a device has disconnected, if its policies still allow it.

MQTT 5, 3.1.2.5; the delay: 3.1.3.2.2.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from thingmint.domain.errors import Unavailable
from thingmint.domain.messages import Message
from thingmint.mqtt.broker.limits import AccountBudgets, Bound, WillLimits
from thingmint.mqtt.broker.messages import size_of
from thingmint.mqtt.connection_log import device_caller
from thingmint.services.authentication_decisions import Accepted, Rejected, RejectionReason
from thingmint.services.device_permissions import RESERVED_TOPIC, Refusal

if TYPE_CHECKING:
    from thingmint.domain.arns import Scope
    from thingmint.mqtt.broker.interface import Broker
    from thingmint.mqtt.connection_log import ConnectionLog
    from thingmint.mqtt.peer import Peer
    from thingmint.mqtt.protocol.packets import Connect
    from thingmint.mqtt.protocol.reasons import Reason
    from thingmint.services.change_feed import ChangeFeed
    from thingmint.services.device_authentication import DeviceAuthenticator
    from thingmint.services.device_permissions import DevicePermissions


_log = structlog.get_logger("thingmint.gateway")

_AT_ONCE = 16  # wills that are authorized and published at the same time
_RETRY_AFTER = 0.5  # seconds, while the store cannot be read
_RESERVED = "$"  # the first character of reserved topics, to which no device may publish a will


@dataclass(frozen=True, slots=True)
class Will:
    """``delay`` is in seconds."""

    message: Message
    delay: float


def will_of(packet: Connect, expiry: int) -> Will | None:
    """Returns the will of a CONNECT whose session ends ``expiry`` seconds after the connection."""
    will = packet.will
    if will is None:
        return None
    # MQTT 5, 3.1.3.2.2: published when the delay has passed or the session has ended, whichever comes first.
    message = Message(will.topic, will.payload, 1 if will.qos else 0, will.retain, will.properties)
    return Will(message, min(will.delay, expiry))


@dataclass(slots=True, eq=False)
class _Pending:
    """The will of a connection that has ended. ``budgets`` count its memory until it is published."""

    scope: Scope
    client_id: str
    session: str
    peer: Peer
    message: Message
    budgets: AccountBudgets
    timer: asyncio.TimerHandle | None = None


class Wills:
    """Publishes wills: a few at a time, the accounts in turns, even if many connections end at the same time."""

    def __init__(
        self,
        authenticator: DeviceAuthenticator,
        broker: Broker,
        connection_log: ConnectionLog,
        feed: ChangeFeed,
        limits: WillLimits | None = None,
    ) -> None:
        limits = limits or WillLimits()
        self._feed = feed
        self._authenticator = authenticator
        self._broker = broker
        self._connection_log = connection_log
        self._open = AccountBudgets(limits.open, limits.open_per_account)
        self._delayed = AccountBudgets(limits.waiting, limits.waiting_per_account)
        self._waiting: dict[tuple[Scope, str], _Pending] = {}
        self._due: OrderedDict[str, deque[_Pending]] = OrderedDict()  # by account
        self._tasks: set[asyncio.Task[None]] = set()
        self.published_early = 0  # for lack of room

    @property
    def held(self) -> Bound:
        """The number and the size of the wills in memory."""
        totals = (self._open.total, self._delayed.total)
        return Bound(sum(each.count for each in totals), sum(each.size for each in totals))

    def refusal(self, accepted: Accepted, will: Will) -> Rejected | None:
        """Returns why a device cannot connect with such a will, as at AWS: it may not publish to the topic. Else None.

        ``connection_ended`` asks again.
        """
        refused = _refusal(accepted.permissions, will.message)
        if refused is None:
            return None
        permissions, thing = accepted.permissions, accepted.thing if accepted.exclusive else None
        return Rejected(
            RejectionReason.NOT_AUTHORIZED,
            f"the will may not be published: {refused.decision}",
            accepted.scope,
            partial(permissions.explain, refused),
            accepted.facts,
            unauthorized=True,
            thing=thing,
            action=refused.action,
            resource=permissions.resource(refused.action, refused.name),
        )

    def take(self, account: str, will: Will) -> bool:
        """Reserves memory for a new connection's will. False if there is no room.

        ``forget`` or ``connection_ended`` has to follow.
        """
        return self._open.take(account, size_of(will.message))

    def forget(self, account: str, will: Will) -> None:
        """Releases the memory: the connection was not accepted, or its DISCONNECT removed the will."""
        self._open.give_back(account, size_of(will.message))

    def connection_ended(self, scope: Scope, client_id: str, peer: Peer, will: Will, session: str) -> None:
        """Publishes the will, after its delay: the connection ended without a DISCONNECT that removes the will.

        If there is no room to wait for the delay, the will is published at once, as if the session had ended. That is
        too early, but a dropped will would never be published at all.
        """
        pending = _Pending(scope, client_id, session, peer, will.message, self._open)
        if will.delay > 0:
            if self._delayed.take(scope.account, size_of(will.message)):
                self._open.give_back(scope.account, size_of(will.message))
                pending.budgets = self._delayed
                pending.timer = asyncio.get_running_loop().call_later(will.delay, self._delay_ended, pending)
                self._waiting[scope, session] = pending
                return
            self.published_early += 1
            _log.warning("will_published_without_its_delay", account=scope.account, client_id=client_id)
        self._publish_soon(pending)

    def reconnected(self, scope: Scope, session: str, *, resumed: bool) -> None:
        """Ends the delay: the device connected again. If it ``resumed`` the session, the will is not published."""
        pending = self._waiting.pop((scope, session), None)
        if pending is None:
            return
        assert pending.timer is not None
        pending.timer.cancel()
        if resumed:
            self._settle(pending)
        else:
            self._publish_soon(pending)

    async def close(self) -> None:
        """Stops publishing; drops the wills that wait."""
        for pending in self._waiting.values():
            assert pending.timer is not None
            pending.timer.cancel()
        self._waiting.clear()
        self._due.clear()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _delay_ended(self, pending: _Pending) -> None:
        del self._waiting[pending.scope, pending.session]
        self._publish_soon(pending)

    def _publish_soon(self, pending: _Pending) -> None:
        self._due.setdefault(pending.scope.account, deque()).append(pending)
        if len(self._tasks) < _AT_ONCE:
            task = asyncio.create_task(self._publish_due())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _publish_due(self) -> None:
        while self._due:
            account, queue = next(iter(self._due.items()))
            self._due.move_to_end(account)
            pending = queue.popleft()
            if not queue:
                del self._due[account]
            try:
                await self._publish_when_possible(pending)
            except Exception:  # noqa: BLE001 - the other wills must still be published
                _log.exception("will_not_published", client_id=pending.client_id)
            finally:
                self._settle(pending)

    def _settle(self, pending: _Pending) -> None:
        pending.budgets.give_back(pending.scope.account, size_of(pending.message))

    async def _publish_when_possible(self, pending: _Pending) -> None:
        """Waits while changes cannot be followed: the device's permissions are unknown until then."""
        while True:
            if not self._feed.stale:
                with contextlib.suppress(Unavailable):
                    await self._publish(pending)
                    return
            await asyncio.sleep(_RETRY_AFTER)

    async def _publish(self, pending: _Pending) -> None:
        # Authenticate now, not at CONNECT: the will of a device that was deactivated meanwhile is not published.
        scope, message, peer = pending.scope, pending.message, pending.peer
        accepted = await self._authenticator.reauthenticate(peer.request(pending.client_id), scope)
        if not isinstance(accepted, Accepted):
            return
        permissions, caller = accepted.permissions, device_caller(scope, accepted.fingerprint, pending.client_id)
        if (refusal := _refusal(permissions, message)) is not None:
            self._connection_log.denied(peer, caller, permissions, refusal)
            return
        if accepted.propagated:
            message = replace(message, properties=message.properties.adding(accepted.propagated))
        published: asyncio.Future[Reason] = asyncio.get_running_loop().create_future()

        def done(reason: Reason) -> None:
            if not published.done():  # else close() cancelled it
                published.set_result(reason)

        self._broker.publish(scope, message, done)
        if (reason := await published).failed:
            _log.error("will_refused_by_broker", reason=reason.name, client_id=pending.client_id)


def _refusal(permissions: DevicePermissions, message: Message) -> Refusal | None:
    if message.topic.startswith(_RESERVED):
        return Refusal("Publish", message.topic, RESERVED_TOPIC, reserved=True)
    return permissions.publish(message.topic, retain=message.retain)
