"""The parts for several processes on one database: leases, and the client ids of connected devices.

A process that is alone on its database has client ids, too, for the versions in the events of connections.
"""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from thingmint.access.audit_sealer import AUDIT_LEASE
from thingmint.aws.bulk_registration import BULK_LEASE
from thingmint.domain.errors import Unavailable
from thingmint.mqtt.lifecycle_events import LifecycleEvents
from thingmint.mqtt.presence import Presence
from thingmint.mqtt.session_list import LocalSessionList
from thingmint.mqtt.takeovers import Takeovers
from thingmint.services.certificates import utc_now
from thingmint.services.client_ids import ClientIds
from thingmint.services.event_publisher import EVENTS_LEASE
from thingmint.services.export_sender import EXPORTS_LEASE
from thingmint.services.jobs import JOBS_LEASE
from thingmint.services.leases import PROCESS, LeaseKeeper
from thingmint.services.live_sessions import SharedSessions
from thingmint.services.presence_hook import PresenceHook

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from thingmint.domain.arns import Scope
    from thingmint.mqtt.broker.interface import Broker
    from thingmint.mqtt.connected_clients import ConnectedClients
    from thingmint.services.event_configurations import EventSwitches
    from thingmint.services.function_calls import Function
    from thingmint.services.leases import LeasedStore
    from thingmint.store.engine import Store

_LEASES = (AUDIT_LEASE, JOBS_LEASE, EXPORTS_LEASE, BULK_LEASE, EVENTS_LEASE)

_log = structlog.get_logger("thingmint.leases")


@dataclass(frozen=True, slots=True)
class SharedStore:
    """A process's leases, client ids and takeovers, in a store that several processes share."""

    leases: LeaseKeeper
    client_ids: ClientIds
    takeovers: Takeovers

    @classmethod
    def of(cls, store: Store, clients: ConnectedClients) -> SharedStore | None:
        """None if the store cannot be shared."""
        if not store.is_shared:
            return None
        process = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        client_ids = ClientIds(store, process, utc_now)
        leases = LeaseKeeper(store, process, [PROCESS + process, *_LEASES], utc_now)
        return cls(leases, client_ids, Takeovers(client_ids, clients))

    def sessions(self, store: Store, broker: Broker, clients: ConnectedClients) -> SharedSessions:
        process = self.leases.process
        return SharedSessions(store, process, self.leases, LocalSessionList(broker, clients, process), utc_now)

    async def close(self) -> None:
        """Releases the leases, so that other processes need not wait for them to expire."""
        try:
            await self.leases.release()
        except Unavailable as error:
            _log.warning("leases_not_released", error=str(error))


@dataclass(frozen=True, slots=True)
class DevicePresence:
    """The client ids of this process's devices, and what is told of their connections."""

    client_ids: ClientIds
    presence: Presence
    shared: SharedStore | None

    @classmethod
    def of(
        cls, store: Store, broker: Broker, shared: SharedStore | None, events: EventSwitches, function: Function | None
    ) -> DevicePresence:
        """``function`` is the hook of the setting presence."""
        if shared is None:
            client_ids = ClientIds(store, secrets.token_hex(8), utc_now, is_shared=False)
        else:
            client_ids = shared.client_ids

        async def enabled(scope: Scope) -> bool:
            return "CERTIFICATE" in await events.enabled(scope)

        lifecycle_events = LifecycleEvents(broker, client_ids, utc_now, enabled)
        return cls(client_ids, Presence(lifecycle_events, client_ids, PresenceHook(function, utc_now)), shared)

    def chores(self, jobs_store: LeasedStore) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        presence, shared = self.presence, self.shared
        chores = [self.client_ids.run, presence.events.run, presence.hook.run]
        if shared is None:
            return [*chores, presence.report_former]
        return [
            *chores,
            shared.leases.run,
            partial(shared.takeovers.run, shared.leases, jobs_store, utc_now, presence),
            partial(presence.report_taken_over, shared.leases),
        ]

    async def close(self) -> None:
        """Releases the client ids, and the leases."""
        try:
            await self.client_ids.close()
        except Unavailable as error:
            _log.warning("connections_not_released", error=str(error))
        if self.shared is not None:
            await self.shared.close()
