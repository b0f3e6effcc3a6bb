"""What the server reports about itself and its callers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thingmint.access.audit import AuditLog
from thingmint.access.audit_sealer import AUDIT_LEASE, Sealer, insert_activity_with
from thingmint.access.request_log import RequestLog
from thingmint.instance.audit_key import read_audit_keys
from thingmint.metrics import Metrics
from thingmint.mqtt.connection_log import ConnectionLog
from thingmint.services.certificate_activity import CertificateActivity
from thingmint.services.certificates import utc_now
from thingmint.services.leases import LeasedStore
from thingmint.services.refusals import Refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from thingmint.instance.create import Instance
    from thingmint.mqtt.connected_clients import ConnectedClients
    from thingmint.services.leases import Holder
    from thingmint.settings import Settings


@dataclass(frozen=True, slots=True)
class Reports:
    """The reports about requests and devices: metrics, audit log and request log."""

    metrics: Metrics
    trail: AuditLog
    sealer: Sealer
    connections: ConnectionLog
    requests: RequestLog
    activity: CertificateActivity
    refusals: Refusals

    @classmethod
    def of(cls, instance: Instance, settings: Settings, holder: Holder, clients: ConnectedClients) -> Reports:
        metrics = Metrics()
        store = LeasedStore(instance.store, holder, AUDIT_LEASE)
        trail = AuditLog(instance.store, utc_now, insert_activity_with(store))
        checkpoints = instance.directory.audit_checkpoints
        key = instance.audit_key()
        former = read_audit_keys(instance.directory).former
        sealer = Sealer(store, key, checkpoints, utc_now, *settings.audit_kept(), former)
        activity = CertificateActivity(instance.store, utc_now, clients.certificates)
        refusals = Refusals(instance.store, utc_now)
        connections = ConnectionLog(metrics, trail, utc_now, activity, refusals)
        requests = RequestLog(metrics, trail, connections.refusals)
        return cls(metrics, trail, sealer, connections, requests, activity, refusals)

    def chores(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        return [self.trail.run, self.sealer.run, self.activity.run, self.refusals.run]

    async def flush(self) -> None:
        """Stores what was noted of devices, and is only in memory."""
        await self.activity.flush()
        await self.refusals.flush()
