"""The last messages of permanent topics of Yandex IoT Core: those of ``state`` and ``config``, with any subtopics.

Each exact topic has one (Yandex: "Device topics", "Registry topics"). All messages of a registry and of its devices
together have a quota. What does not fit is delivered, and not kept. Neither is the message before it, which would be
taken for the last one.
"""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from thingmint.domain.yandex_topics import PERMANENT_KINDS, matches, parse_topic
from thingmint.services.jobs import add_job, job
from thingmint.services.last_message_queue import LastMessageQueue
from thingmint.services.quotas import drop_count, give_amount_back, take_amount

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
    from datetime import datetime

    from thingmint.domain.arns import Scope
    from thingmint.domain.yandex_topics import Topic
    from thingmint.services.jobs import Job
    from thingmint.services.last_message_queue import Place
    from thingmint.store.engine import Store, Transaction

QUOTA = 128 * 2**20
"""Bytes of a registry. A message counts for its topic, its payload and OVERHEAD, so there are 262,144 at most."""
OVERHEAD = 512
MAX_SENT = 1000
"""Messages that one filter of a subscription is sent (Yandex: more "is not guaranteed")."""

_KIND = "last_messages"  # of the quota, and of the job
_DELETED_AT_ONCE = 100  # up to 256 KB each
_NAMES_AT_ONCE = 1000
_WINDOW = 60.0  # seconds
_MAX_NOTED = 1000  # registries in a window

_SIZE = "(SELECT size FROM last_messages WHERE owner = $1 AND kind = $3 AND topic = $4)"
_BEFORE = {
    "$devices": f"SELECT {_SIZE} FROM devices WHERE id = $1 AND registry = $2",
    "$registries": f"SELECT {_SIZE} FROM registries WHERE id = $1 AND id = $2",
}
_PUT = (
    "INSERT INTO last_messages (owner, kind, topic, registry, size, payload) VALUES ($1, $2, $3, $4, $5, $6) "
    "ON CONFLICT (owner, kind, topic) DO UPDATE SET size = excluded.size, payload = excluded.payload"
)
_DELETE = "DELETE FROM last_messages WHERE owner = $1 AND kind = $2 AND topic = $3"
_PAYLOAD = "SELECT payload FROM last_messages WHERE owner = $1 AND kind = $2 AND topic = $3 AND registry = $4"
_NAMES = " AND kind = $2 AND topic > $3 ORDER BY topic LIMIT $4"
_NAMES_OF_OWNER = f"SELECT topic FROM last_messages WHERE owner = $1{_NAMES}"
_NAMES_OF_REGISTRY = f"SELECT topic FROM last_messages WHERE registry = $1{_NAMES}"
_DELETE_SOME = (
    "DELETE FROM last_messages WHERE (owner, kind, topic) IN "
    f"(SELECT owner, kind, topic FROM last_messages WHERE owner = $1 LIMIT {_DELETED_AT_ONCE}) RETURNING size"
)

_log = structlog.get_logger("thingmint.devices")


def is_permanent(name: str) -> bool:
    """True if the canonical topic keeps its last message."""
    topic = parse_topic(name)
    return topic is not None and topic.kind in PERMANENT_KINDS


def size_of(topic: str, payload: bytes) -> int:
    return len(topic.encode()) + len(payload) + OVERHEAD


async def keep_last(tx: Transaction, registry: str, name: str, payload: bytes, quota: int = QUOTA) -> bool:
    """Keep the message in place of the one before it. False if the quota does not allow that.

    A message of a device that is deleted, or is not of the registry, is not kept either.
    """
    topic = _parsed(name)
    before = await tx.fetch_one(_BEFORE[topic.space], topic.id, registry, topic.kind, name)
    if before is None:
        return True
    size, freed = size_of(name, payload), before[0] or 0
    if size > freed and not await take_amount(tx, _KIND, registry, size - freed, quota):
        if freed:
            await tx.execute(_DELETE, topic.id, topic.kind, name)
            await give_amount_back(tx, _KIND, registry, freed)
        return False
    if size < freed:
        await give_amount_back(tx, _KIND, registry, freed - size)
    await tx.execute(_PUT, topic.id, topic.kind, name, registry, size, payload)
    return True


async def delete_last(
    tx: Transaction, scope: Scope, owner: str, registry: str, new_id: Callable[[], str], now: datetime
) -> None:
    """Call when a device or a registry is deleted. What is too much for one transaction is left to a job."""
    if await _delete_some(tx, owner, registry):
        payload = {"owner": owner, "registry": registry}
        await add_job(tx, scope, new_id(), _KIND, payload, now)
    elif owner == registry:
        await drop_count(tx, _KIND, registry)


@job(_KIND)
async def _delete_more(tx: Transaction, job: Job) -> bool:
    owner, registry = job.payload["owner"], job.payload["registry"]
    is_more = await _delete_some(tx, owner, registry)
    if not is_more and owner == registry:
        await drop_count(tx, _KIND, registry)
    return is_more


async def _delete_some(tx: Transaction, owner: str, registry: str) -> bool:
    """True if some may be left."""
    sizes = await tx.fetch_all(_DELETE_SOME, owner)
    if sizes and owner != registry:
        await give_amount_back(tx, _KIND, registry, sum(size for (size,) in sizes))
    return len(sizes) == _DELETED_AT_ONCE


class LastMessages:
    """Keeps and finds last messages in a store."""

    def __init__(self, store: Store, quota: int = QUOTA, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._quota = quota
        self._clock = clock
        self._soon = LastMessageQueue(self._write)
        self._noted: dict[str, tuple[float, int]] = {}  # by registry: the window's end, and how many were not logged

    async def keep(self, registry: str, name: str, payload: bytes) -> None:
        """Keep the message. Raises Unavailable."""
        place = registry, name
        await self._soon.give_way(place)
        await self._write({place: payload})

    def keep_soon(self, registry: str, name: str, payload: bytes) -> Coroutine[Any, Any, None] | None:
        """Keep the message within a second, or when the store can. If too much waits, returns ``keep`` to await."""
        return None if self._soon.put((registry, name), payload) else self.keep(registry, name, payload)

    async def settle(self) -> None:
        """Returns when the messages that ``keep_soon`` was given are kept, or could not be."""
        await self._soon.settle()

    async def _write(self, messages: Mapping[Place, bytes]) -> None:
        for registry, name in await self._store.write(partial(_keep_all, messages=messages, quota=self._quota)):
            self._note(registry, name)

    async def matching(self, registry: str, filter: str) -> AsyncIterator[tuple[str, bytes]]:
        """The topics that match a canonical filter of a registry or of one of its devices, with their messages.

        At most MAX_SENT, in the order of the topics. Each message is read when it is asked for. Raises Unavailable.
        """
        space, id, kind, *_ = (*filter.split("/"), "", "")
        if not space.startswith("$") or kind not in PERMANENT_KINDS:
            return
        await self._soon.settle()
        sent = 0
        async for name in self._names(registry, id, kind, filter):
            rows = await self._store.fetch_all(_PAYLOAD, _parsed(name).id, kind, name, registry)
            if rows:
                yield name, bytes(rows[0][0])
                sent += 1
            if sent == MAX_SENT:
                return

    async def _names(self, registry: str, id: str, kind: str, filter: str) -> AsyncIterator[str]:
        if {"+", "#"}.isdisjoint(filter):
            yield filter
            return
        statement, of = (_NAMES_OF_REGISTRY, registry) if id == "+" else (_NAMES_OF_OWNER, id)
        after, is_more = "", True
        while is_more:
            rows = await self._store.fetch_all(statement, of, kind, after, _NAMES_AT_ONCE)
            is_more = len(rows) == _NAMES_AT_ONCE
            for (name,) in rows:
                after = name
                if matches(filter, name):
                    yield name

    def _note(self, registry: str, topic: str) -> None:
        """Logs the first message of a registry in a window; the next line says how many more there were."""
        now = self._clock()
        ends, more = self._noted.get(registry, (now, 0))
        if now < ends:
            self._noted[registry] = ends, more + 1
            return
        if len(self._noted) >= _MAX_NOTED:
            self._noted.clear()
        self._noted[registry] = now + _WINDOW, 0
        _log.warning("last_message_not_kept", registry=registry, topic=topic, more=more)


async def _keep_all(tx: Transaction, messages: Mapping[Place, bytes], quota: int) -> list[Place]:
    """Returns the places of messages that the quotas do not allow."""
    return [
        (registry, name)
        for (registry, name), payload in messages.items()
        if not await keep_last(tx, registry, name, payload, quota)
    ]


def _parsed(name: str) -> Topic:
    topic = parse_topic(name)
    assert topic is not None, "only canonical topics are kept"
    return topic
