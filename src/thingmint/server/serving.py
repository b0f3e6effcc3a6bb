"""Builds the server from its parts."""

from __future__ import annotations

import asyncio
import resource
from functools import partial
from typing import TYPE_CHECKING

import structlog

from thingmint.admin import AdminSocket
from thingmint.domain.certificate_profiles import listener_profile
from thingmint.domain.tls_profiles import TLS_PROFILES
from thingmint.http.listener import HttpListener
from thingmint.instance.audit_key import check_audit_key
from thingmint.instance.create import check_keys, check_master_key
from thingmint.mqtt.broker.embedded import EmbeddedBroker
from thingmint.mqtt.broker.upstream import UpstreamBroker
from thingmint.mqtt.connected_clients import ConnectedClients
from thingmint.mqtt.connection_index import ConnectionIndex
from thingmint.mqtt.messages import GatewayMessages
from thingmint.mqtt.session_list import LocalSessionList
from thingmint.mqtt.slices import Slices
from thingmint.server.apis import (
    access_of,
    environment_of,
    front,
    gateway_of,
    grpc_listener,
    http_apis,
    invoker_of,
    metadata_listeners,
    yandex_api,
)
from thingmint.server.bulk import bulk_registration
from thingmint.server.chores import EVERY_MINUTE, note_use
from thingmint.server.console import console_address, console_of, link_command
from thingmint.server.device_credentials import credentials_listener, device_credentials
from thingmint.server.explaining import default_account, explaining, why_command
from thingmint.server.gauges import (
    watch_audit,
    watch_certificates,
    watch_changes,
    watch_console,
    watch_devices,
    watch_events,
    watch_exports,
    watch_functions,
    watch_issuing,
    watch_leases,
    watch_memory,
    watch_store,
    watch_upstream,
    watch_work,
)
from thingmint.server.health import ServerHealth
from thingmint.server.local_commands import server_commands
from thingmint.server.processes import DevicePresence, SharedStore, live_changes
from thingmint.server.reloading import Reloading, settings_changes, stop_and_reload_signals
from thingmint.server.reports import Reports
from thingmint.server.running import Ready, Server
from thingmint.server.served_names import ServedNames
from thingmint.server.sockets import (
    LOOPBACK,
    PROXY_SOCKET,
    address_limits,
    bind,
    bind_grpc,
    mqtt_listeners_of,
    take_all_files,
)
from thingmint.server.stalls import StallWatch
from thingmint.services.ca_owners import settle_ca_owners
from thingmint.services.certificates import utc_now
from thingmint.services.change_feed import ChangeFeed
from thingmint.services.event_configurations import EventSwitches
from thingmint.services.event_publisher import EVENTS_LEASE, EventPublisher
from thingmint.services.export_sender import EXPORTS_LEASE, ExportSender
from thingmint.services.exported_messages import Exports
from thingmint.services.functions import FunctionTable
from thingmint.services.jobs import JOBS_LEASE, JobRunner
from thingmint.services.keypool import KeyPool
from thingmint.services.leases import LeasedStore, SoleHolder
from thingmint.services.live_sessions import only_here
from thingmint.services.quotas import begin_counting
from thingmint.services.topic_aliases import check_old_aliases
from thingmint.settings.presence import presence_hook
from thingmint.tls import ListenerTLS, ServerCertificateFiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from thingmint.instance.create import Instance
    from thingmint.mqtt.broker.interface import Broker
    from thingmint.settings import Settings
    from thingmint.yandex.grpc_listener import GrpcListener


_BROKER_ADVICE = "devices at other processes on this database get no messages from here: set broker to an MQTT broker"

_log = structlog.get_logger("thingmint.server")


async def serve(
    instance: Instance,
    settings: Settings,
    on_ready: Callable[[Ready], None],
    reread: Callable[[], Settings] | None = None,
    *,
    sign_in_link: bool = False,
) -> None:
    """Serves until SIGTERM or SIGINT, then finishes the requests in flight. Raises ConfigError before it listens.

    At SIGHUP, applies the settings that ``reread`` returns, except those that need a restart. With ``sign_in_link``,
    the console's address signs an administrator in.

    The caller closes the instance's store.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would contain private keys
    take_all_files()
    await check_keys(instance.store, instance.directory)
    await check_audit_key(instance.store, instance.directory)
    await check_master_key(instance.store, instance.vault)
    slices = Slices()
    embedded = EmbeddedBroker(slices=slices)
    broker: Broker = embedded if settings.broker is None else UpstreamBroker(settings.broker.upstream(), slices=slices)
    if settings.broker is None and instance.store.is_shared:
        _log.warning("embedded_broker_is_for_one_process", advice=_BROKER_ADVICE)
    api_socket = bind("api-port", settings.host, settings.api_port)
    http_socket = bind("http-port", LOOPBACK, settings.http_port)
    mqtt_listeners = mqtt_listeners_of(settings)
    grpc_socket = bind_grpc(settings)
    await begin_counting(instance.store, settings.quotas_in_force())
    await settle_ca_owners(instance.store, instance.own_authorities())
    await check_old_aliases(instance.store)
    stopping, reloading = stop_and_reload_signals()
    account_of_others = await default_account(instance.store, settings)
    tls = ListenerTLS(
        instance.listener_authority(listener_profile(settings.listener_certificate_lifetime)),
        instance.directory.root,
        utc_now,
        TLS_PROFILES[settings.tls_profiles().api],
    )
    names = ServedNames(instance.store, instance.directory, tls, settings)
    await names.load()
    certificates = ServerCertificateFiles(tls, utc_now)
    certificates.use(certificates.prepare(settings))
    connections, clients = ConnectionIndex(slices), ConnectedClients(utc_now)
    shared = SharedStore.of(instance.store, clients)
    holder = shared.leases if shared is not None else SoleHolder()
    reports = Reports.of(instance, settings, holder, clients)
    client_ids = shared.client_ids if shared is not None else None
    shared_sessions = shared.sessions(instance.store, broker, clients) if shared is not None else None
    sessions = shared_sessions or only_here(LocalSessionList(broker, clients, ""))
    messages = GatewayMessages(broker, connections, clients, utc_now, client_ids=client_ids, sessions=sessions)
    feed = ChangeFeed(instance.store, messages, utc_now)
    live = live_changes(instance.store, shared, clients, reports.refusals, feed)
    if shared_sessions is not None:
        feed.follow(shared_sessions.changed)
    feed.follow(names.changed)
    feed.follow(messages.changed)
    store = feed.followed()
    access = access_of(instance, settings, store, feed)
    keys, functions = KeyPool(settings.key_pool), FunctionTable(settings.functions_in_force())
    exports = Exports(instance.store, settings.export_hooks_in_force(), lambda: feed.interruptions)
    feed.follow(exports.changed)
    events = EventSwitches(instance.store, feed)
    feed.follow(events.changed)
    presence = DevicePresence.of(instance.store, broker, shared, events, presence_hook(settings.presence))
    publisher = EventPublisher(LeasedStore(instance.store, holder, EVENTS_LEASE), messages, utc_now)
    feed.follow(publisher.changed)
    sender = ExportSender(LeasedStore(instance.store, holder, EXPORTS_LEASE), exports)
    health = ServerHealth(instance, tls, broker, feed, lost=lambda: reports.trail.lost)
    environment = environment_of(
        instance, settings, names.addresses, keys, functions, messages, exports, events, health
    )
    limits = address_limits(settings, reports.metrics)
    yandex = yandex_api(instance, access, settings, environment)
    explain = explaining(instance, settings, names.host_names, environment.passwords, clients)
    bound = {"api": api_socket, "grpc": grpc_socket, "mqtt": mqtt_listeners["mqtt"].sock}
    apis = http_apis(instance, access, settings, environment, yandex)
    invoke = invoker_of(apis, access, reports, api_socket.getsockname()[1])
    trail = reports.trail
    console = console_of(
        instance, access, settings, environment, names, tls, health, live, feed, explain, bound, invoke, trail
    )
    app = front(apis, instance, access, settings, environment, reports, broker, console.api if console else None)
    refusals = reports.connections.refusals
    devices = device_credentials(instance, access, account_of_others, feed, names.host_names)
    grpc = grpc_listener(yandex, instance, access, reports.requests, grpc_socket, limits["grpc"], refusals, tls)
    listeners: dict[str, HttpListener | GrpcListener] = {
        "api": HttpListener(app, api_socket, limits["api"], refusals, access.memory, tls.context, grpc.take),
        "http": HttpListener(app, http_socket, limits["http"], refusals, access.memory),
        "grpc": grpc,
    }
    listeners |= await metadata_listeners(instance, access, settings, reports.requests, limits["http"], refusals)
    gateway = gateway_of(
        instance,
        access,
        settings,
        environment,
        broker,
        account_of_others,
        reports.connections,
        tls,
        connections,
        clients,
        shared.takeovers if shared is not None else None,
        feed,
        limits["mqtt"],
        names.host_names,
        presence.presence,
    )
    if settings.credentials_port is not None:
        listeners["credentials"] = credentials_listener(
            devices, access, settings, reports.requests, gateway.contexts, limits["credentials"], refusals
        )

    jobs_store = LeasedStore(store, holder, JOBS_LEASE)
    jobs = JobRunner(jobs_store, utc_now, EVERY_MINUTE)
    health.jobs = jobs
    stalls = StallWatch(asyncio.get_running_loop())
    watch_store(reports.metrics, instance)
    watch_functions(reports.metrics, functions)
    watch_issuing(reports.metrics, environment)
    watch_certificates(reports.metrics, tls)
    watch_memory(reports.metrics, access.memory)
    watch_audit(reports.metrics, reports.trail, reports.sealer)
    watch_work(reports.metrics, jobs, stalls)
    watch_leases(reports.metrics, holder)
    watch_changes(reports.metrics, feed)
    watch_exports(reports.metrics, sender, exports)
    watch_events(reports.metrics, publisher)
    watch_devices(reports.metrics, gateway, embedded, presence.presence)
    watch_upstream(reports.metrics, broker)
    if console is not None:
        watch_console(reports.metrics, console.updates)
    ports = {name: listener.port for name, listener in listeners.items()}
    ports |= {name: each.sock.getsockname()[1] for name, each in mqtt_listeners.items() if name != PROXY_SOCKET}
    link = link_command(console, names, ports)
    address = await console_address(console, link, ports, has_link=sign_in_link and not settings.dev)
    changes = settings_changes(environment, exports, certificates, limits, gateway, access, reports.sealer)
    server = Server(
        instance=instance,
        settings=settings,
        names=names,
        ready=Ready(names.hostnames[0], settings.host, ports, certificates.describe(), address),
        listeners=listeners,
        gateway=gateway,
        mqtt_listeners=mqtt_listeners,
        admin=AdminSocket(
            instance.directory.admin_socket,
            {
                **server_commands(access, reports.trail, environment, names, ports),
                "console.link": link,
                "why": why_command(instance.store, explain),
            },
        ),
        directory=access.directory,
        reports=reports,
        presence=presence,
        keys=keys,
        exports=exports,
        events=publisher,
        last_messages=environment.last_messages,
        updates=console.updates if console is not None else None,
        stalls=stalls,
        chores=[
            partial(tls.keep_renewed, names.all),
            certificates.run,
            *reports.chores(),
            partial(note_use, access.directory),
            jobs.run,
            sender.run,
            bulk_registration(store, holder, environment, access, settings, reports.metrics, ports["api"]).run,
            publisher.run,
            feed.run,
            Reloading(names, certificates, ports, reread or (lambda: settings), changes, reloading).run,
            partial(names.run, ports),
            live.run,
            *(() if console is None else (console.updates.run, console.verification.run)),
            *presence.chores(jobs_store),
        ],
    )
    await server.run(stopping, on_ready)
