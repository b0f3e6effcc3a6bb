"""AWS IoT's six operations on thing types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.world import ABROAD, OURS, THEIRS, pages
from thingmint.domain.errors import AlreadyExists, Disallowed, Invalid, NotFound
from thingmint.domain.messages import MessageProperties
from thingmint.services.thing_types import propagated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.world import World
    from thingmint.domain.arns import Scope

LAMP = {"thingTypeName": "lamp"}
PROPERTIES = {"thingTypeDescription": "light", "searchableAttributes": ["color", "room"]}


async def test_a_new_type_is_described_as_given(world: World) -> None:
    made = await world.aws("CreateThingType", **LAMP, thingTypeProperties=PROPERTIES)
    assert made["thingTypeArn"] == "arn:aws:iot:us-east-1:111111111111:thingtype/lamp"
    assert world.audit_resources() == ["thingtype/lamp"]
    assert await world.aws("DescribeThingType", **LAMP) == {
        **made,
        "thingTypeProperties": {**PROPERTIES, "mqtt5Configuration": None},
        "thingTypeMetadata": {"deprecated": False, "deprecationDate": None, "creationDate": world.clock.now},
    }


async def test_creating_the_same_type_again_returns_the_existing_one(world: World) -> None:
    made = await world.aws("CreateThingType", **LAMP, thingTypeProperties=PROPERTIES)
    world.audit_resources()
    same = {**PROPERTIES, "searchableAttributes": ["room", "color"]}
    assert await world.aws("CreateThingType", **LAMP, thingTypeProperties=same) == made
    assert await world.unchanged()


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"searchableAttributes": ["color", "room"]},
        {"thingTypeDescription": "light", "searchableAttributes": ["color"]},
        {"thingTypeDescription": "others", "searchableAttributes": ["color", "room"]},
    ],
)
async def test_creating_with_other_properties_conflicts(world: World, other: dict[str, Any]) -> None:
    made = await world.aws("CreateThingType", **LAMP, thingTypeProperties=PROPERTIES)
    world.audit_resources()
    with pytest.raises(AlreadyExists) as caught:
        await world.aws("CreateThingType", **LAMP, thingTypeProperties=other)
    assert (caught.value.id, caught.value.arn) == (made["thingTypeId"], made["thingTypeArn"])
    assert await world.unchanged()


async def test_an_update_changes_only_the_given_properties(world: World) -> None:
    await world.aws("CreateThingType", **LAMP, thingTypeProperties=PROPERTIES)
    before = await world.aws("DescribeThingType", **LAMP)
    world.audit_resources()
    await world.aws("UpdateThingType", **LAMP)
    assert await world.unchanged()
    changes: tuple[dict[str, Any], ...] = ({"thingTypeDescription": "new"}, {"searchableAttributes": []})
    for change in changes:
        await world.aws("UpdateThingType", **LAMP, thingTypeProperties=change)
        answered = {name: value or None for name, value in change.items()}
        before["thingTypeProperties"] = {**before["thingTypeProperties"], **answered}
        assert await world.aws("DescribeThingType", **LAMP) == before
        assert world.audit_resources() == ["thingtype/lamp"]


async def test_deprecating_twice_keeps_the_first_date(world: World) -> None:
    await world.aws("CreateThingType", **LAMP)
    world.audit_resources()
    deprecated_at = world.clock.now
    for named in (["thingtype/lamp"], []):
        await world.aws("DeprecateThingType", **LAMP)
        assert world.audit_resources() == named
        world.clock.advance(minutes=1)
    metadata = (await world.aws("DescribeThingType", **LAMP))["thingTypeMetadata"]
    assert (metadata["deprecated"], metadata["deprecationDate"]) == (True, deprecated_at)
    for named in (["thingtype/lamp"], []):
        await world.aws("DeprecateThingType", **LAMP, undoDeprecate=True)
        assert world.audit_resources() == named
    metadata = (await world.aws("DescribeThingType", **LAMP))["thingTypeMetadata"]
    assert (metadata["deprecated"], metadata["deprecationDate"]) == (False, None)


async def test_only_a_deprecated_type_without_things_can_be_deleted(world: World) -> None:
    await world.aws("CreateThingType", **LAMP, tags=[{"Key": "k", "Value": "v"}])
    with pytest.raises(Disallowed, match="must be deprecated"):
        await world.aws("DeleteThingType", **LAMP)
    await world.aws("CreateThing", thingName="t", thingTypeName="lamp")
    await world.aws("DeprecateThingType", **LAMP)
    with pytest.raises(Disallowed, match="still associated"):
        await world.aws("DeleteThingType", **LAMP)
    await world.aws("DeleteThing", thingName="t")
    world.audit_resources()
    await world.aws("DeleteThingType", **LAMP)
    assert world.audit_resources() == ["thingtype/lamp"]
    with pytest.raises(NotFound):
        await world.aws("DescribeThingType", **LAMP)


async def test_a_recreated_type_has_no_tags(world: World) -> None:
    made = await world.aws("CreateThingType", **LAMP, tags=[{"Key": "k", "Value": "v"}])
    await world.aws("DeprecateThingType", **LAMP)
    await world.aws("DeleteThingType", **LAMP)
    await world.aws("CreateThingType", **LAMP)
    tags = await world.aws("ListTagsForResource", resourceArn=made["thingTypeArn"])
    assert tags == {"tags": []}


@pytest.mark.parametrize("searchable", [["a", "a"], ["a", "b", "c", "d"]])
async def test_a_type_has_at_most_three_different_searchable_attributes(world: World, searchable: list[str]) -> None:
    for operation in ("CreateThingType", "UpdateThingType"):
        with pytest.raises(Invalid, match="searchableAttributes"):
            await world.aws(operation, **LAMP, thingTypeProperties={"searchableAttributes": searchable})


def propagating(*attributes: dict[str, str]) -> dict[str, Any]:
    return {"mqtt5Configuration": {"propagatingAttributes": list(attributes)}}


ROOM = {"userPropertyKey": "room", "thingAttribute": "room"}
CLIENT = {"userPropertyKey": "$from:client.id", "connectionAttribute": "iot:ClientId"}


async def test_a_type_has_the_propagating_attributes_of_its_last_change(world: World) -> None:
    async def described() -> Any:
        return (await world.aws("DescribeThingType", **LAMP))["thingTypeProperties"]["mqtt5Configuration"]

    await world.aws("CreateThingType", **LAMP, thingTypeProperties=propagating(ROOM, CLIENT))
    assert await described() == {"propagatingAttributes": [ROOM, CLIENT]}
    listed = (await world.aws("ListThingTypes"))["thingTypes"][0]["thingTypeProperties"]
    assert listed["mqtt5Configuration"] == {"propagatingAttributes": [ROOM, CLIENT]}
    await world.aws("UpdateThingType", **LAMP, thingTypeProperties={"thingTypeDescription": "light"})
    assert await described() == {"propagatingAttributes": [ROOM, CLIENT]}
    await world.aws("UpdateThingType", **LAMP, thingTypeProperties=propagating(CLIENT))
    assert await described() == {"propagatingAttributes": [CLIENT]}
    await world.aws("UpdateThingType", **LAMP, thingTypeProperties=propagating())
    assert await described() is None


async def test_creating_with_other_propagating_attributes_conflicts(world: World) -> None:
    made = await world.aws("CreateThingType", **LAMP, thingTypeProperties=propagating(ROOM))
    assert await world.aws("CreateThingType", **LAMP, thingTypeProperties=propagating(ROOM)) == made
    for other in ({}, propagating(ROOM, CLIENT)):
        with pytest.raises(AlreadyExists):
            await world.aws("CreateThingType", **LAMP, thingTypeProperties=other)


@pytest.mark.parametrize(
    "attribute",
    [
        {},
        {"thingAttribute": "a"},
        {"userPropertyKey": "", "thingAttribute": "a"},
        {"userPropertyKey": "k"},
        {"userPropertyKey": "k", "thingAttribute": ""},
        {"userPropertyKey": "k", "thingAttribute": "a", "connectionAttribute": "iot:ClientId"},
        {"userPropertyKey": "k", "connectionAttribute": "iot:Connection.Thing.ThingName"},
    ],
)
async def test_a_propagating_attribute_has_a_key_and_one_known_source(world: World, attribute: dict[str, str]) -> None:
    await world.aws("CreateThingType", thingTypeName="other")
    for operation, name in (("CreateThingType", "lamp"), ("UpdateThingType", "other")):
        with pytest.raises(Invalid, match="propagatingAttributes"):
            await world.aws(operation, thingTypeName=name, thingTypeProperties=propagating(ROOM, attribute))


async def test_a_type_has_at_most_fifty_propagating_attributes(world: World) -> None:
    await world.aws("CreateThingType", **LAMP, thingTypeProperties=propagating(*[ROOM] * 50))
    with pytest.raises(Invalid, match="at most 50"):
        await world.aws("UpdateThingType", **LAMP, thingTypeProperties=propagating(*[ROOM] * 51))


async def test_only_a_change_of_propagating_attributes_is_published(world: World) -> None:
    await world.aws("CreateThingType", **LAMP, thingTypeProperties=propagating(ROOM))
    await world.aws("UpdateThingType", **LAMP, thingTypeProperties={**PROPERTIES, **propagating(ROOM)})
    assert await world.count("outbox") == 0
    await world.aws("UpdateThingType", **LAMP, thingTypeProperties=propagating(CLIENT))
    assert await world.count("outbox") == 1


def test_a_message_gets_the_attributes_that_the_thing_has() -> None:
    name = {"userPropertyKey": "thing", "connectionAttribute": "iot:Thing.ThingName"}
    size = {"userPropertyKey": "size", "thingAttribute": "size"}
    added = propagated([ROOM, size, CLIENT, name], "client", "lamp-1", {"room": "kitchen"})
    assert added == (("room", "kitchen"), ("$from:client.id", "client"), ("thing", "lamp-1"))
    own = MessageProperties(user_properties=(("room", "forged"), ("other", "own"), ("other", "again")))
    assert own.adding(added).user_properties == (("other", "own"), ("other", "again"), *added)


@pytest.mark.parametrize("elsewhere", [ABROAD, THEIRS])
@pytest.mark.parametrize("operation", ["DescribeThingType", "UpdateThingType", "DeprecateThingType", "DeleteThingType"])
async def test_types_exist_in_their_scope_only(world: World, operation: str, elsewhere: Scope) -> None:
    await world.aws("CreateThingType", elsewhere, **LAMP)
    with pytest.raises(NotFound, match="thing type lamp"):
        await world.aws(operation, **LAMP)


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_lists_have_every_type_once_by_name(world: World, limit: int) -> None:
    for name in ("b", "a", "d", "c"):
        await world.aws("CreateThingType", thingTypeName=name)
        await world.aws("CreateThingType", THEIRS, thingTypeName=f"{name}x")

    async def names(**wanted: str) -> list[str]:
        async def page(members: Mapping[str, Any]) -> Mapping[str, Any]:
            return await world.aws("ListThingTypes", OURS, **members, **wanted)

        return [type["thingTypeName"] for type in await pages(page, "thingTypes", limit)]

    assert await names() == ["a", "b", "c", "d"]
    assert await names(thingTypeName="c") == ["c"]
    assert await names(thingTypeName="ax") == []
