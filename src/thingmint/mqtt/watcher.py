"""Follows the outbox, so that open connections follow what was changed, whichever process changed it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from thingmint.domain.errors import Unavailable
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from thingmint.mqtt.hub import Dependency, Hub
    from thingmint.services.doorkeeping import Doorkeeping, Notice


POLL_EVERY = 0.25  # seconds
# A transaction may be committed later than its notices' times say, and clocks of processes differ: look back so far.
_OVERLAP = timedelta(seconds=5)
_BLIND_AFTER = 1.0  # seconds without a successful look
_PRUNE_EVERY = 60.0  # seconds
_CHECK_EVERY = 0.5  # seconds, for time-outs and validities: these too are to be followed within one
_KEEP = timedelta(minutes=10)

_log = structlog.get_logger("thingmint.gateway")


class Watcher:
    def __init__(self, doorkeeping: Doorkeeping, hub: Hub, clock: Callable[[], datetime]) -> None:
        self._doorkeeping = doorkeeping
        self._hub = hub
        self._clock = clock
        self.news = 0  # counts the looks that found something new
        self._seen: dict[str, int] = {}
        self._looked_at = 0.0
        self._complete_until = clock()

    @property
    def blind(self) -> bool:
        """Whether changes may have been missed: nobody is let in on knowledge that old, nor left in."""
        return asyncio.get_running_loop().time() - self._looked_at > _BLIND_AFTER

    async def look(self) -> None:
        """Tells the connections concerned of what is new. Raises Unavailable."""
        now = self._clock()
        notices = await self._doorkeeping.notices_since(min(self._complete_until, now) - _OVERLAP)
        self._complete_until = now
        self._looked_at = asyncio.get_running_loop().time()
        new = [notice for notice in notices if notice.id not in self._seen]
        self._seen = {notice.id: notice.created_at for notice in notices}
        if new:
            self.news += 1
            self._hub.changed(dependency for notice in new for dependency in _concerned(notice))

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        pruned_at = checked_at = loop.time()
        failing = False
        while True:
            try:
                await self.look()
                if loop.time() - pruned_at > _PRUNE_EVERY:
                    pruned_at = loop.time()
                    await self._doorkeeping.prune_notices(self._clock() - _KEEP)
                failing = False
            except Exception as error:  # noqa: BLE001 - without the watcher nobody would be thrown out any more
                if not failing:
                    expected = isinstance(error, Unavailable)  # which needs no traceback
                    _log.error("the outbox cannot be followed", error=str(error), exc_info=not expected)
                failing = True
                if self.blind:
                    for member in self._hub:
                        member.throw_out(Reason.SERVER_UNAVAILABLE, "changes cannot be followed")
            if loop.time() - checked_at >= _CHECK_EVERY:
                checked_at = loop.time()
                for member in self._hub:
                    member.check(checked_at)
            await asyncio.sleep(POLL_EVERY)


def _concerned(notice: Notice) -> Iterator[Dependency]:
    yield notice.account, notice.region, notice.kind, notice.name
    # Before a connection's account is known, it follows its certificate in all of them.
    if notice.kind == "certificate":
        yield "", "", notice.kind, notice.name
