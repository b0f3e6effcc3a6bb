"""What the server takes of the machine: sockets and files."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
from typing import TYPE_CHECKING

from thingmint.http.listener import bind as bind_http
from thingmint.mqtt.gateway import Doorway
from thingmint.settings import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.settings import Settings


PROXY_SOCKET = "mqtt-proxy-socket"


def take_all_files() -> None:
    """A file for each connection: the soft limit, commonly 1,024, is for programs that use select(2)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS names a hard limit above what the kernel grants
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def bind(setting: str, host: str, port: int) -> socket.socket:
    """Raises ConfigError."""
    try:
        return bind_http(host, port)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise ConfigError("host", f"{host} is not an address of this machine ({error.strerror})") from None
        raise ConfigError(
            setting, f"{host}:{port} cannot be listened on ({error.strerror}); choose another, or 0 for a free one"
        ) from None


def bind_grpc(settings: Settings) -> socket.socket:
    """Where 0.0.0.0 means all IPv6 addresses too, as gRPC takes it. Raises ConfigError."""
    if settings.host != "0.0.0.0" or not socket.has_dualstack_ipv6():  # noqa: S104 - it is compared with
        return bind("grpc-port", settings.host, settings.grpc_port)
    sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", settings.grpc_port))
    except OSError:  # without IPv6
        sock.close()
        return bind("grpc-port", settings.host, settings.grpc_port)
    return sock


def doorways_of(settings: Settings) -> dict[str, Doorway]:
    """What devices come to, by listener. Raises ConfigError."""
    found = {"mqtt": Doorway(bind("mqtt-port", settings.host, settings.mqtt_port))}
    if (port := settings.mqtt_alpn_port) is not None:
        found["mqtt-alpn"] = Doorway(bind("mqtt-alpn-port", settings.host, port), alpn_required=True)
    if (port := settings.mqtt_proxy_port) is not None:
        if not settings.mqtt_proxy_edges:
            raise ConfigError(
                "mqtt-proxy-edges", "must name the edges' certificates: their word is taken for everybody's"
            )
        edges = frozenset(settings.mqtt_proxy_edges)
        found["mqtt-proxy"] = Doorway(bind("mqtt-proxy-port", settings.host, port), proxied=True, edges=edges)
    if (path := settings.mqtt_proxy_socket) is not None:
        found[PROXY_SOCKET] = Doorway(_bind_unix("mqtt-proxy-socket", path), proxied=True)
    return found


def _bind_unix(setting: str, path: Path) -> socket.socket:
    """Only its owner may connect: whoever can is believed."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        if path.is_socket():
            path.unlink()  # left by a server that was killed
        sock.bind(str(path))
    except OSError as error:
        sock.close()
        raise ConfigError(setting, f"{path} cannot be listened on ({error.strerror or error})") from None
    finally:
        os.umask(mask)
    return sock
