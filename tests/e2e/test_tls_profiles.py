"""Each listener uses the TLS profile in its setting."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from thingmint.testing import running_server

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.testing import RunningServer

VARIABLES = {"THINGMINT_TLS_PROFILE__API": "tls13", "THINGMINT_TLS_PROFILE__MQTT": "compatible"}


def negotiated(server: RunningServer, listener: str, suite: str | None) -> str | None:
    """The suite that a TLS 1.2 client negotiates with this suite, or with all of Python's; None if it is refused."""
    context = ssl.create_default_context(cafile=str(server.ca))
    if suite is not None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(suite)
    with socket.create_connection(("127.0.0.1", server.ports[listener]), timeout=10) as sock:
        try:
            with context.wrap_socket(sock, server_hostname="localhost") as wrapped:
                cipher = wrapped.cipher()
        except ssl.SSLError:
            return None
    return cipher[0] if cipher else None


def test_each_listener_offers_its_own_profile(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", environment=VARIABLES) as server:
        for suite in ("AES128-SHA", "ECDHE-RSA-AES256-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"):
            assert negotiated(server, "mqtt", suite) == suite
            assert negotiated(server, "api", suite) is None
        for listener in ("mqtt", "api", "grpc"):
            assert str(negotiated(server, listener, None)).startswith("TLS_")
        assert negotiated(server, "grpc", "ECDHE-ECDSA-AES128-GCM-SHA256") == "ECDHE-ECDSA-AES128-GCM-SHA256"
        assert negotiated(server, "grpc", "ECDHE-ECDSA-AES128-SHA") is None
