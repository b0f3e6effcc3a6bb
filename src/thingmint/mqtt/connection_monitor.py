"""Checks open connections for time-outs and expired certificates, and suspends them while changes are not followed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thingmint.mqtt.connection_index import ConnectionIndex
    from thingmint.services.change_feed import ChangeFeed

_FEED_CHECK_EVERY = 0.1  # seconds
_DEADLINES_CHECK_EVERY = 0.5  # seconds: time-outs and the end of a certificate's validity take effect within 1 s

_log = structlog.get_logger("thingmint.gateway")


class ConnectionMonitor:
    """Suspends all connections while the change feed is stale, and closes them after ``grace`` seconds.

    When changes are followed again, each device is authenticated again before its connection resumes.
    """

    def __init__(self, feed: ChangeFeed, connections: ConnectionIndex, grace: float) -> None:
        self._feed = feed
        self._connections = connections
        self._grace = grace
        self._stale_since: float | None = None
        self._interruptions = feed.interruptions  # all devices were authenticated after so many

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        check_at = loop.time() + _DEADLINES_CHECK_EVERY
        while True:
            await asyncio.sleep(_FEED_CHECK_EVERY)
            now = loop.time()
            self._check_feed(now)
            if now >= check_at:
                check_at = now + _DEADLINES_CHECK_EVERY
                self._in_slices("check", self._check_deadlines(now))

    def _check_feed(self, now: float) -> None:
        if not self._feed.stale:
            self._stale_since = None
            if self._interruptions != self._feed.interruptions:
                self._interruptions = self._feed.interruptions
                _log.info("connections_resume", connections=len(self._connections))
                self._connections.reauthorize_all()
        elif self._stale_since is None:
            self._stale_since = now
            _log.error("connections_suspended", connections=len(self._connections), grace=self._grace)
            self._in_slices("suspend", self._suspend_all())
        elif now - self._stale_since >= self._grace:
            self._in_slices("disconnect", self._disconnect_all())

    def _in_slices(self, name: str, work: Iterator[None]) -> None:
        """Starts ``work``, unless the last work of this name is not done yet."""
        if not self._connections.slices.has_waiting("", (self, name)):
            self._connections.slices.run("", (self, name), work)

    def _suspend_all(self) -> Iterator[None]:
        for member in self._connections:
            if not self._feed.stale:
                return
            member.suspend()
            yield

    def _disconnect_all(self) -> Iterator[None]:
        for member in self._connections:
            if not self._feed.stale:
                return
            if member.is_accepted:  # else it is about to get a CONNACK that says why, or the outage is about to end
                member.disconnect(Reason.SERVER_BUSY, "changes cannot be followed")
            yield

    def _check_deadlines(self, now: float) -> Iterator[None]:
        for member in self._connections:
            member.check_deadlines(now)
            yield
