"""The sockets that devices connect to. A connection begins with TLS, or with a TLS proxy's PROXY header."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.http.connection_limits import AddressLimits, Limits
from thingmint.mqtt.tls.listener import TlsListener, fingerprint_check
from thingmint.mqtt.tls.proxied import ProxyListener

if TYPE_CHECKING:
    from thingmint.access.request_log import RefusalLog
    from thingmint.mqtt.tls.contexts import Contexts
    from thingmint.mqtt.tls.listener import InnerFactory

_MANY = 1_000_000  # in effect no limit
_BACKLOG = 1024  # connections that wait in the kernel while the process is busy with handshakes


@dataclass(frozen=True, slots=True)
class MqttListener:
    """A bound socket that devices connect to.

    ``alpn_required``: clients have to offer an application protocol. ``proxied``: a TLS proxy terminates the TLS of the
    devices, and forwards each device's identity in a PROXY header. Over TCP the proxy authenticates with a certificate
    whose SHA-256 is in ``fingerprints``.
    """

    sock: socket.socket
    alpn_required: bool = False
    proxied: bool = False
    fingerprints: frozenset[str] = frozenset()

    async def open(
        self, contexts: Contexts, connection: InnerFactory, limits: AddressLimits, refusals: RefusalLog
    ) -> asyncio.Server:
        """Starts to listen. ``connection`` makes the protocol of a device; ``limits`` count devices by address."""
        loop = asyncio.get_running_loop()
        if not self.proxied:
            tls = TlsListener(contexts, connection, limits=limits, refusals=refusals, alpn_required=self.alpn_required)
            return await loop.create_server(tls, sock=self.sock, backlog=_BACKLOG)
        proxy = ProxyListener(connection, limits=limits, refusals=refusals)
        if self.sock.family is socket.AF_UNIX:
            return await loop.create_unix_server(proxy, sock=self.sock, backlog=_BACKLOG)
        # All connections come from the proxy's address. ``proxy`` counts the devices' addresses, from the headers.
        proxy_limits = AddressLimits(Limits(per_address=_MANY, half_open_per_address=_MANY, reserve=0))
        check = fingerprint_check(self.fingerprints)
        tls = TlsListener(contexts, proxy.inside, limits=proxy_limits, refusals=refusals, check=check)
        return await loop.create_server(tls, sock=self.sock, backlog=_BACKLOG)
