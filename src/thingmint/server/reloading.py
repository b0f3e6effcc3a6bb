"""Reloading at SIGHUP: reads the settings that can change again, and issues a new listener certificate."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from thingmint.domain.certificate_profiles import listener_profile
from thingmint.domain.errors import Unavailable
from thingmint.instance.clients import update_endpoints
from thingmint.services.hostnames import list_hostnames
from thingmint.settings import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from thingmint.instance.layout import DataDirectory
    from thingmint.settings import Settings
    from thingmint.store.engine import PublishedChange, Reader
    from thingmint.tls import ListenerTLS


_log = structlog.get_logger("thingmint.server")


@dataclass(slots=True)
class ServedNames:
    """The names by which clients reach the server. Clients are given the first of ``hostnames``."""

    store: Reader
    directory: DataDirectory
    tls: ListenerTLS
    settings: Settings
    hostnames: list[str]
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    def all(self) -> list[str]:
        """The names in the certificate: the host names, and the endpoints, which devices use."""
        return [*self.hostnames, *(name for name in self.settings.endpoints if name not in self.hostnames)]

    def changed(self, changes: Sequence[PublishedChange]) -> None:
        """Asks run() to look for new names. The change feed calls this: another process may have changed the names."""
        if any(change.kind == "access" for change in changes):
            self.asked.set()

    async def run(self, ports: Mapping[str, int]) -> None:
        while True:
            await self.asked.wait()
            self.asked.clear()
            try:
                await self.follow(ports)
            except (Unavailable, OSError) as error:
                _log.error("hostnames_not_followed", why=str(error))

    async def follow(self, ports: Mapping[str, int]) -> None:
        """Calls refresh() if the host names in the store have changed."""
        if await self.store.read(list_hostnames) != self.hostnames:
            await self.refresh(ports)

    async def refresh(self, ports: Mapping[str, int]) -> None:
        """Issues the certificate again and rewrites the client files, after a change of names or settings."""
        self.hostnames = await self.store.read(list_hostnames)
        self.tls.renew(self.all(), listener_profile(self.settings.listener_certificate_lifetime))
        self.write_endpoints(ports)

    def write_endpoints(self, ports: Mapping[str, int]) -> None:
        update_endpoints(self.directory, self.hostnames[0], api_port=ports["api"], grpc_port=ports["grpc"])


class Reloading:
    """Applies changed settings: ``changes`` are functions by names of settings. All other settings need a restart."""

    def __init__(
        self,
        names: ServedNames,
        ports: Mapping[str, int],
        reread: Callable[[], Settings],
        changes: Mapping[tuple[str, ...], Callable[[Settings], None]],
        asked: asyncio.Event,
    ) -> None:
        self._names = names
        self._ports = ports
        self._reread = reread
        self._changes = changes
        self._asked = asked
        self._in_force = names.settings

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
        self._names.settings = self._in_force
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
