"""Pages of an export: each thing, certificate, registry and device is on exactly one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.services.provisioning_support import POLICY
from tests.world import ABROAD, OURS, THEIRS
from tests.yandex_exports import certificate_pem
from thingmint.access.audit import AuditLog
from thingmint.domain.errors import Invalid, NotFound
from thingmint.fleet import export_pages
from thingmint.fleet.exporting import Exporter

if TYPE_CHECKING:
    from tests.world import World

pytestmark = pytest.mark.parametrize("world", ["sqlite", "postgres"], indirect=True)


def _exporter(world: World) -> Exporter:
    return Exporter(world.store, AuditLog(world.store, world.clock), world.clock)


async def _all(world: World, what: str, parent: str = "") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None:
        page = await _exporter(world).page(
            what=what, account=OURS.account, region=OURS.region, parent=parent, after=after
        )
        rows += page["rows"]
        after = page["after"]
    return rows


async def test_things_come_with_all_that_they_have(world: World) -> None:
    await world.aws("CreateThingType", thingTypeName="lamps")
    await world.aws("CreateThingGroup", thingGroupName="house")
    await world.aws("CreatePolicy", policyName="all", policyDocument=POLICY)
    await world.aws("CreateThing", thingName="lamp", thingTypeName="lamps", attributePayload={"attributes": {"a": "b"}})
    await world.aws("AddThingToThingGroup", thingName="lamp", thingGroupName="house")
    id = await world.certificate()
    arn = f"arn:aws:iot:{OURS.region}:{OURS.account}:cert/{id}"
    await world.aws("AttachPolicy", policyName="all", target=arn)
    await world.aws("AttachThingPrincipal", thingName="lamp", principal=arn, thingPrincipalType="EXCLUSIVE_THING")
    await world.aws("CreateThing", ABROAD, thingName="elsewhere")
    await world.aws("CreateThing", THEIRS, thingName="others")
    (thing,) = await _all(world, "things")
    (certificate,) = thing.pop("certificates")
    assert thing == {"name": "lamp", "type": "lamps", "attributes": {"a": "b"}, "groups": ["house"]}
    kept = {name: certificate[name] for name in ("id", "status", "policies", "exclusive", "ca")}
    assert kept == {"id": id, "status": "ACTIVE", "policies": ["all"], "exclusive": True, "ca": None}
    assert await _all(world, "certificates") == []


@pytest.mark.parametrize("size", [1, 3000, 700 * 1024])
async def test_pages_are_bounded_in_bytes(world: World, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(export_pages, "_MAX_BYTES", size)
    for number in range(7):
        world.clock.advance(seconds=number // 3)
        await world.certificate(pem=certificate_pem(number))
        await world.aws("CreateThing", thingName=f"t{number}")
    assert [each["name"] for each in await _all(world, "things")] == [f"t{number}" for number in range(7)]
    assert len({each["id"] for each in await _all(world, "certificates")}) == 7


async def test_many_things_are_on_several_pages(world: World) -> None:
    await world.write(
        lambda tx: tx.execute_many(
            "INSERT INTO things (account, region, name, id, attributes, version, created_at) "
            "VALUES ($1, $2, $3, $4, '{}', 1, 1)",
            [(*OURS, f"t{number:03}", number.to_bytes(16, "big")) for number in range(200)],
        )
    )
    assert [each["name"] for each in await _all(world, "things")] == [f"t{number:03}" for number in range(200)]


async def test_devices_of_a_registry_come_with_their_certificates(world: World) -> None:
    registry, other = await world.registry(name="meters"), await world.registry(name="others")
    pems = [certificate_pem(number) for number in range(2)]
    certificates = [{"certificate_data": pem} for pem in pems]
    ids = [await world.device(registry, name=f"m{number}") for number in range(60)]
    bound = await world.device(
        registry, name="bound", certificates=certificates, topic_aliases={"a/b": "$devices/{id}/events"}
    )
    await world.device(other, name="other")
    devices = await _all(world, "devices", registry)
    assert [each["id"] for each in devices] == [*ids, bound]
    assert sorted(each["pem"] for each in devices[-1]["certificates"]) == sorted(pems)
    assert devices[-1]["topic_aliases"] == {"a/b": f"$devices/{bound}/events"}
    assert sorted(each["id"] for each in await _all(world, "registries")) == sorted([registry, other])
    assert await _all(world, "brokers") == await _all(world, "certificates") == []


async def test_other_pages_and_accounts_are_refused(world: World) -> None:
    with pytest.raises(Invalid, match="must be one of things"):
        await _exporter(world).page(what="passwords", account=OURS.account)
    with pytest.raises(NotFound):
        await _exporter(world).start(account="999999999999")
    assert await _exporter(world).start() == {"account": OURS.account, "regions": [OURS.region, ABROAD.region]}


@pytest.mark.parametrize("what", ["thing_types", "policies", "groups", "templates", "cas"])
async def test_definitions_are_read_along_indexes(world: World, what: str) -> None:
    assert await _all(world, what) == []
