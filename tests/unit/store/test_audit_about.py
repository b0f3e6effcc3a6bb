"""Finding audit records by what acted or was changed, along indexes."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest

from tests.unit.store.test_upgrade import ACCOUNT, at_version
from tests.world import OURS, THEIRS
from thingmint.access.audit_events import new_record_id
from thingmint.access.audit_records import AuditFilter, AuditRecords
from thingmint.store import audit as sql
from thingmint.store.audit import ACTIVITY, AuditRow
from thingmint.store.sqlite import SQLiteStore

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world import World

LAMP = "arn:aws:iot:us-east-1:111111111111:thing/lamp"
CERT = f"arn:aws:iot:us-east-1:111111111111:cert/{'ab' * 32}"


async def record(world: World, event: str, *resources: str, principal: str = "alice", activity: bool = False) -> str:
    """Inserts a record a second after the last one, and returns its id."""
    world.clock.advance(seconds=1)
    id = new_record_id(world.clock())
    text = json.dumps({"event": event, "principal": principal, "resources": list(resources)})
    if activity:
        await world.write(lambda tx: sql.insert_records(tx, [AuditRow(id, OURS.account, text)], ACTIVITY))
    else:
        await world.write(lambda tx: sql.insert_record(tx, id, OURS.account, text))
    return id


async def events(world: World, about: str, account: str = OURS.account, limit: int = 2) -> list[str]:
    """All pages of the history."""
    records = AuditRecords(world.store, world.environment.page_tokens)
    found: list[str] = []
    marker = None
    while True:
        page = await records.list(account, AuditFilter(about=about), limit=limit, marker=marker)
        found += [each["event"] for each in page.items]
        marker = page.next_token
        if marker is None:
            return found


async def test_a_history_has_what_a_resource_did_and_what_changed_it(world: World) -> None:
    await record(world, "CreateThing", LAMP)
    await record(world, "AttachThingPrincipal", LAMP, CERT)
    await record(world, "AttachPolicy", "arn:policy", CERT)
    await record(world, "Connect", principal=CERT, activity=True)
    await record(world, "CreateThing", "arn:other")
    await record(world, "UpdateCertificate", CERT)
    for limit in (1, 2, 10):
        assert await events(world, CERT, limit=limit) == [
            "UpdateCertificate",
            "Connect",
            "AttachPolicy",
            "AttachThingPrincipal",
        ]
    assert await events(world, LAMP) == ["AttachThingPrincipal", "CreateThing"]
    assert await events(world, CERT, THEIRS.account) == []
    records = AuditRecords(world.store, world.environment.page_tokens)
    assert [each["event"] for each in await records.history(OURS.account, CERT, 2)] == ["UpdateCertificate", "Connect"]


async def test_a_change_of_many_resources_is_found_by_each_of_the_first(world: World) -> None:
    await record(world, "RegisterThing", *(f"arn:{number}" for number in range(30)))
    assert await events(world, "arn:0") == await events(world, "arn:20") == ["RegisterThing"]


@pytest.mark.parametrize("resources", ["[[], 1]", '"text"', "[null, null]"])
async def test_a_malformed_record_is_inserted(world: World, resources: str) -> None:
    text = f'{{"event": "x", "resources": {resources}}}'
    await world.write(lambda tx: sql.insert_record(tx, new_record_id(world.clock()), OURS.account, text))
    assert await world.count("audit_further_resources") == 0


async def test_keys_are_deleted_with_their_records(world: World) -> None:
    ids = [await record(world, "AttachPolicy", "arn:policy", CERT) for _ in range(3)]
    rows = [AuditRow(id, OURS.account, "{}", number, b"h") for number, id in enumerate(ids, 1)]
    await world.write(lambda tx: sql.seal_records(tx, rows))
    assert await world.count("audit_further_resources") == 3
    await world.write(lambda tx: sql.delete_records(tx, 2, 10))
    left = await world.shown("SELECT id FROM audit_further_resources")
    assert left == [(ids[2],)]


async def test_records_from_before_are_found_too(tmp_path: Path) -> None:
    path = tmp_path / "thingmint.db"
    text = json.dumps({"event": "AttachPolicy", "resources": ["arn:policy", CERT]})
    with contextlib.closing(at_version(path, 34)) as connection:
        connection.execute(
            "INSERT INTO audit_records (id, account, record) VALUES (?, ?, ?)", (b"i" * 16, ACCOUNT, text)
        )
    store = SQLiteStore(path)
    try:
        found = await store.read(lambda tx: sql.list_about(tx, account=ACCOUNT, about=CERT, before=None, limit=5))
    finally:
        await store.close()
    assert [row.record for row in found] == [text]
