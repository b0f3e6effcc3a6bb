"""The gRPC port: accepts connections within limits by address, and relays them to grpcio."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from thingmint.domain.names import source_of
from thingmint.domain.server_certificates import name_in
from thingmint.http.client_hello import peek_hello
from thingmint.http.connection_limits import Acceptor, TooMany
from thingmint.yandex.grpc import Handlers
from thingmint.yandex.grpc_services import StandardServices
from thingmint.yandex.relay import HANDSHAKE_TIMEOUT, Places, Relay

if TYPE_CHECKING:
    from collections.abc import Callable

    from thingmint.access.request_log import RefusalLog
    from thingmint.domain.server_certificates import ServerCertificate, ShownCertificates
    from thingmint.http.connection_limits import AddressLimits, Place
    from thingmint.yandex.grpc import GrpcParts


# As over REST. The largest useful request of the contract, a device with 50 certificates, has about 100 KiB.
_MAX_MESSAGE_BYTES = 1024 * 1024
_OPTIONS = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.absolute_max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 256),
    ("grpc.server_handshake_timeout_ms", int(HANDSHAKE_TIMEOUT * 1000)),
    # A client can send 64 KiB a call before the server reads them; do not raise that for fast networks.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.max_connection_idle_ms", 5 * 60_000),
    # Detects clients that disappeared without closing the connection.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)
_MAX_CONCURRENT_RPCS = 4096  # the limits of calls in grpc.py are lower
_MAX_SOCKET_PATH = 80  # bytes, with room for a number after it
_RECEIVE_BUFFER = 64 * 1024  # bytes: the kernel's, for connections that come with that of a small request
_GRACE = 30.0  # seconds, for calls in flight when the server stops


class GrpcListener:
    """``certificates`` returns what the listener shows if it changed since the last call, else None.

    grpcio cannot limit connections, so it listens on a Unix socket at ``path``, in a private folder, and the
    connections of the port are relayed to it. It has one server, and socket, for each host name with a certificate of
    its own: a server of grpcio shows one certificate only.
    """

    def __init__(
        self,
        parts: GrpcParts,
        sock: socket.socket,
        path: Path,
        limits: AddressLimits,
        refusals: RefusalLog,
        certificates: Callable[[], ShownCertificates | None],
    ) -> None:
        self.port: int = sock.getsockname()[1]
        self._sock = sock
        self._limits = limits
        self._refusals = refusals
        self._path = path
        self._folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._relay = Relay()
        # It logs a traceback for each answer that its client did not read. Handlers logs the errors in calls.
        logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)
        standard = StandardServices(parts.api.contract, self._relay, parts.is_ready)
        self._handlers = (Handlers(parts, self.port, self._relay), standard)
        self._shown = _Shown(certificates)
        self._default = self._server_for(None)
        self._by_name: dict[str, _Server] = {}
        self._acceptor: Acceptor | None = None

    async def start(self) -> None:
        await self._default.server.start()
        self._acceptor = Acceptor(self._sock, self._limits, self._refusals, self._connect)
        self._acceptor.start()

    async def take(self, connection: socket.socket, place: Place, address: str, name: str | None) -> None:
        """Serves a connection that another listener has accepted. It counts for the limits of both."""
        own = self._limits.admit(address)
        if isinstance(own, TooMany):
            self._refusals.note("connection_refused", source_of(address), own.reason)
            connection.close()
            place.closed()
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        await self._serve(connection, Places(place, own), address, name)

    async def stop(self) -> None:
        """Stops accepting connections, and returns when the calls in progress are answered."""
        if self._acceptor is not None:
            self._acceptor.close()
        servers = [self._default, *self._by_name.values()]
        await asyncio.gather(*(each.server.stop(_GRACE) for each in servers))
        self._relay.close()
        for each in servers:
            each.path.unlink(missing_ok=True)
        os.close(self._folder)

    async def _connect(self, connection: socket.socket, place: Place, address: str) -> None:
        name = None
        if self._shown.now().by_name:
            try:
                async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                    name = (await peek_hello(connection)).server_name
            except (TimeoutError, asyncio.CancelledError) as error:
                connection.close()
                place.closed()
                if not isinstance(error, TimeoutError):
                    raise
                return
        await self._serve(connection, place, address, name)

    async def _serve(self, connection: socket.socket, place: Place | Places, address: str, name: str | None) -> None:
        try:
            server = await self._server(name)
        except BaseException:
            connection.close()
            place.closed()
            raise
        await self._relay.connect(connection, place, address, server.target)

    async def _server(self, name: str | None) -> _Server:
        """The started server that shows the certificate for a host name."""
        entry = name_in(self._shown.now().by_name, name)
        if entry is None:
            return self._default
        if entry not in self._by_name:
            self._by_name[entry] = self._server_for(entry)
        await self._by_name[entry].start()
        return self._by_name[entry]

    def _server_for(self, entry: str | None) -> _Server:
        """A new server that shows the certificate for a host name or a wildcard; for None, the default one."""
        number = "" if entry is None else f"-{len(self._by_name) + 1}"
        path = self._path.with_name(f"{self._path.stem}{number}{self._path.suffix}")
        path.unlink(missing_ok=True)  # left by a server that was killed
        server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_MAX_CONCURRENT_RPCS)
        server.add_generic_rpc_handlers(self._handlers)
        target = _short(path, self._folder)
        mask = os.umask(0o177)
        try:
            server.add_secure_port(f"unix:{target}", self._shown.credentials(entry))
        finally:
            os.umask(mask)
        return _Server(server, path, target)


class _Server:
    def __init__(self, server: grpc.aio.Server, path: Path, target: str) -> None:
        self.server = server
        self.path = path
        self.target = target
        self._starting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts it at the first call; later calls wait until it is started."""
        if self._starting is None:
            self._starting = asyncio.create_task(self.server.start())
        await asyncio.shield(self._starting)


class _Shown:
    """The certificates as they are now. grpcio asks for them in other threads, before each handshake."""

    def __init__(self, certificates: Callable[[], ShownCertificates | None]) -> None:
        self._changed = certificates
        shown = certificates()
        assert shown is not None, "the first call returns the certificates"
        self._shown = shown

    def now(self) -> ShownCertificates:
        if (shown := self._changed()) is not None:
            self._shown = shown
        return self._shown

    def credentials(self, entry: str | None) -> grpc.ServerCredentials:
        """The credentials of a server for a host name or a wildcard. They follow changes."""
        current = self._at(entry)

        def fetch() -> Any:
            nonlocal current
            certificate = self._at(entry)
            if certificate is current:
                return None
            current = certificate
            return _configuration(certificate)

        return grpc.dynamic_ssl_server_credentials(_configuration(current), fetch, require_client_authentication=False)

    def _at(self, entry: str | None) -> ServerCertificate:
        shown = self.now()
        return shown.by_name.get(entry, shown.default)[0] if entry is not None else shown.default[0]


def _configuration(certificate: ServerCertificate) -> Any:
    return grpc.ssl_server_certificate_configuration([(certificate.key_pem, certificate.chain_pem)])


def _short(path: Path, folder: int) -> str:
    """A name of ``path``, in the open ``folder``, that fits into the 108 bytes of sockaddr_un."""
    if len(os.fsencode(path)) < _MAX_SOCKET_PATH or not Path("/proc/self/fd").is_dir():
        return str(path)
    return f"/proc/self/fd/{folder}/{path.name}"
