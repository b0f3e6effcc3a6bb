"""Connections from a TLS proxy: a PROXY header, then the bytes of the device."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from thingmint.access.request_log import RefusalLog
from thingmint.domain.names import source_of
from thingmint.http.connection_limits import AddressLimits, Limits, TooMany
from thingmint.mqtt.peer import remote_address
from thingmint.mqtt.tls.listener import HANDSHAKE_TIMEOUT
from thingmint.mqtt.tls.proxy_protocol import ProxyError, TlvTypes, parse_header

if TYPE_CHECKING:
    from thingmint.http.connection_limits import Place
    from thingmint.mqtt.peer import Peer
    from thingmint.mqtt.tls.listener import InnerFactory


class ProxyListener:
    """Makes the protocol of each new connection of one listener.

    It trusts every header: a client that can connect to it can pretend to be any device. Use it on a Unix socket in a
    directory that only the proxy and this server can open, or inside TLS with a check of the proxy's certificate:
    ``TlsListener(contexts, proxy_listener.inside, check=fingerprint_check({...}))``. ``limits`` count the addresses in
    the headers.
    """

    def __init__(
        self,
        inner: InnerFactory,
        *,
        types: TlvTypes | None = None,
        limits: AddressLimits | None = None,
        refusals: RefusalLog | None = None,
        header_timeout: float = HANDSHAKE_TIMEOUT,
    ) -> None:
        self.inner = inner
        self.types = types or TlvTypes()
        self.limits = limits or AddressLimits(Limits())
        self.refusals = refusals or RefusalLog()
        self.header_timeout = header_timeout

    def __call__(self) -> ProxyProtocol:
        return ProxyProtocol(self)

    def inside(self, proxy: Peer) -> ProxyProtocol:
        """Makes the protocol inside a TlsListener, which has checked the proxy's certificate."""
        del proxy
        return ProxyProtocol(self)


class ProxyProtocol(asyncio.Protocol):
    """Reads the header, then passes all data to the inner protocol, which writes to the transport directly."""

    __slots__ = ("_header", "_inner", "_is_over", "_listener", "_place", "_timer", "_transport")

    def __init__(self, listener: ProxyListener) -> None:
        self._listener = listener
        self._header = bytearray()
        self._inner: asyncio.Protocol | None = None
        self._place: Place | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # streams only
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(self._listener.header_timeout, self._timed_out)

    def data_received(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.data_received(data)
        elif not self._is_over:
            self._read_header(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._inner is not None else False

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._place is not None:
            self._place.closed()
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def _read_header(self, data: bytes) -> None:
        self._header += data
        try:
            parsed = parse_header(self._header, self._listener.types)
        except ProxyError as error:
            self._refuse("proxy_header_refused", self._real()[0], str(error))
            return
        if parsed is None:
            return
        header, length = parsed
        peer = header.peer(self._real())
        place = self._listener.limits.admit(peer.address)
        if isinstance(place, TooMany):
            self._refuse("connection_refused", peer.address, place.reason)
            return
        place.opened()
        self._place = place
        assert self._timer is not None
        self._timer.cancel()
        rest, self._header = bytes(self._header[length:]), bytearray()
        self._inner = inner = self._listener.inner(peer)
        inner.connection_made(self._transport)
        if rest and not self._transport.is_closing():
            inner.data_received(rest)

    def _real(self) -> tuple[str, int]:
        return remote_address(self._transport) or ("", 0)

    def _timed_out(self) -> None:
        self._refuse("proxy_header_refused", self._real()[0], "timed out")

    def _refuse(self, event: str, address: str, reason: str) -> None:
        self._is_over = True
        self._listener.refusals.note(event, source_of(address), reason)
        self._transport.abort()
