"""SIGHUP: settings that can change are read anew, and the listeners' certificate is issued anew."""

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
    """The names that clients reach the server by. The first of ``hostnames`` is what they are told."""

    store: Reader
    directory: DataDirectory
    tls: ListenerTLS
    settings: Settings
    hostnames: list[str]
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    def all(self) -> list[str]:
        """What the certificate is for: devices name their endpoints, so those too."""
        return [*self.hostnames, *(name for name in self.settings.endpoints if name not in self.hostnames)]

    def changed(self, changes: Sequence[PublishedChange]) -> None:
        """A follower of the change feed: another process may have changed the names."""
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
        """Nothing happens where the names are the same."""
        if await self.store.read(list_hostnames) != self.hostnames:
            await self.refresh(ports)

    async def refresh(self, ports: Mapping[str, int]) -> None:
        """After a change of the names or settings: the certificate, and the files of clients."""
        self.hostnames = await self.store.read(list_hostnames)
        self.tls.renew(self.all(), listener_profile(self.settings.listener_certificate_lifetime))
        self.tell(ports)

    def tell(self, ports: Mapping[str, int]) -> None:
        update_endpoints(self.directory, self.hostnames[0], api_port=ports["api"], grpc_port=ports["grpc"])


class Reloading:
    """``changes`` put settings in force, by their names; all others need a restart."""

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
        """Raises ConfigError, and then changes nothing; Unavailable and OSError."""
        new = self._reread()
        changed = {name for name in type(new).model_fields if getattr(new, name) != getattr(self._in_force, name)}
        taken: set[str] = set()
        for names, change in self._changes.items():
            if changed & set(names):
                change(new)
                taken |= changed & set(names)
        self._in_force = self._in_force.model_copy(update={name: getattr(new, name) for name in taken})
        self._names.settings = self._in_force
        await self._names.refresh(self._ports)
        _log.info("reloaded", changed=sorted(taken))
        if waiting := sorted(changed - taken):
            _log.warning("settings_need_a_restart", settings=waiting)


def stop_and_reload_signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Set by SIGINT and SIGTERM, and by SIGHUP; a terminal that was closed stops the server too."""
    stopping, reloading = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    # nohup(1) has it ignored, for the server to stay when the terminal goes.
    stays = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN or not _has_terminal()

    def hang_up() -> None:
        if stays or _has_terminal():
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
