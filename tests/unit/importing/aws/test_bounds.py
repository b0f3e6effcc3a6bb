"""The bounds of a transaction: it touches at most 1,000 rows, whatever the account has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.issuers import fingerprint, new_issuer
from tests.issuers import pem as pem_of
from tests.unit import vectors
from tests.unit.importing.aws.imports import Imports, document
from tests.unit.importing.aws.stub_account import StubAccount, source_of
from tests.world import OURS
from thingmint.importing.batches import MAX_BYTES, MAX_ITEMS

if TYPE_CHECKING:
    from tests.world import World

_MAX_ROWS = 1000


def _account() -> StubAccount:
    """As many rows for each resource as AWS allows, or many."""
    account = StubAccount(OURS.region, page=250)
    tags = {f"key-{number}": "value" for number in range(50)}
    account.thing_type("lamp")
    names = [f"policy-{number}" for number in range(40)]
    for name in names:
        account.policy(name, {str(id): document() for id in range(1, 6)}, default="5")
        account.tags[account.arn(f"policy/{name}")] = tags
    attributes = {f"name-{number}": "v" * 100 for number in range(50)}
    for number in range(250):
        account.thing(f"lamp-{number}", "lamp", **attributes)
    for number in range(30):
        account.group(f"group-{number}")
        account.attached[account.arn(f"thinggroup/group-{number}")] = names[:10]
        account.tags[account.arn(f"thinggroup/group-{number}")] = tags
        account.members[f"group-{number}"] = [f"lamp-{each}" for each in range(number * 5, 250)][:200]
    issuer = new_issuer(now=vectors.NOW)
    account.ca(issuer.fingerprint, issuer.pem)
    for number in range(60):
        made = issuer.sign(f"lamp-{number}", vectors.ec_key())
        arn = account.certificate(fingerprint(made), pem_of(made), caCertificateId=issuer.fingerprint)
        account.attached[arn] = names[:10]
        account.things_of[arn] = [{"thingName": f"lamp-{each}"} for each in range(number)]
    return account


@pytest.mark.sqlite
async def test_no_batch_touches_more_rows_than_a_transaction_may(world: World) -> None:
    imports, source = Imports(world), source_of(_account())
    await imports.begin(source.identity())
    store: Any = world.store
    most = 0
    for batch in source.batches({}):
        before = store._store._writer.total_changes
        results = await imports.add(*batch.items, place=batch.place)
        most = max(most, store._store._writer.total_changes - before)
        assert not [result for result in results if result.outcome == "refused" and result.kind != "member"]
        assert len(batch.items) <= MAX_ITEMS
        assert sum(len(str(item)) for item in batch.items) <= MAX_BYTES
    assert _MAX_ROWS / 2 < most <= _MAX_ROWS, "the batches are as large as they may be"
    assert await world.count("registrations") == 60
