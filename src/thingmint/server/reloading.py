"""Reloading at SIGHUP: reads the settings that can change again, and issues a new listener certificate."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import structlog

from thingmint.domain.errors import Unavailable
from thingmint.server.sockets import connection_limits
from thingmint.settings import ConfigError
from thingmint.settings.bulk import bulk_in_force
from thingmint.settings.presence import presence_hook

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from thingmint.mqtt.gateway import Gateway
    from thingmint.server.core import Core
    from thingmint.server.listener_certificates import ListenerCertificates
    from thingmint.settings import Settings


_log = structlog.get_logger("thingmint.server")


class Reloading:
    """Applies changed settings: ``changes`` are functions by names of settings. All other settings need a restart."""

    def __init__(
        self,
        certificates: ListenerCertificates,
        ports: Mapping[str, int],
        reread: Callable[[], Settings],
        changes: Mapping[tuple[str, ...], Callable[[Settings], None]],
        asked: asyncio.Event,
    ) -> None:
        self._names = certificates.names
        self._files = certificates.files
        self._ports = ports
        self._reread = reread
        self._changes = changes
        self._asked = asked
        self._in_force = certificates.names.settings

    async def run(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                await self.reload()
            except ConfigError as error:
                _log.error("settings_not_reloaded", why=str(error))
            except (Unavailable, OSError) as error:
                _log.error("not_reloaded", why=str(error))

    async def reload(self) -> None:
        """Applies changed settings. Raises ConfigError, without any change, and Unavailable and OSError."""
        new = self._reread()
        changed = {name for name in type(new).model_fields if getattr(new, name) != getattr(self._in_force, name)}
        applied: set[str] = set()
        for names, change in self._changes.items():
            if changed & set(names):
                change(new)
                applied |= changed & set(names)
        self._in_force = self._in_force.model_copy(update={name: getattr(new, name) for name in applied})
        self._names.use(self._in_force)
        self._files.follow(at_once=True)
        await self._names.refresh(self._ports)
        _log.info("reloaded", changed=sorted(applied))
        if waiting := sorted(changed - applied):
            _log.warning("settings_need_a_restart", settings=waiting)


def stop_and_reload_signals() -> tuple[asyncio.Event, asyncio.Event]:
    """The events of stopping (SIGINT, SIGTERM) and reloading (SIGHUP). Closing the terminal stops the server too."""
    stopping, reloading = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    # nohup(1) makes a process ignore SIGHUP, so that it outlives its terminal.
    outlives_terminal = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN or not _has_terminal()

    def hang_up() -> None:
        if outlives_terminal or _has_terminal():
            reloading.set()
        else:
            stopping.set()

    loop.add_signal_handler(signal.SIGHUP, hang_up)
    return stopping, reloading


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def settings_changes(core: Core, gateway: Gateway) -> dict[tuple[str, ...], Callable[[Settings], None]]:
    """The functions that apply changed settings in a running server, by the settings' names."""

    def files(new: Settings) -> None:
        export_hooks, table = new.export_hooks_in_force(), new.functions_in_force()
        presence = presence_hook(new.presence)
        prepared = core.certificates.files.prepare(new)
        core.environment.functions.replace(table)
        core.outgoing.exports.replace_hooks(export_hooks)
        gateway.replace_presence_hook(presence)
        core.certificates.files.use(prepared)

    def connections(new: Settings) -> None:
        for listener, each in connection_limits(new).items():
            if listener in core.limits:  # a listener that was added needs a restart
                core.limits[listener].replace(each)

    return {
        # First, because it raises ConfigError if a file cannot be read: nothing must have been changed then.
        ("hooks", "presence", "export_hooks", "server_certificate", "server_key", "server_certificates"): files,
        ("endpoints",): lambda new: None,  # the names follow each reload anyway
        ("bulk",): lambda new: core.environment.buckets.replace(bulk_in_force(new.bulk).buckets_in_force()),
        ("connections",): connections,
        ("mqtt_rates",): lambda new: gateway.replace_rates(new.rates_in_force()),
        ("unauthenticated_rate",): lambda new: core.access.failures.replace(new.unauthenticated_rate_in_force()),
        ("audit_retention", "audit_activity_retention", "audit_activity_bytes"): lambda new: core.reports.sealer.keep(
            *new.audit_kept()
        ),
        ("listener_certificate_lifetime",): lambda new: None,  # each reload issues a new certificate anyway
    }
