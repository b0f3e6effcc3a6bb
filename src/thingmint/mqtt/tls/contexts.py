"""The TLS contexts of the devices' listeners. They differ only in the server's certificate."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from OpenSSL import SSL

from thingmint.domain.names import server_name
from thingmint.domain.server_certificates import at_name
from thingmint.domain.tls_profiles import TLS13_SUITES, TLS_PROFILES
from thingmint.mqtt.tls.transport import reason_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.domain.server_certificates import ServerCertificate
    from thingmint.domain.tls_profiles import TlsProfile


# What AWS's clients offer on port 443: with a client certificate, and without one. In the server's order of preference.
MQTT_ALPN = ("x-amzn-mqtt-ca", "mqtt")

_OPTIONS = SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET | SSL.OP_CIPHER_SERVER_PREFERENCE


@dataclass(frozen=True, slots=True)
class Negotiation:
    """A listener's settings for the callbacks of a handshake. Each connection has them as app data."""

    contexts: Contexts
    alpn: tuple[bytes, ...]
    alpn_required: bool


class NoCommonProtocol(Exception):
    """The client offered application protocols, but none of the required ones (RFC 7301, section 3.2)."""


class Contexts:
    """Chooses a connection's context by the client's server name (SNI), else the default.

    Names are in lower case; a wildcard such as ``*.example.org`` is for one label. Several listeners may share an
    instance. ``replace`` does not affect open connections.
    """

    def __init__(self, default: SSL.Context, by_name: Mapping[str, SSL.Context] | None = None) -> None:
        self._current = (default, dict(by_name or {}))

    @property
    def default(self) -> SSL.Context:
        return self._current[0]

    def of(self, name: str | None) -> SSL.Context:
        default, by_name = self._current
        return at_name(by_name, name) or default

    def replace(self, default: SSL.Context, by_name: Mapping[str, SSL.Context] | None = None) -> None:
        """Sets the contexts of new handshakes."""
        self._current = (default, dict(by_name or {}))


def build_context(
    first: ServerCertificate, *more: ServerCertificate, profile: TlsProfile = TLS_PROFILES["default"]
) -> SSL.Context:
    """Returns a server's context. It requests a client certificate, and accepts any, or none, if the key is proven.

    ``more``: certificates with other kinds of keys, for clients that cannot use the first (RSA in addition to P-256).
    At most one of each kind. Raises ValueError.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION if profile.tls12 is None else SSL.TLS1_2_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    context.set_options(_OPTIONS)
    if profile.tls12 is not None:
        context.set_cipher_list(profile.tls12.encode())
    context.set_tls13_ciphersuites(TLS13_SUITES.encode())
    # Frees the record buffers of idle connections: 34 KiB less for each.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # The chain is ignored, but OpenSSL verifies it as far as possible before it calls the callback. With depth 0 it
    # verifies one signature at most, even if a client sends many certificates with huge keys.
    context.set_verify_depth(0)
    context.set_verify(SSL.VERIFY_PEER, _take_any_certificate)
    context.set_tlsext_servername_callback(_choose_context)
    context.set_alpn_select_callback(_choose_protocol)
    certificates = (first, *more)
    if len({each.key_type for each in certificates}) < len(certificates):
        raise ValueError("a context has room for one certificate of each kind of key")
    for each in certificates:
        _load(context, each)
    return context


def _load(context: SSL.Context, certificate: ServerCertificate) -> None:
    try:
        if certificate.chain:
            # pyOpenSSL can load a chain for one of a context's certificates from a file only.
            with tempfile.NamedTemporaryFile(prefix="thingmint-") as file:
                file.write(certificate.chain_pem)
                file.flush()
                context.use_certificate_chain_file(file.name)
        else:
            context.use_certificate(certificate.certificate)
    except SSL.Error as error:
        raise ValueError(f"OpenSSL refuses the certificate: {reason_of(error)}") from None
    try:
        context.use_privatekey(certificate.key)
    except SSL.Error:
        raise ValueError("the private key does not belong to the certificate") from None


def _take_any_certificate(connection: SSL.Connection, certificate: object, error: int, depth: int, ok: int) -> bool:
    """Accepts any certificate: the store decides at CONNECT. OpenSSL still checks that the client has the key."""
    del connection, certificate, error, depth, ok
    return True


def _choose_context(connection: SSL.Connection) -> None:
    negotiation: Negotiation = connection.get_app_data()
    context = negotiation.contexts.of(server_name(connection.get_servername()))
    if context is not connection.get_context():
        connection.set_context(context)


def _choose_protocol(connection: SSL.Connection, offered: list[bytes]) -> bytes | SSL._NoOverlappingProtocols:
    negotiation: Negotiation = connection.get_app_data()
    for protocol in negotiation.alpn:
        if protocol in offered:
            return protocol
    if negotiation.alpn_required:
        raise NoCommonProtocol
    return SSL.NO_OVERLAPPING_PROTOCOLS
