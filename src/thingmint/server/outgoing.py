"""What the server sends without a request: data stream exports, registry events, and the presence of devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.server.processes import DevicePresence
from thingmint.services.certificates import utc_now
from thingmint.services.event_configurations import EventSwitches
from thingmint.services.event_publisher import EVENTS_LEASE, EventPublisher
from thingmint.services.export_sender import EXPORTS_LEASE, ExportSender
from thingmint.services.exported_messages import Exports
from thingmint.services.leases import LeasedStore
from thingmint.settings.presence import presence_hook

if TYPE_CHECKING:
    from thingmint.server.devices import Devices
    from thingmint.server.storage import Storage
    from thingmint.settings import Settings


@dataclass(frozen=True, slots=True)
class Outgoing:
    """``sender`` sends what ``exports`` stores; ``publisher`` publishes the events that ``events`` switches on."""

    exports: Exports
    sender: ExportSender
    events: EventSwitches
    publisher: EventPublisher
    presence: DevicePresence

    @classmethod
    def of(cls, settings: Settings, storage: Storage, devices: Devices) -> Outgoing:
        """Raises ConfigError."""
        store, feed, holder = storage.plain, storage.feed, storage.holder
        exports = Exports(store, settings.export_hooks_in_force(), lambda: feed.interruptions)
        feed.follow(exports.changed)
        events = EventSwitches(store, feed)
        feed.follow(events.changed)
        hook = presence_hook(settings.presence)
        presence = DevicePresence.of(store, devices.broker, devices.shared, events, hook)
        publisher = EventPublisher(LeasedStore(store, holder, EVENTS_LEASE), devices.messages, utc_now)
        feed.follow(publisher.changed)
        sender = ExportSender(LeasedStore(store, holder, EXPORTS_LEASE), exports)
        return cls(exports, sender, events, publisher, presence)
