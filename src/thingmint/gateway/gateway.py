"""The devices' door as a whole: its listeners, and what all connections share."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from thingmint.gateway.admission import Admission
from thingmint.gateway.contexts import Contexts, ServerIdentity, build_context
from thingmint.gateway.device import DeviceConnection, Services
from thingmint.gateway.hub import Hub
from thingmint.gateway.limits import AddressLimits, Limits
from thingmint.gateway.mqtt.limits import AWS_LIMITS
from thingmint.gateway.mqtt.reasons import Reason
from thingmint.gateway.tls import TlsListener
from thingmint.gateway.watcher import Watcher
from thingmint.gateway.wills import Wills

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime

    from OpenSSL import SSL

    from thingmint.gateway.admission import Refused
    from thingmint.gateway.broker.interface import Broker
    from thingmint.gateway.journal import DoorJournal
    from thingmint.gateway.peer import Peer
    from thingmint.gateway.provisioning import ProvisioningTopics
    from thingmint.identity.registration import Scope
    from thingmint.registry.doorkeeping import Doorkeeping

__all__ = ["Gateway"]

_FOLLOW_EVERY = 1.0  # seconds, for a renewed certificate
_BACKLOG = 1024  # connections that the kernel holds while we are busy with handshakes


class Gateway:
    """``renewed`` gives the listeners' keys and certificates in PEM, then None until there are new ones."""

    def __init__(
        self,
        doorkeeping: Doorkeeping,
        broker: Broker,
        journal: DoorJournal,
        *,
        endpoints: Mapping[str, Scope],
        renewed: Callable[[], Sequence[tuple[bytes, bytes]] | None],
        clock: Callable[[], datetime],
        provisioning: ProvisioningTopics | None = None,
        newcomer: Callable[[Peer, Scope | None], Awaitable[Refused | None]] | None = None,
    ) -> None:
        self._renewed = renewed
        material = renewed()
        assert material is not None, "the listeners' certificate is issued first"
        self._contexts = Contexts(_context(material))
        self._address_limits = AddressLimits(Limits())
        hub = Hub()
        admission = Admission(doorkeeping, endpoints, clock, newcomer)
        self._services = Services(
            admission=admission,
            broker=broker,
            hub=hub,
            watcher=Watcher(doorkeeping, hub, clock),
            wills=Wills(admission, broker, journal),
            journal=journal,
            provisioning=provisioning,
            limits=replace(AWS_LIMITS, shared_available=broker.features.shared_subscriptions),
            clock=clock,
        )
        self._servers: list[asyncio.Server] = []
        self._chores: list[asyncio.Task[None]] = []

    @property
    def connections(self) -> int:
        return len(self._services.hub)

    async def start(self, listeners: Sequence[tuple[socket.socket, bool]]) -> None:
        """Each is a bound socket, and whether clients have to offer an application protocol there (ALPN)."""
        await self._services.broker.start()
        await self._services.watcher.look()
        self._chores = [asyncio.create_task(self._services.watcher.run()), asyncio.create_task(self._follow())]
        loop = asyncio.get_running_loop()
        for sock, alpn_required in listeners:
            listener = TlsListener(
                self._contexts, self._connection, limits=self._address_limits, alpn_required=alpn_required
            )
            self._servers.append(await loop.create_server(listener, sock=sock, backlog=_BACKLOG))

    async def stop(self) -> None:
        """Nobody is let in any more, and version 5 is told why; wills are not published."""
        for server in self._servers:
            server.close()
        for member in self._services.hub:
            member.throw_out(Reason.SERVER_SHUTTING_DOWN, "the server stops")
        for chore in self._chores:
            chore.cancel()
        if self._chores:
            await asyncio.wait(self._chores)
        await self._services.wills.close()
        await self._services.broker.stop()

    def _connection(self, peer: Peer) -> DeviceConnection:
        return DeviceConnection(self._services, peer)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_FOLLOW_EVERY)
            material = self._renewed()
            if material is not None:
                self._contexts.replace(_context(material))


def _context(material: Sequence[tuple[bytes, bytes]]) -> SSL.Context:
    return build_context(*(ServerIdentity.from_pem(key, certificate) for key, certificate in material))
