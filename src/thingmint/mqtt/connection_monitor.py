"""Looks after the connections that are open: what only time changes about them, and what they may not go on without."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thingmint.mqtt.connection_index import ConnectionIndex
    from thingmint.services.change_feed import ChangeFeed

_CHECK_EVERY = 0.5  # seconds, for time-outs and validities: these are to be followed within one


class ConnectionMonitor:
    def __init__(self, feed: ChangeFeed, connections: ConnectionIndex) -> None:
        self._feed = feed
        self._connections = connections

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_CHECK_EVERY)
            if self._feed.stale:
                self._in_slices("throw out", self._disconnect_all())
            self._in_slices("check", self._check_deadlines(loop.time()))

    def _in_slices(self, name: str, work: Iterator[None]) -> None:
        """Unless the same is still being done."""
        if not self._connections.slices.has_waiting("", (self, name)):
            self._connections.slices.run("", (self, name), work)

    def _disconnect_all(self) -> Iterator[None]:
        for member in self._connections:
            if not self._feed.stale:
                return
            member.disconnect(Reason.SERVER_UNAVAILABLE, "changes cannot be followed")
            yield

    def _check_deadlines(self, now: float) -> Iterator[None]:
        for member in self._connections:
            member.check_deadlines(now)
            yield
