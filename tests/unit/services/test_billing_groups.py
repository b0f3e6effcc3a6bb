"""AWS IoT's eight operations on billing groups, and the groups of things."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.world import ABROAD, OURS, THEIRS, pages
from thingmint.domain.errors import AlreadyExists, Invalid, NotFound, VersionConflict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.world import World

NORTH = {"billingGroupName": "north"}
ARN = f"arn:aws:iot:us-east-1:{OURS.account}:billinggroup/north"


def described(text: str) -> dict[str, Any]:
    return {"billingGroupProperties": {"billingGroupDescription": text}}


async def create(world: World, name: str = "north", **members: Any) -> dict[str, Any]:
    return await world.aws("CreateBillingGroup", billingGroupName=name, **members)


async def group_of(world: World, thing: str = "lamp") -> str | None:
    name: str | None = (await world.aws("DescribeThing", thingName=thing))["billingGroupName"]
    return name


async def things_in(world: World, name: str = "north") -> list[str]:
    things: list[str] = (await world.aws("ListThingsInBillingGroup", billingGroupName=name))["things"]
    return things


async def test_a_new_group_is_described_as_given(world: World) -> None:
    made = await create(world, **described("the north"), tags=[{"Key": "team", "Value": "lamps"}])
    assert (made["billingGroupName"], made["billingGroupArn"]) == ("north", ARN)
    assert world.audit_resources() == ["billinggroup/north"]
    assert await world.aws("DescribeBillingGroup", **NORTH) == {
        **made,
        "version": 1,
        **described("the north"),
        "billingGroupMetadata": {"creationDate": world.clock.now},
    }
    assert (await world.aws("ListTagsForResource", resourceArn=ARN))["tags"] == [{"Key": "team", "Value": "lamps"}]
    for scope in (ABROAD, THEIRS):
        with pytest.raises(NotFound):
            await world.aws("DescribeBillingGroup", scope, **NORTH)


async def test_creating_again_succeeds_only_with_the_same_description(world: World) -> None:
    made = await create(world, **described("the north"))
    world.audit_resources()
    assert await create(world, **described("the north")) == made
    for other in ({}, described("the south")):
        with pytest.raises(AlreadyExists) as caught:
            await create(world, **other)
        assert (caught.value.id, caught.value.arn) == (made["billingGroupId"], ARN)
    assert await world.unchanged()


async def test_an_update_counts_versions(world: World) -> None:
    await create(world)
    for text, version in (("one", 2), ("one", 2), ("two", 3)):
        assert await world.aws("UpdateBillingGroup", **NORTH, **described(text)) == {"version": version}
    for operation in ("UpdateBillingGroup", "DeleteBillingGroup"):
        with pytest.raises(VersionConflict):
            await world.aws(operation, **NORTH, **described("x"), expectedVersion=2)
    await world.aws("UpdateBillingGroup", **NORTH, billingGroupProperties={}, expectedVersion=3)
    assert (await world.aws("DescribeBillingGroup", **NORTH))["billingGroupProperties"] == {
        "billingGroupDescription": "two"
    }
    with pytest.raises(NotFound):
        await world.aws("UpdateBillingGroup", billingGroupName="none", **described("x"))


async def test_a_thing_is_in_one_group(world: World) -> None:
    await create(world)
    await create(world, "south")
    await world.aws("CreateThing", thingName="lamp")
    version = (await world.aws("DescribeThing", thingName="lamp"))["version"]
    world.audit_resources()
    for _ in range(2):
        await world.aws("AddThingToBillingGroup", **NORTH, thingName="lamp")
    assert world.audit_resources() == ["thing/lamp", "billinggroup/north"]
    assert (await group_of(world), await things_in(world)) == ("north", ["lamp"])
    arns = {
        "billingGroupArn": ARN.replace("north", "south"),
        "thingArn": f"arn:aws:iot:us-east-1:{OURS.account}:thing/lamp",
    }
    await world.aws("AddThingToBillingGroup", **arns)
    assert (await group_of(world), await things_in(world), await things_in(world, "south")) == ("south", [], ["lamp"])
    await world.aws("RemoveThingFromBillingGroup", **NORTH, thingName="lamp")
    assert await group_of(world) == "south", "it is not in the other group"
    await world.aws("RemoveThingFromBillingGroup", **arns)
    assert (await group_of(world), await things_in(world, "south")) == (None, [])
    assert (await world.aws("DescribeThing", thingName="lamp"))["version"] == version


async def test_what_does_not_exist_is_not_found(world: World) -> None:
    await create(world)
    await world.aws("CreateThing", thingName="lamp")
    for operation in ("AddThingToBillingGroup", "RemoveThingFromBillingGroup"):
        for named in ({**NORTH, "thingName": "none"}, {"billingGroupName": "none", "thingName": "lamp"}):
            with pytest.raises(NotFound):
                await world.aws(operation, **named)
        with pytest.raises(Invalid):
            await world.aws(operation, **NORTH, billingGroupArn=ARN.replace("north", "south"), thingName="lamp")
    for operation in ("DescribeBillingGroup", "ListThingsInBillingGroup"):
        with pytest.raises(NotFound):
            await world.aws(operation, billingGroupName="none")
    with pytest.raises(NotFound):
        await world.aws("ListTagsForResource", resourceArn=ARN.replace("north", "none"))


async def test_deleting_a_group_keeps_its_things(world: World) -> None:
    await create(world, tags=[{"Key": "team", "Value": "lamps"}])
    await world.aws("CreateThing", thingName="lamp", **NORTH)
    assert await world.aws("DeleteBillingGroup", **NORTH) == {}
    assert await world.aws("DeleteBillingGroup", **NORTH) == {}
    assert await group_of(world) is None
    await world.aws("CreateThing", thingName="lamp")  # with the same configuration: it has no group now
    await create(world)
    assert (await group_of(world), await things_in(world)) == (None, [])
    assert (await world.aws("ListTagsForResource", resourceArn=ARN))["tags"] == []
    await world.aws("AddThingToBillingGroup", **NORTH, thingName="lamp")
    assert await group_of(world) == "north"
    await world.aws("DeleteThing", thingName="lamp")
    assert await things_in(world) == []


async def test_a_thing_can_be_created_in_a_group(world: World) -> None:
    await create(world)
    made = await world.aws("CreateThing", thingName="lamp", **NORTH)
    assert await world.aws("CreateThing", thingName="lamp", **NORTH) == made
    with pytest.raises(AlreadyExists, match="another billing group"):
        await world.aws("CreateThing", thingName="lamp")
    await world.aws("UpdateThing", thingName="lamp", attributePayload={"attributes": {"a": "1"}})
    assert await group_of(world) == "north"
    with pytest.raises(NotFound, match="billing group none does not exist"):
        await world.aws("CreateThing", thingName="other", billingGroupName="none")


async def test_groups_are_listed_by_prefix(world: World) -> None:
    names = ["a", "ab", "ab-1", "ab:2", "abc", "b", "B"]
    for name in names:
        await create(world, name)
    for prefix in ("", "a", "ab", "ab-", "abc", "b", "zz"):
        wanted = {"namePrefixFilter": prefix} if prefix else {}

        async def list_page(members: Mapping[str, Any], wanted: Mapping[str, str] = wanted) -> dict[str, Any]:
            return await world.aws("ListBillingGroups", **wanted, **members)

        for limit in (1, 2, 10):
            listed = await pages(list_page, "billingGroups", limit)
            assert [group["groupName"] for group in listed] == sorted(n for n in names if n.startswith(prefix))
    assert (await world.aws("ListBillingGroups", THEIRS))["billingGroups"] == []


async def test_things_are_listed_in_pages(world: World) -> None:
    await create(world)
    for number in range(5):
        await world.aws("CreateThing", thingName=f"lamp-{number}", **(NORTH if number != 2 else {}))

    async def list_page(members: Mapping[str, Any]) -> dict[str, Any]:
        return await world.aws("ListThingsInBillingGroup", **NORTH, **members)

    assert await pages(list_page, "things", 2) == ["lamp-0", "lamp-1", "lamp-3", "lamp-4"]
