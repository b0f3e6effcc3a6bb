"""AWS IoT's ten operations on thing groups and their things."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.world import ABROAD, OURS, THEIRS, pages
from thingmint.domain.errors import AlreadyExists, Disallowed, Invalid, NotFound, VersionConflict
from thingmint.services.device_facts import look_up
from thingmint.services.jobs import JobRunner
from thingmint.store.table import DELETED_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.world import World
    from thingmint.domain.arns import Scope
    from thingmint.store.engine import Transaction

ARN = "arn:aws:iot:us-east-1:111111111111:"


def properties(description: str | None = None, **payload: Any) -> dict[str, Any]:
    described = {} if description is None else {"thingGroupDescription": description}
    return {"thingGroupProperties": described | ({"attributePayload": payload} if payload else {})}


def named(name: str) -> dict[str, str]:
    return {"groupName": name, "groupArn": f"{ARN}thinggroup/{name}"}


async def group(world: World, name: str, parent: str | None = None, scope: Scope = OURS) -> None:
    await world.aws("CreateThingGroup", scope, thingGroupName=name, **({"parentGroupName": parent} if parent else {}))


async def groups(world: World, *names: tuple[str, str | None]) -> None:
    for name, parent in names:
        await group(world, name, parent)


async def member(world: World, thing: str, *groups: str, scope: Scope = OURS) -> None:
    """Create a thing in these groups."""
    await world.aws("CreateThing", scope, thingName=thing)
    await world.aws("UpdateThingGroupsForThing", scope, thingName=thing, thingGroupsToAdd=groups)


async def groups_of(world: World, thing: str = "t") -> list[str]:
    found = (await world.aws("ListThingGroupsForThing", thingName=thing))["thingGroups"]
    return [group["groupName"] for group in found]


async def members_of(world: World, group: str, **wanted: Any) -> list[str]:
    things: list[str] = (await world.aws("ListThingsInThingGroup", thingGroupName=group, **wanted))["things"]
    return things


# -- groups -------------------------------------------------------------------------------------------------------


async def test_a_new_group_is_described_as_given(world: World) -> None:
    await groups(world, ("root", None), ("middle", "root"))
    world.audit_resources()
    given = properties("words", attributes={"a": "1", "b": ""})
    made = await world.aws("CreateThingGroup", thingGroupName="g", parentGroupName="middle", **given)
    assert made["thingGroupArn"] == f"{ARN}thinggroup/g"
    assert await world.aws("DescribeThingGroup", thingGroupName="g") == {
        **made,
        "version": 1,
        "thingGroupProperties": {"thingGroupDescription": "words", "attributePayload": {"attributes": {"a": "1"}}},
        "thingGroupMetadata": {
            "parentGroupName": "middle",
            "rootToParentThingGroups": [named("root"), named("middle")],
            "creationDate": world.clock.now,
        },
    }
    assert world.audit_resources() == ["thinggroup/g"]
    assert await world.published() == []


async def test_a_root_has_no_parent(world: World) -> None:
    await group(world, "root")
    metadata = (await world.aws("DescribeThingGroup", thingGroupName="root"))["thingGroupMetadata"]
    assert (metadata["parentGroupName"], metadata["rootToParentThingGroups"]) == (None, None)


async def test_creating_the_same_group_again_returns_the_existing_one(world: World) -> None:
    await group(world, "root")
    given = {"thingGroupName": "g", "parentGroupName": "root", **properties("words", attributes={"a": "1"})}
    made = await world.aws("CreateThingGroup", **given, tags=[{"Key": "k", "Value": "v"}])
    world.audit_resources()
    assert await world.aws("CreateThingGroup", **given, tags=[{"Key": "k", "Value": "w"}]) == made
    assert await world.unchanged()
    tags = await world.aws("ListTagsForResource", resourceArn=made["thingGroupArn"])
    assert tags == {"tags": [{"Key": "k", "Value": "v"}]}


@pytest.mark.parametrize(
    ("parent", "other"),
    [
        (None, properties("words", attributes={"a": "1"})),
        ("g", properties("words", attributes={"a": "1"})),
        ("root", properties(attributes={"a": "1"})),
        ("root", properties("words")),
    ],
)
async def test_creating_with_other_properties_conflicts(
    world: World, parent: str | None, other: dict[str, Any]
) -> None:
    await group(world, "root")
    given = properties("words", attributes={"a": "1"})
    made = await world.aws("CreateThingGroup", thingGroupName="g", parentGroupName="root", **given)
    world.audit_resources()
    with pytest.raises(AlreadyExists) as caught:
        await world.aws(
            "CreateThingGroup", thingGroupName="g", **other, **({"parentGroupName": parent} if parent else {})
        )
    assert (caught.value.id, caught.value.arn) == (made["thingGroupId"], made["thingGroupArn"])
    assert caught.value.reason == "Thing Group g already exists in current account with different properties"
    assert await world.unchanged()


@pytest.mark.parametrize("parent", ["none", "self", "theirs"])
async def test_a_parent_must_exist(world: World, parent: str) -> None:
    await group(world, "theirs", scope=THEIRS)
    with pytest.raises(Invalid, match="parentGroupName must be the name of a thing group that exists"):
        await group(world, "self", parent)
    assert await world.rows("SELECT name FROM thing_groups") == [("theirs",)]


async def test_a_hierarchy_has_at_most_seven_levels(world: World) -> None:
    await groups(world, ("l1", None), *((f"l{level}", f"l{level - 1}") for level in range(2, 8)))
    with pytest.raises(Invalid, match="parentGroupName is on level 7 of its hierarchy"):
        await group(world, "l8", "l7")


async def test_a_group_has_at_most_a_hundred_children(world: World) -> None:
    await groups(world, ("root", None), *((f"c{number}", "root") for number in range(100)))
    with pytest.raises(Disallowed, match="root has 100 groups directly below it already"):
        await group(world, "one-more", "root")
    await group(world, "c0", "root")


@pytest.mark.parametrize("name", ["", "a b", "a/b", "é", "x" * 129, "x" * 10_000])
async def test_invalid_names_are_refused(world: World, name: str) -> None:
    with pytest.raises(Invalid, match="thingGroupName must satisfy"):
        await group(world, name)


async def test_a_group_has_at_most_fifty_attributes(world: World) -> None:
    await group(world, "g")
    given = properties(attributes={f"a{number}": "1" for number in range(51)})
    with pytest.raises(Invalid, match="attributes must be at most 50"):
        await world.aws("UpdateThingGroup", thingGroupName="g", **given)
    with pytest.raises(Invalid, match="attributes must be at most 50"):
        await world.aws("CreateThingGroup", thingGroupName="h", **given)
    del given["thingGroupProperties"]["attributePayload"]["attributes"]["a50"]
    await world.aws("CreateThingGroup", thingGroupName="h", **given)


@pytest.mark.parametrize(
    ("change", "description", "attributes"),
    [
        (properties(), "words", {"a": "1"}),
        (properties("words", attributes={"a": "1"}), "words", {"a": "1"}),
        (properties("others"), "others", {"a": "1"}),
        (properties(""), "", {"a": "1"}),
        (properties(merge=False), "words", {"a": "1"}),
        (properties(attributes={}), "words", {}),
        (properties(attributes={"b": "2"}), "words", {"b": "2"}),
        (properties(attributes={"b": "2"}, merge=True), "words", {"a": "1", "b": "2"}),
        (properties(attributes={"a": ""}, merge=True), "words", {}),
    ],
)
async def test_an_update_changes_only_the_given_properties(
    world: World, change: dict[str, Any], description: str, attributes: dict[str, str]
) -> None:
    await world.aws("CreateThingGroup", thingGroupName="g", **properties("words", attributes={"a": "1"}))
    before = await world.aws("DescribeThingGroup", thingGroupName="g")
    world.audit_resources()
    differs = (description, attributes) != ("words", {"a": "1"})
    answer = await world.aws("UpdateThingGroup", thingGroupName="g", expectedVersion=1, **change)
    assert answer == {"version": 1 + differs}
    after = properties(description, attributes=attributes)
    if not attributes:
        after["thingGroupProperties"]["attributePayload"] = None
    assert await world.aws("DescribeThingGroup", thingGroupName="g") == {**before, **answer, **after}
    assert (await world.published(), world.audit_resources()) == ([], ["thinggroup/g"] * differs)


@pytest.mark.parametrize("version", [0, 2])
async def test_another_version_than_expected_conflicts(world: World, version: int) -> None:
    await group(world, "g")
    world.audit_resources()
    with pytest.raises(VersionConflict):
        await world.aws("UpdateThingGroup", thingGroupName="g", expectedVersion=version, **properties("x"))
    with pytest.raises(VersionConflict):
        await world.aws("DeleteThingGroup", thingGroupName="g", expectedVersion=version)
    assert await world.unchanged()
    assert (await world.aws("DescribeThingGroup", thingGroupName="g"))["version"] == 1


# -- deleting -----------------------------------------------------------------------------------------------------


async def test_a_group_with_children_cannot_be_deleted(world: World) -> None:
    await groups(world, ("g", None), ("child", "g"))
    world.audit_resources()
    with pytest.raises(Disallowed) as caught:
        await world.aws("DeleteThingGroup", thingGroupName="g")
    assert caught.value.reason == "Cannot delete thing group : g when there are still child groups attached to it"
    await world.aws("DeleteThingGroup", thingGroupName="child", expectedVersion=1)
    await world.aws("DeleteThingGroup", thingGroupName="g")
    assert await world.published() == [("thinggroup", "child"), ("thinggroup", "g")]
    assert world.audit_resources() == ["thinggroup/child", "thinggroup/g"]


async def test_deleting_a_group_that_does_not_exist_changes_nothing(world: World) -> None:
    await world.aws("DeleteThingGroup", thingGroupName="g")
    await world.aws("DeleteThingGroup", thingGroupName="g", expectedVersion=9)
    assert await world.unchanged()


async def many_members(world: World, group: str, count: int) -> None:
    """Write things t0, t1 and so on in batches."""
    ((id,),) = await world.rows("SELECT id FROM thing_groups WHERE account = $1 AND name = $2", OURS.account, group)
    things = [(*OURS, f"t{number}") for number in range(count)]

    async def body(tx: Transaction) -> None:
        await tx.execute_many(
            "INSERT INTO things (account, region, name, id, attributes, version, created_at) "
            "VALUES ($1, $2, $3, $4, '{}', 1, 0)",
            [(*thing, b"id") for thing in things],
        )
        await tx.execute_many(
            "INSERT INTO thing_group_members (account, region, thing, thing_group, added_at) "
            "VALUES ($1, $2, $3, $4, 0)",
            [(*thing, id) for thing in things],
        )

    await world.write(body)


async def run_jobs(world: World) -> None:
    await JobRunner(world.store, world.clock).run_due()


async def test_members_of_a_large_deleted_group_are_deleted_in_steps(world: World) -> None:
    await group(world, "g")
    await many_members(world, "g", 2 * DELETED_AT_ONCE + 1)
    statement = {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": statement})
    await world.aws("CreatePolicy", policyName="p", policyDocument=document)
    await world.aws("AttachPolicy", policyName="p", target=f"{ARN}thinggroup/g")
    fingerprint = await world.certificate()
    principal = f"{ARN}cert/{fingerprint}"
    thing = f"t{2 * DELETED_AT_ONCE}"  # one of the last
    await world.aws("AttachThingPrincipal", thingName=thing, principal=principal)

    async def policies() -> list[str]:
        now = world.clock()
        device = (await world.read(lambda tx: look_up(tx, fingerprint, OURS, None, thing, now))).device
        assert device is not None
        return [policy.name for policy in device.policies]

    assert (await policies(), await groups_of(world, thing)) == (["p"], ["g"])
    await world.aws("DeleteThingGroup", thingGroupName="g")
    assert await world.count("thing_group_members") == DELETED_AT_ONCE + 1

    async def no_members_are_listed() -> None:
        assert await policies() == []
        assert await groups_of(world, thing) == []
        inherited = await world.aws("ListAttachedPolicies", target=principal, recursive=True)
        assert inherited["policies"] == []

    await no_members_are_listed()
    await group(world, "g")
    await world.aws("AttachPolicy", policyName="p", target=f"{ARN}thinggroup/g")
    await no_members_are_listed()
    assert await members_of(world, "g") == []
    await world.aws("AddThingToThingGroup", thingGroupName="g", thingName=thing)
    assert (await policies(), await members_of(world, "g")) == (["p"], [thing])
    await run_jobs(world)
    assert (await policies(), await members_of(world, "g")) == (["p"], [thing])
    assert await world.count("thing_group_members") == 1
    assert await world.count("jobs") == 0


async def test_things_of_a_deleted_group_can_be_deleted_and_join_ten_others(world: World) -> None:
    await group(world, "g")
    await many_members(world, "g", DELETED_AT_ONCE + 2)
    await world.aws("DeleteThingGroup", thingGroupName="g")
    left = [thing for (thing,) in await world.rows("SELECT thing FROM thing_group_members")]
    await groups(world, *((f"g{number}", None) for number in range(10)))
    await world.aws(
        "UpdateThingGroupsForThing", thingName=left[0], thingGroupsToAdd=[f"g{number}" for number in range(10)]
    )
    await world.aws("DeleteThing", thingName=left[1])
    await run_jobs(world)
    assert len(await groups_of(world, left[0])) == 10


async def test_a_job_removes_the_members_of_its_own_group_and_account_only(world: World) -> None:
    await groups(world, ("g", None), ("h", None))
    await group(world, "g", scope=THEIRS)
    await many_members(world, "g", DELETED_AT_ONCE + 1)
    await member(world, "mine", "h")
    await member(world, "theirs", "g", scope=THEIRS)
    await world.aws("DeleteThingGroup", thingGroupName="g")
    await run_jobs(world)
    assert sorted(await world.rows("SELECT thing FROM thing_group_members")) == [("mine",), ("theirs",)]


async def test_deleting_a_large_group_changes_a_bounded_number_of_rows(world: World) -> None:
    """At most DELETED_AT_ONCE members, whatever the size of the group."""
    await group(world, "g")
    await many_members(world, "g", 4 * DELETED_AT_ONCE)
    before = await world.count("thing_group_members")
    await world.aws("DeleteThingGroup", thingGroupName="g")
    assert before - await world.count("thing_group_members") == DELETED_AT_ONCE
    assert await world.published() == [("thinggroup", "g")]


async def test_a_recreated_group_starts_empty(world: World) -> None:
    tags = [{"Key": "k", "Value": "v"}]
    await world.aws("CreateThingGroup", thingGroupName="g", tags=tags, **properties("words"))
    await group(world, "other")
    await member(world, "t", "g", "other")

    async def attach_policies(tx: Transaction) -> None:
        await tx.execute("INSERT INTO device_policies VALUES ($1, $2, 'p', 1, 1, 'g', 0, 0)", *OURS)
        for target in ((0, "g"), (0, "other"), (1, "")):
            await tx.execute("INSERT INTO device_policy_attachments VALUES ($3, $4, $1, $2, 'p', 0)", *OURS, *target)

    await world.write(attach_policies)
    await world.aws("UpdateThingGroup", thingGroupName="g", **properties("more"))
    await world.aws("DeleteThingGroup", thingGroupName="g")
    await group(world, "g")
    assert (await world.aws("DescribeThingGroup", thingGroupName="g"))["version"] == 1
    assert await world.aws("ListTagsForResource", resourceArn=f"{ARN}thinggroup/g") == {"tags": []}
    assert await members_of(world, "g", recursive=True) == []
    assert await groups_of(world) == ["other"]
    left = await world.rows("SELECT certificate > 0, thing_group FROM device_policy_attachments ORDER BY thing_group")
    assert left == [(True, ""), (False, "other")]


# -- accounts and regions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("elsewhere", [ABROAD, THEIRS])
async def test_groups_exist_in_their_scope_only(world: World, elsewhere: Scope) -> None:
    await group(world, "g")
    await member(world, "t", "g")
    with pytest.raises(NotFound, match="thing group g does not exist"):
        await world.aws("DescribeThingGroup", elsewhere, thingGroupName="g")
    with pytest.raises(NotFound, match="thing group g does not exist"):
        await world.aws("UpdateThingGroup", elsewhere, thingGroupName="g", **properties("x"))
    with pytest.raises(NotFound, match="thing group g does not exist"):
        await world.aws("ListThingsInThingGroup", elsewhere, thingGroupName="g")
    with pytest.raises(NotFound, match="thing t does not exist"):
        await world.aws("ListThingGroupsForThing", elsewhere, thingName="t")
    with pytest.raises(NotFound, match="thing t does not exist"):
        await world.aws("AddThingToThingGroup", elsewhere, thingName="t", thingGroupName="g")


@pytest.mark.parametrize("elsewhere", [ABROAD, THEIRS])
async def test_groups_of_the_same_name_are_changed_in_their_scope_only(world: World, elsewhere: Scope) -> None:
    for scope in (OURS, elsewhere):
        await group(world, "g", scope=scope)
        await member(world, "t", "g", scope=scope)
    before = await world.aws("DescribeThingGroup", thingGroupName="g")
    await world.aws("UpdateThingGroup", elsewhere, thingGroupName="g", **properties("x"))
    await world.aws("DeleteThingGroup", elsewhere, thingGroupName="g")
    assert await world.aws("DescribeThingGroup", thingGroupName="g") == before
    assert await members_of(world, "g") == ["t"]


# -- lists of groups ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_lists_have_every_group_once(world: World, limit: int) -> None:
    """The names sort before and after the slash, which separates the names in a path."""
    await groups(world, ("a", None), ("a-b", None), ("a0", None), ("b", None), ("c", "a"), ("c-d", "a"), ("c0", "a"))
    await groups(world, ("e", "c"), ("ca", "e"), ("f", "a-b"))
    await group(world, "zz", scope=THEIRS)
    await group(world, "zz", scope=ABROAD)

    async def names(**wanted: Any) -> list[str]:
        async def page(members: Mapping[str, Any]) -> Mapping[str, Any]:
            return await world.aws("ListThingGroups", OURS, **members, **wanted)

        found = await pages(page, "thingGroups", limit)
        assert found == [named(group["groupName"]) for group in found]
        return [group["groupName"] for group in found]

    everything = ["a", "a-b", "a0", "b", "c", "c-d", "c0", "ca", "e", "f"]
    assert await names(recursive=True) == everything
    assert await names() == everything
    assert await names(recursive=False) == ["a", "a-b", "a0", "b"]
    assert await names(namePrefixFilter="a", recursive=True) == ["a", "a-b", "a0"]
    assert await names(namePrefixFilter="c", recursive=True) == ["c", "c-d", "c0", "ca"]
    assert await names(namePrefixFilter="a-", recursive=False) == ["a-b"]
    assert await names(parentGroup="a", recursive=False) == ["c", "c-d", "c0"]
    assert await names(parentGroup="a") == ["c", "c-d", "c0"]
    assert await names(parentGroup="a", namePrefixFilter="c0", recursive=False) == ["c0"]
    assert await names(parentGroup="a", recursive=True) == ["c", "c-d", "e", "ca", "c0"]
    assert await names(parentGroup="a", namePrefixFilter="c", recursive=True) == ["c", "c-d", "ca", "c0"]
    assert await names(parentGroup="b", recursive=True) == []


@pytest.mark.parametrize("recursive", [True, False])
async def test_lists_of_an_unknown_parent_are_not_found(world: World, recursive: bool) -> None:
    await group(world, "zz", scope=THEIRS)
    with pytest.raises(NotFound, match="thing group zz"):
        await world.aws("ListThingGroups", parentGroup="zz", recursive=recursive)


async def test_tokens_are_valid_for_their_own_list_only(world: World) -> None:
    await groups(world, ("a", None), ("b", None), ("c", "a"), ("d", "a"))
    token = (await world.aws("ListThingGroups", maxResults=1, recursive=False))["nextToken"]
    for others in ({"recursive": True}, {"parentGroup": "a"}, {"recursive": False, "namePrefixFilter": "b"}):
        with pytest.raises(Invalid, match="nextToken is not one that this list returned"):
            await world.aws("ListThingGroups", nextToken=token, **others)
    with pytest.raises(Invalid, match="nextToken is not one that this list returned"):
        await world.aws("ListThingGroups", THEIRS, nextToken=token, recursive=False)


# -- members ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("thing", "group"),
    [
        ({"thingName": "t"}, {"thingGroupName": "g"}),
        ({"thingArn": f"{ARN}thing/t"}, {"thingGroupArn": f"{ARN}thinggroup/g"}),
        (
            {"thingName": "t", "thingArn": f"{ARN}thing/t"},
            {"thingGroupName": "g", "thingGroupArn": f"{ARN}thinggroup/g"},
        ),
    ],
)
async def test_adding_or_removing_again_changes_nothing(
    world: World, thing: dict[str, str], group: dict[str, str]
) -> None:
    await groups(world, ("g", None))
    await member(world, "t")
    world.audit_resources()
    for operation, left in (("AddThingToThingGroup", ["g"]), ("RemoveThingFromThingGroup", [])):
        for times in (1, 0):
            await world.aws(operation, **thing, **group)
            assert await groups_of(world) == left
            assert await world.published() == [("thing", "t")] * times
            assert world.audit_resources() == ["thing/t", "thinggroup/g"] * times


@pytest.mark.parametrize("operation", ["AddThingToThingGroup", "RemoveThingFromThingGroup"])
@pytest.mark.parametrize(
    ("error", "given"),
    [
        (NotFound, {"thingName": "none", "thingGroupName": "g"}),
        (NotFound, {"thingName": "t", "thingGroupName": "none"}),
        (Invalid, {"thingName": "t", "thingGroupName": "g", "thingGroupArn": f"{ARN}thinggroup/h"}),
        (Invalid, {"thingName": "x", "thingArn": f"{ARN}thing/t", "thingGroupName": "g"}),
        (Invalid, {"thingArn": f"{ARN}thinggroup/t", "thingGroupName": "g"}),
        (Invalid, {"thingArn": f"{ARN}thing/a,b", "thingGroupName": "g"}),
        (Invalid, {"thingArn": "arn:aws-cn:iot:us-east-1:111111111111:thing/t", "thingGroupName": "g"}),
        (NotFound, {"thingArn": "arn:aws:iot:eu-central-1:111111111111:thing/t", "thingGroupName": "g"}),
        (NotFound, {"thingArn": "arn:aws:iot:us-east-1:222222222222:thing/t", "thingGroupName": "g"}),
    ],
)
async def test_unknown_and_contradicting_names_are_refused(
    world: World, operation: str, error: type[Exception], given: dict[str, str]
) -> None:
    await groups(world, ("g", None), ("h", None))
    await member(world, "t")
    world.audit_resources()
    with pytest.raises(error):
        await world.aws(operation, **given)
    assert await world.unchanged()
    assert await groups_of(world) == []


async def test_an_update_removes_before_it_adds(world: World) -> None:
    await groups(world, ("r", None), ("a", "r"), ("c", "a"), ("other", None))
    await member(world, "t", "a", "other")
    changes = {"thingGroupsToAdd": ["c", "other"], "thingGroupsToRemove": ["a", "other"]}
    await world.aws("UpdateThingGroupsForThing", thingName="t", **changes)
    assert await groups_of(world) == ["c", "other"]


@pytest.mark.parametrize(
    ("add", "remove"), [(["none"], []), ([], ["none"]), (["g", "none"], []), (["g"], ["none"]), (["none"], ["h"])]
)
async def test_an_update_that_names_an_unknown_group_changes_nothing(
    world: World, add: list[str], remove: list[str]
) -> None:
    await groups(world, ("g", None), ("h", None))
    await member(world, "t", "h")
    world.audit_resources(), await world.published()
    with pytest.raises(NotFound, match="thing group none"):
        await world.aws("UpdateThingGroupsForThing", thingName="t", thingGroupsToAdd=add, thingGroupsToRemove=remove)
    assert await world.unchanged()
    assert await groups_of(world) == ["h"]


async def test_an_update_names_at_most_a_hundred_groups(world: World) -> None:
    await member(world, "t")
    for given in ("thingGroupsToAdd", "thingGroupsToRemove"):
        with pytest.raises(Invalid, match=f"{given} must have at most 100 entries"):
            await world.aws("UpdateThingGroupsForThing", thingName="t", **{given: [f"x{n}" for n in range(101)]})
        with pytest.raises(NotFound, match="thing group x0"):
            await world.aws("UpdateThingGroupsForThing", thingName="t", **{given: [f"x{n}" for n in range(100)] * 2})


async def test_an_update_without_groups_changes_nothing(world: World) -> None:
    await member(world, "t")
    world.audit_resources()
    await world.aws("UpdateThingGroupsForThing", thingName="t")
    assert await world.unchanged()
    with pytest.raises(NotFound, match="thing none"):
        await world.aws("UpdateThingGroupsForThing", thingName="none")


async def test_a_thing_can_be_in_one_group_of_a_hierarchy(world: World) -> None:
    await groups(world, ("r", None), ("a", "r"), ("b", "r"), ("c", "a"), ("other", None))
    await member(world, "t", "a", "other")
    for name in ("r", "b", "c"):
        with pytest.raises(Disallowed, match=f"t is in thing group a, which is in the same hierarchy as {name}"):
            await world.aws("AddThingToThingGroup", thingName="t", thingGroupName=name)
    assert await groups_of(world) == ["a", "other"]


async def test_a_thing_can_be_in_at_most_ten_groups(world: World) -> None:
    names = [f"g{number}" for number in range(11)]
    await groups(world, *((name, None) for name in names))
    await member(world, "t")
    with pytest.raises(Disallowed, match="10 thing groups"):
        await world.aws("UpdateThingGroupsForThing", thingName="t", thingGroupsToAdd=names)
    assert await groups_of(world) == []
    for _ in range(2):
        await world.aws("UpdateThingGroupsForThing", thingName="t", thingGroupsToAdd=names[:10])
    with pytest.raises(Disallowed, match="10 thing groups"):
        await world.aws("AddThingToThingGroup", thingName="t", thingGroupName="g10")
    await world.aws("UpdateThingGroupsForThing", thingName="t", thingGroupsToAdd=["g10"], thingGroupsToRemove=["g0"])
    assert await groups_of(world) == sorted(names[1:])


# -- lists of members ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_lists_have_every_group_of_a_thing_once(world: World, limit: int) -> None:
    names = [f"g{number}" for number in range(10)]
    await groups(world, *((name, None) for name in names))
    await member(world, "t", *reversed(names))

    async def page(members: Mapping[str, Any]) -> Mapping[str, Any]:
        return await world.aws("ListThingGroupsForThing", OURS, thingName="t", **members)

    assert await pages(page, "thingGroups", limit) == [named(name) for name in names]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_lists_have_every_member_once(world: World, limit: int) -> None:
    await groups(world, ("r", None), ("a", "r"), ("a-b", "r"), ("c", "a"), ("empty", "r"), ("r-2", None), ("r0", None))
    for thing, name in zip("zyxwvutsr", ["r", "r", "a", "c", "c", "a-b", "r-2", "r0", "a"], strict=True):
        await member(world, thing, name)
    await group(world, "r", scope=THEIRS)
    await member(world, "q", "r", scope=THEIRS)

    async def things(name: str, **wanted: Any) -> list[str]:
        async def page(members: Mapping[str, Any]) -> Mapping[str, Any]:
            return await world.aws("ListThingsInThingGroup", OURS, thingGroupName=name, **members, **wanted)

        return await pages(page, "things", limit)

    assert await things("r") == ["y", "z"]
    assert await things("r", recursive=False) == ["y", "z"]
    assert await things("r", recursive=True) == ["y", "z", "r", "x", "u", "v", "w"]
    assert await things("a", recursive=True) == ["r", "x", "v", "w"]
    assert await things("empty", recursive=True) == []


async def test_lists_of_unknown_things_and_groups_are_not_found(world: World) -> None:
    with pytest.raises(NotFound, match="thing group none"):
        await members_of(world, "none", recursive=True)
    with pytest.raises(NotFound, match="thing none"):
        await groups_of(world, "none")


async def test_lists_of_members_end_with_their_hierarchy(world: World) -> None:
    await groups(world, ("r", None), ("a", "r"), ("b", "r"))
    for thing, name in (("t1", "a"), ("t2", "a"), ("t3", "b")):
        await member(world, thing, name)
    first = await world.aws("ListThingsInThingGroup", thingGroupName="r", recursive=True, maxResults=1)
    assert first["things"] == ["t1"]
    await world.aws("DeleteThingGroup", thingGroupName="a")
    await group(world, "a")
    await world.aws("AddThingToThingGroup", thingName="t2", thingGroupName="a")
    assert await members_of(world, "r", recursive=True, nextToken=first["nextToken"]) == ["t3"]


async def test_tokens_of_members_are_valid_for_their_own_list_only(world: World) -> None:
    await groups(world, ("g", None), ("h", None))
    for thing in "ab":
        await member(world, thing, "g", "h")
    token = (await world.aws("ListThingsInThingGroup", thingGroupName="g", maxResults=1))["nextToken"]
    for others in ({"thingGroupName": "h"}, {"thingGroupName": "g", "recursive": True}):
        with pytest.raises(Invalid, match="nextToken is not one that this list returned"):
            await world.aws("ListThingsInThingGroup", nextToken=token, **others)
    token = (await world.aws("ListThingGroupsForThing", thingName="a", maxResults=1))["nextToken"]
    with pytest.raises(Invalid, match="nextToken is not one that this list returned"):
        await world.aws("ListThingGroupsForThing", thingName="b", nextToken=token)
