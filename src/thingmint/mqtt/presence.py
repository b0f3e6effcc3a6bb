"""Tells others of connections, of refused ones, and of subscriptions: AWS IoT's events, and the operator's hook."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, NamedTuple

import structlog

from thingmint.domain.errors import Unavailable
from thingmint.services.authentication_decisions import Accepted
from thingmint.services.client_ids import VERSION_KEPT, Vanished
from thingmint.services.leases import PROCESS
from thingmint.services.presence import ConnectionRecord, of_vanished

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Literal

    from thingmint.mqtt.lifecycle_events import LifecycleEvents
    from thingmint.mqtt.peer import Peer
    from thingmint.services.authentication_decisions import AcceptedOwner, Rejected
    from thingmint.services.client_ids import Claim, ClientIds
    from thingmint.services.leases import LeaseKeeper
    from thingmint.services.messages import DisconnectReason
    from thingmint.services.presence_hook import PresenceHook

_CHECK_EVERY = 1.0  # seconds
_MAX_DOUBTFUL = 10_000
_NOTICED_AFTER = 1.5  # seconds in which a running process has noticed that another one took its client id over
_REPORT_FORMER_AFTER = 5.0  # seconds after the start, so that subscribers can connect again before
_STOP_TIMEOUT = 5.0  # seconds for the events that wait when the server stops

_log = structlog.get_logger("thingmint.gateway")


class _Doubtful(NamedTuple):
    """A connection that this process took over from another one, which reports its end if it runs."""

    process: str
    vanished: Vanished
    since: float


class Presence:
    """Methods that sessions call return at once and never raise."""

    def __init__(
        self,
        events: LifecycleEvents,
        client_ids: ClientIds,
        hook: PresenceHook,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.events = events
        self.hook = hook
        self._client_ids = client_ids
        self._monotonic = monotonic
        self._doubtful: list[_Doubtful] = []

    # Called by sessions.

    def connected(self, record: ConnectionRecord) -> None:
        if record.has_events:
            self.events.put("connected", record)
        self.hook.connected(record)

    def disconnected(self, record: ConnectionRecord, reason: DisconnectReason, why: str, expiry: int) -> None:
        """``expiry`` is how long the session lasts, in seconds; 0 if it has ended."""
        if record.has_events:
            self.events.put("disconnected", record, reason=reason, kept=expiry or VERSION_KEPT)
        elif record.claim is not None:
            self._client_ids.release(record.claim)
        self.hook.disconnected(record, reason, why)

    def refused(self, peer: Peer, client_id: str, rejected: Rejected) -> None:
        """Only devices of known accounts: a CONNECT with an unknown certificate may come from any address."""
        if rejected.scope is None:
            return
        record = ConnectionRecord(
            rejected.scope, client_id, str(uuid.uuid4()), peer.fingerprint, peer.address, rejected.thing, True
        )
        if (bound := rejected.bound_to) is not None:
            record.cloud, record.owner, record.owner_kind, record.registry = "yandex", *bound[:3]
        if rejected.unauthorized:
            self.events.put("connect_failed", record)
        self.hook.refused(record, rejected)

    def subscriptions(
        self, kind: Literal["subscribed", "unsubscribed"], record: ConnectionRecord, filters: Sequence[str]
    ) -> None:
        if filters and record.has_events:
            self.events.put(kind, record, topics=filters)

    def took_over(self, claim: Claim) -> None:
        """Note that another process has, or had, an open connection of the client id."""
        if claim.vanished is not None and len(self._doubtful) < _MAX_DOUBTFUL:
            self._doubtful.append(_Doubtful(claim.taken_from, claim.vanished, self._monotonic()))

    # Connections whose process has ended.

    async def report(self, vanished: Sequence[Vanished]) -> None:
        """Publish the ends of connections whose process has ended."""
        await self.events.report(vanished)
        self.hook.vanished(vanished)

    def restored(self, claims: Sequence[Claim]) -> None:
        """Publish that these connections are open: another process may have reported their ends by mistake."""
        for claim in claims:
            if claim.about:
                vanished = Vanished(claim.scope, claim.client_id, claim.version, claim.about)
                self.events.put("connected", of_vanished(vanished))

    async def report_former(self) -> None:
        """Report the connections of earlier processes on a store that is not shared, and return never."""
        await asyncio.sleep(_REPORT_FORMER_AFTER)
        while True:
            try:
                await self._client_ids.forget_former(self.report)
                break
            except Unavailable as error:
                _log.warning("connections_wait_for_the_store", error=str(error))
                await asyncio.sleep(_CHECK_EVERY)
        await asyncio.Event().wait()

    async def report_taken_over(self, leases: LeaseKeeper) -> None:
        """Report connections that this process took over from processes that have ended, until cancelled."""
        while True:
            await asyncio.sleep(_CHECK_EVERY)
            doubtful, self._doubtful = self._doubtful, []
            found: list[Vanished] = []
            for each in doubtful:
                runs = leases.runs(PROCESS + each.process, each.since + _NOTICED_AFTER)
                if runs is None:
                    self._doubtful.append(each)
                elif not runs:
                    found.append(each.vanished)
            await self.report(found)

    async def stop(self) -> None:
        try:
            async with asyncio.timeout(_STOP_TIMEOUT):
                await asyncio.gather(self.events.drain(), self.hook.drain())
        except TimeoutError:
            if self.events.waiting:
                _log.warning("lifecycle_events_not_published", events=self.events.waiting)
            if self.hook.waiting:
                _log.warning("presence_events_not_sent", events=self.hook.waiting)


def record_of(accepted: Accepted | AcceptedOwner, client_id: str, peer: Peer) -> ConnectionRecord:
    """Returns the record of a connection that is about to be accepted."""
    record = ConnectionRecord(accepted.scope, client_id, str(uuid.uuid4()), peer.fingerprint, peer.address)
    if isinstance(accepted, Accepted):
        record.thing, record.exclusive, record.owner = accepted.thing, accepted.exclusive, accepted.owner
    else:
        topics = accepted.topics
        record.cloud, record.owner, record.owner_kind = "yandex", topics.id, topics.kind
        record.registry, record.certificate = topics.registry or None, accepted.fingerprint
    return record
