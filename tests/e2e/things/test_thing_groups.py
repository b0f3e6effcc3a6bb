"""Thing groups, thing types and tags over boto3."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.access.operator import refusal
from tests.e2e.things.support import INVALID, NOT_FOUND, pages, sent

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.things.conftest import Tenant


def without_metadata(answer: dict[str, Any]) -> dict[str, Any]:
    del answer["ResponseMetadata"]
    return answer


def exists(iot: Any, call: Callable[..., Any], **arguments: Any) -> tuple[int, str, str, str]:
    with pytest.raises(iot.exceptions.ResourceAlreadyExistsException) as caught:
        call(**arguments)
    told = caught.value.response
    status = told["ResponseMetadata"]["HTTPStatusCode"]
    return status, told["resourceId"], told["resourceArn"], told["Error"]["Message"]


def recent(time: datetime) -> bool:
    return abs(datetime.now(UTC) - time) < timedelta(seconds=30)


# -- groups -------------------------------------------------------------------------------------------------------


def test_a_group(tenant: Tenant) -> None:
    iot = tenant.iot
    properties = {"thingGroupDescription": "all of it", "attributePayload": {"attributes": {"a": "1"}}}
    iot.create_thing_group(thingGroupName="root")
    iot.create_thing_group(thingGroupName="middle", parentGroupName="root")
    arguments = {"thingGroupName": "leaf", "parentGroupName": "middle", "thingGroupProperties": properties}
    made = without_metadata(iot.create_thing_group(**arguments))
    assert made["thingGroupArn"] == tenant.arn("thinggroup/leaf")
    assert re.fullmatch(r"[0-9a-f-]{36}", made["thingGroupId"])
    shown = without_metadata(iot.describe_thing_group(thingGroupName="leaf"))
    assert recent(shown["thingGroupMetadata"].pop("creationDate"))
    assert shown == {
        **made,
        "version": 1,
        "thingGroupProperties": properties,
        "thingGroupMetadata": {
            "parentGroupName": "middle",
            "rootToParentThingGroups": [
                {"groupName": name, "groupArn": tenant.arn(f"thinggroup/{name}")} for name in ("root", "middle")
            ],
        },
    }
    assert "parentGroupName" not in iot.describe_thing_group(thingGroupName="root")["thingGroupMetadata"]
    assert without_metadata(iot.create_thing_group(**arguments)) == made
    assert exists(iot, iot.create_thing_group, thingGroupName="leaf") == (
        409,
        made["thingGroupId"],
        made["thingGroupArn"],
        "Thing Group leaf already exists in current account with different properties",
    )


def test_changing_and_deleting_a_group(tenant: Tenant) -> None:
    iot = tenant.iot
    iot.create_thing_group(thingGroupName="g")
    update = iot.update_thing_group

    def attributes(values: dict[str, str], **further: Any) -> dict[str, Any]:
        return {"attributePayload": {"attributes": values, **further}}

    for properties, version in (
        ({}, 1),
        ({"thingGroupDescription": "words"}, 2),
        (attributes({"a": "1", "b": "2"}), 3),
        (attributes({"a": "", "c": "3"}, merge=True), 4),
    ):
        answer = update(thingGroupName="g", thingGroupProperties=properties, expectedVersion=max(1, version - 1))
        assert answer["version"] == version
    shown = iot.describe_thing_group(thingGroupName="g")["thingGroupProperties"]
    assert shown == {"thingGroupDescription": "words", "attributePayload": {"attributes": {"b": "2", "c": "3"}}}
    for status, code, _ in (
        refusal(update, thingGroupName="g", thingGroupProperties={}, expectedVersion=1),
        refusal(iot.delete_thing_group, thingGroupName="g", expectedVersion=1),
    ):
        assert (status, code) == (409, "VersionConflictException")
    assert refusal(update, thingGroupName="none", thingGroupProperties={})[:2] == NOT_FOUND
    iot.create_thing_group(thingGroupName="child", parentGroupName="g")
    assert refusal(iot.delete_thing_group, thingGroupName="g") == (
        *INVALID,
        "Cannot delete thing group : g when there are still child groups attached to it",
    )
    iot.delete_thing_group(thingGroupName="child")
    iot.delete_thing_group(thingGroupName="g", expectedVersion=4)
    iot.delete_thing_group(thingGroupName="g")
    assert refusal(iot.describe_thing_group, thingGroupName="g") == (*NOT_FOUND, "thing group g does not exist")


def test_hierarchies_that_cannot_be(tenant: Tenant) -> None:
    iot = tenant.iot
    parent: dict[str, str] = {}
    for level in range(7):
        iot.create_thing_group(thingGroupName=f"level{level}", **parent)
        parent = {"parentGroupName": f"level{level}"}
    for arguments in (parent, {"parentGroupName": "none"}, {"parentGroupName": "self"}):
        assert refusal(iot.create_thing_group, thingGroupName="self", **arguments)[:2] == INVALID
    many = {"attributePayload": {"attributes": {f"a{number}": "1" for number in range(51)}}}
    assert refusal(iot.create_thing_group, thingGroupName="many", thingGroupProperties=many)[:2] == INVALID
    words = refusal(iot.create_thing_group, thingGroupName="w", thingGroupProperties={"thingGroupDescription": "é"})
    assert words[:2] == INVALID


@pytest.mark.parametrize("size", [1, 2, 3])
def test_listing_groups(tenant: Tenant, size: int) -> None:
    iot = tenant.iot
    for name, parent in (("a", None), ("b", None), ("a1", "a"), ("a2", "a"), ("b1", "b"), ("c", "a1")):
        iot.create_thing_group(thingGroupName=name, **({"parentGroupName": parent} if parent else {}))

    def names(**wanted: Any) -> list[str]:
        found = pages(iot.list_thing_groups, "thingGroups", size, **wanted)
        assert all(group["groupArn"] == tenant.arn(f"thinggroup/{group['groupName']}") for group in found)
        return [group["groupName"] for group in found]

    assert names() == names(recursive=True) == ["a", "a1", "a2", "b", "b1", "c"]
    assert names(recursive=False) == ["a", "b"]
    assert names(namePrefixFilter="a") == ["a", "a1", "a2"]
    assert names(namePrefixFilter="a", recursive=False) == ["a"]
    assert names(parentGroup="a") == names(parentGroup="a", recursive=False) == ["a1", "a2"]
    assert names(parentGroup="a", recursive=True) == ["a1", "c", "a2"]
    assert names(parentGroup="a", recursive=True, namePrefixFilter="c") == ["c"]
    assert names(parentGroup="c") == []
    assert refusal(iot.list_thing_groups, parentGroup="none")[:2] == NOT_FOUND


# -- members ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3])
def test_members(tenant: Tenant, size: int) -> None:
    iot = tenant.iot
    for name, parent in (("r", None), ("a", "r"), ("b", "r"), ("other", None)):
        iot.create_thing_group(thingGroupName=name, **({"parentGroupName": parent} if parent else {}))
    for thing, group in (("t1", "b"), ("t2", "a"), ("t3", "r"), ("t4", "a")):
        iot.create_thing(thingName=thing)
        iot.add_thing_to_thing_group(thingName=thing, thingGroupName=group)
        iot.add_thing_to_thing_group(
            thingArn=tenant.arn(f"thing/{thing}"), thingGroupArn=tenant.arn("thinggroup/other")
        )
    listed = iot.list_things_in_thing_group
    assert pages(listed, "things", size, thingGroupName="r") == ["t3"]
    assert pages(listed, "things", size, thingGroupName="r", recursive=True) == ["t3", "t2", "t4", "t1"]
    assert pages(listed, "things", size, thingGroupName="other") == ["t1", "t2", "t3", "t4"]
    of_thing = pages(iot.list_thing_groups_for_thing, "thingGroups", size, thingName="t1")
    assert of_thing == [{"groupName": n, "groupArn": tenant.arn(f"thinggroup/{n}")} for n in ("b", "other")]
    iot.remove_thing_from_thing_group(thingName="t1", thingGroupArn=tenant.arn("thinggroup/other"))
    iot.remove_thing_from_thing_group(thingName="t1", thingGroupName="other")
    iot.update_thing_groups_for_thing(thingName="t2", thingGroupsToRemove=["a", "other"], thingGroupsToAdd=["b"])
    iot.update_thing_groups_for_thing(thingName="t2")
    iot.delete_thing(thingName="t4")
    assert pages(listed, "things", size, thingGroupName="r", recursive=True) == ["t3", "t1", "t2"]
    assert pages(listed, "things", size, thingGroupName="other") == ["t3"]
    iot.delete_thing_group(thingGroupName="other")
    left = iot.list_thing_groups_for_thing(thingName="t3")["thingGroups"]
    assert [group["groupName"] for group in left] == ["r"]


def test_refused_members(tenant: Tenant) -> None:
    iot = tenant.iot
    names = [f"g{number}" for number in range(11)]
    for name in names:
        iot.create_thing_group(thingGroupName=name)
    iot.create_thing_group(thingGroupName="child", parentGroupName="g0")
    iot.create_thing(thingName="t")
    add, remove, update = (
        iot.add_thing_to_thing_group,
        iot.remove_thing_from_thing_group,
        iot.update_thing_groups_for_thing,
    )
    for call in (add, remove):
        for arguments, expected in (
            ({}, INVALID),
            ({"thingName": "t"}, INVALID),
            ({"thingGroupName": "g0"}, INVALID),
            ({"thingName": "none", "thingGroupName": "g0"}, NOT_FOUND),
            ({"thingName": "t", "thingGroupName": "none"}, NOT_FOUND),
            ({"thingName": "t", "thingGroupName": "g0", "thingGroupArn": tenant.arn("thinggroup/g1")}, INVALID),
            ({"thingName": "x", "thingArn": tenant.arn("thing/t"), "thingGroupName": "g0"}, INVALID),
            ({"thingArn": tenant.arn("thinggroup/t"), "thingGroupName": "g0"}, INVALID),
            ({"thingArn": tenant.arn("thing/a,b"), "thingGroupName": "g0"}, INVALID),
            ({"thingArn": tenant.arn("thing/t").replace("us-east-1", "eu-west-1"), "thingGroupName": "g0"}, NOT_FOUND),
            ({"thingArn": "arn:aws-cn:iot:us-east-1:1:thing/t", "thingGroupName": "g0"}, INVALID),
        ):
            assert refusal(call, **arguments)[:2] == expected, arguments
    assert refusal(update)[:2] == INVALID
    assert refusal(update, thingName="none", thingGroupsToAdd=["g0"])[:2] == NOT_FOUND
    for member in ("thingGroupsToAdd", "thingGroupsToRemove"):
        assert refusal(update, thingName="t", **{member: ["g0", "none"]})[:2] == NOT_FOUND
        assert refusal(update, thingName="t", **{member: [f"x{number}" for number in range(101)]}) == (
            *INVALID,
            f"{member} must have at most 100 entries",
        )
    assert refusal(update, thingName="t", thingGroupsToAdd=names)[:2] == INVALID
    assert refusal(update, thingName="t", thingGroupsToAdd=["g0", "child"])[:2] == INVALID
    assert iot.list_thing_groups_for_thing(thingName="t")["thingGroups"] == []
    update(thingName="t", thingGroupsToAdd=names[:10], overrideDynamicGroups=True)
    assert refusal(add, thingName="t", thingGroupName="child")[:2] == INVALID
    assert refusal(add, thingName="t", thingGroupName="g10", overrideDynamicGroups=True)[:2] == INVALID
    assert refusal(iot.list_things_in_thing_group, thingGroupName="none")[:2] == NOT_FOUND
    assert refusal(iot.list_thing_groups_for_thing, thingName="none")[:2] == NOT_FOUND


# -- types --------------------------------------------------------------------------------------------------------


def test_a_type(tenant: Tenant) -> None:
    iot = tenant.iot
    properties = {"thingTypeDescription": "a lamp", "searchableAttributes": ["color", "watts"]}
    made = without_metadata(iot.create_thing_type(thingTypeName="lamp", thingTypeProperties=properties))
    assert made["thingTypeArn"] == tenant.arn("thingtype/lamp")
    shown = without_metadata(iot.describe_thing_type(thingTypeName="lamp"))
    assert recent(shown["thingTypeMetadata"].pop("creationDate"))
    assert shown == {**made, "thingTypeProperties": properties, "thingTypeMetadata": {"deprecated": False}}
    reordered = properties | {"searchableAttributes": ["watts", "color"]}
    assert without_metadata(iot.create_thing_type(thingTypeName="lamp", thingTypeProperties=reordered)) == made
    told = exists(iot, iot.create_thing_type, thingTypeName="lamp")
    assert told[:3] == (409, made["thingTypeId"], made["thingTypeArn"])
    iot.update_thing_type(thingTypeName="lamp", thingTypeProperties={"searchableAttributes": []})
    iot.update_thing_type(thingTypeName="lamp")
    shown = iot.describe_thing_type(thingTypeName="lamp")
    assert shown["thingTypeProperties"] == {"thingTypeDescription": "a lamp", "searchableAttributes": []}
    iot.create_thing(thingName="t", thingTypeName="lamp")
    assert refusal(iot.delete_thing_type, thingTypeName="lamp")[:2] == INVALID
    iot.deprecate_thing_type(thingTypeName="lamp")
    metadata = iot.describe_thing_type(thingTypeName="lamp")["thingTypeMetadata"]
    assert metadata["deprecated"]
    assert recent(metadata["deprecationDate"])
    assert refusal(iot.create_thing, thingName="u", thingTypeName="lamp")[:2] == INVALID
    assert refusal(iot.delete_thing_type, thingTypeName="lamp")[:2] == INVALID
    iot.deprecate_thing_type(thingTypeName="lamp", undoDeprecate=True)
    assert "deprecationDate" not in iot.describe_thing_type(thingTypeName="lamp")["thingTypeMetadata"]
    iot.create_thing(thingName="u", thingTypeName="lamp")
    for thing in ("t", "u"):
        iot.update_thing(thingName=thing, removeThingType=True)
    iot.deprecate_thing_type(thingTypeName="lamp", undoDeprecate=False)
    iot.delete_thing_type(thingTypeName="lamp")
    for call in (iot.describe_thing_type, iot.update_thing_type, iot.deprecate_thing_type, iot.delete_thing_type):
        assert refusal(call, thingTypeName="lamp") == (*NOT_FOUND, "thing type lamp does not exist")


@pytest.mark.parametrize("size", [1, 2, 3])
def test_listing_types(tenant: Tenant, size: int) -> None:
    iot = tenant.iot
    for name in ("c", "a", "d", "b"):
        iot.create_thing_type(thingTypeName=name)
    found = pages(iot.list_thing_types, "thingTypes", size)
    assert [type["thingTypeName"] for type in found] == ["a", "b", "c", "d"]
    assert set(found[0]) == {"thingTypeName", "thingTypeArn", "thingTypeProperties", "thingTypeMetadata"}
    assert pages(iot.list_thing_types, "thingTypes", size, thingTypeName="c") == [found[2]]
    assert pages(iot.list_thing_types, "thingTypes", size, thingTypeName="none") == []


def test_refused_types(tenant: Tenant) -> None:
    iot = tenant.iot
    propagating = {"propagatingAttributes": [{"userPropertyKey": "k", "thingAttribute": "a"}]}
    for properties in (
        {"searchableAttributes": ["a", "b", "c", "d"]},
        {"searchableAttributes": ["a", "a"]},
        {"searchableAttributes": ["a b"]},
        {"thingTypeDescription": "é"},
        {"thingTypeDescription": "x" * 2029},
        {"mqtt5Configuration": propagating},
    ):
        assert refusal(iot.create_thing_type, thingTypeName="t", thingTypeProperties=properties)[:2] == INVALID
        assert refusal(iot.update_thing_type, thingTypeName="t", thingTypeProperties=properties)[:2] == INVALID
    iot.create_thing_type(thingTypeName="t", thingTypeProperties={"mqtt5Configuration": {"propagatingAttributes": []}})


# -- tags ---------------------------------------------------------------------------------------------------------


def test_tags(tenant: Tenant) -> None:
    iot = tenant.iot
    tags = [{"Key": "b c", "Value": "é ~"}, {"Key": "a"}]
    group = iot.create_thing_group(thingGroupName="g", tags=tags)["thingGroupArn"]
    type = iot.create_thing_type(thingTypeName="g", tags=[{"Key": "x", "Value": "1"}])["thingTypeArn"]

    def of(arn: str) -> dict[str, str]:
        answer = iot.list_tags_for_resource(resourceArn=arn)
        assert "nextToken" not in answer
        return {tag["Key"]: tag["Value"] for tag in answer["tags"]}

    assert of(group) == {"a": "", "b c": "é ~"}
    iot.tag_resource(resourceArn=group, tags=[{"Key": "a", "Value": "1"}, {"Key": "A", "Value": "2"}])
    assert of(group) == {"A": "2", "a": "1", "b c": "é ~"}
    iot.untag_resource(resourceArn=group, tagKeys=["a", "none", "b c"])
    assert of(group) == {"A": "2"}
    assert of(type) == {"x": "1"}
    iot.delete_thing_group(thingGroupName="g")
    assert refusal(iot.list_tags_for_resource, resourceArn=group)[:2] == NOT_FOUND
    iot.create_thing_group(thingGroupName="g")
    assert of(group) == {}


def test_refused_tags(tenant: Tenant) -> None:
    iot = tenant.iot
    group = iot.create_thing_group(thingGroupName="g")["thingGroupArn"]
    iot.create_thing(thingName="t")
    tag = [{"Key": "k", "Value": "v"}]
    for tags in (
        [{"Key": "aws:x", "Value": "v"}],
        [{"Key": "AWS:x", "Value": "v"}],
        [{"Key": "x", "Value": "aws:v"}],
        [{"Key": "x"}, {"Key": "x", "Value": "v"}],
        [{"Key": "x" * 129}],
        [{"Key": "x!"}],
        [{"Key": "x", "Value": "v" * 257}],
        [{"Key": f"k{number}"} for number in range(51)],
    ):
        assert refusal(iot.tag_resource, resourceArn=group, tags=tags)[:2] == INVALID
        assert refusal(iot.create_thing_group, thingGroupName="h", tags=tags)[:2] == INVALID
        assert refusal(iot.create_thing_type, thingTypeName="h", tags=tags)[:2] == INVALID
    for arn, expected in (
        ("x", INVALID),
        ("x" * 10_240, INVALID),
        (tenant.arn("thing/t"), INVALID),
        (tenant.certificate(), INVALID),
        (tenant.arn("thinggroup/"), INVALID),
        (tenant.arn("thinggroup/g/g"), INVALID),
        (tenant.arn("thinggroup/none"), NOT_FOUND),
        (group.replace(tenant.number, "999999999999"), NOT_FOUND),
        *((tenant.arn(f"{kind}/x"), NOT_FOUND) for kind in ("policy", "provisioningtemplate", "cacert", "thingtype")),
    ):
        assert refusal(iot.tag_resource, resourceArn=arn, tags=tag)[:2] == expected, arn
        assert refusal(iot.untag_resource, resourceArn=arn, tagKeys=["k"])[:2] == expected, arn
        assert refusal(iot.list_tags_for_resource, resourceArn=arn)[:2] == expected, arn
    assert sent(tenant.signer, "POST", "/tags", "", {"resourceArn": group, "tags": [{}]})[:2] == INVALID
    assert refusal(iot.list_tags_for_resource, resourceArn=group, nextToken="AAAA")[:2] == INVALID
    iot.tag_resource(resourceArn=group, tags=[{"Key": f"k{number}"} for number in range(50)])
    assert refusal(iot.tag_resource, resourceArn=group, tags=tag) == (
        410,
        "LimitExceededException",
        "A resource can have at most 50 tags",
    )
    assert len(iot.list_tags_for_resource(resourceArn=group)["tags"]) == 50
    assert "h" not in [group["groupName"] for group in iot.list_thing_groups()["thingGroups"]]


def test_two_accounts(new_tenant: Callable[[], Tenant]) -> None:
    mine, theirs = new_tenant(), new_tenant()
    for name in ("g", "h", "secret"):
        theirs.iot.create_thing_group(thingGroupName=name, tags=[{"Key": "k", "Value": "v"}])
    theirs.iot.create_thing(thingName="t")
    theirs.iot.add_thing_to_thing_group(thingName="t", thingGroupName="g")
    iot = mine.iot
    for name in ("g", "h"):
        iot.create_thing_group(thingGroupName=name)
    assert refusal(iot.describe_thing_group, thingGroupName="secret")[:2] == NOT_FOUND
    assert refusal(iot.create_thing_group, thingGroupName="x", parentGroupName="secret")[:2] == INVALID
    assert refusal(iot.add_thing_to_thing_group, thingName="t", thingGroupName="g")[:2] == NOT_FOUND
    for call, further in (
        (iot.tag_resource, {"tags": [{"Key": "k", "Value": "w"}]}),
        (iot.untag_resource, {"tagKeys": ["k"]}),
        (iot.list_tags_for_resource, {}),
    ):
        assert refusal(call, resourceArn=theirs.arn("thinggroup/g"), **further)[:2] == NOT_FOUND
    assert iot.list_tags_for_resource(resourceArn=mine.arn("thinggroup/g"))["tags"] == []
    assert iot.list_things_in_thing_group(thingGroupName="g")["things"] == []
    token = theirs.iot.list_thing_groups(maxResults=1)["nextToken"]
    assert refusal(iot.list_thing_groups, maxResults=1, nextToken=token)[:2] == INVALID
    assert refusal(theirs.iot.list_thing_groups, maxResults=1, recursive=False, nextToken=token)[:2] == INVALID
    for name in ("g", "h", "secret"):
        iot.delete_thing_group(thingGroupName=name)
    assert len(theirs.iot.list_thing_groups()["thingGroups"]) == 3
    assert theirs.iot.list_things_in_thing_group(thingGroupName="g")["things"] == ["t"]
    assert theirs.iot.list_tags_for_resource(resourceArn=theirs.arn("thinggroup/g"))["tags"] == [
        {"Key": "k", "Value": "v"}
    ]
