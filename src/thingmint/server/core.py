"""What the APIs, the console and the gateway are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.server.access import Access
from thingmint.server.chores import EVERY_MINUTE
from thingmint.server.environments import environment_of
from thingmint.server.explaining import default_account, explaining
from thingmint.server.health import ServerHealth
from thingmint.server.listener_certificates import ListenerCertificates
from thingmint.server.live import live_changes
from thingmint.server.outgoing import Outgoing
from thingmint.server.reports import Reports
from thingmint.server.sockets import address_limits
from thingmint.server.storage import Storage
from thingmint.services.certificates import utc_now
from thingmint.services.functions import FunctionTable
from thingmint.services.jobs import JOBS_LEASE, JobRunner
from thingmint.services.keypool import KeyPool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.http.connection_limits import AddressLimits
    from thingmint.instance.create import Instance
    from thingmint.server.devices import Devices
    from thingmint.server.explaining import Explain
    from thingmint.services.change import Environment
    from thingmint.services.live_changes import LiveChanges
    from thingmint.settings import Listener, Settings


@dataclass(frozen=True, slots=True)
class Core:
    """The parts of a server, before it has any listener.

    ``default_account`` is the account of devices whose host name and certificate name no account. ``limits`` are
    those of connections, by listener.
    """

    instance: Instance
    settings: Settings
    default_account: str | None
    devices: Devices
    certificates: ListenerCertificates
    storage: Storage
    reports: Reports
    live: LiveChanges
    access: Access
    outgoing: Outgoing
    jobs: JobRunner
    health: ServerHealth
    environment: Environment
    limits: Mapping[Listener, AddressLimits]
    explain: Explain

    @classmethod
    async def of(cls, instance: Instance, settings: Settings, devices: Devices) -> Core:
        """Raises ConfigError and Unavailable."""
        account_of_others = await default_account(instance.store, settings)
        certificates = await ListenerCertificates.load(instance, settings)
        tls, names = certificates.tls, certificates.names
        storage = Storage.of(instance.store, devices)
        feed = storage.feed
        reports = Reports.of(instance, settings, storage.holder, devices.clients)
        live = live_changes(storage, devices, reports.refusals)
        if devices.shared_sessions is not None:
            feed.follow(devices.shared_sessions.changed)
        feed.follow(names.changed)
        feed.follow(devices.messages.changed)
        access = Access.of(instance, settings, storage)
        keys, functions = KeyPool(settings.key_pool), FunctionTable(settings.functions_in_force())
        outgoing = Outgoing.of(settings, storage, devices)
        jobs = JobRunner(storage.leased(JOBS_LEASE), utc_now, EVERY_MINUTE)
        health = ServerHealth(instance, tls, devices.broker, feed, jobs, lost=lambda: reports.trail.lost)
        environment = environment_of(
            instance,
            settings,
            endpoints=names.addresses,
            keys=keys,
            functions=functions,
            messages=devices.messages,
            exports=outgoing.exports,
            events=outgoing.events,
            health=health,
        )
        return cls(
            instance=instance,
            settings=settings,
            default_account=account_of_others,
            devices=devices,
            certificates=certificates,
            storage=storage,
            reports=reports,
            live=live,
            access=access,
            outgoing=outgoing,
            jobs=jobs,
            health=health,
            environment=environment,
            limits=address_limits(settings, reports.metrics),
            explain=explaining(instance, settings, names.host_names, environment.passwords, devices.clients),
        )
