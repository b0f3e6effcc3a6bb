"""AWS IoT's five operations on things."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.world import ABROAD, OURS, THEIRS, pages
from thingmint.domain.errors import AlreadyExists, Disallowed, Invalid, NotFound, VersionConflict
from thingmint.domain.ids import new_uuid
from thingmint.services.thing_group_members import update_groups
from thingmint.services.thing_principals import attach_principal
from thingmint.services.things import THINGS, AttributeChange, Thing, create_thing, update_thing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.world import World
    from thingmint.domain.arns import Scope
    from thingmint.store.engine import Transaction

FIFTY = {f"a{number}": "x" * 800 for number in range(50)}


def payload(_merge: bool | None = None, /, **attributes: str) -> dict[str, Any]:
    return {"attributePayload": {"attributes": attributes, **({} if _merge is None else {"merge": _merge})}}


async def names(world: World, scope: Scope = OURS, **wanted: Any) -> list[str]:
    return [thing["thingName"] for thing in (await world.aws("ListThings", scope, **wanted))["things"]]


async def lamp(world: World, **attributes: str) -> dict[str, Any]:
    """Create a thing "t" of the type "lamp"."""
    await world.aws("CreateThingType", thingTypeName="lamp")
    made = await world.aws("CreateThing", thingName="t", thingTypeName="lamp", **payload(**attributes))
    world.audit_resources()
    return made


# -- creating -----------------------------------------------------------------------------------------------------


async def test_a_new_thing_is_described_as_given(world: World) -> None:
    await world.aws("CreateThingType", thingTypeName="lamp")
    world.audit_resources()
    made = await world.aws("CreateThing", thingName="a", thingTypeName="lamp", **payload(color="red", off=""))
    assert made["thingArn"] == "arn:aws:iot:us-east-1:111111111111:thing/a"
    assert await world.aws("DescribeThing", thingName="a") == {
        **made,
        "defaultClientId": "a",
        "thingTypeName": "lamp",
        "attributes": {"color": "red"},
        "version": 1,
        "billingGroupName": None,
    }
    assert (await world.read(lambda tx: THINGS.get(tx, *OURS, "a"))).created_at == world.clock.now
    assert world.audit_resources() == ["thing/a"]
    assert await world.published() == []


async def test_creating_the_same_thing_again_returns_the_existing_one(world: World) -> None:
    made = await lamp(world, color="red")
    await world.aws("DeprecateThingType", thingTypeName="lamp")
    world.audit_resources()
    again = await world.aws("CreateThing", thingName="t", thingTypeName="lamp", **payload(color="red", nothing=""))
    assert again == made
    assert await world.unchanged()


@pytest.mark.parametrize(
    "other",
    [
        {"thingTypeName": "lamp"},
        payload(color="red"),
        {"thingTypeName": "lamp", **payload(color="blue")},
        {"thingTypeName": "lamp", **payload(color="red", size="1")},
    ],
)
async def test_creating_with_another_configuration_conflicts(world: World, other: dict[str, Any]) -> None:
    made = await lamp(world, color="red")
    before = await world.aws("DescribeThing", thingName="t")
    with pytest.raises(AlreadyExists, match="Thing t already exists with another type or other") as caught:
        await world.aws("CreateThing", thingName="t", **other)
    assert (caught.value.id, caught.value.arn) == (made["thingId"], made["thingArn"])
    assert await world.aws("DescribeThing", thingName="t") == before
    assert await world.unchanged()


@pytest.mark.parametrize(("error", "type"), [(NotFound, "none"), (NotFound, "theirs"), (Disallowed, "old")])
async def test_unknown_and_deprecated_types_cannot_be_given(world: World, error: type[Exception], type: str) -> None:
    await world.aws("CreateThingType", thingTypeName="old")
    await world.aws("DeprecateThingType", thingTypeName="old")
    await world.aws("CreateThingType", THEIRS, thingTypeName="theirs")
    await world.aws("CreateThing", thingName="t")
    with pytest.raises(error, match=f"type {type}"):
        await world.aws("CreateThing", thingName="new", thingTypeName=type)
    with pytest.raises(error, match=f"type {type}"):
        await world.aws("UpdateThing", thingName="t", thingTypeName=type)
    assert await names(world) == ["t"]
    assert (await world.aws("DescribeThing", thingName="t"))["version"] == 1


async def test_a_type_can_be_given_again_after_undoing_its_deprecation(world: World) -> None:
    await world.aws("CreateThingType", thingTypeName="old")
    await world.aws("DeprecateThingType", thingTypeName="old")
    await world.aws("CreateThing", thingName="t")
    await world.aws("DeprecateThingType", thingTypeName="old", undoDeprecate=True)
    await world.aws("UpdateThing", thingName="t", thingTypeName="old")
    assert (await world.aws("DescribeThing", thingName="t"))["thingTypeName"] == "old"


async def test_a_thing_keeps_a_type_that_became_deprecated(world: World) -> None:
    await lamp(world)
    await world.aws("DeprecateThingType", thingTypeName="lamp")
    await world.aws("UpdateThing", thingName="t", thingTypeName="lamp", **payload(x="1"))
    thing = await world.aws("DescribeThing", thingName="t")
    assert (thing["thingTypeName"], thing["attributes"]) == ("lamp", {"x": "1"})


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "x" * 129, "x" * 10_000, "a\n", "%61"])
async def test_invalid_names_are_refused(world: World, name: str) -> None:
    """Templates make names from devices' parameters, which no model has checked."""
    with pytest.raises(Invalid, match="thingName must satisfy"):
        await world.aws("CreateThing", thingName=name)
    with pytest.raises(Invalid, match="thingTypeName must satisfy"):
        await world.aws("CreateThing", thingName="new", thingTypeName=name)
    await world.aws("CreateThing", thingName="t")
    with pytest.raises(Invalid, match="thingTypeName must satisfy"):
        await world.aws("UpdateThing", thingName="t", thingTypeName=name)


async def test_a_thing_without_a_type_has_at_most_three_attributes(world: World) -> None:
    await world.aws("CreateThing", thingName="three", **payload(a="1", b="2", c="3", d=""))
    with pytest.raises(Invalid, match="attributes must be at most 3"):
        await world.aws("CreateThing", thingName="four", **payload(a="1", b="2", c="3", d="4"))
    with pytest.raises(Invalid, match="attributes must be at most 3"):
        await world.aws("UpdateThing", thingName="three", **payload(True, d="4"))


async def test_a_thing_with_a_type_has_at_most_fifty_attributes(world: World) -> None:
    await world.aws("CreateThingType", thingTypeName="lamp")
    await world.aws("CreateThing", thingName="fifty", thingTypeName="lamp", **payload(**FIFTY))
    assert (await world.aws("DescribeThing", thingName="fifty"))["attributes"] == FIFTY
    with pytest.raises(Invalid, match="attributes must be at most 50"):
        await world.aws("CreateThing", thingName="more", thingTypeName="lamp", **payload(**FIFTY, x="1"))


async def test_an_unknown_billing_group_is_not_found(world: World) -> None:
    with pytest.raises(NotFound, match="billing group b does not exist"):
        await world.aws("CreateThing", thingName="t", billingGroupName="b")
    assert await names(world) == []


# -- changing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "type", "attributes"),
    [
        ({}, "lamp", {"a": "1", "b": "2"}),
        ({"thingTypeName": "lamp"}, "lamp", {"a": "1", "b": "2"}),
        ({"thingTypeName": "fan"}, "fan", {"a": "1", "b": "2"}),
        ({"removeThingType": True}, None, {"a": "1", "b": "2"}),
        ({"removeThingType": True, **payload()}, None, {}),
        ({"attributePayload": {"merge": False}}, "lamp", {"a": "1", "b": "2"}),
        (payload(), "lamp", {}),
        (payload(False, b="3"), "lamp", {"b": "3"}),
        (payload(b="3"), "lamp", {"b": "3"}),
        (payload(b="", c="4"), "lamp", {"c": "4"}),
        (payload(True), "lamp", {"a": "1", "b": "2"}),
        (payload(True, b="3"), "lamp", {"a": "1", "b": "3"}),
        (payload(True, b="", c="4"), "lamp", {"a": "1", "c": "4"}),
    ],
)
async def test_an_update_changes_only_the_given_properties(
    world: World, change: dict[str, Any], type: str | None, attributes: dict[str, str]
) -> None:
    await world.aws("CreateThingType", thingTypeName="fan")
    await lamp(world, a="1", b="2")
    before = await world.aws("DescribeThing", thingName="t")
    differs = (type, attributes) != ("lamp", {"a": "1", "b": "2"})
    await world.aws("UpdateThing", thingName="t", expectedVersion=1, **change)
    after = {**before, "thingTypeName": type, "attributes": attributes, "version": 1 + differs}
    assert await world.aws("DescribeThing", thingName="t") == after
    assert await world.published() == [("thing", "t")] * differs
    assert world.audit_resources() == ["thing/t"] * differs


async def test_a_thing_is_found_by_its_new_attributes_only(world: World) -> None:
    await lamp(world, a="1", b="2")
    await world.aws("UpdateThing", thingName="t", **payload(True, b="", c="4"))
    assert [await names(world, attributeName=name) for name in "abc"] == [["t"], [], ["t"]]
    assert await world.count("thing_attributes") == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"removeThingType": True}, "attributes must be at most 3"),
        ({"removeThingType": True, "thingTypeName": "lamp"}, "removeThingType must not be set along with"),
        (payload(**FIFTY, x="1"), "attributes must be at most 50"),
        (payload(True, **FIFTY), "attributes must be at most 50"),
        (payload(**{"": "1"}), "attributes has a name that"),
        (payload(é="1"), "attributes has a name that"),
        (payload(**{"x" * 129: "1"}), "attributes has a name that"),
        (payload(a="a b"), "attributes has a value that"),
        (payload(a="~"), "attributes has a value that"),
        (payload(a="x" * 801), "attributes has a value that"),
    ],
)
async def test_an_update_that_breaks_a_rule_changes_nothing(world: World, change: dict[str, Any], words: str) -> None:
    await lamp(world, a="1", b="2", c="3", d="4")
    before = await world.aws("DescribeThing", thingName="t")
    with pytest.raises(Invalid, match=words):
        await world.aws("UpdateThing", thingName="t", **change)
    assert await world.aws("DescribeThing", thingName="t") == before
    assert await world.unchanged()


@pytest.mark.parametrize("version", [0, 2, -1, 2**62])
@pytest.mark.parametrize("operation", ["UpdateThing", "DeleteThing"])
async def test_another_version_than_expected_conflicts(world: World, operation: str, version: int) -> None:
    await lamp(world)
    with pytest.raises(VersionConflict):
        await world.aws(operation, thingName="t", expectedVersion=version)
    assert await names(world) == ["t"]
    assert await world.unchanged()


# -- deleting -----------------------------------------------------------------------------------------------------


async def test_a_deleted_thing_leaves_nothing_behind(world: World) -> None:
    made = await world.aws("CreateThing", thingName="t", **payload(a="1"))
    await world.aws("CreateThingGroup", thingGroupName="g")
    await world.aws("AddThingToThingGroup", thingName="t", thingGroupName="g")
    world.audit_resources(), await world.published()
    await world.aws("DeleteThing", thingName="t", expectedVersion=1)
    assert (await world.published(), world.audit_resources()) == ([("thing", "t")], ["thing/t"])
    for table in ("things", "thing_attributes", "thing_group_members"):
        assert await world.count(table) == 0
    again = await world.aws("CreateThing", thingName="t")
    assert again["thingId"] != made["thingId"]
    assert (await world.aws("DescribeThing", thingName="t"))["version"] == 1


async def test_deleting_a_thing_that_does_not_exist_changes_nothing(world: World) -> None:
    await world.aws("DeleteThing", thingName="t")
    await world.aws("DeleteThing", thingName="t", expectedVersion=7)
    assert await world.unchanged()


async def test_a_thing_with_principals_cannot_be_deleted(world: World) -> None:
    await world.aws("CreateThing", thingName="t")
    principal = f"arn:aws:iot:us-east-1:111111111111:cert/{await world.certificate()}"
    await world.aws("AttachThingPrincipal", thingName="t", principal=principal)
    with pytest.raises(Disallowed) as caught:
        await world.aws("DeleteThing", thingName="t")
    assert caught.value.reason == "Cannot delete. Thing t is still attached to one or more principals"
    await world.aws("DetachThingPrincipal", thingName="t", principal=principal)
    await world.aws("DeleteThing", thingName="t")
    assert await world.count("things") == 0


# -- accounts and regions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("elsewhere", [ABROAD, THEIRS])
async def test_things_exist_in_their_scope_only(world: World, elsewhere: Scope) -> None:
    await world.aws("CreateThing", thingName="t", **payload(a="1"))
    for operation in ("DescribeThing", "UpdateThing"):
        with pytest.raises(NotFound, match="thing t does not exist"):
            await world.aws(operation, elsewhere, thingName="t")
    for wanted in ({}, {"attributeName": "a", "attributeValue": "1"}, {"attributeName": "a"}):
        assert await names(world, elsewhere, **wanted) == []


@pytest.mark.parametrize("elsewhere", [ABROAD, THEIRS])
async def test_things_of_the_same_name_are_changed_in_their_scope_only(world: World, elsewhere: Scope) -> None:
    await world.aws("CreateThing", thingName="t", **payload(a="1"))
    before = await world.aws("DescribeThing", thingName="t")
    await world.aws("DeleteThing", elsewhere, thingName="t")
    await world.aws("CreateThing", elsewhere, thingName="t", **payload(a="2"))
    await world.aws("UpdateThing", elsewhere, thingName="t", **payload())
    await world.aws("DeleteThing", elsewhere, thingName="t")
    assert await world.aws("DescribeThing", thingName="t") == before
    assert await names(world, attributeName="a", attributeValue="1") == ["t"]


# -- registering a device -----------------------------------------------------------------------------------------


async def register(world: World, tx: Transaction, fingerprint: str, group: str) -> None:
    change, now = world.change(), world.clock.now
    await create_thing(tx, change, Thing.new(OURS, "t", id=new_uuid(), type=None, attributes={"a": "1"}, now=now))
    await attach_principal(tx, OURS, "t", fingerprint, now, type="EXCLUSIVE_THING")
    await update_thing(tx, change, "t", attributes=AttributeChange({"b": "2"}, merge=True))
    await update_groups(tx, change, "t", add=[group])


async def test_a_device_is_registered_in_one_transaction(world: World) -> None:
    await world.aws("CreateThingGroup", thingGroupName="g")
    fingerprint = await world.certificate()
    world.audit_resources()
    await world.write(lambda tx: register(world, tx, fingerprint, "g"))
    thing = await world.aws("DescribeThing", thingName="t")
    assert (thing["attributes"], thing["version"]) == ({"a": "1", "b": "2"}, 2)
    assert await world.published() == [("certificate", fingerprint), ("thing", "t"), ("thing", "t")]
    cert = f"cert/{fingerprint}"
    assert world.audit_resources() == ["thing/t", "thing/t", cert, "thing/t", "thing/t", "thinggroup/g"]


async def test_a_refused_device_leaves_nothing_behind(world: World) -> None:
    fingerprint = await world.certificate()
    with pytest.raises(NotFound, match="thing group none"):
        await world.write(lambda tx: register(world, tx, fingerprint, "none"))
    for table in ("things", "thing_attributes", "thing_principals", "thing_group_members", "outbox"):
        assert await world.count(table) == 0


# -- lists --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [{}, {"attributeName": "a0"}, {"thingTypeName": "lamp"}])
async def test_a_page_of_large_things_is_shorter(world: World, wanted: dict[str, str]) -> None:
    """So that an answer takes milliseconds to make, and little memory while the client reads slowly."""
    await world.aws("CreateThingType", thingTypeName="lamp")
    attributes = {f"a{number}": "v" * 800 for number in range(50)}
    for number in range(30):
        await world.aws("CreateThing", thingName=f"t{number:02}", thingTypeName="lamp", **payload(**attributes))
    page = await world.aws("ListThings", maxResults=250, **wanted)
    assert [thing["thingName"] for thing in page["things"]] == [f"t{number:02}" for number in range(25)]
    page = await world.aws("ListThings", maxResults=250, nextToken=page["nextToken"], **wanted)
    assert [thing["thingName"] for thing in page["things"]] == [f"t{number:02}" for number in range(25, 30)]
    assert page["nextToken"] is None


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_lists_have_every_thing_once(world: World, limit: int) -> None:
    await world.aws("CreateThingType", thingTypeName="lamp")
    values = ["red", "re", "red-hot", "blue", "r", "red", "redder", "rec", "zed"]
    for number, value in enumerate(values):
        type = {"thingTypeName": "lamp"} if number % 2 else {}
        await world.aws("CreateThing", thingName=f"t{number}", **type, **payload(color=value))
    await world.aws("CreateThing", thingName="plain")
    await world.aws("CreateThing", THEIRS, thingName="t0", **payload(color="red"))

    async def all_pages(color: str | None = None, prefix: bool = False, **wanted: Any) -> list[str]:
        if color is not None:
            wanted |= {"attributeName": "color", "attributeValue": color, "usePrefixAttributeValue": prefix}

        async def page(members: Mapping[str, Any]) -> Mapping[str, Any]:
            return await world.aws("ListThings", OURS, **members, **wanted)

        return [thing["thingName"] for thing in await pages(page, "things", limit)]

    assert await all_pages() == ["plain", *(f"t{number}" for number in range(9))]
    assert await all_pages(thingTypeName="lamp") == ["t1", "t3", "t5", "t7"]
    assert await all_pages(thingTypeName="none") == []
    assert await all_pages("red") == ["t0", "t5"]
    assert await all_pages("green") == []
    assert await all_pages("") == []
    assert await all_pages("re", prefix=True) == ["t1", "t7", "t0", "t5", "t2", "t6"]
    assert await all_pages("red-", prefix=True) == ["t2"]
    assert await all_pages(attributeName="color") == ["t3", "t4", "t1", "t7", "t0", "t5", "t2", "t6", "t8"]
    assert await all_pages(attributeName="size") == []


async def test_a_listed_thing_has_no_id(world: World) -> None:
    made = await lamp(world, color="red")
    assert (await world.aws("ListThings"))["things"] == [
        {
            "thingName": "t",
            "thingArn": made["thingArn"],
            "thingTypeName": "lamp",
            "attributes": {"color": "red"},
            "version": 1,
        }
    ]


async def test_a_page_has_25_things_by_default(world: World) -> None:
    for number in range(26):
        await world.aws("CreateThing", thingName=f"t{number}")
    page = await world.aws("ListThings")
    assert len(page["things"]) == 25
    assert len(await names(world, nextToken=page["nextToken"])) == 1


async def test_a_value_without_an_attribute_is_refused(world: World) -> None:
    with pytest.raises(Invalid, match="attributeName is required along with attributeValue"):
        await world.aws("ListThings", attributeValue="red")


async def test_type_and_attribute_cannot_be_combined_in_a_filter(world: World) -> None:
    with pytest.raises(Disallowed) as refused:
        await world.aws("ListThings", attributeName="color", attributeValue="red", thingTypeName="lamp")
    said = "Listing things by the combination of attribute and thing type is not supported"
    assert refused.value.reason == said


async def test_tokens_are_valid_for_their_own_list_only(world: World) -> None:
    by_value = {"attributeName": "x", "attributeValue": "1"}
    lists: list[tuple[Scope, dict[str, Any]]] = [
        (OURS, {}),
        (THEIRS, {}),
        (ABROAD, {}),
        (OURS, by_value),
        (OURS, {**by_value, "usePrefixAttributeValue": True}),
        (OURS, {"thingTypeName": "lamp"}),
    ]
    for scope in (OURS, THEIRS, ABROAD):
        await world.aws("CreateThingType", scope, thingTypeName="lamp")
        for name in "abc":
            await world.aws("CreateThing", scope, thingName=name, thingTypeName="lamp", **payload(x="1"))
    tokens = [(await world.aws("ListThings", scope, maxResults=1, **wanted))["nextToken"] for scope, wanted in lists]
    for mine, (scope, wanted) in enumerate(lists):
        for of, token in enumerate(tokens):
            if of == mine:
                assert await names(world, scope, nextToken=token, **wanted) == ["b", "c"]
                continue
            with pytest.raises(Invalid, match="nextToken is not one that this list returned"):
                await world.aws("ListThings", scope, nextToken=token, **wanted)


@pytest.mark.parametrize("token", ["AAAA", "!", "x" * 10_000])
async def test_invalid_tokens_are_refused(world: World, token: str) -> None:
    with pytest.raises(Invalid, match="nextToken is not one that this list returned"):
        await world.aws("ListThings", nextToken=token)


async def test_pages_continue_after_things_were_added_or_deleted(world: World) -> None:
    for name in "bdfh":
        await world.aws("CreateThing", thingName=name)
    first = await world.aws("ListThings", maxResults=2)
    await world.aws("DeleteThing", thingName="d")
    await world.aws("CreateThing", thingName="a")
    await world.aws("CreateThing", thingName="g")
    assert await names(world, nextToken=first["nextToken"]) == ["f", "g", "h"]
