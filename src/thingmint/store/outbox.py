"""Published changes: every server process must learn of them, so they are written in the change's own transaction."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

from thingmint.domain.arns import Scope
from thingmint.store.engine import PublishedChange
from thingmint.store.table import BoundedDelete, to_micros

if TYPE_CHECKING:
    from datetime import datetime

    from thingmint.store.engine import Kind, Store, Transaction


_INSERT = "INSERT INTO outbox (id, created_at, account, region, kind, name) VALUES ($1, $2, $3, $4, $5, $6)"
_KEEP = timedelta(minutes=10)
_OLD = BoundedDelete("outbox", ("id",), "created_at < $1")


_EVERYWHERE = Scope("", "")


async def publish_access_change(tx: Transaction, now: datetime) -> None:
    """Publishes that principals, credentials or their policies changed. Every process then discards what it cached."""
    await publish_change(tx, _EVERYWHERE, "access", "", now)


async def publish_change(tx: Transaction, scope: Scope, kind: Kind, name: str, now: datetime) -> None:
    """``name`` is a fingerprint for certificates and CAs, the account for accounts, else the name of the resource."""
    change = PublishedChange(os.urandom(16).hex(), to_micros(now), *scope, kind, name)
    await tx.execute(_INSERT, *change)
    tx.published.append(change)


async def published_since(tx: Transaction, moment: datetime) -> list[PublishedChange]:
    rows = await tx.fetch_all(
        "SELECT id, created_at, account, region, kind, name FROM outbox WHERE created_at >= $1 ORDER BY created_at, id",
        to_micros(moment),
    )
    return [PublishedChange(*row) for row in rows]


async def prune_published_changes(store: Store, now: datetime) -> None:
    """Deletes changes that are so old that every process has read them."""
    await _OLD.run(store, to_micros(now - _KEEP))
