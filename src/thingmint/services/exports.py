"""Data stream exports of Yandex IoT Core: which messages of a registry and its devices are sent to which stream.

A registry has one export at most (Yandex: "Exporting messages to Yandex Data Streams"). Only events and commands can be
exported.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from thingmint.domain.arns import Scope
from thingmint.domain.errors import AlreadyExists, Conflict, Invalid, NotFound
from thingmint.services.export_queue import delete_queue, open_queue
from thingmint.services.owners import check_text
from thingmint.store.outbox import publish_change
from thingmint.store.table import Table, record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.services.change import Change
    from thingmint.services.owners import Owner
    from thingmint.store.engine import Transaction

EXPORTED_KINDS: Final = frozenset({"events", "commands"})
"""Of topics."""

_FILTER_FIELD = "mqtt_topic_filter"


@record
class DataStreamExport:
    """An empty ``topic_filter`` stands for all topics that can be exported. ``service_account`` is an id."""

    id: str
    account: str
    folder: str
    registry: str
    name: str
    topic_filter: str
    database: str
    stream: str
    service_account: str
    created_at: datetime


EXPORTS = Table(DataStreamExport, "data_stream_exports", "data stream export", key=("id",), unique=None)
_OF_REGISTRY = f"{EXPORTS.select}WHERE registry = $1"
_BY_NAME = f"{EXPORTS.select}WHERE folder = $1 AND name = $2 AND name <> ''"
_HAS_DEVICE = "SELECT 1 FROM devices WHERE id = $1 AND registry = $2"
_PAGE = f"{EXPORTS.select}WHERE id > $1 ORDER BY id LIMIT 500"


def check_filter(filter: str, registry: str) -> str | None:
    """The id of the device that an export's filter names; None if it names none. Raises Invalid."""
    if not filter:
        return None
    levels = check_text(filter, _FILTER_FIELD).split("/")
    space, id, kind, *rest = levels if len(levels) > 2 else ("", "", "")
    if space not in ("$devices", "$registries") or not id or kind not in EXPORTED_KINDS:
        form = "$devices/ID or $registries/ID, followed by /events or /commands; + stands for any ID"
        raise Invalid(_FILTER_FIELD, f"must begin with {form}")
    inner = rest[:-1] if rest[-1:] == ["#"] else rest
    if any(level != "+" and not {"+", "#"}.isdisjoint(level) for level in (id, *inner)):
        raise Invalid(_FILTER_FIELD, "must have the wildcard + as a whole level, and # as the whole last level")
    if space == "$devices":
        return None if id == "+" else id
    if id not in ("+", registry):
        raise Invalid(_FILTER_FIELD, "names another registry")
    return None


async def add_export(tx: Transaction, change: Change, registry: Owner, new: DataStreamExport) -> None:
    """``new`` has a filter that ``check_filter`` accepts. Raises AlreadyExists, Conflict and Invalid."""
    device = check_filter(new.topic_filter, registry.id)
    if device is not None and await tx.fetch_one(_HAS_DEVICE, device, registry.id) is None:
        raise Invalid(_FILTER_FIELD, "names a device that is not in the registry")
    for existing in await list_exports(tx, registry.id):
        reason = f"Registry {registry.id} has the export {existing.id}, and can have one only: delete it first"
        raise Conflict("registry", registry.id, reason)
    if new.name and await tx.fetch_one(_BY_NAME, new.folder, new.name) is not None:
        raise AlreadyExists("data stream export", new.name)
    await EXPORTS.insert(tx, new)
    await open_queue(tx, new.id)
    tx.audit_resources.append(registry.resource)
    await _publish(tx, change, registry)


async def list_exports(tx: Transaction, registry: str) -> Sequence[DataStreamExport]:
    """None or one."""
    return EXPORTS.load_all(await tx.fetch_all(_OF_REGISTRY, registry))


async def page_of_exports(tx: Transaction, after: str) -> Sequence[DataStreamExport]:
    """Exports of all accounts in the order of their ids, from the one after ``after``; none at the end."""
    return EXPORTS.load_all(await tx.fetch_all(_PAGE, after))


async def delete_export(tx: Transaction, change: Change, registry: Owner, id: str) -> None:
    """Also deletes the messages that were not sent yet. Raises NotFound."""
    found = next((each for each in await list_exports(tx, registry.id) if each.id == id), None)
    if found is None:
        raise NotFound("data stream export", id)
    tx.audit_resources.append(registry.resource)
    await _delete(tx, change, registry, found)


async def delete_exports(tx: Transaction, change: Change, registry: Owner) -> None:
    """Call when the registry is deleted."""
    for each in await list_exports(tx, registry.id):
        await _delete(tx, change, registry, each)


async def _delete(tx: Transaction, change: Change, registry: Owner, export: DataStreamExport) -> None:
    await EXPORTS.delete(tx, export.id)
    await delete_queue(tx, change, export.id)
    await _publish(tx, change, registry)


async def _publish(tx: Transaction, change: Change, registry: Owner) -> None:
    await publish_change(tx, Scope(registry.account, ""), "export", registry.id, change.now)
