"""The admin socket, D/admin.sock, by which commands reach the running server: one JSON line each way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from thingmint.domain.errors import DomainError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from pathlib import Path


_MAX_LINE = 1024 * 1024
_TIMEOUT = 30.0  # seconds

_log = structlog.get_logger("thingmint.admin")


class AdminError(Exception):
    """The server did not answer, or answered with an error."""


class AdminSocket:
    """The server's end. Each of ``commands`` takes the request's arguments and returns the answer."""

    def __init__(self, path: Path, commands: Mapping[str, Callable[..., Awaitable[Any]]]) -> None:
        self._path = path
        self._commands = commands

    async def start(self) -> None:
        self._path.unlink(missing_ok=True)
        with _short(self._path) as path:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            # The directory is 0700 already. With the umask the socket has its mode from bind() on.
            mask = os.umask(0o177)
            try:
                sock.bind(path)
            finally:
                os.umask(mask)
        self._server = await asyncio.start_unix_server(self._connected, sock=sock, limit=_MAX_LINE)

    async def stop(self) -> None:
        self._server.close()
        self._path.unlink(missing_ok=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT):
                line = await reader.readline()
                writer.write(orjson.dumps(await self._answer(line)) + b"\n")
                await writer.drain()
        except (TimeoutError, ValueError, TypeError, OSError) as error:
            _log.warning("admin_request_dropped", error=type(error).__name__)
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = orjson.loads(line)
            command = self._commands[request.pop("command")]
        except (orjson.JSONDecodeError, KeyError, AttributeError, TypeError):
            return {"error": "the running server does not have that command: does it run another version?"}
        try:
            return {"result": await command(**request)}
        except DomainError as error:
            return {"error": str(error)}
        except Exception as error:  # noqa: BLE001 - the answer names the error, and the server keeps running
            _log.exception("admin_command_failed")
            return {"error": f"the running server failed: {error}"}


def call(path: Path, command: str, **arguments: Any) -> Any:
    """The running server's answer to a command, asked over the socket ``path``. Raises AdminError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock, _short(path) as short:
            sock.settimeout(_TIMEOUT)
            sock.connect(short)
            sock.sendall(orjson.dumps({"command": command, **arguments}) + b"\n")
            with sock.makefile("rb") as answers:
                answer = orjson.loads(answers.readline(_MAX_LINE))
    except (OSError, orjson.JSONDecodeError) as error:
        raise AdminError(f"the running server does not answer on {path} ({error})") from None
    if "error" in answer:
        raise AdminError(answer["error"])
    return answer["result"]


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for ``path`` that fits into the 108 bytes of sockaddr_un."""
    if len(os.fsencode(path)) < 100 or not os.path.isdir("/proc/self/fd"):  # noqa: PTH112
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
