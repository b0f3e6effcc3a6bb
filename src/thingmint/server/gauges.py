"""What /metrics tells of the parts of the server. Those of requests and connections are in ``metrics``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.access.audit_sealer import AUDIT_LEASE
from thingmint.mqtt.broker.upstream import UpstreamBroker, UpstreamUsage
from thingmint.services.jobs import JOBS_LEASE
from thingmint.store.disk_reserve import free_bytes

if TYPE_CHECKING:
    from thingmint.access.audit import AuditTrail
    from thingmint.access.audit_sealer import Sealer
    from thingmint.http.memory import MemoryBudget, RequestMemory
    from thingmint.instance.create import Instance
    from thingmint.metrics import Metrics
    from thingmint.mqtt.broker.embedded import EmbeddedBroker
    from thingmint.mqtt.broker.interface import Broker
    from thingmint.mqtt.gateway import Gateway
    from thingmint.server.stalls import StallWatch
    from thingmint.services.change import Environment
    from thingmint.services.change_feed import ChangeFeed
    from thingmint.services.jobs import JobRunner
    from thingmint.services.leases import Holder


def watch_store(metrics: Metrics, instance: Instance) -> None:
    directory = instance.directory
    metrics.gauge("store_ready", "1 while changes can be kept.", lambda: float(instance.store.ready))
    metrics.count(
        "store_retries", "Changes that were made again since they met another one.", lambda: instance.store.retries
    )
    metrics.gauge("disk_free_bytes", "What can still be written to the disk.", lambda: free_bytes(directory.root))
    metrics.gauge(
        "disk_reserve_held",
        "1 while the disk reserve is held; 0 when it was given back, or if there is to be none.",
        lambda: float(directory.disk_reserve.exists()),
    )


def watch_issuing(metrics: Metrics, environment: Environment) -> None:
    keys, counts = environment.keys, environment.counts
    metrics.gauge("key_pool_ready", "Key pairs that lie ready.", lambda: keys.ready)
    metrics.gauge("key_pool_waiting", "Callers that wait for a key pair.", lambda: keys.waiting)
    metrics.gauge(
        "certificates_discarded",
        "Certificates that were signed and not registered.",
        lambda: counts["certificates_discarded"],
    )


def watch_memory(metrics: Metrics, memory: RequestMemory) -> None:
    def watch(callers: str, budget: MemoryBudget) -> None:
        description = f"Memory that requests of {callers} callers hold, beyond what each may."
        metrics.gauge(f"{callers}_request_bytes", description, lambda: budget.used)

    watch("unauthenticated", memory.unauthenticated)
    watch("authenticated", memory.authenticated)


def watch_audit(metrics: Metrics, trail: AuditTrail, sealer: Sealer) -> None:
    metrics.gauge("audit_activity_bytes", "What records of reads and refusals take.", lambda: sealer.activity_size)
    metrics.gauge("audit_records_waiting", "Records of reads and refusals to be written.", lambda: trail.pending)
    metrics.count("audit_records_lost", "Such records that found no room while they waited.", lambda: trail.lost)
    metrics.count("audit_events_counted", "Events that were added up instead of recorded.", lambda: trail.counted)


def watch_work(metrics: Metrics, jobs: JobRunner, stalls: StallWatch) -> None:
    metrics.gauge("jobs_waiting", "Background jobs that are not done.", lambda: jobs.waiting)
    metrics.gauge("jobs_failing", "Those of them that failed the last time.", lambda: jobs.failing)
    metrics.gauge(
        "event_loop_longest_stall_seconds",
        "The longest time since the last scrape for which the event loop was kept from everything else.",
        stalls.take_longest,
    )
    metrics.count("event_loop_stalls", "Such times of more than 20 ms.", lambda: stalls.count)


def watch_leases(metrics: Metrics, holder: Holder) -> None:
    for name, work in ((AUDIT_LEASE, "seals the audit log"), (JOBS_LEASE, "runs background jobs")):
        description = f"1 while this process {work}; of several that share a database, one does."
        metrics.gauge(f"{name}_lease_held", description, lambda name=name: float(holder.holds(name)))  # type: ignore[misc]


def watch_changes(metrics: Metrics, feed: ChangeFeed) -> None:
    description = "1 while changes are followed; at 0, devices get and send nothing, and are not let in."
    metrics.gauge("changes_followed", description, lambda: float(not feed.stale))


def watch_upstream(metrics: Metrics, broker: Broker) -> None:
    def usage() -> UpstreamUsage:
        return broker.usage if isinstance(broker, UpstreamBroker) else UpstreamUsage(0, 0, 0, 0)

    description = "1 while the broker can be reached, the embedded one always; at 0 devices are not let in."
    metrics.gauge("broker_ready", description, lambda: float(broker.trouble is None))
    metrics.gauge("broker_upstream_connections", "Connections to the broker upstream.", lambda: usage().connections)
    metrics.gauge(
        "broker_upstream_messages_waiting",
        "Messages of the server's own that the broker upstream has not taken yet.",
        lambda: usage().waiting,
    )
    metrics.count("broker_upstream_messages_dropped", "Those that found no room.", lambda: usage().dropped)
    metrics.count("broker_upstream_failures", "Failed attempts to connect to it.", lambda: usage().failures)


def watch_devices(metrics: Metrics, gateway: Gateway, broker: EmbeddedBroker) -> None:
    gauge, count, wills = metrics.gauge, metrics.count, gateway.wills
    gauge("device_connections", "Connections of devices.", lambda: gateway.connections)
    count(
        "device_connections_throttled",
        "Times that a connection was not read for a while, as it sent more than mqtt_rates allow.",
        lambda: gateway.throttled,
    )
    gauge("wills", "Wills that are kept, of open connections and delayed ones.", lambda: wills.held.count)
    gauge("wills_bytes", "Bytes of memory that they take.", lambda: wills.held.size)
    count(
        "wills_published_early",
        "Delayed wills that were published at once, as there was no room for them.",
        lambda: wills.published_early,
    )
    gauge("broker_sessions", "Sessions of the embedded broker.", lambda: broker.usage.sessions)
    gauge("broker_queued_messages", "Messages that wait in it for devices.", lambda: broker.usage.queued.count)
    gauge("broker_queued_bytes", "Bytes of memory that they take.", lambda: broker.usage.queued.size)
    gauge("broker_retained_messages", "Messages that it retains.", lambda: broker.usage.retained.count)
    gauge("broker_retained_bytes", "Bytes of memory that they take.", lambda: broker.usage.retained.size)
    count("broker_refused", "Messages and sessions that it had no room for.", lambda: broker.usage.refused)
    gauge("broker_unfinished_work", "Owners of work that waits for its next slice.", lambda: broker.unfinished)
