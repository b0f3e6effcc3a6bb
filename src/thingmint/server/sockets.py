"""The server's listening sockets and its limit of open files."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from thingmint.http.connection_limits import AddressLimits
from thingmint.http.listener import bind as bind_http
from thingmint.mqtt.listener import MqttListener
from thingmint.settings import LISTENERS, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from thingmint.http.connection_limits import Limits
    from thingmint.metrics import Metrics
    from thingmint.settings import Listener, Settings


_FILES: Mapping[Listener, int] = {"grpc": 3}  # file descriptors of a connection, if more than one
_OTHER_FILES = 256  # for the store, the log, and connections to other servers

_log = structlog.get_logger("thingmint.server")

LOOPBACK = "127.0.0.1"
PROXY_SOCKET = "mqtt-proxy-socket"


def take_all_files() -> None:
    """Raises the soft limit of open files to the hard limit, as each connection needs one.

    The soft limit, commonly 1,024, is meant for programs that use select(2).
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS names a hard limit above what the kernel grants
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def fit_to_files(limits: Mapping[Listener, Limits], *, upstream: bool) -> Mapping[Listener, Limits]:
    """Lowers the connection limits if the process may not open enough files for all connections.

    Lowers the limit of devices, which are the most, if that leaves them at least half as many files as the other
    connections have; else lowers all limits in proportion.
    ``upstream``: each device has a second connection, to the broker.
    """
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    for_devices = limits["mqtt"].total * (2 if upstream else 1)
    for_others = sum(each.total * _FILES.get(listener, 1) for listener, each in limits.items() if listener != "mqtt")
    available = files - _OTHER_FILES
    if files == resource.RLIM_INFINITY or available >= for_devices + for_others:
        return limits
    if available >= 1.5 * for_others:
        lowered = dict(limits) | {"mqtt": _lowered(limits["mqtt"], (available - for_others) / for_devices)}
    else:
        share = available / (for_devices + for_others)
        lowered = {listener: _lowered(each, share) for listener, each in limits.items()}
    _log.warning("too_few_files", files=files, **{listener: each.total for listener, each in lowered.items()})
    return lowered


def _lowered(limits: Limits, share: float) -> Limits:
    total = max(1, int(limits.total * share))
    return replace(
        limits,
        total=total,
        per_address=min(limits.per_address, max(1, total * 3 // 4)),
        reserve=min(limits.reserve, total // 8),
    )


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
    """The gRPC socket. For it, 0.0.0.0 means all IPv6 addresses too, as gRPC defines it. Raises ConfigError."""
    if settings.host != "0.0.0.0" or not socket.has_dualstack_ipv6():  # noqa: S104 - a comparison
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


@dataclass(frozen=True, slots=True)
class Sockets:
    """The sockets that every server has. ``mqtt`` are in listeners by name."""

    api: socket.socket
    http: socket.socket
    grpc: socket.socket
    mqtt: Mapping[str, MqttListener]

    @classmethod
    def bind(cls, settings: Settings) -> Sockets:
        """Raises ConfigError."""
        api = bind("api-port", settings.host, settings.api_port)
        http = bind("http-port", LOOPBACK, settings.http_port)
        mqtt = mqtt_listeners_of(settings)
        return cls(api, http, bind_grpc(settings), mqtt)

    def ports(self) -> dict[str, int]:
        """The ports by listener."""
        bound = {"api": self.api, "http": self.http, "grpc": self.grpc}
        return {name: sock.getsockname()[1] for name, sock in bound.items()} | mqtt_ports(self.mqtt)


def mqtt_ports(listeners: Mapping[str, MqttListener]) -> dict[str, int]:
    """The ports by listener; the Unix socket of proxies has none."""
    return {name: each.sock.getsockname()[1] for name, each in listeners.items() if name != PROXY_SOCKET}


def mqtt_listeners_of(settings: Settings) -> dict[str, MqttListener]:
    """The MQTT listeners by name. Raises ConfigError."""
    found = {"mqtt": MqttListener(bind("mqtt-port", settings.host, settings.mqtt_port))}
    if (port := settings.mqtt_alpn_port) is not None:
        found["mqtt-alpn"] = MqttListener(bind("mqtt-alpn-port", settings.host, port), alpn_required=True)
    if (port := settings.mqtt_proxy_port) is not None:
        if not settings.mqtt_proxy_fingerprints:
            raise ConfigError(
                "mqtt-proxy-fingerprints",
                "must list the fingerprints of the proxies' certificates: the gateway trusts the identities that they "
                "forward",
            )
        fingerprints = frozenset(settings.mqtt_proxy_fingerprints)
        found["mqtt-proxy"] = MqttListener(
            bind("mqtt-proxy-port", settings.host, port), proxied=True, fingerprints=fingerprints
        )
    if (path := settings.mqtt_proxy_socket) is not None:
        found[PROXY_SOCKET] = MqttListener(_bind_unix("mqtt-proxy-socket", path), proxied=True)
    return found


def _bind_unix(setting: str, path: Path) -> socket.socket:
    """A Unix socket to which only its owner can connect: the gateway trusts the peers of this socket."""
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


def connection_limits(settings: Settings) -> Mapping[Listener, Limits]:
    opened = [listener for listener in LISTENERS if listener != "credentials" or settings.credentials_port is not None]
    configured = {listener: settings.connection_limits(listener) for listener in opened}
    return fit_to_files(configured, upstream=settings.broker is not None)


def address_limits(settings: Settings, metrics: Metrics) -> dict[Listener, AddressLimits]:
    made = {}
    for listener, limits in connection_limits(settings).items():
        made[listener] = AddressLimits(limits, partial(metrics.connection_refused, listener))
        metrics.watch_connections(listener, made[listener])
    return made
