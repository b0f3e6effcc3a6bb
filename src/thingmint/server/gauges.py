"""The metrics of the server's parts. Those of requests and connections are in ``metrics``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.access.audit_sealer import AUDIT_LEASE
from thingmint.aws.bulk_registration import BULK_LEASE
from thingmint.console.pages.updates import STREAMS
from thingmint.mqtt.broker.upstream import UpstreamBroker, UpstreamUsage
from thingmint.services.event_publisher import EVENTS_LEASE
from thingmint.services.export_sender import EXPORTS_LEASE
from thingmint.services.jobs import JOBS_LEASE
from thingmint.store.disk_reserve import free_bytes

if TYPE_CHECKING:
    from thingmint.access.audit import AuditLog
    from thingmint.access.audit_sealer import Sealer
    from thingmint.console.updates import Updates
    from thingmint.http.memory import MemoryBudget, RequestMemory
    from thingmint.instance.create import Instance
    from thingmint.metrics import Metrics
    from thingmint.mqtt.broker.embedded import EmbeddedBroker
    from thingmint.mqtt.broker.interface import Broker
    from thingmint.mqtt.gateway import Gateway
    from thingmint.mqtt.presence import Presence
    from thingmint.server.console import ConsoleParts
    from thingmint.server.core import Core
    from thingmint.server.stalls import StallWatch
    from thingmint.services.change import Environment
    from thingmint.services.change_feed import ChangeFeed
    from thingmint.services.event_publisher import EventPublisher
    from thingmint.services.export_sender import ExportSender
    from thingmint.services.exported_messages import Exports
    from thingmint.services.functions import FunctionTable
    from thingmint.services.jobs import JobRunner
    from thingmint.services.leases import Holder
    from thingmint.tls import ListenerTLS


def watch_server(core: Core, gateway: Gateway, console: ConsoleParts | None, stalls: StallWatch) -> None:
    """Adds the metrics of all parts. /metrics has them in this order."""
    metrics, reports, outgoing, devices = core.reports.metrics, core.reports, core.outgoing, core.devices
    _watch_store(metrics, core.instance)
    _watch_functions(metrics, core.environment.functions)
    _watch_issuing(metrics, core.environment)
    _watch_certificates(metrics, core.certificates.tls)
    _watch_memory(metrics, core.access.memory)
    _watch_audit(metrics, reports.trail, reports.sealer)
    _watch_work(metrics, core.jobs, stalls)
    _watch_leases(metrics, core.storage.holder)
    _watch_changes(metrics, core.storage.feed)
    _watch_exports(metrics, outgoing.sender, outgoing.exports)
    _watch_events(metrics, outgoing.publisher)
    _watch_devices(metrics, gateway, devices.embedded, outgoing.presence.presence)
    watch_upstream(metrics, devices.broker)
    if console is not None:
        _watch_console(metrics, console.updates)


def _watch_store(metrics: Metrics, instance: Instance) -> None:
    directory = instance.directory
    metrics.gauge("store_ready", "1 while the server can write to the database.", lambda: float(instance.store.ready))
    metrics.count(
        "store_retries",
        "Transactions that ran again because of a conflict with another one.",
        lambda: instance.store.retries,
    )
    metrics.gauge(
        "disk_free_bytes",
        "Space that the server can still use on the data directory's disk.",
        lambda: free_bytes(directory.root),
    )
    metrics.gauge(
        "disk_reserve_held",
        "1 while the disk reserve exists; 0 after it was freed, or if none is set.",
        lambda: float(directory.disk_reserve.exists()),
    )


def _watch_issuing(metrics: Metrics, environment: Environment) -> None:
    keys, counts = environment.keys, environment.counts
    metrics.gauge("key_pool_ready", "RSA key pairs that are ready in memory.", lambda: keys.ready)
    metrics.gauge("key_pool_waiting", "Callers that wait for an RSA key pair.", lambda: keys.waiting)
    metrics.gauge(
        "certificates_discarded",
        "Certificates that were signed but not registered, since the start.",
        lambda: counts["certificates_discarded"],
    )


def _watch_functions(metrics: Metrics, functions: FunctionTable) -> None:
    metrics.counts(
        "hook_calls",
        "Calls of the functions in the settings, by their outcome.",
        ["function", "use", "outcome"],
        functions.counts,
    )
    metrics.gauges("hook_calls_running", "Calls of a function that run now.", ["function"], functions.running)


def _watch_certificates(metrics: Metrics, tls: ListenerTLS) -> None:
    metrics.gauges(
        "server_certificate_expiry_timestamp_seconds",
        "When the certificate that a listener shows for a host name ends, in Unix time.",
        ["listener", "name"],
        lambda: [((listener, name), end.timestamp()) for listener, name, end in tls.ends()],
    )


def _watch_memory(metrics: Metrics, memory: RequestMemory) -> None:
    def watch(callers: str, budget: MemoryBudget) -> None:
        description = f"Memory that requests of {callers} callers use beyond what each of them may always use."
        metrics.gauge(f"{callers}_request_bytes", description, lambda: budget.used)

    watch("unauthenticated", memory.unauthenticated)
    watch("authenticated", memory.authenticated)


def _watch_audit(metrics: Metrics, trail: AuditLog, sealer: Sealer) -> None:
    metrics.gauge(
        "audit_activity_bytes",
        "Space that audit records of reads and refusals use in the database.",
        lambda: sealer.activity_size,
    )
    metrics.gauge(
        "audit_records_waiting", "Audit records of reads and refusals that wait to be written.", lambda: trail.pending
    )
    metrics.count(
        "audit_records_lost",
        "Audit records of reads and refusals that were dropped because too many waited.",
        lambda: trail.lost,
    )
    metrics.count(
        "audit_events_counted",
        "Events that were added up in one audit record instead of recorded one by one.",
        lambda: trail.counted,
    )


def _watch_work(metrics: Metrics, jobs: JobRunner, stalls: StallWatch) -> None:
    metrics.gauge("jobs_waiting", "Background jobs that are not finished.", lambda: jobs.waiting)
    metrics.gauge("jobs_failing", "Background jobs whose last run failed.", lambda: jobs.failing)
    metrics.gauge(
        "event_loop_longest_stall_seconds",
        "The longest time since the last scrape in which one task blocked all others.",
        stalls.take_longest,
    )
    metrics.count(
        "event_loop_stalls", "Times of more than 20 ms in which one task blocked all others.", lambda: stalls.count
    )


def _watch_leases(metrics: Metrics, holder: Holder) -> None:
    works = {
        AUDIT_LEASE: "seals the audit log",
        JOBS_LEASE: "runs background jobs",
        EXPORTS_LEASE: "sends data stream exports",
        BULK_LEASE: "runs the tasks of bulk registration",
        EVENTS_LEASE: "publishes registry events",
    }
    for name, work in works.items():
        description = f"1 while this process {work}; one of the processes on a database does."
        metrics.gauge(f"{name}_lease_held", description, lambda name=name: float(holder.holds(name)))  # type: ignore[misc]


def _watch_changes(metrics: Metrics, feed: ChangeFeed) -> None:
    description = "1 while the server follows changes in the database; at 0 devices cannot connect, send or receive."
    metrics.gauge("changes_followed", description, lambda: float(not feed.stale))


def _watch_exports(metrics: Metrics, sender: ExportSender, exports: Exports) -> None:
    metrics.gauge(
        "export_messages_waiting",
        "Messages that wait to be sent to the hooks of data stream exports; 0 in processes that do not send.",
        lambda: sum(queue.messages for queue in sender.waiting.values()),
    )
    metrics.gauge(
        "export_bytes_waiting",
        "The size of these messages.",
        lambda: sum(queue.bytes for queue in sender.waiting.values()),
    )
    metrics.gauge("exports_failing", "Data stream exports whose last batch was not accepted.", lambda: sender.failing)
    metrics.count("export_messages_sent", "Messages that hooks accepted.", lambda: sender.sent)
    metrics.count("export_failures", "Batches that hooks did not accept, each attempt.", lambda: sender.failures)
    metrics.count(
        "export_messages_dropped",
        "Messages that were dropped because the queue of their export was full.",
        lambda: exports.dropped,
    )


def _watch_events(metrics: Metrics, publisher: EventPublisher) -> None:
    metrics.count("events_published", "Registry events that the broker accepted.", lambda: publisher.published)
    metrics.count(
        "events_dropped",
        "Registry events that the broker refused, or did not accept for a day.",
        lambda: publisher.dropped,
    )
    metrics.gauge(
        "events_failing",
        "Accounts and regions whose registry events the broker does not accept at the moment; 1 if it accepts none.",
        lambda: publisher.failing,
    )


def watch_upstream(metrics: Metrics, broker: Broker) -> None:
    def usage() -> UpstreamUsage:
        return broker.usage if isinstance(broker, UpstreamBroker) else UpstreamUsage(0, 0, 0, 0)

    description = "1 while the broker is reachable (always, if it is embedded); at 0 devices cannot connect."
    metrics.gauge("broker_ready", description, lambda: float(broker.trouble is None))
    metrics.gauge(
        "broker_upstream_connections",
        "Connections to the external broker: one for each device, and one for the server.",
        lambda: usage().connections,
    )
    metrics.gauge(
        "broker_upstream_messages_waiting",
        "Messages of the server itself that the external broker has not accepted yet.",
        lambda: usage().waiting,
    )
    metrics.count(
        "broker_upstream_messages_dropped",
        "Messages of the server itself that were dropped because too many waited.",
        lambda: usage().dropped,
    )
    metrics.count(
        "broker_upstream_failures", "Failed attempts to connect to the external broker.", lambda: usage().failures
    )


def _watch_console(metrics: Metrics, updates: Updates) -> None:
    """The labels are names of the code: kinds of pages, and the three limits."""
    metrics.gauges(
        "console_streams",
        "Pages of the console that are open and follow what happens, each by one stream of events.",
        ["page"],
        lambda: [([page], updates.by_page.get(page, 0)) for page in STREAMS],
    )
    metrics.counts(
        "console_streams_refused",
        "Streams of events that were not opened because of a limit. The pages ask at intervals.",
        ["limit"],
        lambda: [([limit], count) for limit, count in updates.refused.items()],
    )


def _watch_devices(metrics: Metrics, gateway: Gateway, broker: EmbeddedBroker, presence: Presence) -> None:
    _watch_presence(metrics, presence)
    gauge, count, wills = metrics.gauge, metrics.count, gateway.wills
    gauge("device_connections", "Devices that are connected over MQTT.", lambda: gateway.connections)
    count(
        "device_connections_throttled",
        "Pauses in reading from a device that sent more than mqtt_rates allow.",
        lambda: gateway.throttled,
    )
    gauge("wills", "Wills that are stored, of open connections and delayed ones.", lambda: wills.held.count)
    gauge("wills_bytes", "Memory that wills use.", lambda: wills.held.size)
    count(
        "wills_published_early",
        "Delayed wills that were published at once because there was no memory for them.",
        lambda: wills.published_early,
    )
    gauge("broker_sessions", "Sessions in the embedded broker.", lambda: broker.usage.sessions)
    gauge(
        "broker_queued_messages",
        "Messages for devices that wait in the embedded broker.",
        lambda: broker.usage.queued.count,
    )
    gauge("broker_queued_bytes", "Memory that these messages use.", lambda: broker.usage.queued.size)
    gauge("broker_retained_messages", "Retained messages in the embedded broker.", lambda: broker.usage.retained.count)
    gauge("broker_retained_bytes", "Memory that retained messages use.", lambda: broker.usage.retained.size)
    count(
        "broker_refused",
        "Messages, retained messages and sessions that the embedded broker had no memory for.",
        lambda: broker.usage.refused,
    )
    gauge(
        "broker_unfinished_work",
        "Connections and regions of accounts whose work continues in a later slice.",
        lambda: broker.unfinished,
    )


def _watch_presence(metrics: Metrics, presence: Presence) -> None:
    events, hook = presence.events, presence.hook
    metrics.gauge(
        "presence_events_waiting", "Events that the presence hook has not accepted yet.", lambda: hook.waiting
    )
    metrics.count("presence_events_sent", "Events that the presence hook accepted.", lambda: hook.sent)
    metrics.count(
        "presence_events_dropped",
        "Events for the presence hook that were dropped because too many waited.",
        lambda: hook.dropped,
    )
    metrics.count("presence_hook_failures", "Calls of the presence hook that failed.", lambda: hook.failures)
    metrics.gauge(
        "lifecycle_events_waiting", "Life cycle events that the broker has not accepted yet.", lambda: events.waiting
    )
    metrics.count("lifecycle_events_published", "Life cycle events that the broker accepted.", lambda: events.published)
    metrics.count(
        "lifecycle_events_dropped",
        "Life cycle events that were dropped: too many waited, or the broker refused them.",
        lambda: events.dropped,
    )
