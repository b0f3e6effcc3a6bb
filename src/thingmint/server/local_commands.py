"""The commands of the command line that need the whole server's parts: the same in a server and without one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from thingmint.access.administration.accounts import extend_instance
from thingmint.access.audit import AuditedStore, AuditLog
from thingmint.access.local_admin import as_local_admin
from thingmint.fleet.exporting import Exporter
from thingmint.fleet.production import Production
from thingmint.importing.importer import Importer
from thingmint.instance.create import Instance, check_keys, check_master_key
from thingmint.mqtt.broker.embedded import EmbeddedBroker
from thingmint.mqtt.connected_clients import ConnectedClients
from thingmint.mqtt.connection_index import ConnectionIndex
from thingmint.mqtt.messages import GatewayMessages
from thingmint.mqtt.slices import Slices
from thingmint.server.bulk import bulk_commands
from thingmint.server.environments import environment_of
from thingmint.server.explaining import explaining, why_command
from thingmint.server.health import ServerHealth
from thingmint.server.native_commands import native_command
from thingmint.server.served_names import account_names
from thingmint.services.certificates import utc_now
from thingmint.services.event_configurations import EventSwitches, Unfollowed
from thingmint.services.exported_messages import Exports
from thingmint.services.functions import FunctionTable
from thingmint.services.hostnames import list_account_hostnames
from thingmint.services.keypool import KeyPool
from thingmint.services.quotas import begin_counting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from thingmint.instance.layout import DataDirectory
    from thingmint.server.console import LinkCommand
    from thingmint.server.core import Core
    from thingmint.services.change import Environment
    from thingmint.settings import Settings

LocalCommands = Mapping[str, Callable[..., Awaitable[Any]]]
"""By the name that the admin socket knows. They take and return JSON, and raise DomainErrors."""


def local_commands(store: AuditedStore, trail: AuditLog, environment: Environment) -> LocalCommands:
    importer = Importer(store, trail, environment, utc_now)
    production = Production(store, trail, environment, utc_now)
    exporter = Exporter(store, trail, utc_now)
    return {
        **bulk_commands(store),
        "fleet.look": production.look,
        "fleet.check": production.check,
        "fleet.begin": production.begin,
        "fleet.register": production.register,
        "fleet.finish": production.finish,
        "fleet.export_start": exporter.start,
        "fleet.export_page": exporter.page,
        "import.start": importer.start,
        "import.apply": importer.apply,
        "import.finish": importer.finish,
        "import.list": importer.all,
        "import.findings": importer.findings,
        "native": native_command(store, trail, environment),
    }


def server_commands(core: Core, ports: Mapping[str, int], link: LinkCommand) -> LocalCommands:
    """All commands of a server. Those that can change host names return after the server has followed the change.

    ``link`` makes a link that signs in to the console.
    """
    access, trail, names = core.access, core.reports.trail, core.certificates.names

    async def extend(new_hostnames: list[str], new_regions: list[str]) -> dict[str, list[str]]:
        now = utc_now()
        added, regions = await access.store.write(lambda tx: extend_instance(tx, new_hostnames, new_regions, now))
        await names.follow(ports)
        return {"hostnames": added, "regions": regions}

    async def administer(name: str, given: dict[str, Any]) -> Any:
        result = await as_local_admin(access.administration, trail, name, given)
        await names.follow(ports)
        return result

    return {
        "extend": extend,
        "access": administer,
        **local_commands(access.store, trail, core.environment),
        "console.link": link,
        "why": why_command(core.instance.store, core.explain),
    }


@asynccontextmanager
async def without_server(
    directory: DataDirectory, settings: Settings, passphrase: Callable[[], bytes | None]
) -> AsyncIterator[LocalCommands]:
    """The commands on a store that no server has open. The caller holds the directory. Raises ConfigError."""
    instance = await Instance.open(directory, passphrase, settings.master_keys(), settings.database())
    trail = AuditLog(instance.store, utc_now)
    slices = Slices()
    clients = ConnectedClients(utc_now)
    messages = GatewayMessages(EmbeddedBroker(slices=slices), ConnectionIndex(slices), clients, utc_now)
    keys, functions = KeyPool(0), FunctionTable(settings.functions_in_force())
    exports = Exports(instance.store, settings.export_hooks_in_force(), lambda: 0)
    events = EventSwitches(instance.store, Unfollowed())
    try:
        await check_keys(instance.store, directory)
        await check_master_key(instance.store, instance.vault)
        await begin_counting(instance.store, settings.quotas_in_force())
        environment = environment_of(
            instance,
            settings,
            endpoints={},
            keys=keys,
            functions=functions,
            messages=messages,
            exports=exports,
            events=events,
            health=ServerHealth(instance),
        )
        names = account_names(settings, await instance.store.read(list_account_hostnames))
        explain = explaining(instance, settings, names, environment.passwords, clients)
        why = why_command(instance.store, explain)
        yield {**local_commands(AuditedStore(instance.store, utc_now), trail, environment), "why": why}
    finally:
        await exports.close()
        await keys.close()
        await trail.close()
        await instance.store.close()
