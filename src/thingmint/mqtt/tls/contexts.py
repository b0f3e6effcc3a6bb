"""The TLS contexts of the devices' listeners, which differ only in the server's certificate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from thingmint.domain.tls_profiles import TLS13_SUITES, TLS_PROFILES
from thingmint.mqtt.peer import server_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.domain.keys import SigningKey
    from thingmint.domain.tls_profiles import TlsProfile


# What AWS's clients offer on port 443: with a client certificate, and without one. In the order of our preference.
MQTT_ALPN = ("x-amzn-mqtt-ca", "mqtt")

_OPTIONS = SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET | SSL.OP_CIPHER_SERVER_PREFERENCE


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """A server's certificate and its key. ``chain`` is what clients are sent after it; the root needs no sending."""

    certificate: x509.Certificate
    key: SigningKey = field(repr=False)
    chain: tuple[x509.Certificate, ...] = ()

    @classmethod
    def from_pem(cls, key: bytes, certificates: bytes) -> ServerIdentity:
        """An unencrypted key, and the certificate with its chain behind it. Raises ValueError."""
        private_key = load_pem_private_key(key, None)
        if not isinstance(private_key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise ValueError("a server's key must be an elliptic curve or an RSA key")  # noqa: TRY004 - of the PEM
        certificate, *chain = x509.load_pem_x509_certificates(certificates)
        return cls(certificate, private_key, tuple(chain))


@dataclass(frozen=True, slots=True)
class Negotiation:
    """What the callbacks of a handshake go by; each connection has its listener's as app data."""

    contexts: Contexts
    alpn: tuple[bytes, ...]
    alpn_required: bool


class NoCommonProtocol(Exception):
    """The client offered application protocols, and none of ours, where one is required (RFC 7301 3.2)."""


class Contexts:
    """Which context a connection gets: the one of the name that the client asks for (SNI), else the default.

    Names are whole, in lower case. One may serve several listeners, and replacing leaves open connections alone.
    """

    def __init__(self, default: SSL.Context, by_name: Mapping[str, SSL.Context] | None = None) -> None:
        self._current = (default, dict(by_name or {}))

    @property
    def default(self) -> SSL.Context:
        return self._current[0]

    def of(self, name: str | None) -> SSL.Context:
        default, by_name = self._current
        return by_name.get(name, default) if name else default

    def replace(self, default: SSL.Context, by_name: Mapping[str, SSL.Context] | None = None) -> None:
        """Handshakes that begin from now on get these."""
        self._current = (default, dict(by_name or {}))


def build_context(
    identity: ServerIdentity, *more: ServerIdentity, profile: TlsProfile = TLS_PROFILES["default"]
) -> SSL.Context:
    """A server's context that asks for a client certificate and takes any, or none, as long as the key is proven.

    ``more`` are certificates for other kinds of keys, for clients that cannot use the first (RSA beside P-256): one of
    each kind, with one chain for all. Raises ValueError.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION if profile.tls12 is None else SSL.TLS1_2_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    context.set_options(_OPTIONS)
    if profile.tls12 is not None:
        context.set_cipher_list(profile.tls12.encode())
    context.set_tls13_ciphersuites(TLS13_SUITES.encode())
    # An idle connection then holds no record buffers, which is 34 KiB less.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # The chain does not count here, but OpenSSL verifies what it can before it asks. At depth 0 that is one
    # signature at most, however many certificates with huge keys a client sends.
    context.set_verify_depth(0)
    context.set_verify(SSL.VERIFY_PEER, _take_any_certificate)
    context.set_tlsext_servername_callback(_choose_context)
    context.set_alpn_select_callback(_choose_protocol)
    identities = (identity, *more)
    if len({type(each.key) for each in identities}) < len(identities):
        raise ValueError("a context has room for one certificate of each kind of key")
    if any(each.chain != identity.chain for each in more):
        raise ValueError("the certificates of a context must share their chain")
    try:
        for each in identities:
            context.use_certificate(each.certificate)
            context.use_privatekey(each.key)
    except SSL.Error:
        raise ValueError("the private key is not the certificate's") from None
    for certificate in identity.chain:
        context.add_extra_chain_cert(certificate)
    return context


def _take_any_certificate(connection: SSL.Connection, certificate: object, error: int, depth: int, ok: int) -> bool:
    """Which certificates may come in is decided from the registry. OpenSSL goes on to check the proof of the key."""
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
