"""A sealed audit log that tests can change."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.unit.vectors import FakeClock
from thingmint.access.audit_chain import (
    Tampering,
    Verified,
    read_checkpoints,
    verify,
)
from thingmint.access.audit_events import new_record_id
from thingmint.access.audit_keys import AuditKeys
from thingmint.access.audit_sealer import Kept, Sealer
from thingmint.domain.errors import Unavailable
from thingmint.store import audit as sql
from thingmint.store.sqlite import SQLiteReader, SQLiteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import timedelta

    from thingmint.store.engine import Body, Transaction

T = TypeVar("T")

KEY, OTHER_KEY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


class Trail:
    """A database, a file of checkpoints, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "thingmint.db"
        self.file = folder / "audit-checkpoints.jsonl"
        self.clock = FakeClock()
        self.retention: timedelta | None = None
        self.database.touch()

    def sealer(self, store: Any) -> Sealer:
        return Sealer(store, KEY, self.file, self.clock, Kept(self.retention))

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[SQLiteStore, Sealer]]:
        store = SQLiteStore(self.database)
        try:
            yield store, self.sealer(store)
        finally:
            await store.close()

    async def add(self, store: SQLiteStore, count: int, **step: float) -> None:
        rows = []
        for _ in range(count):
            self.clock.advance(**step or {"seconds": 1})
            id = new_record_id(self.clock())
            rows.append((id, orjson.dumps({"event": "CreateThing", "request": id}).decode()))

        async def body(tx: Transaction) -> None:
            for id, record in rows:
                await sql.insert_record(tx, id, None, record)

        await store.write(body)

    def edit(self, work: Callable[[sqlite3.Connection], object]) -> None:
        with contextlib.closing(sqlite3.connect(self.database)) as connection, connection:
            work(connection)

    async def verify(self, *, kept: bool = True) -> tuple[int, int]:
        """The chain's end, and the number of checkpoints."""
        found = await self.verified(kept=kept)
        return found.end, found.checkpoints

    async def verified(self, *, kept: bool = True) -> Verified:
        """Verifies as the command does; ``kept``: with the checkpoints from outside of the store."""
        reader = SQLiteReader(self.database)
        try:
            return await verify(reader, AuditKeys(KEY.public_key()), list(read_checkpoints(self.file)) if kept else [])
        finally:
            await reader.close()

    async def found(self, *, kept: bool = True) -> Tampering:
        with pytest.raises(Tampering) as caught:
            await self.verify(kept=kept)
        return caught.value


async def sealed() -> tuple[bytes, bytes]:
    """A database of 17 records with checkpoints after 5, 10 and 15, and the file of these checkpoints."""
    with tempfile.TemporaryDirectory() as folder:
        trail = Trail(Path(folder))
        async with trail.opened() as (store, sealer):
            for _ in range(3):
                await trail.add(store, 5)
                await sealer.seal()
                await sealer.checkpoint()
            await trail.add(store, 2)
            await sealer.seal()
        return trail.database.read_bytes(), trail.file.read_bytes()


def rechain(connection: sqlite3.Connection, start: int = 1) -> None:
    """Renumbers the records and computes all hashes again, as an attacker without the key can."""
    rows = connection.execute("SELECT id, account, record FROM audit_records ORDER BY sequence").fetchall()
    connection.execute("UPDATE audit_records SET sequence = NULL, hash = NULL")
    previous = bytes(32)
    for sequence, (id, account, record) in enumerate(rows, start):
        text = id.hex() if isinstance(id, bytes) else id
        previous = hashlib.sha256(previous + orjson.dumps([sequence, text, account, record])).digest()
        connection.execute("UPDATE audit_records SET sequence = ?, hash = ? WHERE id = ?", (sequence, previous, id))


def alter(connection: sqlite3.Connection, sequence: int) -> None:
    connection.execute(
        "UPDATE audit_records SET record = replace(record, 'Thing', 'thing') WHERE sequence = ?", [sequence]
    )


def remove(connection: sqlite3.Connection, first: int, last: int) -> None:
    connection.execute("DELETE FROM audit_records WHERE sequence BETWEEN ? AND ?", [first, last])


class FailingStore:
    """A store that fails ``failures`` times, then works."""

    def __init__(self, store: SQLiteStore, failures: int) -> None:
        self._store = store
        self._failures = failures

    async def read(self, body: Body[T]) -> T:
        return await self._store.read(body)

    async def write(self, body: Body[T], *, urgent: bool = False, once: bool = False) -> T:
        if self._failures:
            self._failures -= 1
            raise Unavailable("The store failed")
        return await self._store.write(body, urgent=urgent, once=once)
