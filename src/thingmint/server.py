"""Assembles the parts, and owns signals, start and stop."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import resource
import signal
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from thingmint.access.administration import Administration
from thingmint.access.audit import AuditedStore, AuditTrail
from thingmint.access.audit_records import AuditRecords
from thingmint.access.directory import Directory
from thingmint.access.iam import IamTokens
from thingmint.access.journal import Journal
from thingmint.access.operator import as_operator
from thingmint.access.roles import Roles
from thingmint.access.sealing import Sealer, insert_sealed
from thingmint.access.sigv4 import SigV4
from thingmint.access.throttle import throttle_for
from thingmint.admin import AdminSocket
from thingmint.aws.app import AwsFace
from thingmint.aws.contract import load_contract as load_aws_contract
from thingmint.aws.operations import Registries
from thingmint.gateway.broker.embedded import EmbeddedBroker
from thingmint.gateway.broker.upstream import UpstreamBroker
from thingmint.gateway.gateway import Doorway, Gateway
from thingmint.gateway.journal import DoorJournal
from thingmint.gateway.newcomers import Newcomers, newcomer_throttle
from thingmint.gateway.provisioning import ProvisioningTopics
from thingmint.http.front import Front
from thingmint.http.listener import HttpListener, bind
from thingmint.http.probes import probes
from thingmint.identity.authority import CLAIM, DEVICE, listener_profile
from thingmint.identity.errors import Unavailable
from thingmint.identity.registration import Scope
from thingmint.instance.clients import update_endpoints
from thingmint.instance.create import check_master_key
from thingmint.instance.layout import write_private
from thingmint.metrics import Metrics
from thingmint.native.app import NativeFace
from thingmint.native.auth import NativeAuth
from thingmint.registry.authorities import AuthorityRegistry
from thingmint.registry.bindings import BindingRegistry
from thingmint.registry.certificates import CertificateRegistry, utc_now
from thingmint.registry.claims import ClaimRegistry
from thingmint.registry.device_policies import DevicePolicyRegistry
from thingmint.registry.doorkeeping import Doorkeeping
from thingmint.registry.fleet import FleetRegistry
from thingmint.registry.hooks import HookTable
from thingmint.registry.issued import IssuedRegistry
from thingmint.registry.keypool import KeyPool
from thingmint.registry.markers import Markers
from thingmint.registry.memberships import MembershipRegistry
from thingmint.registry.names import NameRegistry
from thingmint.registry.newcomers import NewcomerRegistry
from thingmint.registry.operations import OperationRegistry
from thingmint.registry.ownership import OwnershipRegistry
from thingmint.registry.principals import PrincipalRegistry
from thingmint.registry.provisioning import ProvisioningRegistry
from thingmint.registry.quotas import begin_counting
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
    from pathlib import Path

    from thingmint.access.throttle import Throttle
    from thingmint.gateway.broker.interface import Broker
    from thingmint.instance.create import Instance
    from thingmint.settings import Settings

__all__ = ["Ready", "serve"]

_LOOPBACK = "127.0.0.1"
_PROXY_SOCKET = "mqtt-proxy-socket"
_COLLECT_AT = 10_000  # objects that may be part of a cycle
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
    await check_master_key(instance.store, instance.vault)
    broker: Broker = EmbeddedBroker() if settings.broker is None else UpstreamBroker(settings.broker.upstream())
    api_socket = _bind("api-port", settings.host, settings.api_port)
    http_socket = _bind("http-port", _LOOPBACK, settings.http_port)
    doorways = _doorways(settings)
    # gRPC binds for itself, and only once there is a certificate; whether it can is found out before.
    _bind("grpc-port", settings.host, settings.grpc_port).close()
    await begin_counting(instance.store, settings.quotas_in_force())
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
    trail = AuditTrail(instance.store, utc_now, insert_sealed)
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
        administration=Administration(audited, instance.vault, utc_now, settings.quotas_in_force()),
        directory=Directory(instance.store, instance.vault, utc_now),
        throttle=throttle_for(settings.limits),
    )
    yandex = _yandex_face(instance, access, settings, names)
    hooks = HookTable(settings.hooks)
    fleet = _fleet(instance, access, settings, keys, hooks)
    front = _front(instance, access, settings, names, keys, fleet, YandexRest(yandex), metrics, journal)
    listeners: dict[str, HttpListener | GrpcListener] = {
        "api": HttpListener(front, api_socket, tls.context),
        "http": HttpListener(front, http_socket),
        "grpc": _grpc_listener(yandex, journal, settings, tls),
    }
    gateway = _gateway(instance, access, settings, fleet, broker, endpoints, DoorJournal(metrics, trail), tls)
    metrics.gauge("device_connections", "Connections of devices.", lambda: gateway.connections)
    ports = {name: listener.port for name, listener in listeners.items()}
    ports |= {name: doorway.sock.getsockname()[1] for name, doorway in doorways.items() if name != _PROXY_SOCKET}
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
        return await as_operator(access.administration, trail, name, given)

    admin = AdminSocket(instance.directory.admin_socket, {"extend": extend, "access": access_command})
    chores = [
        asyncio.create_task(tls.keep_renewed(served)),
        asyncio.create_task(trail.run()),
        asyncio.create_task(sealer.run()),
        asyncio.create_task(_note_use(access.directory)),
        asyncio.create_task(fleet.ownership.run()),
    ]
    keys.start()
    try:
        for listener in listeners.values():
            await listener.start()
        await gateway.start(list(doorways.values()))
        await admin.start()
        update_endpoints(instance.directory, ready.hostname, api_port=ready.ports["api"], grpc_port=ready.ports["grpc"])
        _leave_out_of_collections()
        _log.info("ready", host=settings.host, dev=settings.dev, **ready.ports)
        write_private(instance.directory.listeners, orjson.dumps(ready.ports) + b"\n")
        on_ready(ready)
        await stopping.wait()
        _log.info("stopping: requests in flight are finished first")
    finally:
        instance.directory.listeners.unlink(missing_ok=True)
        if settings.mqtt_proxy_socket is not None:
            settings.mqtt_proxy_socket.unlink(missing_ok=True)
        await gateway.stop()
        await asyncio.gather(*(listener.stop() for listener in listeners.values()))
        await admin.stop()
        for chore in chores:
            chore.cancel()
        await asyncio.wait(chores)
        await _finish(access.directory, trail, sealer)
        await keys.close()
        await hooks.close()
        await instance.store.close()
        _log.info("stopped")


@dataclass(frozen=True, slots=True)
class _Access:
    """What all faces share: ``store`` writes the audit record of a change along with it."""

    store: AuditedStore
    administration: Administration
    directory: Directory
    throttle: Throttle


@dataclass(frozen=True, slots=True)
class _Fleet:
    """What provisions devices, over either wire."""

    templates: TemplateRegistry
    claims: ClaimRegistry
    ownership: OwnershipRegistry
    provisioning: ProvisioningRegistry


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


def _leave_out_of_collections() -> None:
    """What was made at start (contracts, routes, modules) stays, and need not be looked through again and again.

    Requests leave hardly any cycles behind, so collecting every 700 objects, Python's usual, finds next to nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AT)


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
    fleet: _Fleet,
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
        quotas=settings.quotas_in_force(),
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
        templates=fleet.templates,
        claims=fleet.claims,
        provisioning=fleet.provisioning,
        authorities=AuthorityRegistry(access.store, markers),
        issued=IssuedRegistry(access.store, markers, quotas=settings.quotas_in_force()),
    )
    aws = AwsFace(load_aws_contract(), sigv4, access.throttle, registries)
    return Front(
        aws=aws,
        native=NativeFace(
            NativeAuth(access.directory, names, dev=settings.dev),
            access.throttle,
            certificates,
            access.administration,
            AuditRecords(access.store, Markers(instance.vault.derive("audit markers"))),
        ),
        yandex=yandex,
        probes=probes(instance.store, metrics),
        is_aws_route=aws.is_route,
        is_yandex_route=yandex.is_route,
        journal=journal,
        clock=utc_now,
    )


def _fleet(instance: Instance, access: _Access, settings: Settings, keys: KeyPool, hooks: HookTable) -> _Fleet:
    authority = instance.device_authority(DEVICE)
    templates = TemplateRegistry(access.store, Markers(instance.vault.derive("markers")))
    claims = ClaimRegistry(access.store, instance.device_authority(CLAIM), keys)
    return _Fleet(
        templates=templates,
        claims=claims,
        ownership=OwnershipRegistry(access.store, authority, keys, claims),
        provisioning=ProvisioningRegistry(
            access.store, authority, templates, hooks, reinstate_revoked=settings.reinstate_revoked
        ),
    )


def _yandex_face(instance: Instance, access: _Access, settings: Settings, names: NameRegistry) -> YandexFace:
    operations, quotas = OperationRegistry(access.store), settings.quotas_in_force()
    return YandexFace(
        load_yandex_contract(),
        tokens=IamTokens(access.directory, instance.vault.derive("iam tokens"), utc_now),
        throttle=access.throttle,
        fleet=FleetRegistry(access.store, operations, Markers(instance.vault.derive("page tokens")), quotas),
        bindings=BindingRegistry(access.store, operations, quotas),
        operations=operations,
        names=names,
        clock=utc_now,
        pending=settings.yandex_operations_pending,
        sha1_fingerprints=settings.yandex_fingerprint == "sha1",
    )


def _gateway(
    instance: Instance,
    access: _Access,
    settings: Settings,
    fleet: _Fleet,
    broker: Broker,
    endpoints: Mapping[str, Scope],
    journal: DoorJournal,
    tls: ListenerTLS,
) -> Gateway:
    roles = Roles(access.directory)
    newcomers = NewcomerRegistry(
        access.store, instance.device_authority(DEVICE), fleet.templates, quotas=settings.quotas_in_force()
    )
    return Gateway(
        Doorkeeping(instance.store),
        broker,
        journal,
        endpoints=endpoints,
        renewed=tls.follow(),
        clock=utc_now,
        provisioning=ProvisioningTopics(fleet.ownership, fleet.provisioning, roles, access.throttle, journal),
        newcomer=Newcomers(newcomers, broker, roles, newcomer_throttle(settings.limits), utc_now),
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


def _doorways(settings: Settings) -> dict[str, Doorway]:
    """What devices come to, by listener. Raises ConfigError."""
    found = {"mqtt": Doorway(_bind("mqtt-port", settings.host, settings.mqtt_port))}
    if (port := settings.mqtt_alpn_port) is not None:
        found["mqtt-alpn"] = Doorway(_bind("mqtt-alpn-port", settings.host, port), alpn_required=True)
    if (port := settings.mqtt_proxy_port) is not None:
        if not settings.mqtt_proxy_edges:
            raise ConfigError(
                "mqtt-proxy-edges", "must name the edges' certificates: their word is taken for everybody's"
            )
        edges = frozenset(settings.mqtt_proxy_edges)
        found["mqtt-proxy"] = Doorway(_bind("mqtt-proxy-port", settings.host, port), proxied=True, edges=edges)
    if (path := settings.mqtt_proxy_socket) is not None:
        found[_PROXY_SOCKET] = Doorway(_bind_unix("mqtt-proxy-socket", path), proxied=True)
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


def _stop_signal() -> asyncio.Event:
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, event.set)
    return event
