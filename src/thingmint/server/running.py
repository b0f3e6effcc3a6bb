"""Runs the server: starts its parts, and stops them in order."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from thingmint.domain.errors import Unavailable
from thingmint.instance.layout import write_private
from thingmint.server.chores import kept_up

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from thingmint.access.directory import Directory
    from thingmint.admin import AdminSocket
    from thingmint.server.core import Core
    from thingmint.server.listeners import Listeners
    from thingmint.server.reports import Reports
    from thingmint.server.stalls import StallWatch

_COLLECT_AT = 10_000  # objects that may be part of a cycle

_log = structlog.get_logger("thingmint.server")


@dataclass(frozen=True, slots=True)
class Ready:
    """The addresses where a started server listens. ``ports`` are by listener, as in listeners.json.

    ``certificates`` describe those that settings name. ``console`` is the console's address, if it is served.
    """

    hostname: str
    host: str
    ports: Mapping[str, int]
    certificates: Sequence[str] = ()
    console: str | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """The parts that are started and stopped. ``chores`` run in between."""

    core: Core
    listeners: Listeners
    admin: AdminSocket
    stalls: StallWatch
    chores: Sequence[Callable[[], Coroutine[Any, Any, None]]]
    ready: Ready

    async def run(self, stopping: asyncio.Event, on_ready: Callable[[Ready], None]) -> None:
        chores = [asyncio.create_task(kept_up(chore)) for chore in self.chores]
        self.core.environment.keys.start()
        try:
            await self._start()
            self.stalls.start()  # only now, because starting does not delay any client
            on_ready(self.ready)
            await stopping.wait()
            _log.info("stopping", waiting_for="requests in flight")
        finally:
            await self._stop(chores)

    async def _start(self) -> None:
        ready, listeners = self.ready, self.listeners
        for listener in listeners.apis.values():
            await listener.start()
        await listeners.gateway.start(list(listeners.mqtt.values()))
        await self.admin.start()
        self.core.certificates.names.write_endpoints(ready.ports)
        _exclude_from_garbage_collection()
        _log.info("ready", host=ready.host, dev=self.core.settings.dev, **ready.ports)
        write_private(self.core.instance.directory.listeners, orjson.dumps(ready.ports) + b"\n")

    async def _stop(self, chores: Sequence[asyncio.Task[None]]) -> None:
        core, listeners = self.core, self.listeners
        core.instance.directory.listeners.unlink(missing_ok=True)
        if core.settings.mqtt_proxy_socket is not None:
            core.settings.mqtt_proxy_socket.unlink(missing_ok=True)
        if listeners.console is not None:
            listeners.console.updates.close()  # else the listeners would wait for the streams of open pages
        await core.outgoing.publisher.stop()
        await listeners.gateway.stop()
        await asyncio.gather(*(listener.stop() for listener in listeners.apis.values()))
        await self.admin.stop()
        for chore in chores:
            chore.cancel()
        await asyncio.wait(chores)
        await core.outgoing.exports.close()
        await core.environment.last_messages.settle()
        await core.reports.flush()
        await _finish(core.access.directory, core.reports)
        await core.outgoing.presence.close()
        self.stalls.stop()
        await core.environment.keys.close()
        _log.info("stopped")


async def _finish(directory: Directory, reports: Reports) -> None:
    """Stores what is only in memory: times of use of credentials, and audit records."""
    try:
        await directory.flush()
        await reports.trail.close()
        await reports.sealer.close()
    except (Unavailable, OSError) as error:
        _log.error("audit_log_not_finished", error=str(error))


def _exclude_from_garbage_collection() -> None:
    """Excludes the objects made at start (contracts, routes, modules), which live as long as the process.

    Requests create hardly any reference cycles, so Python's default, a collection every 700 objects, finds nearly none.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AT)
