"""The MQTT gateway: its listeners, and the objects that all connections share."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from thingmint.domain.tls_profiles import TLS_PROFILES
from thingmint.http.connection_limits import AddressLimits, Limits
from thingmint.mqtt.connection_monitor import ConnectionMonitor
from thingmint.mqtt.connection_services import Services
from thingmint.mqtt.protocol.limits import AWS_LIMITS
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.rates import RateLimit, Rates
from thingmint.mqtt.sessions import Session
from thingmint.mqtt.tls.contexts import Contexts, build_context
from thingmint.mqtt.wills import Wills

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from OpenSSL import SSL

    from thingmint.domain.server_certificates import ShownCertificates
    from thingmint.domain.tls_profiles import TlsProfile
    from thingmint.mqtt.broker.interface import Broker
    from thingmint.mqtt.connected_clients import ConnectedClients
    from thingmint.mqtt.connection import Connection
    from thingmint.mqtt.connection_index import ConnectionIndex
    from thingmint.mqtt.connection_log import ConnectionLog
    from thingmint.mqtt.device_monitor import DeviceMonitor
    from thingmint.mqtt.kept_messages import KeptMessages
    from thingmint.mqtt.listener import MqttListener
    from thingmint.mqtt.peer import Peer
    from thingmint.mqtt.presence import Presence
    from thingmint.mqtt.provisioning import ProvisioningTopics
    from thingmint.mqtt.takeovers import Takeovers
    from thingmint.services.change_feed import ChangeFeed
    from thingmint.services.device_authentication import DeviceAuthenticator
    from thingmint.services.function_calls import Function
    from thingmint.services.owner_authentication import OwnerAuthenticator


_CERTIFICATE_CHECK_EVERY = 1.0  # seconds

_log = structlog.get_logger("thingmint.mqtt")


class Gateway:
    """``certificates`` returns what the listeners show, then None until it changes.

    ``takeovers`` is None if no other process uses the store. ``outage_grace``: for how many seconds connections stay
    open while changes cannot be followed.
    """

    def __init__(
        self,
        authenticator: DeviceAuthenticator,
        broker: Broker,
        connection_log: ConnectionLog,
        connections: ConnectionIndex,
        clients: ConnectedClients,
        feed: ChangeFeed,
        *,
        certificates: Callable[[], ShownCertificates | None],
        limits: AddressLimits | None = None,
        rates: Rates | None = None,
        clock: Callable[[], datetime],
        outage_grace: float = 60.0,
        tls_profile: TlsProfile = TLS_PROFILES["default"],
        takeovers: Takeovers | None = None,
        provisioning: ProvisioningTopics | None = None,
        owners: OwnerAuthenticator | None = None,
        kept_messages: KeptMessages | None = None,
        monitor: DeviceMonitor | None = None,
        presence: Presence | None = None,
    ) -> None:
        self._certificates = certificates
        shown = certificates()
        assert shown is not None, "the first call returns the certificates"
        self._tls_profile = tls_profile
        self._contexts = Contexts(*_contexts(shown, tls_profile))
        self._address_limits = limits or AddressLimits(Limits())
        self._services = Services(
            authenticator=authenticator,
            broker=broker,
            connections=connections,
            clients=clients,
            takeovers=takeovers,
            feed=feed,
            wills=Wills(authenticator, broker, connection_log, feed),
            connection_log=connection_log,
            provisioning=provisioning,
            owners=owners,
            kept_messages=kept_messages,
            monitor=monitor,
            presence=presence,
            limits=replace(AWS_LIMITS, shared_available=broker.features.shared_subscriptions),
            rate_limit=RateLimit(rates or Rates()),
            slices=connections.slices,
            clock=clock,
        )
        self._monitor = ConnectionMonitor(feed, connections, outage_grace)
        self._servers: list[asyncio.Server] = []
        self._chores: list[asyncio.Task[None]] = []

    @property
    def contexts(self) -> Contexts:
        """The TLS contexts of the listeners for devices. They follow the renewals of certificates."""
        return self._contexts

    @property
    def connections(self) -> int:
        return len(self._services.connections)

    @property
    def wills(self) -> Wills:
        return self._services.wills

    @property
    def throttled(self) -> int:
        """How often a connection was not read for a while, because it exceeded its rates."""
        return self._services.rate_limit.exceeded

    def replace_presence_hook(self, function: Function | None) -> None:
        if self._services.presence is not None:
            self._services.presence.hook.replace(function)

    def replace_rates(self, rates: Rates) -> None:
        """Sets the rates of new connections."""
        self._services.rate_limit.replace(rates)

    async def start(self, listeners: Sequence[MqttListener]) -> None:
        await self._services.broker.start()
        await self._services.feed.poll()
        self._chores = [asyncio.create_task(self._monitor.run()), asyncio.create_task(self._follow_certificates())]
        monitor = self._services.monitor
        if monitor is not None:
            self._chores.append(asyncio.create_task(monitor.run()))
        refusals = self._services.connection_log.refusals
        for listener in listeners:
            server = await listener.open(self._contexts, self._connection, self._address_limits, refusals)
            self._servers.append(server)

    async def stop(self) -> None:
        """Closes listeners and connections. MQTT 5 clients get the reason. Wills are not published."""
        for server in self._servers:
            server.close()
        await self._services.slices.finish("", self, self._disconnect_all())
        if self._services.presence is not None:
            await self._services.presence.stop()
        for chore in self._chores:
            chore.cancel()
        if self._chores:
            await asyncio.wait(self._chores)
        if self._services.monitor is not None:
            await self._services.monitor.save()
        await self._services.wills.close()
        await self._services.broker.stop()

    def _disconnect_all(self) -> Iterator[None]:
        for member in self._services.connections:
            member.disconnect(Reason.SERVER_SHUTTING_DOWN, "the server stops")
            yield

    def _connection(self, peer: Peer) -> Connection:
        return Session(self._services, peer).connection

    async def _follow_certificates(self) -> None:
        waiting: ShownCertificates | None = None
        while True:
            await asyncio.sleep(_CERTIFICATE_CHECK_EVERY)
            shown = self._certificates() or waiting
            if shown is None:
                continue
            try:
                self._contexts.replace(*_contexts(shown, self._tls_profile))
                waiting = None
            except (OSError, ValueError) as error:  # a chain needs a file in the directory for temporary files
                if waiting is None:
                    _log.error("listener_certificate_not_shown", why=str(error))
                waiting = shown


def _contexts(shown: ShownCertificates, profile: TlsProfile) -> tuple[SSL.Context, Mapping[str, SSL.Context]]:
    """The default context, and those by host name."""
    by_name = {name: build_context(*certificates, profile=profile) for name, certificates in shown.by_name.items()}
    return build_context(*shown.default, profile=profile), by_name
