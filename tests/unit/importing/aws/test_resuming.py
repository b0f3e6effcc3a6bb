"""Interrupted imports of an account of AWS: after a kill at any moment the import is finished, and nothing differs."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.issuers import fingerprint, new_issuer
from tests.issuers import pem as pem_of
from tests.unit import vectors
from tests.unit.importing.aws.imports import BODY, Imports, document
from tests.unit.importing.aws.stub_account import StubAccount, failure, source_of
from tests.world import OURS, new_world
from thingmint.importing.batches import SourceError
from thingmint.importing.sources.aws import source
from thingmint.store.table import fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.world import World

_TABLES = {
    "thing_types": "name, description, searchable_attributes, propagating_attributes, deprecated_at, created_at",
    "device_policies": "name, default_version, last_version, created_at, modified_at",
    "device_policy_versions": "policy, version, document, created_at",
    "device_policy_attachments": f"coalesce({fingerprint_of('certificate')}, thing_group), policy",
    "provisioning_templates": "name, type, enabled, default_version, last_version, created_at",
    "provisioning_template_versions": "template, version, body, created_at",
    "ca_certificates": f"{fingerprint_of('certificate')}, status, mode, auto_registration, template_name, created_at",
    "things": "name, type, attributes",
    "thing_attributes": "thing, name, value",
    "thing_groups": "name, path, attributes, created_at",
    "thing_group_members": "thing",
    "registrations": f"{fingerprint_of('certificate')}, status, mode, origin, serial, created_at, modified_at",
    "thing_principals": f"{fingerprint_of('certificate')}, thing, exclusive",
    "tags": "resource, key, value",
}


def account() -> StubAccount:
    stub = StubAccount(OURS.region)
    stub.thing_type("lamp")
    stub.policy("connect", {"1": document(), "3": document("iot:Publish")}, default="3")
    stub.policy("publish", {"1": document()}, default="1")
    stub.template("jitp", {1: BODY}, default=1, type="JITP")
    issuer = new_issuer(now=vectors.NOW)
    stub.ca(issuer.fingerprint, issuer.pem, {"templateName": "jitp"})
    stub.tags[stub.arn("policy/connect")] = {"team": "light"}
    for number in range(9):
        stub.thing(f"lamp-{number}", "lamp", room=f"r{number}")
    stub.group("below", ["top", "middle"])
    stub.group("middle", ["top"])
    stub.group("top")
    stub.attached[stub.arn("thinggroup/top")] = ["connect"]
    stub.members = {"below": [f"lamp-{number}" for number in range(5)], "middle": ["lamp-7"]}
    for number in range(9):
        made = issuer.sign(f"lamp-{number}")
        arn = stub.certificate(
            fingerprint(made), pem_of(made), caCertificateId=issuer.fingerprint if number % 2 else None
        )
        stub.attached[arn] = ["connect", "publish"]
        stub.things_of[arn] = [{"thingName": f"lamp-{number}", "thingPrincipalType": "EXCLUSIVE_THING"}]
    return stub


async def contents(world: World) -> dict[str, list[tuple[Any, ...]]]:
    return {
        table: sorted(await world.shown(f"SELECT {columns} FROM {table}"), key=repr)
        for table, columns in _TABLES.items()
    }


@pytest.mark.sqlite
async def test_an_import_that_is_killed_at_every_batch_ends_the_same(
    world: World, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = account()
    await Imports(world).add_all(source_of(stub))
    expected = await contents(world)
    monkeypatch.setattr(source, "MAX_ITEMS", 3)
    total = sum(1 for _ in source_of(stub).batches({}))
    assert total > 8
    for kill_at in range(1, total):
        folder = tmp_path_factory.mktemp("killed")
        async with new_world(folder) as other:
            await _killed(other, stub, kill_at)
            await Imports(other).add_all(source_of(stub))
            assert await contents(other) == expected, kill_at


async def _killed(world: World, stub: StubAccount, after: int) -> None:
    """Begins an import, and ends it after some batches."""
    imports, reader = Imports(world), source_of(stub)
    await imports.begin(reader.identity())
    reading = reader.batches(imports.place)
    for _, batch in zip(range(after), reading, strict=False):
        await imports.add(*batch.items, place={**imports.place, **batch.place})
    reading.close()


@pytest.mark.sqlite
async def test_an_account_that_fails_at_random_comes_completely(world: World, tmp_path: Path) -> None:
    stub = account()
    await Imports(world).add_all(source_of(stub))
    expected = await contents(world)
    chance = random.Random(7)

    def fail_sometimes(operation: str, _: Mapping[str, Any]) -> None:
        roll = chance.random()
        if roll < 0.01:
            raise failure(operation, "ExpiredTokenException", 403)
        if roll < 0.2:
            raise failure(operation, *chance.choice([("ThrottlingException", 400), ("InternalFailureException", 500)]))

    folder = tmp_path / "other"
    folder.mkdir()
    async with new_world(folder) as other:
        stops: list[str] = []
        stub.fault = fail_sometimes
        while True:
            try:
                results = await Imports(other).add_all(source_of(stub))
                break
            except SourceError as error:
                stops.append(str(error))
        assert stops
        assert all("ExpiredTokenException" in stop for stop in stops)
        assert not [result for result in results if result.outcome in ("refused", "conflict")]
        assert await contents(other) == expected
