"""Thing groups, thing types and tags over boto3."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.e2e.access.local_admin import refusal
from tests.e2e.things.support import CONFLICT, INVALID, NOT_FOUND, answer, exists, pages, sent

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.things.conftest import Tenant


def recent(time: datetime) -> bool:
    return abs(datetime.now(UTC) - time) < timedelta(seconds=30)


# -- groups -------------------------------------------------------------------------------------------------------


def test_a_group_is_created_described_and_deleted(tenant: Tenant) -> None:
    iot = tenant.iot
    iot.create_thing_group(thingGroupName="root")
    given = {
        "thingGroupName": "g",
        "parentGroupName": "root",
        "thingGroupProperties": {"thingGroupDescription": "all of it", "attributePayload": {"attributes": {"a": "1"}}},
    }
    made = answer(iot.create_thing_group, **given)
    assert made["thingGroupArn"] == tenant.arn("thinggroup/g")
    assert re.fullmatch(r"[0-9a-f-]{36}", made["thingGroupId"])
    described = answer(iot.describe_thing_group, thingGroupName="g")
    assert recent(described["thingGroupMetadata"].pop("creationDate"))
    root = {"groupName": "root", "groupArn": tenant.arn("thinggroup/root")}
    assert described == {
        **made,
        "version": 1,
        "thingGroupProperties": given["thingGroupProperties"],
        "thingGroupMetadata": {"parentGroupName": "root", "rootToParentThingGroups": [root]},
    }
    assert "parentGroupName" not in iot.describe_thing_group(thingGroupName="root")["thingGroupMetadata"]
    assert answer(iot.create_thing_group, **given) == made
    assert exists(iot.create_thing_group, thingGroupName="g") == (
        409,
        made["thingGroupId"],
        made["thingGroupArn"],
        "Thing Group g already exists in current account with different properties",
    )
    merged = {"attributePayload": {"attributes": {"b": "2"}, "merge": True}}
    assert answer(iot.update_thing_group, thingGroupName="g", thingGroupProperties=merged) == {"version": 2}
    payload = iot.describe_thing_group(thingGroupName="g")["thingGroupProperties"]["attributePayload"]
    assert payload == {"attributes": {"a": "1", "b": "2"}}
    assert answer(iot.delete_thing_group, thingGroupName="g", expectedVersion=2) == {}
    assert refusal(iot.describe_thing_group, thingGroupName="g") == (*NOT_FOUND, "thing group g does not exist")


def test_errors_of_groups_have_the_codes_of_aws(tenant: Tenant) -> None:
    iot = tenant.iot
    iot.create_thing_group(thingGroupName="g")
    iot.create_thing_group(thingGroupName="child", parentGroupName="g")
    words = {"thingGroupDescription": "é"}
    refused = [
        refusal(iot.create_thing_group, thingGroupName="h", parentGroupName="none")[:2],
        refusal(iot.create_thing_group, thingGroupName="h", thingGroupProperties=words)[:2],
        refusal(iot.update_thing_group, thingGroupName="none", thingGroupProperties={})[:2],
        refusal(iot.update_thing_group, thingGroupName="g", thingGroupProperties={}, expectedVersion=2)[:2],
        refusal(iot.delete_thing_group, thingGroupName="g", expectedVersion=2)[:2],
        refusal(iot.delete_thing_group, thingGroupName="g"),
        refusal(iot.list_thing_groups, parentGroup="none")[:2],
    ]
    assert refused == [
        INVALID,
        INVALID,
        NOT_FOUND,
        CONFLICT,
        CONFLICT,
        (*INVALID, "Cannot delete thing group : g when there are still child groups attached to it"),
        NOT_FOUND,
    ]


def test_groups_are_listed_page_by_page(tenant: Tenant) -> None:
    iot = tenant.iot
    for name, parent in (("a", None), ("b", None), ("a1", "a"), ("a2", "a"), ("b1", "b"), ("c", "a1")):
        iot.create_thing_group(thingGroupName=name, **({"parentGroupName": parent} if parent else {}))

    def names(**wanted: Any) -> list[str]:
        found = pages(iot, "list_thing_groups", "thingGroups", **wanted)
        assert all(group["groupArn"] == tenant.arn(f"thinggroup/{group['groupName']}") for group in found)
        return [group["groupName"] for group in found]

    assert names() == ["a", "a1", "a2", "b", "b1", "c"]
    assert names(recursive=False) == ["a", "b"]
    assert names(namePrefixFilter="a") == ["a", "a1", "a2"]
    assert names(parentGroup="a") == ["a1", "a2"]
    assert names(parentGroup="a", recursive=True) == ["a1", "c", "a2"]


# -- members ------------------------------------------------------------------------------------------------------


def test_things_are_added_to_groups_listed_and_removed(tenant: Tenant) -> None:
    iot = tenant.iot
    for name, parent in (("r", None), ("a", "r"), ("other", None)):
        iot.create_thing_group(thingGroupName=name, **({"parentGroupName": parent} if parent else {}))
    for thing, group in (("t1", "a"), ("t2", "r"), ("t3", "a")):
        iot.create_thing(thingName=thing)
        assert answer(iot.add_thing_to_thing_group, thingName=thing, thingGroupName=group) == {}
        by_arn = {"thingArn": tenant.arn(f"thing/{thing}"), "thingGroupArn": tenant.arn("thinggroup/other")}
        iot.add_thing_to_thing_group(**by_arn)
    listed = "list_things_in_thing_group", "things"
    assert pages(iot, *listed, thingGroupName="r") == ["t2"]
    assert pages(iot, *listed, thingGroupName="r", recursive=True) == ["t2", "t1", "t3"]
    assert pages(iot, *listed, thingGroupName="other") == ["t1", "t2", "t3"]
    assert pages(iot, "list_thing_groups_for_thing", "thingGroups", thingName="t1") == [
        {"groupName": name, "groupArn": tenant.arn(f"thinggroup/{name}")} for name in ("a", "other")
    ]
    assert answer(iot.remove_thing_from_thing_group, thingName="t1", thingGroupName="other") == {}
    move = {"thingGroupsToRemove": ["a", "other"], "thingGroupsToAdd": ["r"], "overrideDynamicGroups": True}
    assert answer(iot.update_thing_groups_for_thing, thingName="t3", **move) == {}
    assert pages(iot, *listed, thingGroupName="other") == ["t2"]
    assert pages(iot, *listed, thingGroupName="r") == ["t2", "t3"]


def test_errors_of_members_have_the_codes_of_aws(tenant: Tenant) -> None:
    iot = tenant.iot
    for name, parent in (("g", None), ("child", "g")):
        iot.create_thing_group(thingGroupName=name, **({"parentGroupName": parent} if parent else {}))
    iot.create_thing(thingName="t")
    for call in (iot.add_thing_to_thing_group, iot.remove_thing_from_thing_group):
        for arguments, expected in (
            ({}, INVALID),
            ({"thingName": "t"}, INVALID),
            ({"thingGroupName": "g"}, INVALID),
            ({"thingName": "none", "thingGroupName": "g"}, NOT_FOUND),
            ({"thingArn": tenant.arn("thing/t").replace("us-east-1", "eu-west-1"), "thingGroupName": "g"}, NOT_FOUND),
            ({"thingArn": "arn:aws-cn:iot:us-east-1:1:thing/t", "thingGroupName": "g"}, INVALID),
        ):
            assert refusal(call, **arguments)[:2] == expected, arguments
    update = iot.update_thing_groups_for_thing
    assert refusal(update)[:2] == INVALID
    assert refusal(update, thingName="t", thingGroupsToAdd=["g", "child"])[:2] == INVALID
    assert refusal(update, thingName="t", thingGroupsToAdd=[f"x{number}" for number in range(101)]) == (
        *INVALID,
        "thingGroupsToAdd must have at most 100 entries",
    )


# -- types --------------------------------------------------------------------------------------------------------


def test_a_type_is_created_deprecated_and_deleted(tenant: Tenant) -> None:
    iot = tenant.iot
    properties = {"thingTypeDescription": "a lamp", "searchableAttributes": ["color", "watts"]}
    made = answer(iot.create_thing_type, thingTypeName="lamp", thingTypeProperties=properties)
    assert made["thingTypeArn"] == tenant.arn("thingtype/lamp")
    described = answer(iot.describe_thing_type, thingTypeName="lamp")
    assert recent(described["thingTypeMetadata"].pop("creationDate"))
    assert described == {**made, "thingTypeProperties": properties, "thingTypeMetadata": {"deprecated": False}}
    conflict = exists(iot.create_thing_type, thingTypeName="lamp")
    assert conflict[:3] == (409, made["thingTypeId"], made["thingTypeArn"])
    none: dict[str, list[str]] = {"searchableAttributes": []}
    assert answer(iot.update_thing_type, thingTypeName="lamp", thingTypeProperties=none) == {}
    assert iot.describe_thing_type(thingTypeName="lamp")["thingTypeProperties"] == {"thingTypeDescription": "a lamp"}
    assert refusal(iot.delete_thing_type, thingTypeName="lamp")[:2] == INVALID
    assert answer(iot.deprecate_thing_type, thingTypeName="lamp") == {}
    metadata = iot.describe_thing_type(thingTypeName="lamp")["thingTypeMetadata"]
    assert metadata["deprecated"]
    assert recent(metadata["deprecationDate"])
    assert answer(iot.delete_thing_type, thingTypeName="lamp") == {}
    for call in (iot.describe_thing_type, iot.update_thing_type, iot.deprecate_thing_type, iot.delete_thing_type):
        assert refusal(call, thingTypeName="lamp") == (*NOT_FOUND, "thing type lamp does not exist")


def test_types_are_listed_page_by_page(tenant: Tenant) -> None:
    iot = tenant.iot
    for name in ("c", "a", "b"):
        iot.create_thing_type(thingTypeName=name)
    found = pages(iot, "list_thing_types", "thingTypes")
    assert [type["thingTypeName"] for type in found] == ["a", "b", "c"]
    assert set(found[0]) == {"thingTypeName", "thingTypeArn", "thingTypeProperties", "thingTypeMetadata"}
    assert pages(iot, "list_thing_types", "thingTypes", thingTypeName="c") == [found[2]]


def test_invalid_types_are_refused(tenant: Tenant) -> None:
    iot = tenant.iot
    for properties in (
        {"searchableAttributes": ["a", "b", "c", "d"]},
        {"searchableAttributes": ["a b"]},
        {"thingTypeDescription": "é"},
        {"thingTypeDescription": "x" * 2029},
        {"mqtt5Configuration": {"propagatingAttributes": [{"userPropertyKey": "k"}]}},
        {"mqtt5Configuration": {"propagatingAttributes": [{"userPropertyKey": "k k", "thingAttribute": "a"}]}},
    ):
        for call in (iot.create_thing_type, iot.update_thing_type):
            assert refusal(call, thingTypeName="t", thingTypeProperties=properties)[:2] == INVALID, properties
    iot.create_thing_type(thingTypeName="t", thingTypeProperties={"mqtt5Configuration": {"propagatingAttributes": []}})


# -- tags ---------------------------------------------------------------------------------------------------------


def test_a_resource_is_tagged_and_untagged(tenant: Tenant) -> None:
    iot = tenant.iot
    tags = [{"Key": "b c", "Value": "é ~"}, {"Key": "a"}]
    arn = iot.create_thing_group(thingGroupName="g", tags=tags)["thingGroupArn"]

    def found() -> list[dict[str, str]]:
        tags: list[dict[str, str]] = answer(iot.list_tags_for_resource, resourceArn=arn).pop("tags")
        return tags

    assert found() == [{"Key": "a", "Value": ""}, {"Key": "b c", "Value": "é ~"}]
    assert answer(iot.tag_resource, resourceArn=arn, tags=[{"Key": "a", "Value": "1"}]) == {}
    assert answer(iot.untag_resource, resourceArn=arn, tagKeys=["none", "b c"]) == {}
    assert found() == [{"Key": "a", "Value": "1"}]


def test_invalid_tags_are_refused(tenant: Tenant) -> None:
    iot = tenant.iot
    arn = iot.create_thing_group(thingGroupName="g")["thingGroupArn"]
    for tags in (
        [{"Key": "aws:x", "Value": "v"}],
        [{"Key": "x" * 129}],
        [{"Key": "x!"}],
        [{"Key": "x", "Value": "v" * 257}],
        [{"Key": f"k{number}"} for number in range(51)],
    ):
        assert refusal(iot.tag_resource, resourceArn=arn, tags=tags)[:2] == INVALID, tags
        assert refusal(iot.create_thing_group, thingGroupName="h", tags=tags)[:2] == INVALID, tags
        assert refusal(iot.create_thing_type, thingTypeName="h", tags=tags)[:2] == INVALID, tags
    assert sent(tenant.signer, "POST", "/tags", "", {"resourceArn": arn, "tags": [{}]})[:2] == INVALID
    assert refusal(iot.list_tags_for_resource, resourceArn=arn, nextToken="AAAA")[:2] == INVALID
    iot.tag_resource(resourceArn=arn, tags=[{"Key": f"k{number}"} for number in range(50)])
    assert refusal(iot.tag_resource, resourceArn=arn, tags=[{"Key": "k"}]) == (
        410,
        "LimitExceededException",
        "A resource can have at most 50 tags",
    )


def test_tags_of_other_resources_are_refused(tenant: Tenant) -> None:
    iot = tenant.iot
    for arn, expected in (
        ("x" * 10_240, INVALID),
        (tenant.arn("thing/t"), INVALID),
        (tenant.arn("thinggroup/none"), NOT_FOUND),
        (tenant.arn("thinggroup/none").replace(tenant.number, "999999999999"), NOT_FOUND),
    ):
        assert refusal(iot.tag_resource, resourceArn=arn, tags=[{"Key": "k"}])[:2] == expected, arn
        assert refusal(iot.untag_resource, resourceArn=arn, tagKeys=["k"])[:2] == expected, arn
        assert refusal(iot.list_tags_for_resource, resourceArn=arn)[:2] == expected, arn


def test_accounts_cannot_read_each_others_resources(new_tenant: Callable[[], Tenant]) -> None:
    mine, theirs = new_tenant(), new_tenant()
    tags = [{"Key": "k", "Value": "v"}]
    for name in ("g", "h", "theirs"):
        theirs.iot.create_thing_group(thingGroupName=name, tags=tags)
    theirs.iot.create_thing(thingName="t")
    theirs.iot.add_thing_to_thing_group(thingName="t", thingGroupName="g")
    iot = mine.iot
    for name in ("g", "h"):
        iot.create_thing_group(thingGroupName=name)
    assert refusal(iot.describe_thing_group, thingGroupName="theirs")[:2] == NOT_FOUND
    assert refusal(iot.create_thing_group, thingGroupName="x", parentGroupName="theirs")[:2] == INVALID
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
    assert refusal(iot.list_thing_groups, nextToken=token)[:2] == INVALID
    for name in ("g", "h", "theirs"):
        iot.delete_thing_group(thingGroupName=name)
    assert len(theirs.iot.list_thing_groups()["thingGroups"]) == 3
    assert theirs.iot.list_things_in_thing_group(thingGroupName="g")["things"] == ["t"]
    assert theirs.iot.list_tags_for_resource(resourceArn=theirs.arn("thinggroup/g"))["tags"] == tags
