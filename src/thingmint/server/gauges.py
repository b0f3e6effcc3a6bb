"""What /metrics tells of the MQTT gateway and of the embedded broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thingmint.metrics import Metrics
    from thingmint.mqtt.broker.embedded import EmbeddedBroker
    from thingmint.mqtt.gateway import Gateway


def watch_devices(metrics: Metrics, gateway: Gateway, broker: EmbeddedBroker) -> None:
    gauge, wills = metrics.gauge, gateway.wills
    gauge("device_connections", "Connections of devices.", lambda: gateway.connections)
    gauge(
        "device_connections_throttled",
        "Times that a connection was not read for a while, as it sent more than mqtt_rates allow.",
        lambda: gateway.throttled,
    )
    gauge("wills", "Wills that are kept, of open connections and delayed ones.", lambda: wills.held.count)
    gauge("wills_bytes", "Bytes of memory that they take.", lambda: wills.held.size)
    gauge(
        "wills_published_early",
        "Delayed wills that were published at once, as there was no room for them.",
        lambda: wills.published_early,
    )
    gauge("broker_sessions", "Sessions of the embedded broker.", lambda: broker.usage.sessions)
    gauge("broker_queued_messages", "Messages that wait in it for devices.", lambda: broker.usage.queued.count)
    gauge("broker_queued_bytes", "Bytes of memory that they take.", lambda: broker.usage.queued.size)
    gauge("broker_retained_messages", "Messages that it retains.", lambda: broker.usage.retained.count)
    gauge("broker_retained_bytes", "Bytes of memory that they take.", lambda: broker.usage.retained.size)
    gauge("broker_refused", "Messages and sessions that it had no room for.", lambda: broker.usage.refused)
    gauge("broker_unfinished_work", "Owners of work that waits for its next slice.", lambda: broker.unfinished)
