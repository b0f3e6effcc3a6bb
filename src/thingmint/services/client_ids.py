"""Records which process has the connection of a client id, if several processes share one store.

Each CONNECT writes its own row, so no CONNECT waits for another. The newest connection has the client id: the process
that had it before gets a change through the outbox, and reads the row. The rows of a process that ended are deleted
when its lease has expired. A process that was only cut off from the store writes the rows of its connections again.

``Messages.connections_after`` lists the connections of one process; this table has those of all processes.
"""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import structlog

from thingmint.domain.errors import Unavailable
from thingmint.services.authentication_decisions import session_name
from thingmint.services.leases import PROCESS
from thingmint.store.key_lists import KeyList
from thingmint.store.outbox import publish_change
from thingmint.store.table import BoundedDelete, from_micros, to_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from thingmint.domain.arns import Scope
    from thingmint.services.leases import Lease, LeasedStore
    from thingmint.store.engine import Store, Transaction

_FLUSH_EVERY = 0.25  # seconds between deletions of the rows of closed connections
AT_ONCE = 500  # rows per transaction

_COLUMNS = "account, region, client_id, process, epoch, taken_from, connected_at"
# One statement that reads no page which other transactions write, so simultaneous connections do not conflict.
_CLAIM = (
    f"INSERT INTO connections ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, '', $5) "
    "ON CONFLICT (account, region, client_id) DO UPDATE SET "
    "process = excluded.process, taken_from = connections.process, connected_at = excluded.connected_at, "
    "epoch = CASE WHEN connections.epoch < excluded.epoch THEN excluded.epoch ELSE connections.epoch + 1 END "
    "RETURNING epoch, taken_from"
)
_RESTORE = (
    f"INSERT INTO connections ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, '', $5) "
    "ON CONFLICT (account, region, client_id) DO NOTHING"
)
_KEY = "account = $1 AND region = $2 AND client_id = $3"
_NAMES = (
    "SELECT client_id FROM connections "
    "WHERE account = $1 AND region = $2 AND client_id >= $3 AND client_id < $4 ORDER BY client_id LIMIT $5"
)
_LOOK = f"SELECT process, epoch, connected_at FROM connections WHERE {_KEY}"
_RELEASE = f"DELETE FROM connections WHERE {_KEY} AND process = $4 AND epoch = $5"
_FIND = f"SELECT process, epoch FROM connections WHERE {_KEY}"
_OF_PROCESS = BoundedDelete("connections", ("account", "region", "client_id"), "process = $1")
_CONNECTED = KeyList(
    "SELECT client_id, connected_at, process FROM connections "
    "WHERE account = $101 AND region = $102 AND client_id IN ({keys})"
)
_AFTER = (
    "SELECT client_id FROM connections WHERE account = $1 AND region = $2 AND client_id > $3 "
    "ORDER BY client_id LIMIT $4"
)
_END = "UPDATE leases SET holder = '', epoch = epoch + 1 WHERE name = $1 AND epoch = $2 AND expires_at = $3"
_HAS_ENDED = "SELECT 1 FROM leases WHERE name = $1 AND holder = '' AND epoch = $2"
_FORGET = "DELETE FROM leases WHERE name = $1 AND holder = '' AND epoch = $2"

_log = structlog.get_logger("thingmint.connections")


class Claim(NamedTuple):
    """A connection's claim on its client id. A later claim has a higher ``epoch``."""

    scope: Scope
    client_id: str
    epoch: int


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
    """The client ids of the connections of one process."""

    def __init__(self, store: Store, process: str, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._process = process
        self._clock = clock
        self._released: list[Claim] = []

    async def claim(self, scope: Scope, client_id: str) -> Claim:
        """Take the client id for a connection, until another connection claims it. Raises Unavailable."""
        now = self._clock()
        row = (*scope, client_id, self._process, to_micros(now))

        async def body(tx: Transaction) -> int:
            found = await tx.fetch_one(_CLAIM, *row)
            assert found is not None, "the statement returns the row"
            epoch, taken_from = found
            if taken_from not in ("", self._process):
                await publish_change(tx, scope, "client", client_id, now)
            return int(epoch)

        return Claim(scope, client_id, await self._store.write(body))

    def release(self, claim: Claim) -> None:
        """Note that the connection has ended. Its row is deleted soon."""
        self._released.append(claim)

    async def lost(self, claims: Sequence[Claim]) -> list[Claim]:
        """Return the claims whose client id another connection has now. Raises Unavailable."""

        async def body(tx: Transaction) -> list[Claim]:
            found = [await tx.fetch_one(_FIND, *claim.scope, claim.client_id) for claim in claims]
            return [claim for claim, row in zip(claims, found, strict=True) if row != (self._process, claim.epoch)]

        return await self._store.read(body)

    async def elsewhere(self, scope: Scope, client_id: str) -> Elsewhere | None:
        """Return the client's connection, if another process has it. Raises Unavailable."""
        row = await self._store.read(lambda tx: tx.fetch_one(_LOOK, *scope, client_id))
        if row is None or row[0] == self._process:
            return None
        return Elsewhere(int(row[1]), from_micros(row[2]))

    async def connected_elsewhere(self, scope: Scope, client_ids: Sequence[str]) -> list[tuple[str, datetime]]:
        """Return which clients other processes have connections of, and since when. Raises Unavailable."""
        rows = await _CONNECTED.fetch(self._store, client_ids, *scope)
        return [(row[0], from_micros(row[1])) for row in rows if row[2] != self._process]

    async def after(self, scope: Scope, client_id: str, limit: int) -> list[str]:
        """Return the client ids after ``client_id`` that are connected to any process. Raises Unavailable."""
        return [row[0] for row in await self._store.fetch_all(_AFTER, *scope, client_id, limit)]

    async def ask_to_close(self, scope: Scope, request: CloseRequest) -> None:
        """Publish the request to the other processes. Raises Unavailable."""
        now = self._clock()
        await self._store.write(lambda tx: publish_change(tx, scope, "close", request.text(), now))

    async def restore(self, claims: Sequence[Claim]) -> None:
        """Write rows again that other processes deleted because this one seemed to have ended. Raises Unavailable."""
        rows = [(*claim.scope, claim.client_id, self._process, claim.epoch) for claim in claims]
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
        """Delete the rows of closed connections. Raises Unavailable."""
        while self._released:
            ended = self._released[:AT_ONCE]
            rows = [(*claim.scope, claim.client_id, self._process, claim.epoch) for claim in ended]
            await self._store.write(partial(_released, rows))
            del self._released[: len(ended)]

    async def close(self) -> None:
        """Delete all rows of this process when it stops. Raises Unavailable."""
        self._released.clear()
        await _OF_PROCESS.run(self._store, self._process)


async def _restored(rows: Sequence[tuple[str | int, ...]], tx: Transaction) -> None:
    await tx.execute_many(_RESTORE, rows)


async def _released(rows: Sequence[tuple[str | int, ...]], tx: Transaction) -> None:
    await tx.execute_many(_RELEASE, rows)


async def forget_process(store: LeasedStore, gone: Lease) -> None:
    """Delete the rows of a process whose lease has expired. Raises Unavailable and LeaseLost.

    The lease is ended first. If the process continues, it finds that out and writes its rows again. Each transaction
    that deletes rows checks that the process has not taken its lease again.
    """
    process, epoch = gone.name.removeprefix(PROCESS), gone.epoch
    if gone.holder:
        seen = (gone.name, gone.epoch, gone.expires_at)
        if not await store.write(lambda tx: tx.execute(_END, *seen)):
            return
        epoch += 1

    async def step(tx: Transaction) -> bool:
        has_ended = await tx.fetch_one(_HAS_ENDED, gone.name, epoch) is not None
        return has_ended and await _OF_PROCESS.step(tx, process)

    while await store.write(step):
        pass
    await store.write(lambda tx: tx.execute(_FORGET, gone.name, epoch))
    _log.info("process_forgotten", process=process)
