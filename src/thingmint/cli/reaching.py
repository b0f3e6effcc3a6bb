"""Runs local commands: in the server that holds the data directory, or in this process if none does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thingmint.admin import AdminError
from thingmint.cli.directory import check_exists, held, passphrase_for
from thingmint.settings import ConfigError

if TYPE_CHECKING:
    from thingmint.settings import Settings


@dataclass(frozen=True, slots=True)
class Reached:
    """``has_server``: a server runs, and the commands run in it."""

    has_server: bool
    _call: Callable[..., Awaitable[Any]]

    async def call(self, command: str, **arguments: Any) -> Any:
        """The answer. Raises AdminError if the command is refused, or the server does not answer."""
        return await self._call(command, **arguments)


@asynccontextmanager
async def reach(settings: Settings) -> AsyncIterator[Reached]:
    """Without a server, the directory is locked and its store open until the block ends. Raises ConfigError."""
    from thingmint import admin
    from thingmint.domain.errors import DomainError
    from thingmint.instance.create import exists
    from thingmint.instance.layout import DirectoryInUse
    from thingmint.server.local_commands import without_server

    directory, hold = held(settings)
    check_exists(directory.root)

    async def ask(command: str, **arguments: Any) -> Any:
        return await asyncio.to_thread(admin.call, directory.admin_socket, command, **arguments)

    try:
        hold.__enter__()
    except DirectoryInUse:
        yield Reached(True, ask)
        return
    try:
        if not exists(directory):
            raise ConfigError("data-dir", f"{directory.root} holds no instance: run thingmint init first")
        async with without_server(directory, settings, lambda: passphrase_for(settings)) as commands:

            async def run(command: str, **arguments: Any) -> Any:
                try:
                    return await commands[command](**arguments)
                except DomainError as error:
                    raise AdminError(str(error)) from None

            yield Reached(False, run)
    finally:
        hold.__exit__(None, None, None)
