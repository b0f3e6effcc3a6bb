"""The devices that are connected to this process, and how messages reach them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from thingmint.mqtt.broker.embedded import EmbeddedBroker
from thingmint.mqtt.broker.upstream import UpstreamBroker
from thingmint.mqtt.connected_clients import ConnectedClients
from thingmint.mqtt.connection_index import ConnectionIndex
from thingmint.mqtt.messages import GatewayMessages
from thingmint.mqtt.session_list import LocalSessionList
from thingmint.mqtt.slices import Slices
from thingmint.server.processes import SharedStore
from thingmint.services.certificates import utc_now
from thingmint.services.live_sessions import only_here

if TYPE_CHECKING:
    from thingmint.mqtt.broker.interface import Broker
    from thingmint.services.live_sessions import SharedSessions
    from thingmint.settings import Settings
    from thingmint.store.engine import Store

_BROKER_ADVICE = "devices at other processes on this database get no messages from here: set broker to an MQTT broker"

_log = structlog.get_logger("thingmint.server")


@dataclass(frozen=True, slots=True)
class Devices:
    """The connected devices. ``embedded`` has no sessions if ``broker`` is an external one.

    ``shared`` and ``shared_sessions`` are None if the store cannot be shared with other processes.
    """

    broker: Broker
    embedded: EmbeddedBroker
    connections: ConnectionIndex
    clients: ConnectedClients
    shared: SharedStore | None
    shared_sessions: SharedSessions | None
    messages: GatewayMessages

    @classmethod
    def of(cls, store: Store, settings: Settings) -> Devices:
        """Raises ConfigError."""
        slices = Slices()
        embedded = EmbeddedBroker(slices=slices)
        broker: Broker = embedded
        if settings.broker is not None:
            broker = UpstreamBroker(settings.broker.upstream(), slices=slices)
        elif store.is_shared:
            _log.warning("embedded_broker_is_for_one_process", advice=_BROKER_ADVICE)
        connections, clients = ConnectionIndex(slices), ConnectedClients(utc_now)
        shared = SharedStore.of(store, clients)
        shared_sessions = shared.sessions(store, broker, clients) if shared is not None else None
        messages = GatewayMessages(
            broker,
            connections,
            clients,
            utc_now,
            client_ids=shared.client_ids if shared is not None else None,
            sessions=shared_sessions or only_here(LocalSessionList(broker, clients, "")),
        )
        return cls(broker, embedded, connections, clients, shared, shared_sessions, messages)
