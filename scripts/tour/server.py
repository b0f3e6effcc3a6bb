"""The server itself: its TLS certificate, and the files that it leaves when it stops."""

from __future__ import annotations

import base64
import socket
import ssl
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from tour import CheckFailed, require

if TYPE_CHECKING:
    from pathlib import Path

    from tour import Tour

__all__ = ["listening", "stopping"]


def listening(tour: Tour) -> None:
    tour.stage("TLS")
    with tour.step("A TLS client that trusts ca.pem") as step:
        version = _handshake(tour, tour.server.ca)
        step.result = f"accepts the server's certificate for localhost ({version})"
    with tour.step("A TLS client that trusts device-ca.pem") as step:
        try:
            _handshake(tour, tour.server.device_ca)
        except ssl.SSLCertVerificationError as error:
            step.result = f"rejects it ({error.verify_message}): this root is only for devices"
        else:
            raise CheckFailed("accepted the server's certificate")


def stopping(tour: Tour) -> None:
    tour.stage("Stopping the server")
    with tour.step("SIGTERM") as step:
        status = tour.server.stop()
        require(status == 0, f"the server stopped with exit status {status}, not 0")
        step.result = "the server stopped with exit status 0"
    with tour.step("The private keys that the server returned") as step:
        searched = [path for path in tour.server.data_dir.rglob("*") if path.is_file()] + [tour.server.output]
        require(tour.private_keys, "there are none to look for")
        forms = [form for pem in tour.private_keys for form in _forms(pem)]
        for path in searched:
            content = path.read_bytes()
            require(not any(form in content for form in forms), f"one is in {path}")
        step.result = f"are in none of the {len(searched)} files that the server left, its log included"


def _handshake(tour: Tour, trusted: Path) -> str:
    context = ssl.create_default_context(cafile=str(trusted))
    with (
        socket.create_connection(("127.0.0.1", tour.server.ports["api"]), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as tls,
    ):
        return tls.version() or "no TLS"


def _forms(pem: str) -> list[bytes]:
    """The forms that a key can have in a file: a line of its PEM; both DER forms, each raw, in base64 and in hex."""
    key = load_pem_private_key(pem.encode(), None)
    ders = [
        key.private_bytes(Encoding.DER, form, NoEncryption())
        for form in (PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8)
    ]
    return [pem.encode().splitlines()[2], *ders, *map(base64.b64encode, ders), *(der.hex().encode() for der in ders)]
