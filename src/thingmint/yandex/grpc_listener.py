"""The gRPC port: accepts connections within limits by address, and relays them to grpcio."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from thingmint.domain.names import source_of
from thingmint.http.connection_limits import Acceptor, TooMany
from thingmint.yandex.grpc import Handlers
from thingmint.yandex.grpc_services import StandardServices
from thingmint.yandex.relay import HANDSHAKE_TIMEOUT, Places, Relay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thingmint.access.request_log import RefusalLog
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
    """``certificates`` returns pairs of (key, chain) in PEM if they changed since its last call, else None.

    The first pair is used. grpcio cannot limit connections, so it listens on a Unix socket at ``path``, in a private
    folder, and the connections of the port are relayed to it.
    """

    def __init__(
        self,
        parts: GrpcParts,
        sock: socket.socket,
        path: Path,
        limits: AddressLimits,
        refusals: RefusalLog,
        certificates: Callable[[], Sequence[tuple[bytes, bytes]] | None],
    ) -> None:
        self.port: int = sock.getsockname()[1]
        self._sock = sock
        self._limits = limits
        self._refusals = refusals
        self._path = path
        path.unlink(missing_ok=True)
        self._folder, target = _short(path)
        self._relay = Relay(target)
        # It logs a traceback for each answer that its client did not read. Handlers logs the errors in calls.
        logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)
        self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_MAX_CONCURRENT_RPCS)
        standard = StandardServices(parts.api.contract, self._relay, parts.is_ready)
        self._server.add_generic_rpc_handlers((Handlers(parts, self.port, self._relay), standard))
        mask = os.umask(0o177)
        try:
            self._server.add_secure_port(f"unix:{target}", _credentials(certificates))
        finally:
            os.umask(mask)
        self._acceptor: Acceptor | None = None

    async def start(self) -> None:
        await self._server.start()
        self._acceptor = Acceptor(self._sock, self._limits, self._refusals, self._relay.connect)
        self._acceptor.start()

    async def take(self, connection: socket.socket, place: Place, address: str) -> None:
        """Serves a connection that another listener has accepted. It counts for the limits of both."""
        own = self._limits.admit(address)
        if isinstance(own, TooMany):
            self._refusals.note("connection_refused", source_of(address), own.reason)
            connection.close()
            place.closed()
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        await self._relay.connect(connection, Places(place, own), address)

    async def stop(self) -> None:
        """Stops accepting connections, and returns when the calls in progress are answered."""
        if self._acceptor is not None:
            self._acceptor.close()
        await self._server.stop(_GRACE)
        self._relay.close()
        self._path.unlink(missing_ok=True)
        os.close(self._folder)


def _short(path: Path) -> tuple[int, str]:
    """The open folder of ``path``, and a name of ``path`` in it that fits into the 108 bytes of sockaddr_un."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if len(os.fsencode(path)) < _MAX_SOCKET_PATH or not Path("/proc/self/fd").is_dir():
        return folder, str(path)
    return folder, f"/proc/self/fd/{folder}/{path.name}"


def _credentials(certificates: Callable[[], Sequence[tuple[bytes, bytes]] | None]) -> grpc.ServerCredentials:
    initial = certificates()
    assert initial is not None, "the first call returns the certificates"

    def fetch() -> Any:
        changed = certificates()
        return grpc.ssl_server_certificate_configuration([changed[0]]) if changed else None

    return grpc.dynamic_ssl_server_credentials(
        grpc.ssl_server_certificate_configuration([initial[0]]), fetch, require_client_authentication=False
    )
