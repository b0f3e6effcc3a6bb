"""Assembles the parts, and owns signals, start and stop."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import resource
import signal
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
import structlog

from thingmint.access.directory import Directory
from thingmint.access.sigv4 import SigV4
from thingmint.admin import AdminSocket
from thingmint.aws.app import AwsFace
from thingmint.aws.contract import load_contract
from thingmint.http.front import Front
from thingmint.http.listener import HttpListener, bind
from thingmint.http.probes import probes
from thingmint.identity.authority import DEVICE, listener_profile
from thingmint.instance.clients import update_endpoints
from thingmint.instance.layout import write_private
from thingmint.metrics import Metrics
from thingmint.native.app import NativeFace
from thingmint.native.auth import NativeAuth
from thingmint.registry.certificates import CertificateRegistry, utc_now
from thingmint.registry.keypool import KeyPool
from thingmint.registry.markers import Markers
from thingmint.registry.names import NameRegistry
from thingmint.settings import ConfigError
from thingmint.tls import ListenerTLS

if TYPE_CHECKING:
    from collections.abc import Callable

    from thingmint.http.exchange import App
    from thingmint.instance.create import Instance
    from thingmint.settings import Settings

__all__ = ["Ready", "is_loopback", "serve"]

_LOOPBACK = "127.0.0.1"

_log = structlog.get_logger("thingmint.server")


@dataclass(frozen=True, slots=True)
class Ready:
    """Where a server listens, once it does."""

    hostname: str
    host: str
    api_port: int
    http_port: int


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def serve(instance: Instance, settings: Settings, on_ready: Callable[[Ready], None]) -> None:
    """Serves until SIGTERM or SIGINT, then finishes what is in flight. Raises ConfigError before it listens."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold private keys
    api_socket = _bind("api-port", settings.host, settings.api_port)
    http_socket = _bind("http-port", _LOOPBACK, settings.http_port)
    stopping = _stop_signal()

    names = NameRegistry(instance.store)
    hostnames = await names.hostnames()
    tls = ListenerTLS(
        instance.listener_authority(listener_profile(settings.listener_certificate_lifetime)),
        instance.directory.root,
        utc_now,
    )
    tls.renew(hostnames)
    keys = KeyPool(settings.key_pool)
    keys.start()
    front = _front(instance, settings, names, keys)
    listeners = [HttpListener(front, api_socket, tls.context), HttpListener(front, http_socket)]
    ready = Ready(hostnames[0], settings.host, listeners[0].port, listeners[1].port)

    async def extend(new_hostnames: list[str], new_regions: list[str]) -> dict[str, list[str]]:
        """What `thingmint init` asks of a server that holds the directory."""
        added = await names.add_hostnames(new_hostnames)
        if added:
            hostnames[:] = await names.hostnames()
            tls.renew(hostnames)
        return {"hostnames": added, "regions": await names.add_regions(new_regions)}

    admin = AdminSocket(instance.directory.admin_socket, {"extend": extend})
    renewal = asyncio.create_task(tls.keep_renewed(lambda: hostnames))
    try:
        for listener in listeners:
            await listener.start()
        await admin.start()
        update_endpoints(instance.directory, ready.hostname, ready.api_port)
        ports = {"api": ready.api_port, "http": ready.http_port}
        _log.info("ready", host=settings.host, **ports, dev=settings.dev)
        write_private(instance.directory.listeners, orjson.dumps(ports) + b"\n")
        on_ready(ready)
        await stopping.wait()
        _log.info("stopping: requests in flight are finished first")
    finally:
        instance.directory.listeners.unlink(missing_ok=True)
        renewal.cancel()
        await asyncio.gather(*(listener.stop() for listener in listeners))
        await admin.stop()
        await keys.close()
        await instance.store.close()
        _log.info("stopped")


def _front(instance: Instance, settings: Settings, names: NameRegistry, keys: KeyPool) -> App:
    metrics = Metrics()
    metrics.gauge("key_pool_ready", "Key pairs that lie ready.", lambda: keys.ready)
    metrics.gauge("key_pool_waiting", "Callers that wait for a key pair.", lambda: keys.waiting)
    metrics.gauge("store_ready", "1 while changes can be kept.", lambda: float(instance.store.ready))
    certificates = CertificateRegistry(
        instance.store,
        instance.device_authority(DEVICE),
        keys,
        Markers(instance.vault.derive("markers")),
        reinstate_revoked=settings.reinstate_revoked,
    )
    directory = Directory(instance.store, instance.vault)
    aws = AwsFace(load_contract(), SigV4(directory, utc_now), certificates, names)
    native = NativeFace(NativeAuth(directory, names, dev=settings.dev), certificates)
    return Front(
        aws=aws,
        native=native,
        probes=probes(instance.store, metrics),
        is_aws_route=aws.is_route,
        metrics=metrics,
    )


def _bind(setting: str, host: str, port: int) -> socket.socket:
    try:
        return bind(host, port)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise ConfigError("host", f"{host} is not an address of this machine ({error.strerror})") from None
        raise ConfigError(
            setting, f"{host}:{port} cannot be listened on ({error.strerror}); choose another, or 0 for a free one"
        ) from None


def _stop_signal() -> asyncio.Event:
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, event.set)
    return event
