"""Looks after the connections that are open: what only time changes about them, and what they may not go on without."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thingmint.mqtt.hub import Hub
    from thingmint.services.change_feed import ChangeFeed

_CHECK_EVERY = 0.5  # seconds, for time-outs and validities: these are to be followed within one


class Watcher:
    def __init__(self, feed: ChangeFeed, hub: Hub) -> None:
        self._feed = feed
        self._hub = hub

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_CHECK_EVERY)
            if self._feed.blind:
                self._in_slices("throw out", self._throw_out_all())
            self._in_slices("check", self._check_all(loop.time()))

    def _in_slices(self, name: str, work: Iterator[None]) -> None:
        """Unless the same is still being done."""
        if not self._hub.slices.has_waiting("", (self, name)):
            self._hub.slices.run("", (self, name), work)

    def _throw_out_all(self) -> Iterator[None]:
        for member in self._hub:
            if not self._feed.blind:
                return
            member.throw_out(Reason.SERVER_UNAVAILABLE, "changes cannot be followed")
            yield

    def _check_all(self, now: float) -> Iterator[None]:
        for member in self._hub:
            member.check(now)
            yield
