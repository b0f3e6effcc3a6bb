"""What all connections share, and the traffic of one: AWS's rules hold for it, or those of Yandex IoT Core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from thingmint.mqtt.client_traffic import Host
from thingmint.mqtt.owner_traffic import OwnerTraffic
from thingmint.mqtt.traffic import Traffic
from thingmint.services.authentication_decisions import Accepted, AcceptedOwner

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from thingmint.mqtt.broker.interface import Broker
    from thingmint.mqtt.connected_clients import ConnectedClients
    from thingmint.mqtt.connection import Connection
    from thingmint.mqtt.connection_index import ConnectionIndex
    from thingmint.mqtt.connection_log import ConnectionLog
    from thingmint.mqtt.device_monitor import DeviceMonitor
    from thingmint.mqtt.kept_messages import KeptMessages
    from thingmint.mqtt.peer import Peer
    from thingmint.mqtt.presence import Presence
    from thingmint.mqtt.protocol.limits import Limits
    from thingmint.mqtt.provisioning import ProvisioningTopics
    from thingmint.mqtt.rates import RateLimit
    from thingmint.mqtt.slices import Slices
    from thingmint.mqtt.takeovers import Takeovers
    from thingmint.mqtt.wills import Wills
    from thingmint.services.change_feed import ChangeFeed
    from thingmint.services.device_authentication import DeviceAuthenticator
    from thingmint.services.owner_authentication import OwnerAuthenticator

AnyTraffic = Traffic | OwnerTraffic


@dataclass(frozen=True, slots=True)
class Services:
    """The objects that all connections share."""

    authenticator: DeviceAuthenticator
    broker: Broker
    connections: ConnectionIndex
    clients: ConnectedClients
    feed: ChangeFeed
    wills: Wills
    connection_log: ConnectionLog
    provisioning: ProvisioningTopics | None
    limits: Limits
    rate_limit: RateLimit
    slices: Slices
    clock: Callable[[], datetime]
    owners: OwnerAuthenticator | None = None
    """None where the rules of Yandex IoT Core never hold."""
    kept_messages: KeptMessages | None = None
    monitor: DeviceMonitor | None = None
    takeovers: Takeovers | None = None
    """None if no other process uses the store."""
    presence: Presence | None = None


class Member(Host, Protocol):
    """The session that traffic is made for."""

    @property
    def peer(self) -> Peer: ...

    @property
    def connection(self) -> Connection: ...


def new_traffic(session: Member, services: Services, client_id: str, accepted: Accepted | AcceptedOwner) -> AnyTraffic:
    mqtt, log = session.connection.mqtt, services.connection_log
    if isinstance(accepted, Accepted):
        return Traffic(session, session.peer, client_id, accepted, mqtt, log, services.provisioning)
    owners, kept, monitor = services.owners, services.kept_messages, services.monitor
    assert owners is not None, "without them no owner is accepted"
    assert kept is not None, "the server has all or none"
    assert monitor is not None, "the server has all or none"
    return OwnerTraffic(session, session.peer, client_id, accepted, mqtt, log, owners, kept, monitor)


def take(traffic: AnyTraffic, accepted: Accepted | AcceptedOwner) -> str | None:
    """Returns why the connection cannot go on: other rules hold for it now, or it would be another owner. Else None."""
    if isinstance(traffic, Traffic) and isinstance(accepted, Accepted):
        traffic.take(accepted)
    elif isinstance(traffic, OwnerTraffic) and isinstance(accepted, AcceptedOwner):
        if accepted.owner != traffic.owner:
            return "the certificate is bound to another owner now"
        traffic.take(accepted)
    else:
        return "the certificate was bound, or is not bound any more: other rules hold"
    return None
