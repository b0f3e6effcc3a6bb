"""Rows are deleted a bounded number at a time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import thingmint
from thingmint.store.table import DELETED_AT_ONCE, BoundedDelete

if TYPE_CHECKING:
    from tests.world import World

_OLD = BoundedDelete("outbox", ("id",), "created_at < $1")


@pytest.mark.parametrize("old", [0, 1, DELETED_AT_ONCE - 1, DELETED_AT_ONCE, DELETED_AT_ONCE + 1, 2 * DELETED_AT_ONCE])
async def test_all_old_rows_are_deleted_in_bounded_steps(world: World, old: int) -> None:
    rows = [(f"{number}", "a", "r", "thing", "t", 0 if number < old else 9) for number in range(old + 3)]
    columns = "(id, account, region, kind, name, created_at)"
    await world.write(lambda tx: tx.execute_many(f"INSERT INTO outbox {columns} VALUES ($1, $2, $3, $4, $5, $6)", rows))
    before = world.store.writes
    await _OLD.run(world.store, 9)
    assert await world.rows("SELECT DISTINCT created_at FROM outbox") == [(9,)]
    assert world.store.writes - before == -(-old // DELETED_AT_ONCE)


# Tables whose DELETE statements have a natural bound, with the bound. All other rows are deleted by BoundedDelete.
_FEW = {
    "account_settings": "one row",
    "aliases": "in the temporary file of an import, not in the store",
    "audit_further_resources": "one row for each parameter",
    "binding_counts": "one row",
    "ca_certificates": "one row",
    "ca_owners": "one row, or the rows of one key in accounts that have deleted it",
    "certificate_activity": "one row",
    "certificates": "one row",
    "device_activity": "one row",
    "device_aliases": "one row of the 5 of a device, or of the 200 of an imported one",
    "device_policy_attachments": "10 policies of a target",
    "device_policy_versions": "5 of a policy",
    "export_messages": "200 that a full queue drops, 10 that were sent, or 100 of a deleted export",
    "export_queues": "one row",
    "fleet_run_devices": "100: the devices of two requests",
    "hostnames": "the host names of the instance, which its operator configures",
    "instance_keys": "one row",
    "last_messages": "100 rows, of up to 256 KB each",
    "leases": "one row",
    "passwords": "50 of an owner",
    "pending_transfers": "one row",
    "policy_attachments": "20 of a principal",
    "provisioning_template_versions": "5 of a template",
    "sign_in_links": "one row",
    "tags": "50 of a resource",
    "thing_attributes": "50 of a thing",
    "queued_events": "100 that were published",
    "thing_group_members": "10 groups of a thing, or 500 members of a deleted group",
    "unchecked_aliases": "one row",
    "registrations": "one row",
    "quota_shares": "the rows of one owner and kind",
}


def test_every_delete_has_a_bound() -> None:
    """In the source code, each DELETE outside Table and BoundedDelete is for a table in the list above."""
    source = Path(thingmint.__file__).parent
    found = {
        table
        for file in source.rglob("*.py")
        for table in re.findall(r"DELETE FROM (\w+)", file.read_text())
        if file.name not in ("table.py", "sqlite.py")
    }
    assert found - {"audit_checkpoints", "audit_records"} == set(_FEW)
