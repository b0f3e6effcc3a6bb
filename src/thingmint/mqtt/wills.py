"""Wills: published after a device is gone, if it still may (MQTT 5, 3.1.2.5; delays: 3.1.3.2.2)."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from thingmint.domain.errors import Unavailable
from thingmint.domain.messages import Message
from thingmint.mqtt.broker.limits import AccountBudgets, Bound, WillLimits
from thingmint.mqtt.broker.messages import size_of
from thingmint.mqtt.connection_log import device_caller
from thingmint.services.device_authentication import Rejected

if TYPE_CHECKING:
    from thingmint.domain.arns import Scope
    from thingmint.mqtt.broker.interface import Broker
    from thingmint.mqtt.connection_log import ConnectionLog
    from thingmint.mqtt.peer import Peer
    from thingmint.mqtt.protocol.packets import Connect
    from thingmint.mqtt.protocol.reasons import Reason
    from thingmint.services.change_feed import ChangeFeed
    from thingmint.services.device_authentication import DeviceAuthenticator


_log = structlog.get_logger("thingmint.gateway")

_AT_ONCE = 16  # wills that are being authorized and published
_TRY_AGAIN_AFTER = 0.5  # seconds, while the store cannot be read
_RESERVED = "$"  # as the first character: topics of the service's own, which devices have no say in


@dataclass(frozen=True, slots=True)
class Will:
    """``delay`` is in seconds."""

    message: Message
    delay: float


def will_of(packet: Connect, expiry: int) -> Will | None:
    """The will in a CONNECT whose session outlives the connection for ``expiry`` seconds at most."""
    will = packet.will
    if will is None:
        return None
    # MQTT 5, 3.1.3.2.2: published when the delay has passed or the session has ended, whichever comes first.
    message = Message(will.topic, will.payload, 1 if will.qos else 0, will.retain, will.properties)
    return Will(message, min(will.delay, expiry))


@dataclass(slots=True, eq=False)
class _Left:
    """The will of a connection that has ended. ``budgets`` have room for it until it is published."""

    scope: Scope
    client_id: str
    session: str
    peer: Peer
    message: Message
    budgets: AccountBudgets
    timer: asyncio.TimerHandle | None = None


class Wills:
    """They are published a few at a time, and the accounts take turns, however many connections end at once."""

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
        self._waiting: dict[tuple[Scope, str], _Left] = {}
        self._due: OrderedDict[str, deque[_Left]] = OrderedDict()  # by account
        self._tasks: set[asyncio.Task[None]] = set()
        self.published_early = 0  # for lack of room

    @property
    def held(self) -> Bound:
        """What open connections and delayed wills take now."""
        totals = (self._open.total, self._delayed.total)
        return Bound(sum(each.count for each in totals), sum(each.size for each in totals))

    def take(self, account: str, will: Will) -> bool:
        """Whether there is room for a new connection's will. It is held until ``forget`` or ``leave``."""
        return self._open.take(account, size_of(will.message))

    def forget(self, account: str, will: Will) -> None:
        """The connection was not accepted after all, or took its will back."""
        self._open.give_back(account, size_of(will.message))

    def leave(self, scope: Scope, client_id: str, peer: Peer, will: Will, session: str) -> None:
        """The connection ended without a DISCONNECT that takes the will back.

        One for whose delay there is no room is published at once, as if its session had ended: that comes too early,
        but if it was dropped, nothing would ever tell that the device is gone.
        """
        left = _Left(scope, client_id, session, peer, will.message, self._open)
        if will.delay > 0:
            if self._delayed.take(scope.account, size_of(will.message)):
                self._open.give_back(scope.account, size_of(will.message))
                left.budgets = self._delayed
                left.timer = asyncio.get_running_loop().call_later(will.delay, self._delay_ended, left)
                self._waiting[scope, session] = left
                return
            self.published_early += 1
            _log.warning("will_published_without_its_delay", account=scope.account, client_id=client_id)
        self._publish_soon(left)

    def came_back(self, scope: Scope, session: str, *, resumed: bool) -> None:
        """The device is there again. Unless it ``resumed`` its session, that has ended, and its will is due."""
        left = self._waiting.pop((scope, session), None)
        if left is None:
            return
        assert left.timer is not None
        left.timer.cancel()
        if resumed:
            self._settle(left)
        else:
            self._publish_soon(left)

    async def close(self) -> None:
        """Nothing is published any more."""
        for left in self._waiting.values():
            assert left.timer is not None
            left.timer.cancel()
        self._waiting.clear()
        self._due.clear()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _delay_ended(self, left: _Left) -> None:
        del self._waiting[left.scope, left.session]
        self._publish_soon(left)

    def _publish_soon(self, left: _Left) -> None:
        self._due.setdefault(left.scope.account, deque()).append(left)
        if len(self._tasks) < _AT_ONCE:
            task = asyncio.create_task(self._publish_due())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _publish_due(self) -> None:
        while self._due:
            account, lefts = next(iter(self._due.items()))
            self._due.move_to_end(account)
            left = lefts.popleft()
            if not lefts:
                del self._due[account]
            try:
                await self._publish_when_possible(left)
            except Exception:  # noqa: BLE001 - the others are published all the same
                _log.exception("will_not_published", client_id=left.client_id)
            finally:
                self._settle(left)

    def _settle(self, left: _Left) -> None:
        left.budgets.give_back(left.scope.account, size_of(left.message))

    async def _publish_when_possible(self, left: _Left) -> None:
        """As long as changes cannot be followed, a will waits: what its device may do is not known."""
        while True:
            if not self._feed.stale:
                with contextlib.suppress(Unavailable):
                    await self._publish(left)
                    return
            await asyncio.sleep(_TRY_AGAIN_AFTER)

    async def _publish(self, left: _Left) -> None:
        # Authenticated now and not when the device connected: one that was deactivated meanwhile has no last word.
        scope, message, peer = left.scope, left.message, left.peer
        accepted = await self._authenticator.reauthenticate(peer.request(left.client_id), scope)
        if isinstance(accepted, Rejected):
            return
        permissions, caller = accepted.permissions, device_caller(scope, accepted.fingerprint, left.client_id)
        if message.topic.startswith(_RESERVED):
            resource = permissions.resource("Publish", message.topic)
            why = "the topic is reserved for the service itself"
            self._connection_log.refused(peer, caller, "Publish", resource, why)
            return
        for action in ("Publish", "RetainPublish") if message.retain else ("Publish",):
            if not permissions.allows(action, message.topic):
                self._connection_log.refused(
                    peer,
                    caller,
                    action,
                    permissions.resource(action, message.topic),
                    permissions.why(action, message.topic),
                    partial(permissions.explanation, action, message.topic),
                )
                return
        published: asyncio.Future[Reason] = asyncio.get_running_loop().create_future()

        def done(reason: Reason) -> None:
            if not published.done():  # close() gave it up
                published.set_result(reason)

        self._broker.publish(scope, message, done)
        if (reason := await published).failed:
            _log.error("will_refused_by_broker", reason=reason.name, client_id=left.client_id)
