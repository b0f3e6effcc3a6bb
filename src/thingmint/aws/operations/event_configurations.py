"""The switches of event types (two operations)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.aws.operations.declaring import Members, Result, reads, writes
from thingmint.services.event_configurations import (
    DEFAULTS,
    EVENT_TYPES,
    find_event_configuration,
    update_event_configuration,
)

if TYPE_CHECKING:
    from thingmint.services.change import Change, Query
    from thingmint.store.engine import Transaction


DEVIATIONS = {
    "DescribeEventConfigurations": (
        "CERTIFICATE and CA_CERTIFICATE are enabled until the account changes them. The dates are absent until then."
    ),
    "UpdateEventConfigurations": (
        "JOB, JOB_EXECUTION and POLICY can be set and publish nothing. [Events](events.md) says what the others do."
    ),
}


@reads("DescribeEventConfigurations")
async def describe(tx: Transaction, query: Query, members: Members) -> Result:
    del members
    found = await find_event_configuration(tx, query.scope)
    enabled = DEFAULTS if found is None else found.enabled
    return {
        "eventConfigurations": {each: {"Enabled": each in enabled} for each in EVENT_TYPES},
        "creationDate": None if found is None else found.created_at,
        "lastModifiedDate": None if found is None else found.modified_at,
    }


@writes("UpdateEventConfigurations")
async def update(tx: Transaction, change: Change, members: Members) -> Result:
    switched = {type: each.get("Enabled", False) for type, each in members.get("eventConfigurations", {}).items()}
    if switched:
        await update_event_configuration(tx, change.scope, switched, change.now)
    return {}
