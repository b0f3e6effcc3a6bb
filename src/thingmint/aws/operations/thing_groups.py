"""Thing groups, and the things in them. Groups by query ("dynamic" ones) there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.aws.operations.attributes import attribute_change, new_attributes, new_tags
from thingmint.domain.arns import arn, parse_arn
from thingmint.domain.errors import Invalid
from thingmint.domain.things import check_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.aws.operations.call import Call, Operations
    from thingmint.domain.registration import Scope
    from thingmint.domain.things import ThingGroup

__all__ = ["THING_GROUPS"]

# The model sets no limit, and every name is looked up.
_MAX_NAMES = 100


async def _create_thing_group(call: Call) -> dict[str, Any]:
    properties = call.members.get("thingGroupProperties", {})
    group = await call.registries.thing_groups.create(
        call.scope,
        call.members["thingGroupName"],
        call.members.get("parentGroupName"),
        properties.get("thingGroupDescription"),
        new_attributes(properties.get("attributePayload")),
        new_tags(call.members),
    )
    return _identified(group)


async def _describe_thing_group(call: Call) -> dict[str, Any]:
    group = await call.registries.thing_groups.describe(call.scope, call.members["thingGroupName"])
    return {
        **_identified(group),
        "version": group.version,
        "thingGroupProperties": {
            "thingGroupDescription": group.description,
            "attributePayload": {"attributes": group.attributes},
        },
        "thingGroupMetadata": {
            "parentGroupName": group.parent,
            "rootToParentThingGroups": [_named(call.scope, name) for name in group.path[:-1]],
            "creationDate": group.created_at,
        },
    }


async def _update_thing_group(call: Call) -> dict[str, Any]:
    properties = call.members["thingGroupProperties"]
    group = await call.registries.thing_groups.update(
        call.scope,
        call.members["thingGroupName"],
        properties.get("thingGroupDescription"),
        attribute_change(properties.get("attributePayload")),
        call.members.get("expectedVersion"),
    )
    return {"version": group.version}


async def _delete_thing_group(call: Call) -> dict[str, Any]:
    await call.registries.thing_groups.delete(
        call.scope, call.members["thingGroupName"], call.members.get("expectedVersion")
    )
    return {}


async def _list_thing_groups(call: Call) -> dict[str, Any]:
    parent = call.members.get("parentGroup")
    page = await call.registries.thing_groups.list(
        call.scope,
        parent,
        call.members.get("namePrefixFilter", ""),
        call.page(),
        # The model's flag has no default. In AWS's guide the bare list has every group, and that of a parent only
        # those directly below it.
        recursive=call.members.get("recursive", parent is None),
    )
    return {"thingGroups": [_named(call.scope, group.name) for group in page.items], "nextToken": page.next_token}


async def _add_thing_to_thing_group(call: Call) -> dict[str, Any]:
    group = _name(call, "thinggroup", "thingGroupName", "thingGroupArn")
    thing = _name(call, "thing", "thingName", "thingArn")
    await call.registries.memberships.update(call.scope, thing, add=[group], remove=[])
    return {}


async def _remove_thing_from_thing_group(call: Call) -> dict[str, Any]:
    group = _name(call, "thinggroup", "thingGroupName", "thingGroupArn")
    thing = _name(call, "thing", "thingName", "thingArn")
    await call.registries.memberships.update(call.scope, thing, add=[], remove=[group])
    return {}


async def _update_thing_groups_for_thing(call: Call) -> dict[str, Any]:
    await call.registries.memberships.update(
        call.scope,
        call.members["thingName"],
        add=_names(call, "thingGroupsToAdd"),
        remove=_names(call, "thingGroupsToRemove"),
    )
    return {}


async def _list_thing_groups_for_thing(call: Call) -> dict[str, Any]:
    page = await call.registries.memberships.list_groups(call.scope, call.members["thingName"], call.page())
    return {"thingGroups": [_named(call.scope, group.name) for group in page.items], "nextToken": page.next_token}


async def _list_things_in_thing_group(call: Call) -> dict[str, Any]:
    page = await call.registries.memberships.list_things(
        call.scope, call.members["thingGroupName"], call.page(), recursive=call.flag("recursive")
    )
    return {"things": page.items, "nextToken": page.next_token}


def _name(call: Call, kind: str, by_name: str, by_arn: str) -> str:
    """The name that one of the two members gives; that neither is there was refused before."""
    name: str | None = call.members.get(by_name)
    if (text := call.members.get(by_arn)) is None:
        assert name is not None, "an operation is authorized on what it names"
        return name
    of_arn = check_name(parse_arn(call.scope, text, by_arn, kind)[1], by_arn)
    if name not in (None, of_arn):
        raise Invalid(by_arn, f"must be of what {by_name} names")
    return of_arn


def _names(call: Call, member: str) -> Sequence[str]:
    names = list(dict.fromkeys(call.members.get(member, ())))
    if len(names) > _MAX_NAMES:
        raise Invalid(member, f"must have at most {_MAX_NAMES} entries")
    return names


def _identified(group: ThingGroup) -> dict[str, Any]:
    return {"thingGroupName": group.name, "thingGroupArn": group.arn, "thingGroupId": group.id}


def _named(scope: Scope, name: str) -> dict[str, Any]:
    return {"groupName": name, "groupArn": arn(scope, f"thinggroup/{name}")}


THING_GROUPS: Operations = {
    "CreateThingGroup": _create_thing_group,
    "DescribeThingGroup": _describe_thing_group,
    "UpdateThingGroup": _update_thing_group,
    "DeleteThingGroup": _delete_thing_group,
    "ListThingGroups": _list_thing_groups,
    "AddThingToThingGroup": _add_thing_to_thing_group,
    "RemoveThingFromThingGroup": _remove_thing_from_thing_group,
    "UpdateThingGroupsForThing": _update_thing_groups_for_thing,
    "ListThingGroupsForThing": _list_thing_groups_for_thing,
    "ListThingsInThingGroup": _list_things_in_thing_group,
}
