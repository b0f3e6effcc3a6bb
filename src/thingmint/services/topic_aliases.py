"""Topic aliases of Yandex devices: short names for the beginnings of their topics.

The rules are from Yandex's page "Topics": the target contains the device's id, and $me and $monitoring have no aliases.
No alias is the beginning of another in the same registry, so that a topic begins with at most one alias.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import orjson
import structlog

from thingmint.domain.errors import AlreadyExists, Invalid, LimitExceeded
from thingmint.services.owners import check_text
from thingmint.services.pages import page_by_text
from thingmint.store.table import record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from thingmint.services.change import Query
    from thingmint.services.pages import Cursor, Page
    from thingmint.store.engine import Store, Transaction

_FIELD = "topic_aliases"
MAX_ALIASES = 10_000
"""Of all devices of a registry, as far as its own clients can use them: they are kept in memory."""
_MAX_ALIASES = 5  # per device, Yandex's quota
_MAX_TOPIC = 1024  # characters, Yandex's limit for a topic
_LAST = "\U0010ffff"  # sorts after every other character, in a comparison of bytes too

# No alias is the beginning of another. So the only alias that can be the beginning of a text is the last one that sorts
# before the text.
_BEFORE = "SELECT alias, device FROM device_aliases WHERE registry = $1 AND alias <= $2 ORDER BY alias DESC LIMIT 1"
_AFTER = "SELECT alias, device FROM device_aliases WHERE registry = $1 AND alias > $2 AND alias < $3 LIMIT 1"
# If another process inserts a colliding alias at the same time, PostgreSQL makes the whole transaction run again.
_INSERT = (
    "INSERT INTO device_aliases (registry, alias, device) VALUES ($1, $2, $3) ON CONFLICT (registry, alias) DO NOTHING"
)
_DELETE = "DELETE FROM device_aliases WHERE registry = $1 AND alias = $2 AND device = $3"
_FORGET = "DELETE FROM unchecked_aliases WHERE device = $1"
_UNCHECKED = (
    "SELECT u.device, d.registry, d.topic_aliases FROM unchecked_aliases AS u JOIN devices AS d ON d.id = u.device "
    "WHERE u.flaw = '' ORDER BY u.device LIMIT 50"
)
_OF_REGISTRY = (
    "SELECT a.alias, a.device, d.topic_aliases FROM device_aliases AS a JOIN devices AS d ON d.id = a.device "
    "WHERE a.registry = $1 AND a.alias > $2 ORDER BY a.alias LIMIT $3"
)
_KEEP_FLAW = "UPDATE unchecked_aliases SET flaw = $2 WHERE device = $1"
_FLAWED = (
    "SELECT u.device, d.account, d.registry, u.flaw FROM unchecked_aliases AS u JOIN devices AS d ON d.id = u.device "
    "WHERE u.flaw <> '' ORDER BY u.device LIMIT 20"
)

_log = structlog.get_logger("thingmint.devices")


def parse_aliases(aliases: Mapping[str, str], device: str) -> dict[str, str]:
    """Return a device's topics by their aliases, with {id} replaced by the device's id. Raises Invalid."""
    if len(aliases) > _MAX_ALIASES:
        raise Invalid(_FIELD, f"must have at most {_MAX_ALIASES} entries")
    given = {
        check_text(alias, _FIELD): check_text(target, _FIELD).replace("{id}", device)
        for alias, target in aliases.items()
    }
    if flaw := flaw_of(given, device):
        raise Invalid(_FIELD, flaw)
    return given


def flaw_of(aliases: Mapping[str, str], device: str) -> str | None:
    """What is wrong with topics by aliases that another service kept, however many they are; None if nothing is."""
    return next(_flaws(aliases, device), None)


async def collision_of(tx: Transaction, registry: str, aliases: Mapping[str, str]) -> str | None:
    """Return a reason if an alias of another device is the beginning of one of these, or begins with it; else None."""
    for alias in aliases:
        other = await tx.fetch_one(_BEFORE, registry, alias)
        if other is None or not alias.startswith(other[0]):
            other = await tx.fetch_one(_AFTER, registry, alias, alias + _LAST)
        if other is not None:
            return f"A topic alias begins like one of device {other[1]}: none may be the beginning of another"
    return None


async def insert_aliases(tx: Transaction, rows: Iterable[tuple[str, str, str]]) -> None:
    """Store aliases that collide with none: each with its registry before it, and its device after it."""
    await tx.execute_many(_INSERT, rows)


async def keep_aliases(tx: Transaction, registry: str, device: str, aliases: Mapping[str, str]) -> None:
    """Store the aliases of a new device. Raises AlreadyExists if one collides with an alias of another device."""
    if (flaw := await collision_of(tx, registry, aliases)) is not None:
        raise AlreadyExists("topic alias", device, reason=flaw)
    for alias in aliases:
        await tx.execute(_INSERT, registry, alias, device)


async def drop_aliases(tx: Transaction, registry: str, device: str, aliases: Mapping[str, str]) -> None:
    for alias in aliases:
        await tx.execute(_DELETE, registry, alias, device)
    if aliases:
        await tx.execute(_FORGET, device)


@record
class TopicAlias:
    alias: str
    device: str
    target: str


async def list_aliases(tx: Transaction, query: Query, registry: str, cursor: Cursor) -> Page[TopicAlias]:
    """Those of all devices of a registry, in order. Raises Invalid (page token)."""

    async def fetch(after: str, limit: int) -> list[TopicAlias]:
        rows = await tx.fetch_all(_OF_REGISTRY, registry, after, limit)
        return [TopicAlias(alias, device, json.loads(text)[alias]) for alias, device, text in rows]

    return await page_by_text(query, cursor, f"aliases {registry}", fetch, lambda row: row.alias, _size)


async def all_aliases(tx: Transaction, registry: str) -> dict[str, str]:
    """The topics by alias of all devices of a registry, which has MAX_ALIASES at most. Raises LimitExceeded."""
    rows = await tx.fetch_all(_OF_REGISTRY, registry, "", MAX_ALIASES + 1)
    if len(rows) > MAX_ALIASES:
        raise LimitExceeded("registry", registry, f"A registry's clients can use at most {MAX_ALIASES} aliases")
    return {alias: orjson.loads(text)[alias] for alias, _, text in rows}


def _size(row: TopicAlias) -> int:
    return len(row.alias) + len(row.target)


async def check_old_aliases(store: Store) -> None:
    """Check, once, the aliases that older versions stored unchecked. Logs a warning for faulty ones at each start."""

    async def body(tx: Transaction) -> None:
        for device, registry, text in await tx.fetch_all(_UNCHECKED):
            aliases = json.loads(text)
            flaw = flaw_of(aliases, device) or await collision_of(tx, registry, aliases)
            if flaw is not None:
                await tx.execute(_KEEP_FLAW, device, flaw)
                continue
            await keep_aliases(tx, registry, device, aliases)
            await tx.execute(_FORGET, device)

    while await store.read(lambda tx: tx.fetch_one(_UNCHECKED)):  # a write costs a sync of the disk
        await store.write(body)
    for device, account, registry, flaw in await store.read(lambda tx: tx.fetch_all(_FLAWED)):
        _log.warning("topic_aliases_invalid", account=account, registry=registry, device=device, flaw=flaw)


def _flaws(aliases: Mapping[str, str], device: str) -> Iterator[str]:
    own = f"$devices/{device}"
    for alias, target in aliases.items():
        if not alias:
            yield "must not have an empty alias"
        if len(alias) > _MAX_TOPIC or len(target) > _MAX_TOPIC:
            yield f"must be of at most {_MAX_TOPIC} characters each"
        if not {"+", "#"}.isdisjoint(alias + target):
            yield "must not have wildcards: + or #"
        if alias.startswith("$"):
            yield "must not have aliases that begin with $: topics such as $me and $monitoring are the service's own"
        if target != own and not target.startswith(f"{own}/"):
            yield f"must have topics of the device itself as targets: $devices/{{id}}/..., which is {own}/..."
    ordered = sorted(aliases)
    if any(after.startswith(before) for before, after in itertools.pairwise(ordered)):
        yield "must not have an alias that is the beginning of another"
