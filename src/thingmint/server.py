"""Assembles the parts, and owns signals, start and stop."""

from __future__ import annotations

import asyncio
import errno
import resource
import signal
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from thingmint.access.administration import Administration
from thingmint.access.audit import AuditedStore, AuditTrail
from thingmint.access.commands import as_operator
from thingmint.access.directory import Directory
from thingmint.access.iam import IamTokens
from thingmint.access.journal import Journal
from thingmint.access.sealing import Sealer
from thingmint.access.sigv4 import SigV4
from thingmint.access.throttle import throttle_for
from thingmint.admin import AdminSocket
from thingmint.aws.app import AwsFace
from thingmint.aws.contract import load_contract as load_aws_contract
from thingmint.aws.operations import Registries
from thingmint.gateway.broker.embedded import EmbeddedBroker
from thingmint.gateway.broker.upstream import UpstreamBroker
from thingmint.gateway.gateway import Gateway
from thingmint.gateway.journal import DoorJournal
from thingmint.http.front import Front
from thingmint.http.listener import HttpListener, bind
from thingmint.http.probes import probes
from thingmint.identity.authority import CLAIM, DEVICE, listener_profile
from thingmint.identity.errors import Unavailable
from thingmint.identity.registration import Scope
from thingmint.instance.clients import update_endpoints
from thingmint.instance.layout import write_private
from thingmint.metrics import Metrics
from thingmint.native.app import NativeFace
from thingmint.native.auth import NativeAuth
from thingmint.registry.bindings import BindingRegistry
from thingmint.registry.certificates import CertificateRegistry, utc_now
from thingmint.registry.claims import ClaimRegistry
from thingmint.registry.device_policies import DevicePolicyRegistry
from thingmint.registry.doorkeeping import Doorkeeping
from thingmint.registry.fleet import FleetRegistry
from thingmint.registry.keypool import KeyPool
from thingmint.registry.markers import Markers
from thingmint.registry.memberships import MembershipRegistry
from thingmint.registry.names import NameRegistry
from thingmint.registry.operations import OperationRegistry
from thingmint.registry.principals import PrincipalRegistry
from thingmint.registry.tags import TagRegistry
from thingmint.registry.templates import TemplateRegistry
from thingmint.registry.thing_groups import ThingGroupRegistry
from thingmint.registry.thing_types import ThingTypeRegistry
from thingmint.registry.things import ThingRegistry
from thingmint.settings import ConfigError
from thingmint.tls import ListenerTLS
from thingmint.yandex.contract import load as load_yandex_contract
from thingmint.yandex.face import YandexFace
from thingmint.yandex.grpc_server import GrpcListener
from thingmint.yandex.rest import YandexRest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from thingmint.access.throttle import Throttle
    from thingmint.gateway.broker.interface import Broker
    from thingmint.instance.create import Instance
    from thingmint.settings import Settings

__all__ = ["Ready", "serve"]

_LOOPBACK = "127.0.0.1"
_NOTE_USE_EVERY = 5.0  # seconds

_log = structlog.get_logger("thingmint.server")


@dataclass(frozen=True, slots=True)
class Ready:
    """Where a server listens, once it does: ``ports`` by listener, as listeners.json has them."""

    hostname: str
    host: str
    ports: Mapping[str, int]


async def serve(instance: Instance, settings: Settings, on_ready: Callable[[Ready], None]) -> None:
    """Serves until SIGTERM or SIGINT, then finishes what is in flight. Raises ConfigError before it listens."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold private keys
    broker: Broker = EmbeddedBroker() if settings.broker is None else UpstreamBroker(settings.broker.upstream())
    api_socket = _bind("api-port", settings.host, settings.api_port)
    http_socket = _bind("http-port", _LOOPBACK, settings.http_port)
    mqtt_sockets = [(_bind("mqtt-port", settings.host, settings.mqtt_port), False)]
    if settings.mqtt_alpn_port is not None:
        mqtt_sockets.append((_bind("mqtt-alpn-port", settings.host, settings.mqtt_alpn_port), True))
    # gRPC binds for itself, and only once there is a certificate; whether it can is found out before.
    _bind("grpc-port", settings.host, settings.grpc_port).close()
    stopping = _stop_signal()

    endpoints = {name: Scope(e.account, e.region) for name, e in settings.endpoints.items()}
    names = NameRegistry(
        instance.store, {name: endpoints[name] for name, e in settings.endpoints.items() if e.cloud == "aws"}
    )
    hostnames = await names.hostnames()
    tls = ListenerTLS(
        instance.listener_authority(listener_profile(settings.listener_certificate_lifetime)),
        instance.directory.root,
        utc_now,
    )

    def served() -> list[str]:
        """What the certificate is for: devices name their endpoints, so those too."""
        return [*hostnames, *(name for name in settings.endpoints if name not in hostnames)]

    tls.renew(served())
    keys = KeyPool(settings.key_pool)
    metrics = _metrics(instance, keys)
    trail = AuditTrail(instance.store, utc_now)
    journal = Journal(metrics, trail)
    sealer = Sealer(
        instance.store,
        instance.audit_key(),
        instance.directory.audit_checkpoints,
        utc_now,
        settings.audit_retention,
    )
    audited = AuditedStore(instance.store, utc_now)
    access = _Access(
        store=audited,
        administration=Administration(audited, instance.vault, utc_now),
        directory=Directory(instance.store, instance.vault, utc_now),
        throttle=throttle_for(settings.limits),
    )
    yandex = _yandex_face(instance, access, settings, names)
    front = _front(instance, access, settings, names, keys, YandexRest(yandex), metrics, journal)
    listeners: dict[str, HttpListener | GrpcListener] = {
        "api": HttpListener(front, api_socket, tls.context),
        "http": HttpListener(front, http_socket),
        "grpc": _grpc_listener(yandex, journal, settings, tls),
    }
    gateway = _gateway(instance, broker, endpoints, DoorJournal(metrics, trail), tls)
    metrics.gauge("device_connections", "Connections of devices.", lambda: gateway.connections)
    ports = {name: listener.port for name, listener in listeners.items()}
    ports |= {name: sock.getsockname()[1] for name, (sock, _) in zip(("mqtt", "mqtt-alpn"), mqtt_sockets, strict=False)}
    ready = Ready(hostnames[0], settings.host, ports)

    async def extend(new_hostnames: list[str], new_regions: list[str]) -> dict[str, list[str]]:
        """What `thingmint init` asks of a server that holds the directory."""
        added = await names.add_hostnames(new_hostnames)
        if added:
            hostnames[:] = await names.hostnames()
            tls.renew(served())
        return {"hostnames": added, "regions": await names.add_regions(new_regions)}

    async def access_command(name: str, given: dict[str, Any]) -> Any:
        """What `thingmint access` asks of a server that holds the directory."""
        return await as_operator(access.administration, name, given)

    admin = AdminSocket(instance.directory.admin_socket, {"extend": extend, "access": access_command})
    chores = [
        asyncio.create_task(tls.keep_renewed(served)),
        asyncio.create_task(trail.run()),
        asyncio.create_task(sealer.run()),
        asyncio.create_task(_note_use(access.directory)),
    ]
    keys.start()
    try:
        for listener in listeners.values():
            await listener.start()
        await gateway.start(mqtt_sockets)
        await admin.start()
        update_endpoints(instance.directory, ready.hostname, api_port=ready.ports["api"], grpc_port=ready.ports["grpc"])
        _log.info("ready", host=settings.host, dev=settings.dev, **ready.ports)
        write_private(instance.directory.listeners, orjson.dumps(ready.ports) + b"\n")
        on_ready(ready)
        await stopping.wait()
        _log.info("stopping: requests in flight are finished first")
    finally:
        instance.directory.listeners.unlink(missing_ok=True)
        await gateway.stop()
        await asyncio.gather(*(listener.stop() for listener in listeners.values()))
        await admin.stop()
        for chore in chores:
            chore.cancel()
        await asyncio.wait(chores)
        await _finish(access.directory, trail, sealer)
        await keys.close()
        await instance.store.close()
        _log.info("stopped")


@dataclass(frozen=True, slots=True)
class _Access:
    """What all faces share: ``store`` writes the audit record of a change along with it."""

    store: AuditedStore
    administration: Administration
    directory: Directory
    throttle: Throttle


async def _note_use(directory: Directory) -> None:
    while True:
        await asyncio.sleep(_NOTE_USE_EVERY)
        try:
            await directory.flush()
        except Unavailable:
            _log.warning("the last use of credentials was not noted")


async def _finish(directory: Directory, trail: AuditTrail, sealer: Sealer) -> None:
    """Writes down what is only in memory."""
    try:
        await directory.flush()
        await trail.close()
        await sealer.close()
    except (Unavailable, OSError) as error:
        _log.error("the audit trail was not finished", error=str(error))


def _metrics(instance: Instance, keys: KeyPool) -> Metrics:
    metrics = Metrics()
    metrics.gauge("key_pool_ready", "Key pairs that lie ready.", lambda: keys.ready)
    metrics.gauge("key_pool_waiting", "Callers that wait for a key pair.", lambda: keys.waiting)
    metrics.gauge("store_ready", "1 while changes can be kept.", lambda: float(instance.store.ready))
    return metrics


def _front(
    instance: Instance,
    access: _Access,
    settings: Settings,
    names: NameRegistry,
    keys: KeyPool,
    yandex: YandexRest,
    metrics: Metrics,
    journal: Journal,
) -> Front:
    markers = Markers(instance.vault.derive("markers"))
    certificates = CertificateRegistry(
        access.store,
        instance.device_authority(DEVICE),
        keys,
        markers,
        reinstate_revoked=settings.reinstate_revoked,
    )
    sigv4 = SigV4(access.directory, utc_now)
    registries = Registries(
        certificates=certificates,
        names=names,
        device_policies=DevicePolicyRegistry(access.store, markers),
        things=ThingRegistry(access.store, markers),
        thing_types=ThingTypeRegistry(access.store, markers),
        thing_groups=ThingGroupRegistry(access.store, markers),
        memberships=MembershipRegistry(access.store, markers),
        principals=PrincipalRegistry(access.store, markers),
        tags=TagRegistry(access.store),
        templates=TemplateRegistry(access.store, markers),
        claims=ClaimRegistry(access.store, instance.device_authority(CLAIM), keys),
    )
    aws = AwsFace(load_aws_contract(), sigv4, access.throttle, registries)
    return Front(
        aws=aws,
        native=NativeFace(
            NativeAuth(access.directory, names, dev=settings.dev), access.throttle, certificates, access.administration
        ),
        yandex=yandex,
        probes=probes(instance.store, metrics),
        is_aws_route=aws.is_route,
        is_yandex_route=yandex.is_route,
        journal=journal,
    )


def _yandex_face(instance: Instance, access: _Access, settings: Settings, names: NameRegistry) -> YandexFace:
    operations = OperationRegistry(access.store)
    return YandexFace(
        load_yandex_contract(),
        tokens=IamTokens(access.directory, instance.vault.derive("iam tokens"), utc_now),
        throttle=access.throttle,
        fleet=FleetRegistry(access.store, operations, Markers(instance.vault.derive("page tokens"))),
        bindings=BindingRegistry(access.store, operations),
        operations=operations,
        names=names,
        clock=utc_now,
        pending=settings.yandex_operations_pending,
        sha1_fingerprints=settings.yandex_fingerprint == "sha1",
    )


def _gateway(
    instance: Instance, broker: Broker, endpoints: Mapping[str, Scope], journal: DoorJournal, tls: ListenerTLS
) -> Gateway:
    return Gateway(
        Doorkeeping(instance.store),
        broker,
        journal,
        endpoints=endpoints,
        renewed=tls.follow(),
        clock=utc_now,
    )


def _grpc_listener(face: YandexFace, journal: Journal, settings: Settings, tls: ListenerTLS) -> GrpcListener:
    try:
        return GrpcListener(face, journal, settings.host, settings.grpc_port, tls.follow())
    except OSError as error:
        raise ConfigError("grpc-port", f"{error}; choose another, or 0 for a free one") from None


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
