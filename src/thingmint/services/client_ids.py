"""Records the connections of client ids: which process has each, and its version for the events of AWS IoT.

If several processes share one store, each CONNECT writes its own row, so no CONNECT waits for another. The newest
connection has the client id: the process that had it before gets a change through the outbox, and reads the row. The
rows of a process that ended are released when its lease has expired. A process that was only cut off from the store
writes the rows of its connections again. A process that is alone writes rows behind CONNECT, for the versions only.

A released row has no process. It stays until the version of its client id may begin at 0 again.

``Messages.connections_after`` lists the connections of one process; this table has those of all processes.
"""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from thingmint.domain.arns import Scope
from thingmint.domain.errors import Unavailable
from thingmint.services.authentication_decisions import session_name
from thingmint.services.leases import PROCESS
from thingmint.store.key_lists import KeyList
from thingmint.store.outbox import publish_change
from thingmint.store.table import BoundedDelete, from_micros, to_micros

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from thingmint.services.leases import Lease, LeasedStore
    from thingmint.store.engine import Row, Store, Transaction

_FLUSH_EVERY = 0.25  # seconds between deletions of the rows of closed connections
AT_ONCE = 500  # rows per transaction
VERSION_KEPT = 3600.0  # seconds that a client without a persistent session keeps its version: AWS's "about an hour"

_COLUMNS = (
    "account, region, client_id, process, epoch, taken_from, connected_at, version, about, about_before, forget_at"
)
# One statement that reads no page which other transactions write, so simultaneous connections do not conflict.
_CLAIM = (
    f"INSERT INTO connections ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, '', $5, 0, $6, '', 0) "
    "ON CONFLICT (account, region, client_id) DO UPDATE SET "
    "process = excluded.process, taken_from = connections.process, connected_at = excluded.connected_at, "
    "epoch = CASE WHEN connections.epoch < excluded.epoch THEN excluded.epoch ELSE connections.epoch + 1 END, "
    "version = CASE WHEN connections.process = '' AND connections.forget_at < excluded.connected_at "
    "THEN 0 ELSE connections.version + 1 END, "
    "about = excluded.about, about_before = CASE WHEN connections.process = '' THEN '' ELSE connections.about END "
    "RETURNING epoch, version, taken_from, about_before"
)
_RESTORE = (
    f"INSERT INTO connections ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, '', $5, $6, $7, '', 0) "
    "ON CONFLICT (account, region, client_id) DO UPDATE SET process = excluded.process, about = excluded.about "
    "WHERE connections.process = '' AND connections.epoch = excluded.epoch"
)
_KEY = "account = $1 AND region = $2 AND client_id = $3"
_NAMES = (
    "SELECT client_id FROM connections "
    "WHERE account = $1 AND region = $2 AND client_id >= $3 AND client_id < $4 AND process <> '' "
    "ORDER BY client_id LIMIT $5"
)
_LOOK = f"SELECT process, epoch, connected_at FROM connections WHERE {_KEY}"
_RELEASE = f"UPDATE connections SET process = '', forget_at = $6 WHERE {_KEY} AND process = $4 AND epoch = $5"
_FIND = f"SELECT process, epoch FROM connections WHERE {_KEY}"
_CONNECTED = KeyList(
    "SELECT client_id, connected_at, process FROM connections "
    "WHERE account = $101 AND region = $102 AND client_id IN ({keys})"
)
_AFTER = (
    "SELECT client_id FROM connections WHERE account = $1 AND region = $2 AND client_id > $3 AND process <> '' "
    "ORDER BY client_id LIMIT $4"
)
_OF_PROCESS = (
    f"SELECT account, region, client_id, epoch, version, about FROM connections WHERE process = $1 LIMIT {AT_ONCE}"
)
_RELEASE_UNREPORTED = (
    "UPDATE connections SET process = '', forget_at = $2 WHERE (account, region, client_id) IN "
    f"(SELECT account, region, client_id FROM connections WHERE process = $1 AND about = '' LIMIT {AT_ONCE})"
)
_NEXT_PROCESS = "SELECT min(process) FROM connections WHERE process > $1"
_OLD = BoundedDelete("connections", ("account", "region", "client_id"), "process = '' AND forget_at < $1")
_END = "UPDATE leases SET holder = '', epoch = epoch + 1 WHERE name = $1 AND epoch = $2 AND expires_at = $3"
_HAS_ENDED = "SELECT 1 FROM leases WHERE name = $1 AND holder = '' AND epoch = $2"
_FORGET = "DELETE FROM leases WHERE name = $1 AND holder = '' AND epoch = $2"

_log = structlog.get_logger("thingmint.connections")


class Claim(NamedTuple):
    """A connection's claim on its client id. A later claim has a higher ``epoch``, and a higher ``version``.

    ``about`` describes the connection for the event of its end; empty if there is none. ``taken_from`` is the process
    that had an open connection of the client id before, and ``about_before`` describes that one; else both are empty.
    """

    scope: Scope
    client_id: str
    epoch: int
    version: int = 0
    about: str = ""
    taken_from: str = ""
    about_before: str = ""

    @property
    def vanished(self) -> Vanished | None:
        """The connection before, if another process had it and its end has an event."""
        if not self.taken_from or not self.about_before:
            return None
        return Vanished(self.scope, self.client_id, self.version - 1, self.about_before)


class Wanted(NamedTuple):
    """A client id that is to be claimed; ``about`` as in Claim."""

    scope: Scope
    client_id: str
    about: str


class Vanished(NamedTuple):
    """A connection whose process ended before it reported the end of the connection; ``about`` as in Claim."""

    scope: Scope
    client_id: str
    version: int
    about: str


Report = Callable[["Sequence[Vanished]"], Awaitable[None]]
"""Publishes the ends of connections. Returns when that is done, or was given up."""


class Elsewhere(NamedTuple):
    """A connection of another process."""

    epoch: int
    connected_at: datetime


class CloseRequest(NamedTuple):
    """Asks the process with the connection of a client id to close it, unless the client has reconnected since."""

    client_id: str
    epoch: int
    with_will: bool
    discard: bool

    def text(self) -> str:
        return f"{self.epoch} {self.with_will:d} {self.discard:d} {self.client_id}"

    @classmethod
    def parse(cls, text: str) -> CloseRequest:
        epoch, with_will, discard, client_id = text.split(" ", 3)
        return cls(client_id, int(epoch), with_will == "1", discard == "1")


async def names_of_sessions(tx: Transaction, scope: Scope, client_id: str, limit: int) -> list[str]:
    """Return the names of connected sessions of Yandex owners with that client id, if processes share the store."""
    prefix = session_name(client_id, "")
    rows = await tx.fetch_all(_NAMES, *scope, prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1), limit)
    return [name for (name,) in rows]


class ClientIds:
    """The client ids of the connections of one process. ``is_shared``: other processes may use the store."""

    def __init__(self, store: Store, process: str, clock: Callable[[], datetime], *, is_shared: bool = True) -> None:
        self._store = store
        self._process = process
        self._clock = clock
        self.is_shared = is_shared
        self._released: list[tuple[Claim, int]] = []  # and when to forget its version

    async def claim(self, scope: Scope, client_id: str, about: str = "") -> Claim:
        """Take the client id for a connection, until another connection claims it. Raises Unavailable."""
        (claim,) = await self.claim_all([Wanted(scope, client_id, about)])
        return claim

    async def claim_all(self, wanted: Sequence[Wanted]) -> list[Claim]:
        """Take some client ids, in this order, in one transaction. Raises Unavailable."""
        now = self._clock()

        async def body(tx: Transaction) -> list[Claim]:
            claims = []
            for scope, client_id, about in wanted:
                found = await tx.fetch_one(_CLAIM, *scope, client_id, self._process, to_micros(now), about)
                assert found is not None, "the statement returns the row"
                epoch, version, before, about_before = found
                taken_from = "" if before == self._process else before
                kept = about if self.is_shared else ""  # only for ``restore``: it takes memory for each connection
                claims.append(Claim(scope, client_id, int(epoch), int(version), kept, taken_from, about_before))
                if taken_from and self.is_shared:
                    await publish_change(tx, scope, "client", client_id, now)
            return claims

        return await self._store.write(body)

    def release(self, claim: Claim, kept: float = 0.0) -> None:
        """Note that the connection has ended. Its row is released soon. The version is kept for ``kept`` seconds."""
        self._released.append((claim, to_micros(self._clock() + timedelta(seconds=kept))))

    async def lost(self, claims: Sequence[Claim]) -> list[Claim]:
        """Return the claims whose client id another connection has now. Raises Unavailable."""

        async def body(tx: Transaction) -> list[Claim]:
            found = [await tx.fetch_one(_FIND, *claim.scope, claim.client_id) for claim in claims]
            return [claim for claim, row in zip(claims, found, strict=True) if row != (self._process, claim.epoch)]

        return await self._store.read(body)

    async def elsewhere(self, scope: Scope, client_id: str) -> Elsewhere | None:
        """Return the client's connection, if another process has it. Raises Unavailable."""
        row = await self._store.read(lambda tx: tx.fetch_one(_LOOK, *scope, client_id))
        if row is None or row[0] in ("", self._process):
            return None
        return Elsewhere(int(row[1]), from_micros(row[2]))

    async def connected_elsewhere(self, scope: Scope, client_ids: Sequence[str]) -> list[tuple[str, datetime]]:
        """Return which clients other processes have connections of, and since when. Raises Unavailable."""
        rows = await _CONNECTED.fetch(self._store, client_ids, *scope)
        return [(row[0], from_micros(row[1])) for row in rows if row[2] not in ("", self._process)]

    async def after(self, scope: Scope, client_id: str, limit: int) -> list[str]:
        """Return the client ids after ``client_id`` that are connected to any process. Raises Unavailable."""
        return [row[0] for row in await self._store.fetch_all(_AFTER, *scope, client_id, limit)]

    async def ask_to_close(self, scope: Scope, request: CloseRequest) -> None:
        """Publish the request to the other processes. Raises Unavailable."""
        now = self._clock()
        await self._store.write(lambda tx: publish_change(tx, scope, "close", request.text(), now))

    async def restore(self, claims: Sequence[Claim]) -> None:
        """Take rows again that others released because this process seemed to have ended. Raises Unavailable."""
        rows = [
            (*claim.scope, claim.client_id, self._process, claim.epoch, claim.version, claim.about) for claim in claims
        ]
        for at in range(0, len(rows), AT_ONCE):
            await self._store.write(partial(_restored, rows[at : at + AT_ONCE]))

    async def run(self) -> None:
        """Flush until cancelled."""
        while True:
            await asyncio.sleep(_FLUSH_EVERY)
            try:
                await self.flush()
            except Unavailable as error:
                _log.warning("connections_not_released", error=str(error))
                await asyncio.sleep(_FLUSH_EVERY)

    async def flush(self) -> None:
        """Release the rows of closed connections. Raises Unavailable."""
        while self._released:
            ended = self._released[:AT_ONCE]
            rows = [(*claim.scope, claim.client_id, self._process, claim.epoch, at) for claim, at in ended]
            await self._store.write(partial(_released, rows))
            del self._released[: len(ended)]

    async def close(self) -> None:
        """Release the rows of this process when it stops. Raises Unavailable.

        Rows whose end was not reported stay, so that another process, or the next one, reports it.
        """
        await self.flush()
        now = to_micros(self._clock())
        while await self._store.write(lambda tx: tx.execute(_RELEASE_UNREPORTED, self._process, now)) == AT_ONCE:
            pass

    async def forget_former(self, report: Report) -> None:
        """Report and release the connections of earlier processes. Only for a store that is not shared.

        Raises Unavailable.
        """
        process = ""
        while True:
            row = await self._store.read(partial(_next_process, process))
            if row is None or row[0] is None:
                return
            process = row[0]
            if process != self._process:
                await _forget(self._store, process, self._clock, report, _always)


async def _restored(rows: Sequence[tuple[str | int, ...]], tx: Transaction) -> None:
    await tx.execute_many(_RESTORE, rows)


async def _released(rows: Sequence[tuple[str | int, ...]], tx: Transaction) -> None:
    await tx.execute_many(_RELEASE, rows)


async def _next_process(after: str, tx: Transaction) -> Row | None:
    return await tx.fetch_one(_NEXT_PROCESS, after)


async def forget_process(store: LeasedStore, gone: Lease, clock: Callable[[], datetime], report: Report) -> None:
    """Report and release the connections of a process whose lease has expired. Raises Unavailable and LeaseLost.

    The lease is ended first. If the process continues, it finds that out and takes its rows again. Each transaction
    that releases rows checks that the process has not taken its lease again.
    """
    process, epoch = gone.name.removeprefix(PROCESS), gone.epoch
    if gone.holder:
        seen = (gone.name, gone.epoch, gone.expires_at)
        if not await store.write(lambda tx: tx.execute(_END, *seen)):
            return
        epoch += 1

    async def has_ended(tx: Transaction) -> bool:
        return await tx.fetch_one(_HAS_ENDED, gone.name, epoch) is not None

    await _forget(store, process, clock, report, has_ended)
    await store.write(lambda tx: tx.execute(_FORGET, gone.name, epoch))
    _log.info("process_forgotten", process=process)


async def _forget(
    store: Store,
    process: str,
    clock: Callable[[], datetime],
    report: Report,
    has_ended: Callable[[Transaction], Awaitable[bool]],
) -> None:
    """Report before the rows are released: a kill in between reports some ends again, and loses none."""
    while found := await store.read(lambda tx: tx.fetch_all(_OF_PROCESS, process)):
        await report(
            [Vanished(Scope(*row[:2]), row[2], int(row[4]), row[5]) for row in found if row[5]],
        )
        forget_at = to_micros(clock() + timedelta(seconds=VERSION_KEPT))
        rows = [(*row[:3], process, row[3], forget_at) for row in found]

        async def release(tx: Transaction, rows: Sequence[tuple[Any, ...]] = rows) -> bool:
            ended = await has_ended(tx)
            if ended:
                await tx.execute_many(_RELEASE, rows)
            return ended

        if not await store.write(release):
            return


async def _always(tx: Transaction) -> bool:
    del tx
    return True


async def forget_old_versions(store: Store, now: datetime) -> None:
    """Delete the rows of clients that were offline for so long that their versions begin at 0 again."""
    await _OLD.run(store, to_micros(now))
