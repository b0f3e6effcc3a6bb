"""Builds the server from its parts."""

from __future__ import annotations

import asyncio
import resource
from functools import partial
from typing import TYPE_CHECKING, Any

from thingmint.admin import AdminSocket
from thingmint.server.bulk import bulk_registration
from thingmint.server.chores import note_use
from thingmint.server.console import console_address, link_command
from thingmint.server.core import Core
from thingmint.server.devices import Devices
from thingmint.server.gauges import watch_server
from thingmint.server.listeners import Listeners
from thingmint.server.local_commands import server_commands
from thingmint.server.reloading import Reloading, settings_changes, stop_and_reload_signals
from thingmint.server.running import Ready, Server
from thingmint.server.sockets import Sockets, take_all_files
from thingmint.server.stalls import StallWatch
from thingmint.server.storage import check_instance, prepare_store
from thingmint.services.jobs import JOBS_LEASE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from thingmint.instance.create import Instance
    from thingmint.settings import Settings


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
    await check_instance(instance)
    devices = Devices.of(instance.store, settings)
    sockets = Sockets.bind(settings)
    await prepare_store(instance, settings)
    stopping, reloading = stop_and_reload_signals()

    core = await Core.of(instance, settings, devices)
    listeners = await Listeners.of(core, sockets)
    stalls = StallWatch(asyncio.get_running_loop())
    watch_server(core, listeners.gateway, listeners.console, stalls)

    certificates, ports = core.certificates, listeners.ports()
    link = link_command(listeners.console, certificates.names, ports)
    address = await console_address(listeners.console, link, ports, has_link=sign_in_link and not settings.dev)
    changes = settings_changes(core, listeners.gateway)
    reloads = Reloading(certificates, ports, reread or (lambda: settings), changes, reloading)
    server = Server(
        core=core,
        listeners=listeners,
        admin=AdminSocket(instance.directory.admin_socket, server_commands(core, ports, link)),
        stalls=stalls,
        chores=_chores(core, listeners, ports, reloads),
        ready=Ready(certificates.names.hostnames[0], settings.host, ports, certificates.files.describe(), address),
    )
    await server.run(stopping, on_ready)


def _chores(
    core: Core, listeners: Listeners, ports: Mapping[str, int], reloads: Reloading
) -> list[Callable[[], Coroutine[Any, Any, None]]]:
    """What runs in the background until the server stops."""
    certificates, outgoing, console = core.certificates, core.outgoing, listeners.console
    return [
        partial(certificates.tls.keep_renewed, certificates.names.all),
        certificates.files.run,
        *core.reports.chores(),
        partial(note_use, core.access.directory),
        core.jobs.run,
        outgoing.sender.run,
        bulk_registration(core, ports["api"]).run,
        outgoing.publisher.run,
        core.storage.feed.run,
        reloads.run,
        partial(certificates.names.run, ports),
        core.live.run,
        *(() if console is None else (console.updates.run, console.verification.run)),
        *outgoing.presence.chores(core.storage.leased(JOBS_LEASE)),
    ]
