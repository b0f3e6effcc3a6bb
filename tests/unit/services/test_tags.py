"""AWS IoT's three operations on tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.world import ABROAD, OURS, THEIRS
from thingmint.domain.errors import Invalid, LimitExceeded, NotFound
from thingmint.services.tags import TAGGABLE

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.domain.arns import Scope

ARN = "arn:aws:iot:us-east-1:111111111111:"
GROUP = f"{ARN}thinggroup/g"


def as_tags(**tags: str) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


OPERATIONS: dict[str, dict[str, Any]] = {
    "TagResource": {"tags": as_tags(k="v")},
    "UntagResource": {"tagKeys": ["k"]},
    "ListTagsForResource": {},
}


async def tags_of(world: World, arn: str, scope: Scope = OURS) -> list[dict[str, str]]:
    tags: list[dict[str, str]] = (await world.aws("ListTagsForResource", scope, resourceArn=arn))["tags"]
    return tags


async def test_tags_are_listed_by_key(world: World) -> None:
    await world.aws("CreateThingGroup", thingGroupName="g", tags=[*as_tags(b="2"), {"Key": "a"}, *as_tags(A="1")])
    assert await tags_of(world, GROUP) == as_tags(A="1", a="", b="2")


async def test_tagging_adds_keys_and_replaces_values(world: World) -> None:
    await world.aws("CreateThingGroup", thingGroupName="g", tags=as_tags(a="1", b="2"))
    world.audit_resources()
    await world.aws("TagResource", resourceArn=GROUP, tags=as_tags(b="3", c=""))
    assert await tags_of(world, GROUP) == as_tags(a="1", b="3", c="")
    assert world.audit_resources() == ["thinggroup/g"]


async def test_untagging_ignores_unknown_keys(world: World) -> None:
    await world.aws("CreateThingGroup", thingGroupName="g", tags=as_tags(a="1", b="2"))
    world.audit_resources()
    for named in (["thinggroup/g"], []):
        await world.aws("UntagResource", resourceArn=GROUP, tagKeys=["a", "x", "a"])
        assert await tags_of(world, GROUP) == as_tags(b="2")
        assert world.audit_resources() == named


async def test_resources_with_the_same_name_have_separate_tags(world: World) -> None:
    for scope in (OURS, ABROAD, THEIRS):
        await world.aws("CreateThingGroup", scope, thingGroupName="g")
    await world.aws("CreateThingType", thingTypeName="g")
    await world.aws("TagResource", resourceArn=GROUP, tags=as_tags(a="1"))
    assert await tags_of(world, f"{ARN}thingtype/g") == []
    for scope in (ABROAD, THEIRS):
        assert await tags_of(world, f"arn:aws:iot:{scope.region}:{scope.account}:thinggroup/g", scope) == []


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", TAGGABLE)
async def test_unknown_resources_are_not_found(world: World, operation: str, kind: str) -> None:
    await world.aws("CreateThingGroup", THEIRS, thingGroupName="g")
    with pytest.raises(NotFound, match=f"{kind} g does not exist"):
        await world.aws(operation, resourceArn=f"{ARN}{kind}/g", **OPERATIONS[operation])
    assert await world.count("tags") == 0


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_resources_of_other_scopes_are_not_found(world: World, operation: str) -> None:
    for scope in (OURS, ABROAD, THEIRS):
        await world.aws("CreateThingGroup", scope, thingGroupName="g", tags=as_tags(k="w"))
    for elsewhere in ("eu-central-1:111111111111", "us-east-1:222222222222", "us-east-1:999999999999"):
        arn = f"arn:aws:iot:{elsewhere}:thinggroup/g"
        with pytest.raises(NotFound):
            await world.aws(operation, resourceArn=arn, **OPERATIONS[operation])
    assert await world.rows("SELECT DISTINCT key, value FROM tags") == [("k", "w")]


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_only_arns_of_taggable_resources_are_accepted(world: World, operation: str) -> None:
    await world.aws("CreateThing", thingName="t")
    for resource in ("x", f"{ARN}thing/t", f"{ARN}cert/{'0' * 64}", f"{ARN}thinggroup/", f"{ARN}thinggroup/g/g"):
        with pytest.raises(Invalid, match="resourceArn must be the ARN of a thingtype or thinggroup or "):
            await world.aws(operation, resourceArn=resource, **OPERATIONS[operation])


@pytest.mark.parametrize(
    "tags",
    [
        as_tags(**{f"k{number}": "" for number in range(51)}),
        [*as_tags(a="1"), *as_tags(a="1")],
        [{"Key": "a"}, *as_tags(a="1")],
        as_tags(**{"aws:a": "1"}),
        as_tags(**{"aWs:a": "1"}),
        as_tags(a="AWS:"),
    ],
)
async def test_tags_that_aws_refuses_are_refused(world: World, tags: Any) -> None:
    await world.aws("CreateThingGroup", thingGroupName="g")
    for operation, named in (
        ("TagResource", {"resourceArn": GROUP}),
        ("CreateThingGroup", {"thingGroupName": "h"}),
        ("CreateThingType", {"thingTypeName": "h"}),
    ):
        with pytest.raises(Invalid, match="tags must"):
            await world.aws(operation, **named, tags=tags)
    assert (await world.count("tags"), await world.count("thing_groups"), await world.count("thing_types")) == (0, 1, 0)


async def test_aws_inside_of_keys_and_values_is_accepted(world: World) -> None:
    await world.aws("CreateThingGroup", thingGroupName="g", tags=as_tags(**{"x aws:": "x aws:"}))
    assert await tags_of(world, GROUP) == as_tags(**{"x aws:": "x aws:"})


async def test_a_resource_has_at_most_fifty_tags(world: World) -> None:
    fifty = {f"k{number:02}": "v" for number in range(50)}
    await world.aws("CreateThingGroup", thingGroupName="g", tags=as_tags(**fifty))
    await world.aws("TagResource", resourceArn=GROUP, tags=as_tags(k07="w"))
    with pytest.raises(LimitExceeded, match="A resource can have at most 50 tags"):
        await world.aws("TagResource", resourceArn=GROUP, tags=as_tags(more="v", k08="w"))
    assert await tags_of(world, GROUP) == as_tags(**{**fifty, "k07": "w"})


async def test_tags_are_listed_on_one_page(world: World) -> None:
    await world.aws("CreateThingGroup", thingGroupName="g")
    with pytest.raises(Invalid, match="nextToken is not one that this list returned"):
        await world.aws("ListTagsForResource", resourceArn=GROUP, nextToken="AAAA")
