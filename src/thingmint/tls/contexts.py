"""HTTPS's TLS contexts."""

from __future__ import annotations

import secrets
import ssl
import tempfile
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from thingmint.domain.server_certificates import ServerCertificate
    from thingmint.domain.tls_profiles import TlsProfile


def server_context(
    profile: TlsProfile, certificates: Iterable[ServerCertificate] = (), scratch: Path | None = None
) -> ssl.SSLContext:
    """Returns a context with at most one certificate for each type of key. Raises ssl.SSLError and OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if profile.tls12 is None:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    else:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(profile.tls12)
    context.set_alpn_protocols(["http/1.1"])
    for each in certificates:
        _load(context, each, scratch)
    return context


def _load(context: ssl.SSLContext, certificate: ServerCertificate, scratch: Path | None) -> None:
    """ssl loads keys from files only, so the file is encrypted with a password that is never stored."""
    password = secrets.token_bytes(32).hex()
    encryption = BestAvailableEncryption(password.encode())
    encrypted = certificate.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    with tempfile.NamedTemporaryFile(dir=scratch, prefix=".listener-") as file:
        file.write(encrypted + certificate.chain_pem)
        file.flush()
        context.load_cert_chain(file.name, password=password)
