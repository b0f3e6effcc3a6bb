"""The indexing configurations that UpdateIndexingConfiguration was given. They change nothing: searches always work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from thingmint.domain.arns import Scope, arn
from thingmint.store.table import Table, record

if TYPE_CHECKING:
    from thingmint.store.engine import Transaction


@record
class IndexingConfiguration:
    """``things`` and ``thing_groups`` are in AWS's form, without the managed fields; None if never given."""

    scope: Scope
    things: Mapping[str, Any] | None
    thing_groups: Mapping[str, Any] | None


INDEXING_CONFIGURATIONS = Table(
    IndexingConfiguration, "indexing_configurations", "indexing configuration", key=("account", "region")
)


async def find_configuration(tx: Transaction, scope: Scope) -> IndexingConfiguration:
    found = await INDEXING_CONFIGURATIONS.find(tx, *scope)
    return found or IndexingConfiguration(scope, None, None)


async def store_configuration(
    tx: Transaction, scope: Scope, things: Mapping[str, Any] | None, thing_groups: Mapping[str, Any] | None
) -> None:
    """Store a configuration. None keeps a half of it."""
    before = await find_configuration(tx, scope)
    after = replace(before, things=things or before.things, thing_groups=thing_groups or before.thing_groups)
    if after == before:
        return
    if not await INDEXING_CONFIGURATIONS.update(tx, after):
        await INDEXING_CONFIGURATIONS.insert(tx, after)
    tx.audit_resources += [arn(scope, f"index/{name}") for name in ("AWS_Things", "AWS_ThingGroups")]
