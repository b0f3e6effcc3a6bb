"""The credential provider's listener: HTTPS with the TLS of the devices' listeners, which takes any certificate."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from thingmint.access.device_credentials import DeviceSessionIssuer
from thingmint.access.throttle import Rate, Throttle
from thingmint.aws.credential_provider import CredentialProvider
from thingmint.http.front import SingleApi
from thingmint.http.listener import HttpListener
from thingmint.http.protocol import LimitedProtocol
from thingmint.mqtt.tls.listener import TlsListener
from thingmint.server.sockets import bind
from thingmint.services.authentication_decisions import AuthenticationRequest
from thingmint.services.certificates import utc_now
from thingmint.services.compiled_policies import PolicySets
from thingmint.services.device_authentication import DeviceAuthenticator

if TYPE_CHECKING:
    import socket

    from thingmint.access.request_log import RefusalLog
    from thingmint.http.connection_limits import AddressLimits, Place
    from thingmint.http.memory import RequestMemory
    from thingmint.http.messages import App
    from thingmint.mqtt.peer import Peer
    from thingmint.mqtt.tls.contexts import Contexts
    from thingmint.server.core import Core

_ALPN = ("http/1.1",)
_BACKLOG = 1024  # connections that wait in the kernel while the process is busy with handshakes
_PER_DEVICE = Rate(1, 20)  # a device asks again when its credentials end, at the earliest after 15 minutes


def device_credentials(core: Core) -> DeviceSessionIssuer:
    """Lets callers use credentials that this or another process gave to devices; returns what gives them."""
    instance, directory, names = core.instance, core.access.directory, core.certificates.names.host_names
    policy_sets = PolicySets()
    core.storage.feed.follow(policy_sets.forget)
    authenticator = DeviceAuthenticator(instance.store, names, utc_now, core.default_account, policy_sets=policy_sets)
    issuer = DeviceSessionIssuer(authenticator, instance.store, directory, instance.vault, utc_now)
    directory.device_sessions = issuer
    return issuer


def credentials_listener(core: Core, issuer: DeviceSessionIssuer, contexts: Contexts) -> HttpListener:
    """``contexts`` are those of the devices' listeners. Raises ConfigError."""
    settings, access, reports = core.settings, core.access, core.reports
    assert settings.credentials_port is not None, "the caller has looked"
    sock = bind("credentials-port", settings.host, settings.credentials_port)
    per_device = Throttle(None if settings.limits == "none" else _PER_DEVICE, {})
    api = CredentialProvider(issuer, access.throttle, per_device)
    app = SingleApi(api, reports.requests, access.failures, access.memory, utc_now)
    limits, refusals = core.limits["credentials"], reports.connections.refusals
    return DeviceHttpListener(app, sock, limits, refusals, access.memory, contexts)


class _NoPlace:
    """In place of a Place: TLS has the connection's."""

    def opened(self) -> None: ...

    def closed(self) -> None: ...


class DeviceHttpListener(HttpListener):
    """An HTTP listener whose TLS asks for a client certificate, and accepts any if the client has its key.

    asyncio's TLS cannot do that. What TLS knows about the device is in the state of its requests.
    """

    def __init__(
        self,
        app: App,
        sock: socket.socket,
        limits: AddressLimits,
        refusals: RefusalLog,
        memory: RequestMemory,
        contexts: Contexts,
    ) -> None:
        super().__init__(app, sock, limits, refusals, memory)
        self._contexts = contexts

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        del sockets
        tls = TlsListener(self._contexts, self._inside, limits=self._limits, refusals=self._refusals, alpn=_ALPN)
        server = await asyncio.get_running_loop().create_server(tls, sock=self._sock, backlog=_BACKLOG)
        self.servers = [server]
        self.started = True

    def _inside(self, peer: Peer) -> LimitedProtocol:
        device = AuthenticationRequest(peer.fingerprint, peer.certificate, peer.sni, peer.address)
        place: Place = _NoPlace()  # type: ignore[assignment]  # all that the protocol uses of one
        return LimitedProtocol(self.config, self.server_state, self._memory, place, device=device)
