"""The address of a broker: TCP, TLS, or a Unix socket."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


_PORTS = {"mqtt": 1883, "mqtts": 8883}
_TLS_TIMEOUT = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Login:
    """The gateway's user name and password at the broker, used for all devices."""

    username: str | None = None
    password: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Target:
    """``path``: a Unix socket. ``secure``: use TLS, with the system's CA certificates unless ``tls`` has others."""

    host: str = ""
    port: int = 0
    path: str | None = None
    secure: bool = False
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(cls, url: str) -> Target:
        """Parses ``mqtt://HOST[:PORT]``, ``mqtts://HOST[:PORT]`` or ``unix:///PATH``. Raises ValueError."""
        parts = urlsplit(url)
        rest = parts.query or parts.fragment or parts.username is not None or parts.password is not None
        if parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/") and not rest:
            return cls(path=unquote(parts.path))
        if parts.scheme not in _PORTS or not parts.hostname or parts.path not in ("", "/") or rest:
            raise ValueError("must be mqtt://HOST:PORT, mqtts://HOST:PORT or unix:///PATH")
        port = parts.port if parts.port is not None else _PORTS[parts.scheme]
        return cls(parts.hostname, port, secure=parts.scheme == "mqtts")

    async def connect(self, make: Callable[[], asyncio.Protocol]) -> None:
        """Raises OSError (ssl.SSLError is one) or TimeoutError."""
        loop = asyncio.get_running_loop()
        if self.path is not None:
            await loop.create_unix_connection(make, self.path)
        elif not self.secure:
            await loop.create_connection(make, self.host, self.port)
        else:
            await loop.create_connection(
                make,
                self.host,
                self.port,
                ssl=self.tls or True,
                server_hostname=self.host,
                ssl_handshake_timeout=_TLS_TIMEOUT,
                ssl_shutdown_timeout=_TLS_TIMEOUT,
            )


def tls_context(ca_file: Path | None, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """Uses the system's CA certificates without ``ca_file``. Raises OSError; its subclass ssl.SSLError for bad PEM."""
    context = ssl.create_default_context(cafile=ca_file)
    if certificate is not None:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    return context


def _no_passphrase() -> str:
    """Raises: without this callback OpenSSL would ask at the terminal."""
    raise ssl.SSLError("the key is encrypted")
