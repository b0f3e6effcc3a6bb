"""The queue of events: what a change published, until the broker has accepted the message.

The transaction of the change inserts the rows, so no change is without its events, and no event is of a change that was
undone. services/event_publisher.py publishes and deletes them.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from thingmint.domain.arns import Scope
from thingmint.domain.ids import new_uuid
from thingmint.store.outbox import publish_change
from thingmint.store.table import BoundedDelete, to_micros

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from thingmint.store.engine import Transaction

TOPICS: Final = "$aws/events/"
"""How the topics of events begin."""

_INSERT = "INSERT INTO queued_events (account, region, created_at, id, topic, payload) VALUES ($1, $2, $3, $4, $5, $6)"
_PAGE = (
    "SELECT account, region, created_at, id, topic, payload FROM queued_events "
    "WHERE (account, region, created_at, id) > ($1, $2, $3, $4) ORDER BY account, region, created_at, id LIMIT $5"
)
_DELETE = "DELETE FROM queued_events WHERE account = $1 AND region = $2 AND created_at = $3 AND id = $4"
_KEY = ("account", "region", "created_at", "id")
_OLD = BoundedDelete("queued_events", _KEY, "created_at < $1")
_OLD_OF_SCOPE = BoundedDelete("queued_events", _KEY, "account = $1 AND region = $2 AND created_at < $3")

_numbers = itertools.count()


class Event(NamedTuple):
    """``topic`` is what follows ``$aws/events/``."""

    topic: str
    event_type: str
    operation: str
    facts: Mapping[str, Any]


class Place(NamedTuple):
    """The place of an event in the queue, by account and region and then by age."""

    account: str
    region: str
    created_at: int
    id: bytes

    @classmethod
    def after(cls, scope: Scope) -> Place:
        """Return the place behind all events of an account and region."""
        return cls(*scope, 2**63 - 1, b"")

    @property
    def scope(self) -> Scope:
        return Scope(self.account, self.region)


START: Final = Place("", "", 0, b"")


class QueuedEvent(NamedTuple):
    place: Place
    topic: str
    payload: bytes


async def queue_events(tx: Transaction, scope: Scope, events: Iterable[Event], now: datetime) -> None:
    """Queue events of a change that was made at ``now``. They are published in this order, if nothing fails."""
    milliseconds = int(now.timestamp() * 1000)
    rows = []
    for topic, event_type, operation, facts in events:
        common = {"eventType": event_type, "eventId": new_uuid(), "timestamp": milliseconds, "operation": operation}
        id = next(_numbers).to_bytes(8, "big") + os.urandom(8)
        rows.append((*scope, to_micros(now), id, TOPICS + topic, orjson.dumps({**common, **facts}).decode()))
    if not rows:
        return
    await tx.execute_many(_INSERT, rows)
    if not any(each.kind == "event" and (each.account, each.region) == scope for each in tx.published):
        await publish_change(tx, scope, "event", "", now)


async def events_after(tx: Transaction, place: Place, limit: int) -> Sequence[QueuedEvent]:
    """Return the events after ``place``, by account and region and then by age."""
    rows = await tx.fetch_all(_PAGE, *place, limit)
    return [
        QueuedEvent(Place(account, region, created_at, bytes(id)), topic, payload.encode())
        for account, region, created_at, id, topic, payload in rows
    ]


async def remove_events(tx: Transaction, places: Sequence[Place]) -> None:
    await tx.execute_many(_DELETE, places)


async def drop_old_events(tx: Transaction, scope: Scope | None, before: datetime) -> int:
    """Drop up to DELETED_AT_ONCE events that are older, of one account and region or of all. Returns their number."""
    if scope is None:
        return await _OLD.some(tx, to_micros(before))
    return await _OLD_OF_SCOPE.some(tx, *scope, to_micros(before))
