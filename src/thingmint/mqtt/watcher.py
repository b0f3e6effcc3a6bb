"""Follows the outbox, so that open connections follow what was changed, whichever process changed it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from thingmint.domain.errors import Unavailable
from thingmint.mqtt.hub import concerned_by
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.store.times import to_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from thingmint.mqtt.hub import Hub
    from thingmint.services.doorkeeping import Doorkeeping


POLL_EVERY = 0.25  # seconds
# A transaction may be committed later than its notices' times say, and clocks of processes differ: look back so far.
_OVERLAP = timedelta(seconds=5)
_BLIND_AFTER = 1.0  # seconds without a successful look
_CHECK_EVERY = 0.5  # seconds, for time-outs and validities: these too are to be followed within one

_log = structlog.get_logger("thingmint.gateway")


class Watcher:
    def __init__(self, doorkeeping: Doorkeeping, hub: Hub, clock: Callable[[], datetime]) -> None:
        self._doorkeeping = doorkeeping
        self._hub = hub
        self._clock = clock
        self._seen: dict[str, int] = {}
        self._looked_at = 0.0
        self._complete_until = clock()

    @property
    def blind(self) -> bool:
        """Whether changes may have been missed: nobody is let in on knowledge that old, nor left in."""
        return asyncio.get_running_loop().time() - self._looked_at > _BLIND_AFTER

    async def look(self) -> None:
        """Tells the connections concerned of what is new. Raises Unavailable."""
        now, told = self._clock(), self._hub.told
        since = min(self._complete_until, now) - _OVERLAP
        notices = await self._doorkeeping.notices_since(since)
        self._complete_until = now
        self._looked_at = asyncio.get_running_loop().time()
        new = [each for each in notices if told.pop(each.id, None) is None and each.id not in self._seen]
        self._seen = {notice.id: notice.created_at for notice in notices}
        for id in [id for id, created_at in told.items() if created_at < to_micros(since)]:
            del told[id]  # it was found before it was told
        if new:
            self._hub.changed(concerned_by(new))

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        checked_at = loop.time()
        failing = False
        while True:
            try:
                await self.look()
                failing = False
            except Exception as error:  # noqa: BLE001 - without the watcher nobody would be thrown out any more
                if not failing:
                    expected = isinstance(error, Unavailable)  # which needs no traceback
                    _log.error("the outbox cannot be followed", error=str(error), exc_info=not expected)
                failing = True
                if self.blind:
                    self._in_slices("throw out", self._throw_out_all())
            if loop.time() - checked_at >= _CHECK_EVERY:
                checked_at = loop.time()
                self._in_slices("check", self._check_all(checked_at))
            await asyncio.sleep(POLL_EVERY)

    def _in_slices(self, name: str, work: Iterator[None]) -> None:
        """Unless the same is still being done."""
        if not self._hub.slices.has_waiting("", (self, name)):
            self._hub.slices.run("", (self, name), work)

    def _throw_out_all(self) -> Iterator[None]:
        for member in self._hub:
            if not self.blind:
                return
            member.throw_out(Reason.SERVER_UNAVAILABLE, "changes cannot be followed")
            yield

    def _check_all(self, now: float) -> Iterator[None]:
        for member in self._hub:
            member.check(now)
            yield
