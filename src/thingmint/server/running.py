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

    from thingmint.access.audit import AuditLog
    from thingmint.access.audit_sealer import Sealer
    from thingmint.access.directory import Directory
    from thingmint.admin import AdminSocket
    from thingmint.console.updates import Updates
    from thingmint.http.listener import HttpListener
    from thingmint.instance.create import Instance
    from thingmint.mqtt.gateway import Gateway
    from thingmint.mqtt.listener import MqttListener
    from thingmint.server.processes import DevicePresence
    from thingmint.server.reports import Reports
    from thingmint.server.served_names import ServedNames
    from thingmint.server.stalls import StallWatch
    from thingmint.services.event_publisher import EventPublisher
    from thingmint.services.exported_messages import Exports
    from thingmint.services.keypool import KeyPool
    from thingmint.services.last_messages import LastMessages
    from thingmint.settings import Settings
    from thingmint.yandex.grpc_listener import GrpcListener

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

    instance: Instance
    settings: Settings
    names: ServedNames
    ready: Ready
    listeners: Mapping[str, HttpListener | GrpcListener]
    gateway: Gateway
    mqtt_listeners: Mapping[str, MqttListener]
    admin: AdminSocket
    directory: Directory
    reports: Reports
    presence: DevicePresence
    keys: KeyPool
    exports: Exports
    events: EventPublisher
    last_messages: LastMessages
    updates: Updates | None
    stalls: StallWatch
    chores: Sequence[Callable[[], Coroutine[Any, Any, None]]]

    async def run(self, stopping: asyncio.Event, on_ready: Callable[[Ready], None]) -> None:
        chores = [asyncio.create_task(kept_up(chore)) for chore in self.chores]
        self.keys.start()
        try:
            await self._start()
            self.stalls.start()  # only now, because starting does not delay any client
            on_ready(self.ready)
            await stopping.wait()
            _log.info("stopping", waiting_for="requests in flight")
        finally:
            await self._stop(chores)

    async def _start(self) -> None:
        ready, directory = self.ready, self.instance.directory
        for listener in self.listeners.values():
            await listener.start()
        await self.gateway.start(list(self.mqtt_listeners.values()))
        await self.admin.start()
        self.names.write_endpoints(ready.ports)
        _exclude_from_garbage_collection()
        _log.info("ready", host=ready.host, dev=self.settings.dev, **ready.ports)
        write_private(directory.listeners, orjson.dumps(ready.ports) + b"\n")

    async def _stop(self, chores: Sequence[asyncio.Task[None]]) -> None:
        self.instance.directory.listeners.unlink(missing_ok=True)
        if self.settings.mqtt_proxy_socket is not None:
            self.settings.mqtt_proxy_socket.unlink(missing_ok=True)
        if self.updates is not None:
            self.updates.close()  # else the listeners would wait for the streams of open pages
        await self.events.stop()
        await self.gateway.stop()
        await asyncio.gather(*(listener.stop() for listener in self.listeners.values()))
        await self.admin.stop()
        for chore in chores:
            chore.cancel()
        await asyncio.wait(chores)
        await self.exports.close()
        await self.last_messages.settle()
        await self.reports.flush()
        await _finish(self.directory, self.reports.trail, self.reports.sealer)
        await self.presence.close()
        self.stalls.stop()
        await self.keys.close()
        _log.info("stopped")


async def _finish(directory: Directory, trail: AuditLog, sealer: Sealer) -> None:
    """Stores what is only in memory: times of use of credentials, and audit records."""
    try:
        await directory.flush()
        await trail.close()
        await sealer.close()
    except (Unavailable, OSError) as error:
        _log.error("audit_log_not_finished", error=str(error))


def _exclude_from_garbage_collection() -> None:
    """Excludes the objects made at start (contracts, routes, modules), which live as long as the process.

    Requests create hardly any reference cycles, so Python's default, a collection every 700 objects, finds nearly none.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AT)
