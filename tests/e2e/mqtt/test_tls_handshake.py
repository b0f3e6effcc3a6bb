"""The TLS handshake: accepted clients, the facts about them, and refusals."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from structlog.testing import capture_logs

from tests.e2e import material
from tests.e2e.mqtt.served import (
    Served,
    client_context,
    connect,
    contexts,
    identity,
    read_all,
    served,
    tls_client,
)
from thingmint.access.request_log import RefusalLog
from thingmint.domain.certificates import fingerprint_of
from thingmint.domain.server_certificates import ServerCertificate
from thingmint.http.connection_limits import AddressLimits, Limits
from thingmint.mqtt.tls.contexts import Contexts, build_context
from thingmint.mqtt.tls.listener import TlsListener, fingerprint_check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thingmint.mqtt.peer import Peer

VERSIONS = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}


@pytest.fixture(params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    with served(loop=request.param) as running:
        yield running


def issued(kind: str, *, issuer: str = "secp384r1", ends: timedelta = timedelta(days=1)) -> x509.Certificate:
    """Returns a certificate of an unknown CA."""
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "thermometer-1")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a private authority")]))
        .public_key(material.key(kind).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + ends)
        .sign(material.key(issuer), hashes.SHA256())
    )


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def peer_of(server: Served, context: SSL.Context, **options: Any) -> Peer:
    """Returns the Peer that the server sees, after both sides have finished the handshake."""
    with tls_client(server, context, **options) as client:
        client.send(b"hello")
        assert client.recv(100) == b"hello"
        return server.next().peer


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["secp256r1", "secp384r1", "rsa2048", "ed25519"])
@pytest.mark.parametrize("which", ["self-signed", "unknown authority", "expired"])
def test_certificates_of_any_issuer_and_age_pass_tls(server: Served, version: str, kind: str, which: str) -> None:
    certificate = {
        "self-signed": lambda: material.self_signed(kind),
        "unknown authority": lambda: issued(kind),
        "expired": lambda: issued(kind, ends=-timedelta(days=1)),
    }[which]()
    context = client_context(certificate, material.key(kind))
    context.set_min_proto_version(VERSIONS[version])
    context.set_max_proto_version(VERSIONS[version])
    peer = peer_of(server, context)
    assert peer.certificate == der(certificate)
    assert peer.fingerprint == fingerprint_of(der(certificate))
    assert peer.chain == ()
    assert peer.address == "127.0.0.1"
    assert peer.port > 0
    assert peer.tls_version == version


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_without_a_certificate_passes_tls(server: Served, version: str) -> None:
    context = client_context()
    context.set_max_proto_version(VERSIONS[version])
    peer = peer_of(server, context)
    assert (peer.certificate, peer.fingerprint, peer.chain) == (None, None, ())


def test_the_client_chain_reaches_the_inner_protocol(server: Served) -> None:
    authority = material.self_signed("secp384r1", "a private authority")
    own = issued("secp256r1")
    unrelated = material.self_signed("rsa2048")
    context = client_context(own, material.key("secp256r1"))
    context.add_extra_chain_cert(authority)
    context.add_extra_chain_cert(unrelated)
    peer = peer_of(server, context)
    assert peer.certificate == der(own)
    assert peer.chain == (der(authority), der(unrelated))


def test_a_chain_that_is_too_long_is_refused(server: Served) -> None:
    context = client_context(material.self_signed(), material.key("secp256r1"))
    for _ in range(9):
        context.add_extra_chain_cert(material.self_signed("secp256r1"))
    refused(server, context, "the certificate chain is too long")


def test_too_many_bytes_in_a_handshake_are_refused(server: Served) -> None:
    context = client_context(material.self_signed(), material.key("secp256r1"))
    for _ in range(250):
        context.add_extra_chain_cert(material.self_signed("secp256r1"))
    refused(server, context, "the peer sent too many bytes")


def refused(server: Served, context: SSL.Context, reason: str) -> None:
    with capture_logs() as logs:
        with pytest.raises(SSL.Error), tls_client(server, context) as client:
            client.recv(100)  # TLS 1.3 clients notice their refusal only now
        assert server.no_connection_was_made()
    lines = [line for line in logs if line["event"] == "tls_handshake_failed"]
    assert [(line["source"], line["reason"]) for line in lines] == [("127.0.0.1", reason)]


def test_old_tls_versions_are_refused(server: Served) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with connect(server) as sock, pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        context.wrap_socket(sock)
    assert server.no_connection_was_made()


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", "http request"),
        (b"\x10\x13\x00\x04MQTT\x04\x02\x00\x3c\x00\x07device1", "wrong version number"),
        (b"\x16\x03\x01\xff\xff" + bytes(2000), "data length too long"),
        (b"\x16\x03\x01\x00\x05\x0e\x00\x00\x00\x00", "unexpected message"),
        (b"\x00" * 70_000, "wrong version number"),
    ],
)
def test_other_protocols_are_refused(server: Served, sent: bytes, reason: str) -> None:
    with capture_logs() as logs, connect(server) as sock:
        sock.sendall(sent)
        assert len(read_all(sock)) <= 7  # an alert at most
    assert server.no_connection_was_made()
    assert [line["reason"] for line in logs] == [reason]


def test_connections_closed_early_are_not_logged(server: Served) -> None:
    with capture_logs() as logs:
        connect(server).close()
        assert server.no_connection_was_made()
    assert logs == []


@pytest.mark.parametrize("drip", [None, b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)])
def test_slow_handshakes_are_ended(drip: bytes | None) -> None:
    """Silent clients, and clients that send single bytes, have the same time-out."""
    limits = AddressLimits(Limits())
    with (
        served(lambda server: TlsListener(contexts(), server.inner, handshake_timeout=0.4, limits=limits)) as server,
        capture_logs() as logs,
        connect(server) as sock,
    ):
        began = time.monotonic()
        server.run(lambda: None)
        assert server.run(lambda: limits.half_open) == 1
        sock.settimeout(0.05)
        position = 0
        while time.monotonic() - began < 10:
            try:
                if drip and position < len(drip):
                    sock.sendall(drip[position : position + 1])
                    position += 1
                if sock.recv(1) == b"":
                    break
            except TimeoutError:
                pass
            except (ConnectionResetError, BrokenPipeError):
                break
        assert 0.3 < time.monotonic() - began < 5
        assert server.no_connection_was_made()
        assert server.run(lambda: (limits.total, limits.half_open)) == (0, 0)
        assert [line["reason"] for line in logs] == ["timed out"]


def test_the_handshake_timeout_ends_with_the_handshake() -> None:
    with (
        served(lambda server: TlsListener(contexts(), server.inner, handshake_timeout=0.4)) as server,
        tls_client(server) as client,
    ):
        server.next()
        time.sleep(0.6)
        client.send(b"still here")
        assert client.recv(100) == b"still here"


def test_the_server_name_selects_the_certificate(server: Served) -> None:
    del server
    make = lambda each: TlsListener(  # noqa: E731
        contexts(**{"rsa.example.org": identity("rsa2048", "rsa.example.org")}), each.inner
    )
    with served(make) as server:
        for name, shown, seen in [
            ("rsa.example.org", "rsa.example.org", "rsa.example.org"),
            ("RSA.Example.org.", "rsa.example.org", "rsa.example.org"),
            ("other.example.org", "localhost", "other.example.org"),
            (None, "localhost", None),
        ]:
            with tls_client(server, name=name) as client:
                certificate = client.get_peer_certificate(as_cryptography=True)
                assert certificate is not None
                assert certificate.subject.rfc4514_string() == f"CN={shown}"
                client.send(b"x")
                assert client.recv(1) == b"x"
            assert server.next().peer.sni == seen


def test_clients_without_ecdsa_get_the_rsa_certificate() -> None:
    both = Contexts(build_context(identity(), identity("rsa2048")))
    with served(lambda server: TlsListener(both, server.inner)) as server:
        for suite, kind in [(b"ECDHE-RSA-AES128-GCM-SHA256", "RSA"), (b"ECDHE-ECDSA-AES128-GCM-SHA256", "EC")]:
            context = client_context()
            context.set_max_proto_version(SSL.TLS1_2_VERSION)
            context.set_cipher_list(suite)
            with tls_client(server, context) as client:
                certificate = client.get_peer_certificate(as_cryptography=True)
                assert certificate is not None
                assert kind in type(certificate.public_key()).__name__


def test_a_renewed_certificate_is_served() -> None:
    current = contexts(**{"named.example.org": identity(name="named")})
    with served(lambda server: TlsListener(current, server.inner)) as server:

        def shown(client: SSL.Connection) -> str:
            certificate = client.get_peer_certificate(as_cryptography=True)
            assert certificate is not None
            return certificate.subject.rfc4514_string()

        with (
            tls_client(server) as old,
            tls_client(server, name="named.example.org") as old_named,
            connect(server) as raw,
        ):
            assert (shown(old), shown(old_named)) == ("CN=localhost", "CN=named")
            # Another client is in the middle of its handshake.
            half = SSL.Connection(client_context(), None)
            half.set_connect_state()
            half.set_tlsext_host_name(b"named.example.org")
            with pytest.raises(SSL.WantReadError):
                half.do_handshake()
            raw.sendall(half.bio_read(65536))
            half.bio_write(raw.recv(65536))
            new = build_context(identity(name="renewed"))
            server.run(lambda: current.replace(new))
            with tls_client(server) as fresh, tls_client(server, name="named.example.org") as fresh_named:
                assert (shown(fresh), shown(fresh_named)) == ("CN=renewed", "CN=renewed")
            half.do_handshake()
            half.send(b"x")
            raw.sendall(half.bio_read(65536))
            raw.recv(65536)
            for open_still in (old, old_named):
                open_still.send(b"still here")
                assert open_still.recv(100) == b"still here"


def test_the_server_sends_its_chain() -> None:
    """Sent in several pieces."""
    chain = tuple(material.self_signed("rsa2048") for _ in range(20))
    long = Contexts(build_context(ServerCertificate(material.self_signed(), material.key("secp256r1"), chain)))
    with served(lambda server: TlsListener(long, server.inner)) as server, tls_client(server) as client:
        shown = client.get_peer_cert_chain(as_cryptography=True)
        assert shown is not None
        assert tuple(shown[1:]) == chain


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([b"x-amzn-mqtt-ca"], "x-amzn-mqtt-ca"),
        ([b"mqtt"], "mqtt"),
        ([b"mqtt", b"x-amzn-mqtt-ca"], "x-amzn-mqtt-ca"),
        ([b"http/1.1", b"mqtt"], "mqtt"),
        ([b"http/1.1"], None),
        (None, None),
    ],
)
def test_alpn_selects_the_protocol(version: str, offered: list[bytes] | None, chosen: str | None) -> None:
    for required in (False, True):
        make = lambda each, required=required: TlsListener(contexts(), each.inner, alpn_required=required)  # noqa: E731
        with served(make) as server:
            context = client_context()
            context.set_max_proto_version(VERSIONS[version])
            if required and chosen is None:
                with capture_logs() as logs:
                    with pytest.raises(SSL.Error), tls_client(server, context, alpn=offered) as client:
                        client.recv(1)
                    assert server.no_connection_was_made()
                assert [line["reason"] for line in logs] == ["no application protocol in common"]
                continue
            with tls_client(server, context, alpn=offered) as client:
                assert client.get_alpn_proto_negotiated().decode() == (chosen or "")
                assert server.next().peer.alpn == chosen


def test_a_missing_protocol_sends_its_alert() -> None:
    """RFC 7301, section 3.2: the alert no_application_protocol tells the device what is wrong."""
    make = lambda each: TlsListener(contexts(), each.inner, alpn_required=True)  # noqa: E731
    with served(make) as server, pytest.raises(SSL.Error) as caught, tls_client(server, alpn=[b"h2"]):
        pass
    assert "no application protocol" in str(caught.value)


def test_only_listed_certificates_are_accepted() -> None:
    mine, other = (material.self_signed() for _ in range(2))
    expected = {fingerprint_of(der(mine))}
    with served(lambda each: TlsListener(contexts(), each.inner, check=fingerprint_check(expected))) as server:
        peer_of(server, client_context(mine, material.key("secp256r1")))
        refused(
            server,
            client_context(other, material.key("secp256r1")),
            "the certificate is not in the list of accepted ones",
        )
    with served(lambda each: TlsListener(contexts(), each.inner, check=fingerprint_check(expected))) as server:
        refused(server, client_context(), "the certificate is not in the list of accepted ones")


def test_connections_beyond_the_limit_are_refused() -> None:
    limits = AddressLimits(Limits(per_address=3))
    with (
        served(lambda each: TlsListener(contexts(), each.inner, limits=limits)) as server,
        capture_logs() as logs,
        tls_client(server) as first,
        tls_client(server),
        connect(server),
    ):
        first.send(b"x")
        assert first.recv(1) == b"x"
        assert server.run(lambda: (limits.total, limits.half_open)) == (3, 1)
        for _ in range(5):
            with connect(server) as sock:
                assert read_all(sock) == b""
        assert [line["reason"] for line in logs] == ["too many connections from this address"]
        first.send(b"y")
        assert first.recv(1) == b"y"
        first.shutdown()
        assert server.next().next()[0] == "eof"
        deadline = time.monotonic() + 5
        while server.run(lambda: limits.total) > 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert server.run(lambda: limits.total) == 2
        with tls_client(server):
            pass


@pytest.mark.parametrize("version", VERSIONS)
def test_tls_sessions_are_not_resumed(server: Served, version: str) -> None:
    """In a resumed session the client would not prove on this connection that it has the key."""
    context = client_context(material.self_signed(), material.key("secp256r1"))
    context.set_max_proto_version(VERSIONS[version])
    with tls_client(server, context) as client:
        client.send(b"x")
        client.recv(1)  # session tickets, if any, come first
        session = client.get_session()
        assert session is not None
        first = client.master_key()
    with connect(server) as sock:
        sock.settimeout(None)
        again = SSL.Connection(context, sock)
        again.set_connect_state()
        again.set_session(session)
        again.do_handshake()
        assert again.get_peer_certificate() is not None
        again.send(b"x")
        assert again.recv(1) == b"x"
        assert again.master_key() != first
    assert server.next().peer.fingerprint == server.next().peer.fingerprint is not None


def test_renegotiation_is_refused(server: Served) -> None:
    context = client_context()
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    with tls_client(server, context) as client:
        client.send(b"x")
        assert client.recv(1) == b"x"
        client.renegotiate()
        with pytest.raises(SSL.Error) as caught:
            client.do_handshake()
        assert "no renegotiation" in str(caught.value)


def test_many_failed_handshakes_write_few_log_lines() -> None:
    # The end of the counting window is tested in the unit tests.
    refusals = RefusalLog(lambda seconds, then: None)
    make = lambda each: TlsListener(contexts(), each.inner, refusals=refusals)  # noqa: E731
    with served(make) as server, capture_logs() as logs:
        for _ in range(40):
            with connect(server) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
                read_all(sock)
        assert len(logs) == 1


def test_ipv6_addresses_are_normalized() -> None:
    with served() as server:
        factory = TlsListener(contexts(), server.inner)

        async def listen() -> int:
            listening = await server.loop.create_server(factory, "::1", 0, family=socket.AF_INET6)
            closing.append(listening.close)
            port: int = listening.sockets[0].getsockname()[1]
            return port

        closing: list[Any] = []
        port = asyncio.run_coroutine_threadsafe(listen(), server.loop).result(10)
        with socket.create_connection(("::1", port), timeout=10) as sock:
            sock.settimeout(None)
            client = SSL.Connection(client_context(), sock)
            client.set_connect_state()
            client.do_handshake()
            assert server.next().peer.address == "::1"
        server.run(closing[0])
