"""The peer of a connection, as TLS or a TLS proxy identifies it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from thingmint.domain.names import plain_address
from thingmint.services.authentication_decisions import AuthenticationRequest

if TYPE_CHECKING:
    import asyncio

    from thingmint.mqtt.protocol.packets import Connect


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer that proved in the TLS handshake to have the key of ``certificate``.

    The certificate may be unregistered or invalid; its DER may even be unreadable. ``certificate`` is None if a TLS
    proxy forwarded only the ``fingerprint``; both are None if the peer has no certificate. ``chain``: further
    certificates that the peer sent, unchecked. ``sni``: in lower case, without a trailing dot. ``tls_version``:
    ``TLSv1.2``, ``TLSv1.3``, or the text that a TLS proxy forwarded, if any. On a Unix socket ``address`` is empty and
    ``port`` is 0.
    """

    address: str
    port: int
    fingerprint: str | None = None
    certificate: bytes | None = None
    chain: tuple[bytes, ...] = ()
    sni: str | None = None
    alpn: str | None = None
    tls_version: str | None = None

    def request(
        self, client_id: str, connecting: tuple[str, ...] | None = None, will_topic: str | None = None
    ) -> AuthenticationRequest:
        """Returns a request for a client id of this peer. ``connecting``: the iot:ConnectAttributes of a CONNECT."""
        return AuthenticationRequest(
            self.fingerprint, self.certificate, self.sni, self.address, client_id, connecting, will_topic
        )

    def request_to_connect(self, packet: Connect) -> AuthenticationRequest:
        persistent = ("PersistentConnect",) if not packet.clean_start or packet.session_expiry else ()
        attributes = persistent if packet.will is None else (*persistent, "LastWill")
        request = self.request(packet.client_id, attributes, packet.will.topic if packet.will is not None else None)
        if packet.username is None:
            return request
        password = (packet.password or b"").decode(errors="backslashreplace")
        return replace(request, user_name=packet.username, password=password)


def remote_address(transport: asyncio.BaseTransport) -> tuple[str, int] | None:
    """Returns the peer's address and port, ("", 0) on a Unix socket; None if the peer has disconnected already."""
    name = transport.get_extra_info("peername")
    if isinstance(name, tuple):
        return plain_address(name[0]), name[1]
    return None if name is None else ("", 0)
