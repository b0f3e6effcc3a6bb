"""TLS for devices, over OpenSSL's memory BIOs: the handshake of a server's connection.

asyncio's TLS can request a client certificate only together with a check of its issuer against known CA certificates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING

from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1, dump_certificate

from thingmint.access.request_log import RefusalLog
from thingmint.domain.certificates import fingerprint_of
from thingmint.domain.names import server_name, source_of
from thingmint.http.connection_limits import AddressLimits, Limits, TooMany
from thingmint.mqtt.peer import Peer, remote_address
from thingmint.mqtt.tls.contexts import MQTT_ALPN, Negotiation, NoCommonProtocol
from thingmint.mqtt.tls.transport import PIECE, TlsTransport, end_writing, flush, reason_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from thingmint.http.connection_limits import Place
    from thingmint.mqtt.tls.contexts import Contexts


HANDSHAKE_TIMEOUT = 10.0  # seconds
_MAX_HANDSHAKE_BYTES = 64 * 1024  # from the peer; usual are 2 to 4 KiB
_MAX_CHAIN = 8  # certificates after that of the peer
_MAX_CHAIN_BYTES = 32 * 1024
_READ_BUFFER_BYTES = 64 * 1024

InnerFactory = Callable[[Peer], asyncio.Protocol]
Check = Callable[[Peer], str | None]


class TlsListener:
    """Makes the protocol of each new connection of one listener. A listener belongs to one event loop.

    ``check`` returns why a peer is refused, or None. ``inner`` makes the protocol inside TLS, after the handshake and
    the check. With ``alpn_required``, a client that offers no protocol of ``alpn`` is refused, as AWS does on port 443;
    else ALPN is optional.
    """

    def __init__(
        self,
        contexts: Contexts,
        inner: InnerFactory,
        *,
        limits: AddressLimits | None = None,
        refusals: RefusalLog | None = None,
        check: Check | None = None,
        alpn: Sequence[str] = MQTT_ALPN,
        alpn_required: bool = False,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
    ) -> None:
        self.negotiation = Negotiation(contexts, tuple(name.encode() for name in alpn), alpn_required)
        self.inner = inner
        self.limits = limits or AddressLimits(Limits())
        self.refusals = refusals or RefusalLog()
        self.check = check
        self.handshake_timeout = handshake_timeout
        # Shared by all connections: data read into it is consumed before the event loop runs another callback.
        self.buffer = memoryview(bytearray(_READ_BUFFER_BYTES))

    def __call__(self) -> TlsProtocol:
        return TlsProtocol(self)


def fingerprint_check(fingerprints: Collection[str]) -> Check:
    """Returns a check that accepts only these certificates. The collection may change between handshakes."""

    def check(peer: Peer) -> str | None:
        return None if peer.fingerprint in fingerprints else "the certificate is not in the list of accepted ones"

    return check


class _Handshake(Enum):
    UNDER_WAY = auto()
    DONE = auto()
    FAILED = auto()


class TlsProtocol(asyncio.BufferedProtocol):
    """One connection until its handshake is done. Then a TlsTransport replaces it."""

    __slots__ = (
        "_address",
        "_connection",
        "_context",
        "_is_over",
        "_listener",
        "_place",
        "_received",
        "_timer",
        "_transport",
    )

    def __init__(self, listener: TlsListener) -> None:
        self._listener = listener
        self._connection: SSL.Connection | None = None  # made at the first byte: port scanners cost less
        self._address = ("", 0)
        self._place: Place | None = None
        self._received = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # what TCP gives
        self._transport = transport
        address = remote_address(transport)
        if address is None:
            self._is_over = True
            transport.abort()
            return
        self._address = address
        place = self._listener.limits.admit(address[0])
        if isinstance(place, TooMany):
            self._is_over = True
            self._listener.refusals.note("connection_refused", source_of(address[0]), place.reason)
            transport.abort()
            return
        self._place = place
        self._timer = asyncio.get_running_loop().call_later(self._listener.handshake_timeout, self._timed_out)

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return self._listener.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._is_over:
            return
        connection = self._connection
        if connection is None:
            self._context = self._listener.negotiation.contexts.default
            connection = self._connection = SSL.Connection(self._context, None)
            connection.set_app_data(self._listener.negotiation)
            connection.set_accept_state()
        buffer = self._listener.buffer
        for start in range(0, nbytes, PIECE):
            end = min(start + PIECE, nbytes)
            self._received += connection.bio_write(buffer[start:end])
            state = self._advance(connection)
            if state is _Handshake.DONE:
                self._established(connection, buffer[end:nbytes])
            if state is not _Handshake.UNDER_WAY:
                return
            if self._received > _MAX_HANDSHAKE_BYTES:
                self._fail("the peer sent too many bytes")
                return

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._is_over and self._received:
            self._note("the peer disconnected")
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._place is not None:
            self._place.closed()
        self._connection = None

    def _advance(self, connection: SSL.Connection) -> _Handshake:
        try:
            connection.do_handshake()
        except SSL.WantReadError:
            flush(connection, self._transport)
            return _Handshake.UNDER_WAY
        except NoCommonProtocol:
            self._fail("no application protocol in common")
        except SSL.Error as error:
            self._fail(reason_of(error))
        else:
            return _Handshake.DONE
        return _Handshake.FAILED

    def _established(self, connection: SSL.Connection, rest: memoryview) -> None:
        listener = self._listener
        peer = self._peer(connection)
        if peer is None:
            self._fail("the certificate chain is too long")
            return
        if listener.negotiation.alpn_required and peer.alpn is None:
            self._fail("no application protocol in common")
            return
        if listener.check is not None and (reason := listener.check(peer)):
            self._fail(reason)
            return
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        inner = listener.inner(peer)
        place, self._place = self._place, None
        if place is not None:
            place.opened()
        TlsTransport(connection, self._context, self._transport, inner, listener.buffer, place).start(rest)

    def _peer(self, connection: SSL.Connection) -> Peer | None:
        """Returns None if the certificate chain is too long."""
        certificate = connection.get_peer_certificate()
        der = None
        chain: tuple[bytes, ...] = ()
        if certificate is not None:
            der = dump_certificate(FILETYPE_ASN1, certificate)
            others = connection.get_peer_cert_chain() or []  # at a server, without the peer's certificate
            if len(others) > _MAX_CHAIN:
                return None
            chain = tuple(dump_certificate(FILETYPE_ASN1, other) for other in others)
            if sum(map(len, chain), len(der)) > _MAX_CHAIN_BYTES:
                return None
        address, port = self._address
        return Peer(
            address=address,
            port=port,
            fingerprint=None if der is None else fingerprint_of(der),
            certificate=der,
            chain=chain,
            sni=server_name(connection.get_servername()),
            alpn=connection.get_alpn_proto_negotiated().decode("ascii") or None,
            tls_version=connection.get_protocol_version_name(),
        )

    def _fail(self, reason: str) -> None:
        """Sends the alert that OpenSSL has written, if any, and ends the connection."""
        self._note(reason)
        self._is_over = True
        assert self._connection is not None
        flush(self._connection, self._transport)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = end_writing(self._transport)

    def _timed_out(self) -> None:
        self._note("timed out")
        self._is_over = True
        self._transport.abort()

    def _note(self, reason: str) -> None:
        self._listener.refusals.note("tls_handshake_failed", source_of(self._address[0]), reason)
