"""Ends connections whose client id has connected to another process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import structlog

from thingmint.domain.arns import Scope
from thingmint.domain.errors import Unavailable
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.services.client_ids import AT_ONCE, forget_process
from thingmint.services.leases import PROCESS, LeaseLost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from thingmint.mqtt.connected_clients import ConnectedClients
    from thingmint.mqtt.presence import Presence
    from thingmint.services.client_ids import Claim, ClientIds
    from thingmint.services.leases import LeasedStore, LeaseKeeper
    from thingmint.store.engine import PublishedChange

_CHECK_EVERY = 1.0  # seconds
_RETRY_AFTER = 0.5  # seconds, while the store cannot be read

_log = structlog.get_logger("thingmint.connections")


class Takeovers:
    """Closes connections of this process whose client id another process has claimed.

    ``published`` counts the published changes of all client ids. If it grows while a connection opens, the connection
    checks its own claim.
    """

    def __init__(self, client_ids: ClientIds, clients: ConnectedClients) -> None:
        self.client_ids = client_ids
        self.published = 0
        self._clients = clients
        self._tasks: set[asyncio.Task[Sequence[Claim]]] = set()
        self._turns: WeakValueDictionary[tuple[Scope, str], asyncio.Lock] = WeakValueDictionary()

    def turn(self, scope: Scope, client_id: str) -> asyncio.Lock:
        """Returns the lock of a client id. While it is held, a connection takes the session over and claims the id.

        So if two connections of this process compete, the same one is the last to do both.
        """
        lock = self._turns.get((scope, client_id))
        if lock is None:
            lock = self._turns[scope, client_id] = asyncio.Lock()
        return lock

    def changed(self, changes: Sequence[PublishedChange]) -> None:
        """Checks the connections that changes of the change feed concern."""
        for change in changes:
            if change.kind == "client":
                self.published += 1
                found = self._clients.get(Scope(change.account, change.region), change.name)
                if found is not None and found.claim is not None:
                    self.check(found.claim)

    def check(self, *claims: Claim) -> None:
        """Closes connections whose client id now belongs to another connection. Returns before that is done."""
        task = asyncio.create_task(self._end_lost(claims))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(
        self, leases: LeaseKeeper, store: LeasedStore, clock: Callable[[], datetime], presence: Presence
    ) -> None:
        """Maintains the table of client ids, forever.

        Restores this process's rows after another process released them, because this one seemed to have ended.
        Reports and releases the connections of processes that have ended; one process does this, the one that holds
        the lease of ``store``.
        """
        own, taken = PROCESS + leases.process, 0
        while True:
            await asyncio.sleep(_CHECK_EVERY)
            try:
                if leases.times_taken(own) != taken:
                    await self._restore(presence, is_first=taken == 0)
                    taken = leases.times_taken(own)
                for lease in leases.gone(PROCESS) if store.held else ():
                    await forget_process(store, lease, clock, presence.report)
            except Unavailable as error:
                _log.warning("connections_wait_for_the_store", error=str(error))
            except LeaseLost:
                pass

    async def _restore(self, presence: Presence, *, is_first: bool) -> None:
        claims = [] if is_first else self._clients.claims()
        if claims:
            _log.warning("connections_restored", connections=len(claims))
        await self.client_ids.restore(claims)
        for at in range(0, len(claims), AT_ONCE):
            some = claims[at : at + AT_ONCE]
            lost = await self._end_lost(some)
            presence.restored([claim for claim in some if claim not in lost])

    async def _end_lost(self, claims: Sequence[Claim]) -> Sequence[Claim]:
        while True:
            try:
                lost = await self.client_ids.lost(claims)
                break
            except Unavailable:
                await asyncio.sleep(_RETRY_AFTER)
        for claim in lost:
            found = self._clients.get(claim.scope, claim.client_id)
            if found is not None and found.claim == claim:
                why = "another connection took the client id over"
                found.disconnect(Reason.SESSION_TAKEN_OVER, why, with_will=True)
        return lost
