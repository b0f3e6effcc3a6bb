"""Who is at the other end of a connection, as far as TLS or an edge in front of us can tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.domain.names import plain_address
from thingmint.services.device_authentication import AuthenticationRequest

if TYPE_CHECKING:
    import asyncio

    from thingmint.mqtt.protocol.packets import Connect


@dataclass(frozen=True, slots=True)
class Peer:
    """What the handshake proved: that the peer holds the key of ``certificate``. Not that the certificate is known or
    good, nor even that its DER can be read.

    ``fingerprint`` is there without ``certificate`` when an edge handed only that over, and both are None for a peer
    without one. ``chain`` is what the peer sent after it, which is unchecked. ``sni`` is in lower case and has no
    trailing dot. ``tls_version`` is ``TLSv1.2`` or ``TLSv1.3``, or what an edge says; None if it says nothing.
    ``address`` is empty, and ``port`` 0, for a peer on a Unix socket.
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
        """For a client id of this peer, with the iot:ConnectAttributes and its will's topic if it asks to connect."""
        return AuthenticationRequest(
            self.fingerprint, self.certificate, self.sni, self.address, client_id, connecting, will_topic
        )

    def request_to_connect(self, packet: Connect) -> AuthenticationRequest:
        persistent = ("PersistentConnect",) if not packet.clean_start or packet.session_expiry else ()
        if packet.will is None:
            return self.request(packet.client_id, persistent)
        return self.request(packet.client_id, (*persistent, "LastWill"), packet.will.topic)


def remote_address(transport: asyncio.BaseTransport) -> tuple[str, int] | None:
    """The other end's address and port, empty and 0 on a Unix socket; None when it has gone already."""
    name = transport.get_extra_info("peername")
    if isinstance(name, tuple):
        return plain_address(name[0]), name[1]
    return None if name is None else ("", 0)


def server_name(raw: bytes | None) -> str | None:
    """A server name (RFC 6066 3) as text. What is not ASCII comes out with backslashes, so that it matches nothing."""
    if not raw:
        return None
    return raw.decode("ascii", "backslashreplace").lower().removesuffix(".") or None
