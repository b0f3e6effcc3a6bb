"""Connects to the primary of a PostgreSQL cluster, and never to a primary that was replaced.

A replaced primary that comes back accepts connections: it is not in recovery, so target_session_attrs does not exclude
it. Its data is old, and changes made on it are lost to the other servers. But each promotion starts a new timeline, so
a server with a timeline below the highest known one was replaced. The highest timeline is stored in the data directory,
for a process that starts when it can reach only the replaced primary.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
import orjson
import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


_SURVEY_TIMEOUT = 2.0  # seconds, for a host that does not answer while others do
# NULL on a standby. The first eight digits of a WAL file's name are the timeline.
_TIMELINE = (
    "SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_walfile_name(pg_current_wal_lsn()) END, "
    "(SELECT CAST(system_identifier AS TEXT) FROM pg_control_system())"
)
_NO_TIMELINES = (asyncpg.FeatureNotSupportedError, asyncpg.UndefinedFunctionError, asyncpg.InsufficientPrivilegeError)

_log = structlog.get_logger("thingmint.store")

Host = tuple[str, int | None]


class NotPrimary(ConnectionError):
    """The server is a standby, or a primary that was replaced."""


class Timelines:
    """The highest known timeline of each cluster, by its system identifier; stored in ``file`` if that is given."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._highest: dict[str, int] = {}
        if file is not None:
            with contextlib.suppress(FileNotFoundError):
                self._highest = orjson.loads(file.read_bytes())

    def note(self, system: str, timeline: int | None) -> bool:
        """True if the timeline is higher than the highest known one of the cluster, False if none is known yet.

        Raises NotPrimary for a lower one, and for None, which a standby has.
        """
        if timeline is None:
            raise NotPrimary("it is a standby")
        highest = self._highest.get(system, 0)
        if timeline < highest:
            raise NotPrimary(f"its timeline is {timeline}, and there is a primary of timeline {highest}")
        if timeline == highest:
            return False
        self._highest[system] = timeline
        try:
            self._keep()
        except OSError as error:
            _log.error("timeline_not_kept", timeline=timeline, error=str(error))
        return highest > 0

    def _keep(self) -> None:
        if self._file is None:
            return
        temporary = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(self._highest) + b"\n")
            file.flush()
            os.fsync(descriptor)
        temporary.replace(self._file)


class PrimaryConnector:
    """The ``connect`` of an asyncpg pool: tries the hosts of ``url`` one by one, the last known primary first.

    ``replaced`` is awaited when a new primary is found, so that connections to the earlier one can be closed.
    """

    def __init__(self, url: str, timelines: Timelines) -> None:
        self.replaced: Callable[[], Awaitable[None]] | None = None
        self._hosts = hosts_of(url)
        self._timelines = timelines
        self._has_timelines = True
        self._is_survey_due = True
        self._refused: dict[Host | None, str] = {}  # the reason that was logged last

    def lost(self) -> None:
        """Called when a connection is lost. The next connection is to the reachable host with the highest timeline."""
        self._is_survey_due = True

    async def __call__(self, *arguments: Any, **options: Any) -> Any:
        """A connection to the primary. Raises the error of the last host."""
        if len(self._hosts) < 2:
            return await self._connect(None, arguments, options)
        if self._is_survey_due:
            await self._survey(arguments, options)
        last: Exception | None = None
        for host in list(self._hosts):
            try:
                connection = await self._connect(host, arguments, options)
            except Exception as error:  # noqa: BLE001 - the driver raises errors of many kinds
                last = error
            else:
                self._prefer(host)
                return connection
        assert last is not None, "there are hosts"
        raise last

    def _prefer(self, host: Host) -> None:
        self._hosts.remove(host)
        self._hosts.insert(0, host)

    async def _connect(self, host: Host | None, arguments: Any, options: Any) -> Any:
        where = {} if host is None else {"host": host[0], "port": host[1]}
        connection = await asyncpg.connect(*arguments, **(options | where))
        try:
            if self._has_timelines:
                await self._check(connection, host)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _check(self, connection: Any, host: Host | None) -> None:
        """Raises NotPrimary if the server is a standby or a replaced primary."""
        try:
            file, system = await connection.fetchrow(_TIMELINE)
        except _NO_TIMELINES as error:
            self._has_timelines = False  # another product: a distributed database has no replaced primary
            _log.info("timelines_unknown", reason=str(error))
            return
        name = ":".join(str(part) for part in host or () if part is not None) or "the server"
        try:
            is_higher = self._timelines.note(system, file and int(file[:8], 16))
        except NotPrimary as error:
            if self._refused.get(host) != str(error):
                self._refused[host] = str(error)
                _log.error("database_server_refused", host=name, reason=str(error))
            raise NotPrimary(f"{name} is refused: {error}") from None
        self._refused.pop(host, None)
        if is_higher:
            _log.warning("primary_replaced", host=name, timeline=int(file[:8], 16))
            if self.replaced is not None:
                await self.replaced()

    async def _survey(self, arguments: Any, options: Any) -> None:
        """Asks all hosts for their timelines, because the first that answers may be a replaced primary."""
        options = options | {"timeout": _SURVEY_TIMEOUT}

        async def find(host: Host) -> None:
            connection = await self._connect(host, arguments, options)
            self._prefer(host)
            connection.terminate()

        await asyncio.gather(*map(find, list(self._hosts)), return_exceptions=True)
        self._is_survey_due = False


def hosts_of(url: str) -> list[Host]:
    """The hosts in a PostgreSQL URL with their ports; empty if the environment names the hosts."""
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    named = unquote(parts.netloc.rpartition("@")[2]) or query.get("host", "")
    ports = query.get("port", "").split(",")
    found: list[Host] = []
    for number, each in enumerate(named.split(",") if named else []):
        host, colon, port = each.rpartition(":")
        if not colon or each.startswith("/") or each.endswith("]"):  # no port: a socket's folder, or an IPv6 address
            host, port = each, ports[min(number, len(ports) - 1)]
        found.append((host.strip("[]"), int(port) if port else None))
    return found
